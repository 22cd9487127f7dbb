"""Grey images for colour models, and the reverse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latent_lab.data import MNIST, SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.vae import VAE
from tests.unit.data.idx import write_mnist

GREY = ["--model", "VAE", "--model.image_channels", "1", "--model.latent_dim", "4", "--model.widths", "[4, 4]"]


@pytest.fixture
def digits(folder: Path) -> Path:
    return write_mnist(folder / "mnist", train=24, t10k=9)


def assert_one_sentence(outcome, *words: str) -> None:
    assert outcome.code == 2
    assert outcome.error.count("\n") == 1
    for word in words:
        assert word in outcome.error


def test_grey_images_for_a_colour_model_are_refused_before_anything_is_written(latent_lab, tiny, digits, folder):
    before = sorted(folder.rglob("*"))
    outcome = latent_lab("fit", "--config", tiny, "--data", "MNIST", "--data.root", digits)
    assert_one_sentence(
        outcome, "MNIST has images with 1 channel, but this Pioneer is for 3: choose another model, or name other data"
    )
    assert sorted(folder.rglob("*")) == before


def test_colour_images_for_a_grey_model_are_refused_with_the_option_that_helps(latent_lab, tiny):
    rows = "stages: [{resolution: 8, kimg: 0.064, batch_size: 8}]\n"
    Path("rows.yaml").write_text(rows)
    outcome = latent_lab("fit", "--config", tiny, *GREY, "--model.schedule", "rows.yaml")
    assert_one_sentence(
        outcome, "SyntheticFaces has images with 3 channels, but this VAE is for 1", "image_channels to 3"
    )


@pytest.fixture
def grey_checkpoint(folder: Path, digits: Path) -> Path:
    """An untrained model of digits at 8 px that looks like the end of a run."""
    model = VAE(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=4, widths=[4, 4], image_channels=1)
    model.advance(64)
    content = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = MNIST(digits, resolution=8).recipe
    path = folder / "grey.ckpt"
    torch.save(content, path)
    return path


def test_a_grey_model_trains_tests_and_shows_pictures(latent_lab, tiny, digits, folder):
    Path("rows.yaml").write_text("stages: [{resolution: 8, kimg: 0.064, batch_size: 8}]\n")
    Path("plans.yaml").write_text("run: {analyses: [{name: sample}, {name: reconstruct}]}\n")
    outcome = latent_lab(
        "fit", "--config", tiny, "--config", "plans.yaml", *GREY, "--model.schedule", "rows.yaml", "--data", "MNIST",
        "--data.root", digits, "--data.resolution", "8", "--run-dir", "grey",
    )  # fmt: skip
    assert outcome.code == 0, outcome.error
    assert len(list((folder / "grey" / "pictures").glob("*.png"))) == 2
    counts = {"num-samples": 8, "num-reconstructions": 8, "num-paths": 4, "num-swd": 8, "num-pictures": 4}
    words = [f"--{name}={count}" for name, count in counts.items()]
    words += ["--extractor", "random", "--perceptual", "random_l2"]
    outcome = latent_lab("test", "--ckpt", "grey/checkpoints/last.ckpt", "--out", "o", *words)
    assert outcome.code == 0, outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]["channels"] == 1


def test_other_data_of_other_channels_is_refused_when_measuring(latent_lab, grey_checkpoint):
    outcome = latent_lab("reconstruct", "--ckpt", grey_checkpoint, "--data", "SyntheticFaces", "--data.num_images", "8")
    assert_one_sentence(outcome, "SyntheticFaces has images with 3 channels, but this VAE is for 1")


def test_the_data_of_a_colour_checkpoint_cannot_become_grey(latent_lab, checkpoint, digits):
    outcome = latent_lab("test", "--ckpt", checkpoint, "--data", "MNIST", "--data.root", digits)
    assert_one_sentence(outcome, "MNIST has images with 1 channel, but this Pioneer is for 3")


def test_ones_own_photographs_become_grey_for_a_grey_model_and_the_protocol_says_so(
    latent_lab, grey_checkpoint, photos, folder
):
    outcome = latent_lab("reconstruct", "--ckpt", grey_checkpoint, "--images", photos, "--out", "o")
    assert outcome.code == 0, outcome.error
    data = json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]
    assert (data["channels"], data["num_images"]) == (1, 3)


def test_colour_is_what_a_data_set_has_unless_it_says_otherwise():
    assert (SyntheticFaces.channels, MNIST.channels) == (3, 1)
