"""The checkpoints that come with the project and those that others publish, each with its facts in the manifest."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
import torch

import latent_lab
from latent_lab.importers import FORMATS
from latent_lab.models import MODELS
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import (
    import_command,
    is_chain,
    is_published,
    is_shipped,
    load,
    read_checkpoint,
    read_manifest,
    resolve_chain,
    resolve_checkpoint,
)
from latent_lab.shipped import shipped_folder

FOLDER = shipped_folder("checkpoints")
MANIFEST = {name: entry for name, entry in read_manifest().items() if is_shipped(entry)}
CHAINS = {name: entry for name, entry in read_manifest().items() if is_chain(entry)}
PUBLISHED = {name: entry for name, entry in read_manifest().items() if is_published(entry)}
MEGABYTE = 2**20


@pytest.fixture(params=sorted(MANIFEST))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_file_is_in_the_manifest():
    assert {path.name for path in FOLDER.glob("*.ckpt")} == {entry["file"] for entry in MANIFEST.values()}


def test_they_are_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*.ckpt")]
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


@pytest.mark.parametrize("chain", sorted(CHAINS))
def test_a_chain_loads_by_its_name_and_moves_images(chain: str):
    entry = CHAINS[chain]
    for fact in ("summary", "data", "licence", "config", "command", "images_seen", "protocol", "numbers"):
        assert entry[fact], fact
    assert (FOLDER.parent / "configs" / entry["config"]).is_file()
    found = latent_lab.load_chain(chain)
    assert (found.structure, found.resolution) == (entry["structure"], entry["resolution"])
    images = torch.rand(2, 3, found.resolution, found.resolution) * 2 - 1
    moved = found.translate(images, found.domains[0], found.domains[-1])
    assert moved.shape == images.shape
    assert (moved - images).abs().mean() > 0.01


@pytest.mark.parametrize("chain", sorted(CHAINS))
def test_a_chain_names_no_folder_of_a_machine_and_is_no_checkpoint(chain: str):
    ledger = (resolve_chain(chain) / "ledger.json").read_text(encoding="utf-8")
    assert not re.findall(r'": "/', ledger)
    with pytest.raises(FileNotFoundError, match=f"{chain} is a chain of translators: use it with `latent-lab chain"):
        resolve_checkpoint(chain)


# Published by others


@pytest.fixture(params=sorted(PUBLISHED))
def published(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_published_file_is_listed():
    assert {entry["importer"] for entry in PUBLISHED.values()} == {
        "pioneer",
        "balanced_pioneer",
        "automodulator",
        "age_modules",
        "attribute_delta",
        "stylegan_tf",
    }
    assert sum(len(entry["files"]) for entry in PUBLISHED.values()) == 5 + 2 * 2 + 5 + 3 * 2 + 5 + 2 * 6


def test_a_published_entry_says_where_it_is_on_which_terms_and_how_it_is_imported(published: str):
    entry: dict[str, Any] = PUBLISHED[published]
    for fact in ("summary", "page", "licence", "importer", "becomes"):
        assert entry[fact], fact
    assert entry["page"].startswith("https://")
    assert entry["becomes"].endswith(FORMATS[entry["importer"]].suffix)
    for file in entry["files"]:
        assert file.get("url", "https://").startswith("https://")
        assert len(file.get("sha256", 64 * "0")) == 64
        assert len(file.get("md5", 32 * "0")) == 32


def test_a_published_model_has_its_configuration_and_every_number_its_protocol(published: str):
    entry: dict[str, Any] = PUBLISHED[published]
    if entry["importer"] == "attribute_delta":
        return
    assert entry["model"] in MODELS
    if published not in ("stylegan_lsun_cats256", "stylegan_lsun_cars512"):  # trained as bedrooms are
        assert (FOLDER.parent / "configs" / entry["config"]).is_file()
    assert entry["data"]
    assert entry["resolution"] in (32, 64, 128, 256, 512, 1024)
    assert ("numbers" in entry) == ("protocol" in entry)


def test_loading_a_published_name_says_how_to_get_it_in_one_sentence(published: str):
    with pytest.raises(
        FileNotFoundError, match=rf"^{published} was published by others and does not come with"
    ) as error:
        load(published)
    message = str(error.value)
    assert "\n" not in message
    assert f"`{import_command(PUBLISHED[published])}`" in message
    by_program = all("url" in file for file in PUBLISHED[published]["files"])
    assert (f"`latent-lab download {published} --out DIR`" in message) == by_program
    assert (PUBLISHED[published]["page"] in message) == (not by_program)
