from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data import CelebAHQ

COUNT = 20


@pytest.fixture
def pyramid(tmp_path):
    """An H5 file as the tools of progressive GANs write it; each level is other noise, so that a mix-up shows."""
    rng = np.random.default_rng(0)
    path = tmp_path / "hq" / "celebahq.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for size in (1, 2, 4, 8, 16):
            data = rng.integers(0, 256, (COUNT, 3, size, size), dtype=np.uint8)
            file.create_dataset(f"data{size}x{size}", data=data, compression="gzip", compression_opts=4)
    return path


def write_list(folder, original) -> None:
    rows = "".join(f"{n} {number} {number + 1:06d}.jpg 0 0\n" for n, number in enumerate(original))
    (folder / "image_list.txt").write_text(f"idx orig_idx orig_file proc_md5 final_md5\n{rows}")


def test_levels_of_the_file_are_used_as_they_are(pyramid):
    batch = CelebAHQ(pyramid, resolution=16).source("train").batch([0, 17], 8)
    with h5py.File(pyramid) as file:
        expected = torch.from_numpy(file["data8x8"][:][[0, 17]])
    torch.testing.assert_close(batch.images, images.from_bytes(expected), rtol=0, atol=0)


def test_without_a_list_the_first_nine_tenths_train(pyramid):
    data = CelebAHQ(pyramid, resolution=8)
    assert len(data.source("train")) == 18
    assert data.source("val").names == ("celebahq.h5/18", "celebahq.h5/19")


def test_with_the_list_the_official_test_part_of_celeba_is_held_out(pyramid):
    write_list(pyramid.parent, [182_637 if n in (3, 7) else 182_636 - n for n in range(COUNT)])
    data = CelebAHQ(pyramid, resolution=8)
    assert data.source("test").names == ("celebahq.h5/3", "celebahq.h5/7")
    assert len(data.source("train")) == 18
    assert data.source("test").recipe["split_rule"] == "original CelebA index"


def test_the_folder_of_the_file_may_be_given(pyramid):
    assert CelebAHQ(pyramid.parent, resolution=8).source("train").names == CelebAHQ(pyramid, 8).source("train").names


def test_a_folder_of_images_is_split_by_the_number_in_the_name(make_images):
    root = make_images([f"img{number:05d}.jpg" for number in range(4)], size=(32, 32))
    write_list(root, [5, 182_700, 9, 11])
    assert CelebAHQ(root, resolution=8).source("test").names == ("img00001.jpg",)


def test_a_resolution_that_the_file_lacks_says_what_it_has(pyramid):
    with pytest.raises(ValueError, match=r"levels data4x4 \.\.\. data32x32 .* found data16x16, data1x1"):
        CelebAHQ(pyramid, resolution=32).setup()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.h5' is not a readable H5 file"):
        CelebAHQ(tmp_path).setup()


def test_a_list_without_rows_is_refused(pyramid, tmp_path):
    (tmp_path / "list.txt").write_text("hello\n")
    with pytest.raises(ValueError, match="has no rows of CelebA-HQ and CelebA indices"):
        CelebAHQ(pyramid, resolution=8, image_list=tmp_path / "list.txt").setup()


def test_absent_data_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"not at .*nowhere'.*progressive_growing_of_gans"):
        CelebAHQ(tmp_path / "nowhere").prepare_data()
