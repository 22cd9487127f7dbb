"""A person's own images as a source for analyses: every readable file, no splits, nothing packed."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from latent_lab import images
from latent_lab.data.framing import Framing, Source
from latent_lab.data.readers import OddFile, UnreadableImage, list_images, read_image
from latent_lab.types import ImageBatch, Images


class OwnImages:
    """An `ImageSource` of a folder or of a single file: largest centred squares, any number of images.

    Args:
        path: folder or file.
        grey: whether colours become one channel of grey (ITU-R 601 luma), for models of grey images.

    Raises:
        ValueError: if there is no readable image.
    """

    label_names: tuple[str, ...] = ()

    def __init__(self, path: Path, *, grey: bool = False) -> None:
        self.path = path
        self.grey = grey
        self.root = path.parent if path.is_file() else path
        self.framing = Framing()
        self.names: list[str] = []
        self.odd_files: list[OddFile] = []
        self._pixels: list[Source] = []
        for name in [path.name] if path.is_file() else list_images(path):
            try:
                pixels = read_image(self.root / name)[0]
                self._pixels.append(np.asarray(Image.fromarray(pixels).convert("L")) if grey else pixels)
                self.names.append(name)
            except UnreadableImage as error:
                self.odd_files.append(OddFile(name, str(error)))
        for odd in self.odd_files:
            print(f"latent-lab: skipped {odd}", file=sys.stderr)
        if not self.names:
            raise ValueError(f"{path} holds no readable image, the first file is {self.odd_files[0]}")

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """What was read and how it was framed."""
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(pixels).tobytes() for pixels in self._pixels))
        return {
            "source": self.path.name,
            "split": "all",
            "num_images": len(self),
            "channels": 1 if self.grey else 3,
            **self.framing.settings,
            "hash": digest.hexdigest()[:16],
        }

    @property
    def native_resolution(self) -> int:
        """The commonest shorter side, in pixels."""
        return Counter(min(pixels.shape[:2]) for pixels in self._pixels).most_common(1)[0][0]

    def describe_changes(self, resolution: int) -> str | None:
        """What reading at a resolution does to some of the images; none if it shows all of them as they are."""
        cropped = sum(pixels.shape[0] != pixels.shape[1] for pixels in self._pixels)
        resized = sum(min(pixels.shape[:2]) != resolution for pixels in self._pixels)
        changes = [f"{cropped} are cropped to their central squares"] if cropped else []
        changes += [f"{resized} are resized to {resolution} px"] if resized else []
        return f"of {len(self)} images in {self.path.name} {' and '.join(changes)}" if changes else None

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """The images at the given places."""
        levels = [self.framing.levels(self._pixels[index], [resolution])[resolution] for index in indices]
        pixels = torch.from_numpy(np.stack(levels))
        return ImageBatch(images=images.from_bytes(pixels), index=torch.tensor(list(indices), dtype=torch.int64))


def read_images(path: str | Path, resolution: int, *, grey: bool = False) -> Images:
    """A person's photographs as a model takes them: `model.encode(latent_lab.read_images("photos", model.resolution))`.

    Args:
        path: one file, or a folder, whose readable images are taken in sorted order; what cannot be read is named.
        resolution: pixels per side that the largest centred squares are brought to.
        grey: whether colours become one channel of grey, for models of grey images.

    Returns:
        (N, 3, R, R) or (N, 1, R, R) in [-1, 1], float32.

    Raises:
        ValueError: if there is no readable image.
    """
    found = OwnImages(Path(path).expanduser(), grey=grey)
    return found.batch(range(len(found)), resolution).images
