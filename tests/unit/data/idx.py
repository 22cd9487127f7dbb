"""Small IDX files, as MNIST's are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, *, train: int, t10k: int, seed: int = 0) -> Path:
    """A folder with the four files; the classes are 0, 1, 2, ... in turn."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, count in (("train", train), ("t10k", t10k)):
        (root / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (count, 28, 28))))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    return root
