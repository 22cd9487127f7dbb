"""A data set on disk as 8-bit images of every resolution: one memory-mapped array per level, one index.

A pack is a folder with `images_{R}.npy` (N, C, R, R) uint8 for each resolution R, `labels.npy` (N, K) and `pose.npy`
(N, 4, 4) float32 where known, and `index.json` (names, splits, channels, recipe, files that were skipped). It needs
nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8

from latent_lab import images
from latent_lab.data.plans import PACKING_VERSION, PackedRow, PackingPlan
from latent_lab.data.readers import OddFile
from latent_lab.types import ImageBatch

_FORMAT = "latent-lab image pyramid"
_INDEX = "index.json"


class PyramidWriter:
    """Writes the arrays of a pack row by row, so that no more than a few images are in memory.

    Args:
        folder: exists and is empty.
        plan: what is written.
    """

    def __init__(self, folder: Path, plan: PackingPlan) -> None:
        self.folder = folder
        self.plan = plan
        self._places: list[int] = []
        self._odd: list[OddFile] = []
        self._codecs: Counter[str] = Counter()
        self._enlarged = 0
        self._content = hashlib.sha256()
        self._files: dict[int, BinaryIO] = {}

    def __enter__(self) -> PyramidWriter:
        for resolution in self.plan.resolutions:
            self._files[resolution] = (self.folder / f"images_{resolution}.npy").open("wb")
            self._write_header(resolution)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    @property
    def odd_files(self) -> list[OddFile]:
        """The images that could not be read so far."""
        return list(self._odd)

    @property
    def count(self) -> int:
        """Number of images written so far."""
        return len(self._places)

    def append(self, place: int, row: PackedRow | OddFile) -> None:
        """Writes the image of one place of the plan; places must ascend."""
        if isinstance(row, OddFile):
            self._odd.append(row)
            return
        self._places.append(place)
        self._codecs[row.codec] += 1
        self._enlarged += row.enlarged
        for resolution, file in self._files.items():
            assert row.levels[resolution].shape == (self.plan.channels, resolution, resolution)
            file.write(np.ascontiguousarray(row.levels[resolution]).data)
        self._content.update(np.ascontiguousarray(row.levels[self.plan.resolutions[-1]]).data)

    def finish(self) -> None:
        """Completes the arrays' headers and writes labels, poses and the index."""
        for resolution in self.plan.resolutions:
            self._write_header(resolution)
        for name, array in (("labels", self.plan.labels), ("pose", self.plan.pose)):
            if array is not None:
                np.save(self.folder / f"{name}.npy", array[self._places])
                self._content.update(np.ascontiguousarray(array[self._places]).data)
        (self.folder / _INDEX).write_text(json.dumps(self._index(), ensure_ascii=True), encoding="ascii")

    def _write_header(self, resolution: int) -> None:
        # numpy pads headers such that the first axis may grow in place: the final header is as long as the first one.
        file = self._files[resolution]
        file.seek(0)
        shape = (self.count, self.plan.channels, resolution, resolution)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    def _index(self) -> dict[str, Any]:
        row_of = {place: row for row, place in enumerate(self._places)}
        return {
            "format": _FORMAT,
            "version": PACKING_VERSION,
            "key": self.plan.key,
            "names": [self.plan.names[place] for place in self._places],
            "splits": {
                part: [row_of[place] for place in places if place in row_of] for part, places in self.plan.split.items()
            },
            "resolutions": list(self.plan.resolutions),
            "channels": self.plan.channels,
            "label_names": list(self.plan.label_names),
            "recipe": {
                **self.plan.settings,
                "resolution": self.plan.resolutions[-1],
                "channels": self.plan.channels,
                "codecs": dict(sorted(self._codecs.items())),
                "files": len(self.plan.names),
                "skipped": len(self._odd),
                "enlarged": self._enlarged,
                "packing_version": PACKING_VERSION,
                "hash": self._content.hexdigest()[:16],
            },
            "odd_files": [[odd.path, odd.reason] for odd in self._odd],
            "notes": list(self.plan.notes),
        }


@dataclass(frozen=True)
class Pack:
    """An opened pack."""

    folder: Path
    key: str
    """The plan's."""
    names: tuple[str, ...]
    """Of the images, by row."""
    splits: Mapping[str, Sequence[int]]
    """Split name -> rows."""
    resolutions: tuple[int, ...]
    channels: int
    label_names: tuple[str, ...]
    recipe: Mapping[str, Any]
    """The plan's settings and what was found; "hash" is a digest of the largest level, the labels and the poses."""
    odd_files: tuple[OddFile, ...]
    notes: tuple[str, ...]

    def source(self, split: str) -> PackedImages:
        """The images of one split.

        Raises:
            ValueError: if the split is unknown or has no readable image.
        """
        if not self.splits.get(split):
            found = ", ".join(f"{name} ({len(rows)})" for name, rows in self.splits.items())
            raise ValueError(
                f"split {split!r} has no images; found {found}: add images to it or choose another split rule"
            )
        return PackedImages(self, split)

    def report(self) -> list[str]:
        """What a user should know about these images, in sentences."""
        sentences = list(self.notes)
        if self.splits.get("val") == self.splits.get("test"):
            sentences.append("The same held-out images serve as val and test.")
        if self.recipe["enlarged"]:
            count = self.recipe["enlarged"]
            sentences.append(f"{count} images are smaller than {self.resolutions[-1]} px and were enlarged.")
        if self.odd_files:
            named = ", ".join(map(str, self.odd_files[:3])) + (", ..." if len(self.odd_files) > 3 else "")
            sentences.append(f"{len(self.odd_files)} unreadable files were skipped: {named}.")
        return sentences

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


