"""CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels in ten classes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan, fingerprint_of
from latent_lab.data.readers import OddFile

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In the order of the label `class`, 0 ... 9."""

_TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST_FILE = "test_batch"
_BYTES_PER_IMAGE = 3 * 32 * 32


class CIFAR10(AbstractImageData):
    """CIFAR-10 from the published batches, python or binary version; the test part is both val and test.

    Args:
        root: folder with data_batch_1 ... 5 and test_batch, or one that holds cifar-10-batches-py/ or
            cifar-10-batches-bin/.
        resolution: of the largest level, 4 to 32 pixels; larger ones are enlarged.
        mirror: whether training images are mirrored with probability 1/2 (published: never).
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        root: str | Path = "data/cifar10",
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
        """All training batches in order, then the test batch."""
        assert self.root is not None
        folder, files = _find_batches(self.root)
        batches = [_read_batch(folder / name) for name in files]
        pixels = np.concatenate([batch.pixels for batch in batches])
        classes = np.concatenate([batch.classes for batch in batches])
        num_train = sum(len(batch.classes) for batch in batches[:-1])
        held_out = list(range(num_train, len(pixels)))
        resolutions = resolutions_up_to(self.resolution)
        framing = Framing(crop="none")

        def read(places: range) -> Sequence[PackedRow | OddFile]:
            return [
                PackedRow(framing.levels(pixels[place], resolutions), codec="raw", enlarged=resolutions[-1] > 32)
                for place in places
            ]

        return PackingPlan(
            names=[
                f"{name}/{row}" for name, batch in zip(files, batches, strict=True) for row in range(len(batch.classes))
            ],
            split={"train": list(range(num_train)), "val": held_out, "test": list(held_out)},
            resolutions=resolutions,
            read=read,
            settings={"source": "CIFAR-10", **framing.settings},
            fingerprint=fingerprint_of(folder, files),
            label_names=("class",),
            labels=classes.astype(np.float32)[:, None],
        )


class _Batch(NamedTuple):
    pixels: UInt8[np.ndarray, "N 32 32 3"]
    classes: np.ndarray
    """(N,) 0 ... 9."""


def _find_batches(root: Path) -> tuple[Path, list[str]]:
    """The folder and its batch files; the test batch comes last."""
    for folder in (root, root / "cifar-10-batches-py", root / "cifar-10-batches-bin"):
        for suffix in ("", ".bin"):
            files = [name + suffix for name in (*_TRAIN_FILES, _TEST_FILE)]
            if all((folder / name).is_file() for name in files):
                return folder, files
    raise ValueError(
        f"CIFAR-10 needs data_batch_1 ... data_batch_5 and test_batch in {str(root)!r}, and not all are there: get "
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz and unpack it into that folder"
    )


def _read_batch(path: Path) -> _Batch:
    rows, classes = _read_binary(path) if path.suffix == ".bin" else _read_pickle(path)
    return _Batch(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), classes)


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(path, dtype=np.uint8)
    if not len(data) or len(data) % (_BYTES_PER_IMAGE + 1):
        raise ValueError(
            f"{str(path)!r} has {len(data)} bytes, which is no multiple of the {_BYTES_PER_IMAGE + 1} of a CIFAR-10 "
            "record: get the file again"
        )
    records = data.reshape(-1, _BYTES_PER_IMAGE + 1)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
        rows, classes = np.asarray(content[b"data"]), np.asarray(content[b"labels"])
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise ValueError(f"{str(path)!r} is not a CIFAR-10 batch ({error}): get the file again") from None
    if rows.dtype != np.uint8 or rows.shape != (len(classes), _BYTES_PER_IMAGE):
        raise ValueError(
            f"{str(path)!r} must hold uint8 rows of {_BYTES_PER_IMAGE} pixels, one for each label, found {rows.dtype} "
            f"of shape {rows.shape} and {len(classes)} labels: get the file again"
        )
    return rows, classes


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers, nothing else: a pickle from the net may otherwise run any program."""

    def find_class(self, module: str, name: str) -> Any:
        """The few functions that a pickled array names; anything else is refused."""
        # The published files were written by an old numpy; its module has moved since.
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) in {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no data file needs")


__all__ = ["CIFAR10", "CLASS_NAMES"]
