"""MNIST and data sets with the same files: 60,000 and 10,000 images of 28 x 28 grey pixels in ten classes."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan, fingerprint_of
from latent_lab.data.readers import OddFile

SIZE = 28
"""Pixels per side of the published images."""
PADDING = 2
"""Black pixels on each side, which make 32 x 32 of 28 x 28."""

_PARTS = ("train", "t10k")
_ENDINGS = {
    "train-images": "idx3-ubyte",
    "train-labels": "idx1-ubyte",
    "t10k-images": "idx3-ubyte",
    "t10k-labels": "idx1-ubyte",
}
_FOLDERS = ("", "raw", "MNIST/raw", "FashionMNIST/raw")
_UNSIGNED_BYTES = 8


class MNIST(AbstractImageData):
    """MNIST, Fashion-MNIST, KMNIST ... from the published IDX files; grey, padded with black to 32 x 32 pixels.

    The label `class` is 0 ... 9. The test part is both val and test.

    Args:
        root: folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each as it is or with .gz, there or in raw/, MNIST/raw/ or FashionMNIST/raw/ below.
        resolution: of the largest level, 4 to 32 pixels; larger ones are enlarged.
        mirror: whether training images are mirrored with probability 1/2; digits then are no digits any more.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    channels = 1

    def __init__(
        self,
        root: str | Path = "data/mnist",
        resolution: int = 32,
        mirror: bool = False,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
    ) -> None:
        self.record_recipe(locals())
        super().__init__(
            root=root,
            resolution=resolution,
            mirror=mirror,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )

    def plan(self) -> PackingPlan:
        """All training images in order, then the test images."""
        assert self.root is not None
        files = _find_files(self.root)
        parts = [_read_part(files[f"{part}-images"], files[f"{part}-labels"]) for part in _PARTS]
        pixels = np.concatenate([images for images, _ in parts])
        padded = np.pad(pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
        classes = np.concatenate([labels for _, labels in parts])
        num_train = len(parts[0][1])
        held_out = list(range(num_train, len(padded)))
        resolutions = resolutions_up_to(self.resolution)
        framing = Framing(crop="none")
        enlarged = resolutions[-1] > SIZE + 2 * PADDING

        def read(places: range) -> Sequence[PackedRow | OddFile]:
            return [
                PackedRow(framing.levels(padded[place], resolutions), codec="raw", enlarged=enlarged)
                for place in places
            ]

        return PackingPlan(
            names=[
                f"{part}/{row}" for part, (_, labels) in zip(_PARTS, parts, strict=True) for row in range(len(labels))
            ],
            split={"train": list(range(num_train)), "val": held_out, "test": list(held_out)},
            resolutions=resolutions,
            read=read,
            settings={"source": "IDX files of MNIST's layout", "padding": PADDING, **framing.settings},
            fingerprint=fingerprint_of(self.root, [str(path.relative_to(self.root)) for path in files.values()]),
            channels=self.channels,
            label_names=("class",),
            labels=classes.astype(np.float32)[:, None],
        )


def _find_files(root: Path) -> dict[str, Path]:
    """Kind of file ("train-images", "t10k-labels", ...) -> where it is."""
    for folder in _FOLDERS:
        found = {kind: _locate(root / folder, kind, ending) for kind, ending in _ENDINGS.items()}
        files = {kind: path for kind, path in found.items() if path is not None}
        if len(files) == len(_ENDINGS):
            return files
    names = ", ".join(f"{kind}-{ending}" for kind, ending in _ENDINGS.items())
    raise ValueError(
        f"MNIST needs {names} (each may end in .gz) in {str(root)!r}, and not all are there: get them from "
        "https://ossci-datasets.s3.amazonaws.com/mnist/ (the Debian package dataset-fashion-mnist has Fashion-MNIST's, "
        "which do as well)"
    )


def _locate(folder: Path, kind: str, ending: str) -> Path | None:
    # Some copies have a dot for the second hyphen.
    names = (f"{kind}{mark}{ending}{suffix}" for mark in "-." for suffix in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_part(images: Path, labels: Path) -> tuple[UInt8[np.ndarray, "N 28 28"], UInt8[np.ndarray, "N"]]:
    pixels, classes = _read_idx(images, 3), _read_idx(labels, 1)
    if pixels.shape[1:] != (SIZE, SIZE):
        raise ValueError(
            f"{str(images)!r} must hold images of {SIZE}x{SIZE} pixels, found {pixels.shape[1]}x{pixels.shape[2]}: "
            "it is another data set's"
        )
    if len(pixels) != len(classes):
        raise ValueError(
            f"{str(images)!r} has {len(pixels)} images and {str(labels)!r} {len(classes)} labels: they do not belong "
            "together"
        )
    return pixels, classes


def _read_idx(path: Path, rank: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file: 0, 0, type, rank, sizes as big-endian 32-bit numbers, values.

    Raises:
        ValueError: if the file is damaged or holds anything else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be unpacked ({error}): get the file again") from None
    if content[:4] != bytes([0, 0, _UNSIGNED_BYTES, rank]):
        raise ValueError(
            f"{str(path)!r} is no IDX file of unsigned bytes with {rank} axes (it begins with "
            f"{content[:4].hex(' ') or 'nothing'}): get the file again"
        )
    begin = 4 * (rank + 1)
    shape = tuple(int(size) for size in np.frombuffer(content[4:begin].ljust(4 * rank, b"\0"), dtype=">u4"))
    expected = begin + math.prod(shape)
    if len(content) != expected or 0 in shape:
        raise ValueError(
            f"{str(path)!r} has {len(content)} bytes, but its header tells of {expected}, for an array of shape "
            f"{shape}: get the file again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape)


__all__ = ["MNIST", "PADDING", "SIZE"]
