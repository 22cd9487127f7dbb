from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from latent_lab.data import TinyImageNet

NAMES = [
    "train/n01/images/n01_0.JPEG",
    "train/n02/images/n02_0.JPEG",
    "val/images/val_0.JPEG",
    "test/images/test_0.JPEG",
]


@pytest.mark.parametrize("folder", ["tiny", "tiny/tiny-imagenet-200"])
def test_the_official_folders_are_the_splits(make_images, tmp_path, folder: str):
    make_images(NAMES, size=(64, 64), folder=folder)
    data = TinyImageNet(tmp_path / "tiny", resolution=32)
    assert data.source("train").names == tuple(NAMES[:2])
    assert data.source("val").names == (NAMES[2],)
    assert data.source("test").names == (NAMES[3],)


def test_images_are_reduced_as_a_whole_by_the_bilinear_filter(make_images):
    root = make_images(NAMES, size=(64, 64))
    batch = TinyImageNet(root, resolution=32).source("train").batch([0], 32)
    with Image.open(root / NAMES[0]) as image:
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    torch.testing.assert_close((batch.images[0].permute(1, 2, 0) + 1) * 127.5, torch.tensor(expected).float())


def test_absent_data_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"get http://cs231n\.stanford\.edu/tiny-imagenet-200\.zip"):
        TinyImageNet(tmp_path / "nowhere").setup()