def is_pack(folder: Path) -> bool:
    """Whether a folder is a finished pack."""
    index = folder / _INDEX
    if not index.is_file():
        return False
    with index.open(encoding="ascii", errors="replace") as file:
        return _FORMAT in file.read(200)


def open_pack(folder: Path) -> Pack:
    """Opens a finished pack.

    Raises:
        ValueError: if it was written by another version of the package, or an array is not what the index says.
    """
    index = json.loads((folder / _INDEX).read_text(encoding="ascii"))
    if index["version"] != PACKING_VERSION:
        raise ValueError(
            f"pack {str(folder)!r} has version {index['version']}, this latent-lab reads version {PACKING_VERSION}: "
            "run `latent-lab prepare` again"
        )
    # Packs from before there were grey ones do not say.
    channels = index.get("channels", 3)
    for resolution in index["resolutions"]:
        _check_level(folder, resolution, (len(index["names"]), channels, resolution, resolution))
    return Pack(
        folder=folder,
        key=index["key"],
        names=tuple(index["names"]),
        splits=index["splits"],
        resolutions=tuple(index["resolutions"]),
        channels=channels,
        label_names=tuple(index["label_names"]),
        recipe=index["recipe"],
        odd_files=tuple(OddFile(path, reason) for path, reason in index["odd_files"]),
        notes=tuple(index["notes"]),
    )


def _check_level(folder: Path, resolution: int, expected: tuple[int, ...]) -> None:
    path = folder / f"images_{resolution}.npy"
    found = _mapped(path).shape if path.is_file() else None
    if found != expected:
        raise ValueError(
            f"pack {str(folder)!r} is damaged: {path.name} should hold bytes of shape {expected}, found "
            f"{'nothing' if found is None else found}; delete that folder, and it is packed again"
        )


class PackedImages:
    """One split of a pack, an `ImageSource`: images are read from memory-mapped files when asked for.

    It may be sent to other processes: they open the files anew.
    """

    def __init__(self, pack: Pack, split: str) -> None:
        self.pack = pack
        self.split = split
        self._rows = np.asarray(pack.splits[split], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"pack": self.pack, "split": self.split, "_rows": self._rows}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the columns of `ImageBatch.labels`."""
        return self.pack.label_names

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each image, as in the original source."""
        return tuple(self.pack.names[row] for row in self._rows)

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The pack's recipe with "split", "num_images", and a "hash" that depends on the split's images, too."""
        digest = hashlib.sha256(str(self.pack.recipe["hash"]).encode() + self._rows.tobytes())
        return {**self.pack.recipe, "split": self.split, "num_images": len(self), "hash": digest.hexdigest()[:16]}

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """The images at the given places of this split; `index` holds those places.

        Raises:
            IndexError: if a place is not in 0 ... len - 1.
            ValueError: if there is no level of this resolution.
        """
        places = np.asarray(indices, dtype=np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"places must be in 0 ... {len(self) - 1}, got {places.min()} ... {places.max()}")
        rows = self._rows[places]
        labels, pose = self._labels, self._pose
        return ImageBatch(
            images=images.from_bytes(torch.from_numpy(self._pixels(resolution)[rows])),
            index=torch.from_numpy(places.copy()),
            labels=None if labels is None else torch.from_numpy(labels[rows]),
            pose=None if pose is None else torch.from_numpy(pose[rows]),
        )

    def _pixels(self, resolution: int) -> UInt8[np.ndarray, "N C _ _"]:
        if resolution not in self.pack.resolutions:
            packed = ", ".join(map(str, self.pack.resolutions))
            raise ValueError(f"resolution must be one of the packed ones, {packed}, got {resolution}")
        if resolution not in self._levels:
            self._levels[resolution] = _mapped(self.pack.folder / f"images_{resolution}.npy")
        return self._levels[resolution]

    @cached_property
    def _levels(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _labels(self) -> np.ndarray | None:
        return _mapped(self.pack.folder / "labels.npy") if self.label_names else None

    @cached_property
    def _pose(self) -> np.ndarray | None:
        path = self.pack.folder / "pose.npy"
        return _mapped(path) if path.is_file() else None


def _mapped(path: Path) -> np.ndarray:
    # A plain array over the mapped file: indexing np.memmap itself costs a slow Python hook for every batch.
    return np.load(path, mmap_mode="r").view(np.ndarray)


__all__ = ["Pack", "PackedImages", "PyramidWriter", "is_pack", "open_pack"]
