from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., Path]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch) -> Path:
    """No test reads or writes the user's cache."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("LATENT_LAB_CACHE", str(cache))
    return cache


@pytest.fixture
def make_images(tmp_path) -> MakeImages:
    """Writes photographs of noise, each of another mean colour, and returns their folder."""

    def make(names, *, size=(20, 24), folder="images") -> Path:
        root = tmp_path / folder
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(number)
            pixels = rng.integers(0, 64, (size[1], size[0], 3)) + (number * 37) % 192
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        return root

    return make
