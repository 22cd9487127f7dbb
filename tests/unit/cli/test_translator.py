"""A translator on the command line: trained on domains, continued on more of them, looked at, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import latent_lab as package
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint

LINK = """\
model:
  class_path: Translator
  init_args:
    domains: ["25", "35"]
    generator_width: 2
    residual_blocks: 1
    discriminator_width: 2
    discriminator_halvings: 1
    schedule: {stages: [{resolution: 8, kimg: 0.008, batch_size: 2, learning_rate: 1e-3, learning_rate_end: 0}]}
data:
  class_path: OrderedDomains
  init_args:
    images: {class_path: SyntheticAgeing, init_args: {resolution: 8, num_images: 12, num_val: 6, num_test: 12}}
    train_on: ["25", "35"]
run: {record_kimg: 0.002, analyses: []}
trainer: {accelerator: cpu, devices: 1}
"""


@pytest.fixture
def link(folder: Path) -> Path:
    """A configuration of a translator that trains in a second."""
    path = folder / "link.yaml"
    path.write_text(LINK, encoding="utf-8")
    return path


def content_of(run: str) -> dict[str, Any]:
    return read_checkpoint(Path("runs") / run / "checkpoints" / "last.ckpt")


def assert_one_sentence(outcome: Any, *words: str) -> None:
    assert outcome.code == 2
    assert outcome.error.count("\n") == 1
    for word in words:
        assert word in outcome.error


def test_a_trained_link_goes_on_with_three_domains_under_another_name(latent_lab, link: Path):
    assert latent_lab("fit", "--config", link).code == 0
    first = content_of("link")
    three = "['25','35','45']"
    outcome = latent_lab(
        *("fit", "--config", link, "--run-dir", "runs/reused", "--resume", "runs/link/checkpoints/last.ckpt"),
        *("--model.domains", three, "--data.train_on", three, "--max-kimg", "0.016"),
    )
    assert outcome.code == 0, outcome.error
    assert "model.domains" in outcome.error
    second = content_of("reused")
    assert second[CHECKPOINT_KEY]["images_seen"] == 16
    assert first[CHECKPOINT_KEY]["images_seen"] == 8
    # The first run is as it was, and Adam's moments went along.
    assert all(torch.equal(a, content_of("link")["state_dict"][name]) for name, a in first["state_dict"].items())
    steps = [next(iter(one["state"].values()))["step"].item() for one in second["optimizer_states"]]
    # Four steps of one pair, then four of two pairs each.
    assert steps == [12, 12, 12]
    assert package.load("runs/reused/checkpoints/last.ckpt").domains == ("25", "35", "45")


def test_options_of_the_data_set_within_are_typed_with_their_path(latent_lab, link: Path):
    outcome = latent_lab("fit", "--config", link, "--data.images.init_args.num_images", "18", "--max-kimg", "0.002")
    assert outcome.code == 0, outcome.error
    assert content_of("link")[CHECKPOINT_KEY]["data"]["init_args"]["images"]["init_args"]["num_images"] == 18


def test_translations_are_looked_at_from_the_checkpoint_alone(latent_lab, link: Path):
    assert latent_lab("fit", "--config", link).code == 0
    outcome = latent_lab(
        *("analyze", "translate", "--ckpt", "runs/link/checkpoints/last.ckpt", "--estimator", "drawn"),
        *("--out", "looks", "--num", "2"),
    )
    assert outcome.code == 0, outcome.error
    result = json.loads(Path("looks/result.json").read_text())
    assert {"change", "cycle_error", "age_drawn_at_25", "age_drawn_at_35"} == set(result["numbers"])
    assert Path("looks/translations.png").is_file()


def test_an_exported_link_translates_as_before(latent_lab, link: Path):
    assert latent_lab("fit", "--config", link).code == 0
    outcome = latent_lab("export", "runs/link/checkpoints/last.ckpt", "--out", "link.ckpt")
    assert outcome.code == 0, outcome.error
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = package.load("runs/link/checkpoints/last.ckpt"), package.load("link.ckpt")
    with torch.no_grad():
        assert torch.equal(one.translate(images, "25", "35"), other.translate(images, "25", "35"))


def test_folders_of_this_machine_are_not_exported(latent_lab, link: Path, folder: Path):
    cache = folder / "elsewhere"
    assert latent_lab("fit", "--config", link, "--data.images.init_args.cache_dir", cache).code == 0
    assert latent_lab("export", "runs/link/checkpoints/last.ckpt", "--out", "link.ckpt").code == 0
    assert str(folder) not in str(read_checkpoint("link.ckpt")[CHECKPOINT_KEY])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--data", "SyntheticFaces"],
            "a Translator is trained on domains, which SyntheticFaces has not: name the data",
        ),
        (
            ["--model", "GAN", "--model.schedule.stages.0.batch_size", "4"],
            "and a GAN takes one: name the data set that",
        ),
        (["--data.train_on", "['15','25']"], "between the domains 25, 35, the data gives 15, 25: make model.domains"),
        (["--data.domains", "[{name: a, low: 90, high: 19}]"], "domain a must have low below high, got 90 and 19"),
        (["--data.domains", "[{name: a, low: 1, high: 9}, {name: b, low: 8, high: 10}]"], "domains must not overlap"),
        (["--data.images.init_args.num_imags", "9"], "SyntheticAgeing has no option num_imags"),
        (["--model.wrong_domain", "sometimes"], "model.wrong_domain must be one of consistent, always, never"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_sentence(words: list[str], sentence: str, latent_lab, link: Path):
    assert_one_sentence(latent_lab("fit", "--config", link, *words), sentence)
    assert not Path("runs").exists()


def test_an_empty_domain_is_said_in_one_sentence(latent_lab, link: Path):
    outcome = latent_lab("fit", "--config", link, "--data.images.init_args.ages", "[35, 45, 55]")
    assert outcome.code == 2
    packing, sentence = outcome.error.splitlines()
    assert packing.startswith("Packing 30 images")
    assert "domain 25 (20 to below 30) has no training images, whose label age reaches from" in sentence
    assert not Path("runs").exists()


def test_what_needs_latents_is_refused_for_a_translator(latent_lab, link: Path):
    assert latent_lab("fit", "--config", link, "--max-kimg", "0.002").code == 0
    outcome = latent_lab("sample", "--ckpt", "runs/link/checkpoints/last.ckpt")
    assert_one_sentence(outcome, "sample needs a model with decode, latent_space, which Translator does not offer")
