from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from latent_lab.data import FFHQ

NAMES = [f"{number // 3 * 1000:05d}/{number:05d}.png" for number in range(6)]


def test_the_last_portraits_are_held_out(make_images):
    data = FFHQ(make_images(NAMES), resolution=8, holdout=2)
    assert data.source("train").names == tuple(NAMES[:4])
    assert data.source("val").names == data.source("test").names == tuple(NAMES[4:])


def test_the_published_program_brings_every_portrait_to_one_size_first(make_images):
    root = make_images(["0.png", "1.png"], size=(40, 40))
    batch = FFHQ(root, resolution=8, through=16, holdout=1).source("train").batch([0], 8)
    with Image.open(root / "0.png") as image:
        half = image.resize((16, 16), Image.Resampling.BILINEAR)
        expected = np.asarray(half.resize((8, 8), Image.Resampling.BILINEAR))
    torch.testing.assert_close((batch.images[0].permute(1, 2, 0) + 1) * 127.5, torch.tensor(expected).float())


def test_an_intermediate_size_below_the_resolution_is_refused():
    with pytest.raises(ValueError, match="through must be at least the resolution 64 or null, got 32"):
        FFHQ(resolution=64, through=32)


def test_absent_images_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"FFHQ is not at .*: get images1024x1024 .* https://github.com/NVlabs"):
        FFHQ(tmp_path / "nowhere").source("train")
