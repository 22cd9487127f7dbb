from __future__ import annotations

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from latent_lab.data import LSUN

NAMES = [f"{number:02d}.webp" for number in range(6)]


class FakeEnvironment:
    """As much of an LMDB environment as is read: ordered keys and their values."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records

    @contextmanager
    def begin(self):
        iternext = lambda values: iter(sorted(self.records))  # noqa: E731
        yield SimpleNamespace(get=self.records.get, cursor=lambda: SimpleNamespace(iternext=iternext))


@pytest.fixture
def database(make_images, tmp_path, monkeypatch):
    """A folder that looks like an LMDB, and a package `lmdb` that opens it."""
    images = make_images(NAMES, size=(40, 20))
    records = {name.encode(): (images / name).read_bytes() for name in NAMES}
    fake = SimpleNamespace(open=lambda path, **options: FakeEnvironment(records))
    monkeypatch.setitem(sys.modules, "lmdb", fake)
    folder = tmp_path / "lsun" / "bedroom_train_lmdb"
    folder.mkdir(parents=True)
    (folder / "data.mdb").touch()
    return records


def test_the_last_images_of_a_folder_are_held_out(make_images):
    data = LSUN(make_images(NAMES), resolution=8, holdout=2)
    assert data.source("val").names == data.source("test").names == tuple(NAMES[4:])


def test_every_level_has_its_shorter_side_scaled_before_the_crop(make_images):
    root = make_images(["0.png", "1.png"], size=(40, 20))
    batch = LSUN(root, resolution=8, holdout=1).source("train").batch([0], 8)
    with Image.open(root / "0.png") as image:
        expected = np.asarray(image.resize((16, 8), Image.Resampling.BILINEAR))[:, 4:12]
    torch.testing.assert_close((batch.images[0].permute(1, 2, 0) + 1) * 127.5, torch.tensor(expected).float())


def test_records_of_the_database_are_images(database, make_images, tmp_path):
    root = make_images(NAMES, size=(40, 20))
    one = LSUN(tmp_path / "lsun", resolution=8, holdout=2)
    other = LSUN(root, resolution=8, holdout=2)
    assert one.source("train").recipe["hash"] == other.source("train").recipe["hash"]


def test_broken_records_are_named_and_skipped(database, tmp_path):
    database[b"03.webp"] = b"broken"
    data = LSUN(tmp_path / "lsun", resolution=8, holdout=2)
    assert [str(odd) for odd in data.pack.odd_files] == ["03.webp (the content is not an image)"]


def test_only_the_first_images_are_used_if_asked(database, tmp_path):
    data = LSUN(tmp_path / "lsun", resolution=8, holdout=2, max_images=5)
    assert len(data.source("train")) == 3


def test_a_missing_package_says_how_to_install_it(database, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ValueError, match="the package lmdb is not installed: run `pip install lmdb`"):
        LSUN(tmp_path / "lsun").setup()


def test_absent_data_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"get their LMDB as https://github\.com/fyu/lsun"):
        LSUN(tmp_path / "nowhere").setup()
