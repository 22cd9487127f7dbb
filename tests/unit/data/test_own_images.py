"""A person's own images: photographs of any size as a batch for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import latent_lab


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A wide picture, left red and right blue around a green square, a grey one, and a file that is none."""
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32, 0], wide[:, 32:96, 1], wide[:, 96:, 2] = 255, 255, 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.new("L", (40, 40), 128).save(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    return tmp_path


def test_photographs_are_squares_of_the_models_size_in_its_range(photos: Path, capsys: pytest.CaptureFixture[str]):
    images = latent_lab.read_images(photos, 16)
    assert (images.shape, images.dtype) == ((2, 3, 16, 16), torch.float32)
    assert images[0, 1].eq(1).all()
    assert images[0, ::2].eq(-1).all()
    assert images[1].sub(128 / 255 * 2 - 1).abs().max() < 1e-6
    assert "skipped c.jpg" in capsys.readouterr().err


def test_one_file_and_grey(photos: Path):
    images = latent_lab.read_images(str(photos / "a.png"), 8, grey=True)
    assert images.shape == (1, 1, 8, 8)
    assert images.sub(150 / 255 * 2 - 1).abs().max() < 0.01


def test_where_nothing_can_be_read_it_is_said(photos: Path):
    with pytest.raises(ValueError, match=r"holds no readable image, the first file is c\.jpg"):
        latent_lab.read_images(photos / "c.jpg", 8)
