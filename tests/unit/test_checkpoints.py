"""The checkpoints that come with the project, each with its facts in the manifest."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

import latent_lab
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint, read_manifest
from latent_lab.shipped import shipped_folder

FOLDER = shipped_folder("checkpoints")
MANIFEST = read_manifest()
MEGABYTE = 2**20


@pytest.fixture(params=sorted(MANIFEST))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_file_is_in_the_manifest():
    assert {path.name for path in FOLDER.glob("*.ckpt")} == {entry["file"] for entry in MANIFEST.values()}


def test_they_are_small():
    sizes = [path.stat().st_size for path in FOLDER.glob("*.ckpt")]
    assert max(sizes, default=0) <= 5 * MEGABYTE
    assert sum(sizes) <= 25 * MEGABYTE


def test_an_entry_says_what_it_is_where_it_comes_from_and_on_which_terms(name: str):
    entry: dict[str, Any] = MANIFEST[name]
    assert hashlib.sha256((FOLDER / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    for fact in ("summary", "model", "data", "licence", "config", "command", "images_seen", "resolution", "protocol"):
        assert entry[fact], fact
    assert (FOLDER.parent / "configs" / entry["config"]).is_file()
    assert entry["numbers"]


def test_a_name_loads_in_one_line_and_makes_images(name: str):
    model = latent_lab.load(name)
    assert type(model).__name__ == MANIFEST[name]["model"]
    assert model.images_seen == MANIFEST[name]["images_seen"]
    images = model.decode(model.latent_space.sample(2, torch.Generator().manual_seed(0)))
    assert images.shape == (2, model.channels, MANIFEST[name]["resolution"], MANIFEST[name]["resolution"])
    assert images.std() > 0.1


def test_a_file_holds_no_state_of_training_and_no_folder_of_a_machine(name: str):
    content = read_checkpoint(name)
    assert set(content) == {"state_dict", CHECKPOINT_KEY}
    assert not [value for value in content[CHECKPOINT_KEY]["data"]["init_args"].values() if str(value).startswith("/")]
