from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data import CelebA
from latent_lab.data.readers import read_image

NAMES = [f"{number:06d}.jpg" for number in range(1, 7)]


@pytest.fixture
def root(make_images):
    """The official layout with six images."""
    folder = make_images([f"img_align_celeba/{name}" for name in NAMES], size=(178, 218), folder="celeba")
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {n // 2}\n" for n, name in enumerate(NAMES)))
    rows = "".join(f"{name}  {1 if n % 2 else -1} -1\n" for n, name in enumerate(NAMES))
    (folder / "list_attr_celeba.txt").write_text(f"6\nMale Smiling\n{rows}")
    return folder


def test_the_official_partition_is_used(root):
    data = CelebA(root, resolution=8)
    assert [data.source(split).names for split in ("train", "val", "test")] == [
        tuple(NAMES[:2]),
        tuple(NAMES[2:4]),
        tuple(NAMES[4:]),
    ]


def test_attributes_become_0_and_1(root):
    data = CelebA(root, resolution=8)
    assert data.label_names == ("Male", "Smiling")
    assert data.source("test").batch([0, 1], 4).labels.tolist() == [[0, 0], [1, 0]]


def test_identities_are_a_label_where_they_are_known(root):
    (root / "Anno").mkdir()
    (root / "Anno" / "identity_CelebA.txt").write_text("".join(f"{name} {2880 + n}\n" for n, name in enumerate(NAMES)))
    batch = CelebA(root, resolution=8).source("train").batch([1], 4)
    assert batch.labels.tolist() == [[1, 0, 2881]]


def test_the_crop_of_the_thesis_is_128_pixels_at_25_45(root):
    pixels = read_image(root / "img_align_celeba" / NAMES[0])[0][45:173, 25:153]
    batch = CelebA(root, resolution=128, crop="thesis").source("train").batch([0], 128)
    np.testing.assert_array_equal(images.to_bytes(batch.images)[0].permute(1, 2, 0).numpy(), pixels)


def test_three_crops_give_three_data_sets(root):
    packs = [CelebA(root, resolution=8, crop=crop).pack for crop in ("pioneer", "thesis", "age")]
    assert len({made.recipe["hash"] for made in packs}) == 3


def test_images_of_another_size_do_not_pass_for_celeba(make_images, root):
    make_images([f"img_align_celeba/{name}" for name in NAMES], size=(89, 109), folder="celeba")
    with pytest.raises(ValueError, match=r"none of the 6 images is readable.*reaches out of the 89x109 pixels"):
        CelebA(root, resolution=8, crop="thesis").setup()


def test_absent_images_say_where_to_get_them(tmp_path):
    with pytest.raises(ValueError, match=r"img_align_celeba' *, which is not there: get img_align_celeba\.zip"):
        CelebA(tmp_path).prepare_data()


def test_an_absent_table_is_named(root):
    (root / "list_eval_partition.txt").unlink()
    with pytest.raises(ValueError, match=r"CelebA needs list_eval_partition\.txt"):
        CelebA(root).prepare_data()


def test_images_that_no_table_lists_belong_to_no_split(make_images, root):
    make_images(["img_align_celeba/000007.jpg"], size=(178, 218), folder="celeba")
    data = CelebA(root, resolution=8)
    assert sum(len(data.source(split)) for split in ("train", "val", "test")) == 6
    assert "1 images belong to no split and are left out." in data.describe()
    assert not torch.isnan(data.source("train").batch([0, 1], 4).labels).any()
