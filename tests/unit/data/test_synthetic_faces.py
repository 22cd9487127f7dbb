from __future__ import annotations

import pytest
import torch

from latent_lab import images
from latent_lab.data import SyntheticFaces
from latent_lab.data.synthetic_renderer import LABEL_NAMES, camera_to_object, render, sample_factors


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> SyntheticFaces:
    return SyntheticFaces(
        num_images=40, num_val=5, num_test=6, resolution=16, cache_dir=tmp_path_factory.mktemp("cache")
    )


def test_splits_have_the_sizes_asked_for(faces):
    assert [len(faces.source(split)) for split in ("train", "val", "test")] == [40, 5, 6]


def test_images_labels_and_poses_belong_together(faces):
    batch = faces.source("val").batch([0, 4], 16)
    factors = sample_factors(0, [40, 44])
    torch.testing.assert_close(batch.images, images.quantise(render(factors, 16)), rtol=0, atol=2 / 255 + 1e-6)
    torch.testing.assert_close(batch.labels, factors.labels())
    torch.testing.assert_close(batch.pose, camera_to_object(factors))
    assert faces.label_names == LABEL_NAMES


def test_smaller_levels_are_means_of_the_largest(faces):
    source = faces.source("train")
    coarse = images.halve(source.batch(range(8), 16).images)
    # Rounding to 8 bits: half a level.
    torch.testing.assert_close(source.batch(range(8), 8).images, coarse, rtol=0, atol=1 / 255 + 1e-6)


def test_the_seed_of_the_order_does_not_change_the_faces(tmp_path):
    one, other = (
        SyntheticFaces(num_images=4, num_val=1, num_test=1, resolution=8, seed=seed, cache_dir=tmp_path)
        for seed in (0, 1)
    )
    assert one.source("test").recipe == other.source("test").recipe


def test_another_faces_seed_gives_other_faces(tmp_path):
    sizes = {"num_images": 4, "num_val": 1, "num_test": 1, "resolution": 8}
    one, other = (SyntheticFaces(**sizes, faces_seed=seed, cache_dir=tmp_path) for seed in (0, 1))
    assert one.source("test").recipe["hash"] != other.source("test").recipe["hash"]


def test_a_split_without_images_is_refused():
    with pytest.raises(ValueError, match="must be at least 1, got 10, 0 and 500"):
        SyntheticFaces(num_images=10, num_val=0)


def test_the_framing_of_faces_is_the_middle_of_a_portrait_of_twice_the_size(faces, tmp_path):
    sizes = {"num_images": 4, "num_val": 1, "num_test": 1, "resolution": 16}
    close = SyntheticFaces(**sizes, framing="face", cache_dir=tmp_path)
    portraits = images.quantise(render(sample_factors(0, range(4)), 32))
    torch.testing.assert_close(close.source("train").batch(range(4), 16).images, portraits[:, :, 8:24, 8:24])
    assert close.source("train").recipe["hash"] != faces.source("train").recipe["hash"]
