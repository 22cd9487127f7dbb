from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data import MNIST, ImageFolder
from latent_lab.data.pyramid import open_pack
from tests.unit.data.idx import idx, write_mnist

PIXELS = {"train": 12, "t10k": 5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mnist(tmp_path / "mnist", **PIXELS)


def pixels_of(root: Path, part: str) -> np.ndarray:
    content = (root / f"{part}-images-idx3-ubyte").read_bytes()
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)


def test_digits_are_read_in_order_with_their_classes_and_two_black_pixels_around(root: Path):
    source = MNIST(root).source("train")
    batch = source.batch([7, 3], 32)
    padded = np.pad(pixels_of(root, "train")[[7, 3]], ((0, 0), (2, 2), (2, 2)))
    assert torch.equal(batch.images, images.from_bytes(torch.from_numpy(padded)[:, None]))
    assert source.label_names == ("class",)
    assert batch.labels.tolist() == [[7.0], [3.0]]


def test_val_and_test_are_the_published_test_part(root: Path):
    data = MNIST(root)
    assert len(data.source("train")) == 12
    for split in ("val", "test"):
        inner = data.source(split).batch(range(5), 32).images[:, 0, 2:-2, 2:-2]
        assert torch.equal(images.to_bytes(inner[:, None])[:, 0], torch.from_numpy(pixels_of(root, "t10k").copy()))
    assert "The same held-out images serve as val and test." in data.describe()


def test_every_level_has_one_channel(root: Path):
    data = MNIST(root)
    for resolution in (4, 8, 16, 32):
        assert data.source("test").batch([0], resolution).images.shape == (1, 1, resolution, resolution)
    assert data.pack.channels == 1


def test_digits_are_not_mirrored_by_default(root: Path):
    assert not MNIST(root).mirror


@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw", "FashionMNIST/raw"])
def test_packed_files_in_the_usual_folders_give_the_same(root: Path, tmp_path: Path, folder: str):
    copy = tmp_path / "copy" / folder
    copy.mkdir(parents=True)
    for path in root.iterdir():
        (copy / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert MNIST(tmp_path / "copy").pack.recipe["hash"] == MNIST(root).pack.recipe["hash"]


def test_names_with_a_dot_for_the_hyphen_do_as_well(root: Path):
    for path in list(root.iterdir()):
        path.rename(root / path.name.replace("-idx", ".idx"))
    assert len(MNIST(root).source("train")) == 12


def test_other_content_under_the_same_names_makes_another_pack(root: Path, tmp_path: Path):
    other = write_mnist(tmp_path / "fashion", seed=1, **PIXELS)
    assert MNIST(other).pack.key != MNIST(root).pack.key


def test_absent_files_are_explained_in_one_sentence(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"get them from https://\S+ \(the Debian package dataset-fashion-mnist"
    ) as error:
        MNIST(tmp_path).prepare_data()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"no IDX file of unsigned bytes with 3 axes \(it begins with nothing\)"),
        (b"<!DOCTYPE html>", r"no IDX file of unsigned bytes with 3 axes \(it begins with 3c 21 44 4f\)"),
        (idx(np.zeros((5, 28, 28), np.uint8))[:-1], r"has 3935 bytes, but its header tells of 3936"),
        (idx(np.zeros((5, 28, 28), np.uint8)) + b"x", r"has 3937 bytes, but its header tells of 3936"),
        (idx(np.zeros((5, 28, 28), np.uint8))[:9], r"has 9 bytes, but its header tells of"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, r"has 16 bytes, but its header tells of"),
        (idx(np.zeros((5, 32, 32), np.uint8)), r"must hold images of 28x28 pixels, found 32x32"),
        (idx(np.zeros((4, 28, 28), np.uint8)), r"has 4 images and .* 5 labels: they do not belong together"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(root: Path, content: bytes, message: str):
    (root / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=rf"t10k-images-idx3-ubyte' (is )?{message}") as error:
        MNIST(root).prepare_data()
    assert "\n" not in str(error.value)


def test_a_cut_off_packed_file_is_named_in_one_sentence(root: Path):
    path = root / "train-labels-idx1-ubyte"
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-6])
    path.unlink()
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte.gz' cannot be unpacked \("):
        MNIST(root).prepare_data()


def test_a_grey_pack_is_no_folder_of_colour_images(root: Path):
    folder = MNIST(root).pack.folder
    with pytest.raises(ValueError, match=r"ImageFolder has images with 3 channels, and the pack .* holds some with 1"):
        ImageFolder(folder, resolution=32).prepare_data()
    assert len(MNIST(folder).source("train")) == 12


def test_a_pack_that_says_nothing_of_channels_is_one_of_colour(make_images):
    data = ImageFolder(make_images([f"{number}.png" for number in range(6)]), resolution=8)
    folder = data.pack.folder
    index = json.loads((folder / "index.json").read_text())
    del index["channels"]
    (folder / "index.json").write_text(json.dumps(index))
    assert open_pack(folder).channels == 3


def test_an_array_that_is_not_what_the_index_says_is_named(root: Path):
    folder = MNIST(root).pack.folder
    np.save(folder / "images_8.npy", np.zeros((17, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"is damaged: images_8.npy should hold bytes of shape \(17, 1, 8, 8\), found"):
        MNIST(root).prepare_data()
