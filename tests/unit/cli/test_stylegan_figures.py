"""`latent-lab analyze truncation`, `noise` and `separability` of a StyleGAN, and path lengths in W."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import StyleGAN
from latent_lab.networks.label_regressor import LabelRegressor


@pytest.fixture
def stylegan(folder: Path) -> Path:
    """An untrained StyleGAN at 16 px that looks like the end of a run."""
    model = StyleGAN(GrowthSchedule([Stage(16, 0.064, 8)]), latent_dim=8, widths=[8, 8, 8], mapping_layers=1)
    model.advance(64)
    content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=16).recipe
    path = folder / "stylegan.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "options", "number"),
    [
        ("truncation", ["--psis", "1,0.5,-1", "--num-measured", "4", "--numpy-seeds", "91,388"], "diversity_psi_0.5"),
        ("noise", ["--num", "1", "--num-draws", "3"], "noise_deviation_fine"),
    ],
)
def test_figures_are_analyses_of_a_checkpoint(name, options, number, latent_lab, stylegan, folder):
    outcome = latent_lab("analyze", name, "--ckpt", stylegan, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert (folder / "o" / f"{name}.png").is_file()
    assert number in json.loads((folder / "o" / "result.json").read_text())["numbers"]


def test_separability_takes_the_file_of_a_regressor(latent_lab, stylegan, folder):
    LabelRegressor(["smiling"], [True], 16).save(folder / "labels.safetensors")
    options = ["--classifier", "labels.safetensors", "--num-samples", "40"]
    outcome = latent_lab("analyze", "separability", "--ckpt", stylegan, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    numbers = json.loads((folder / "o" / "result.json").read_text())["numbers"]
    assert {"separability_z_40", "separability_w_40"} < set(numbers)


def test_path_lengths_in_w_are_an_option_of_test(latent_lab, stylegan, folder):
    options = ["--metrics", "ppl", "--perceptual", "random_l2", "--num-paths", "4", "--path-space", "w"]
    outcome = latent_lab("test", "--ckpt", stylegan, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert set(json.loads((folder / "o" / "result.json").read_text())["numbers"]) == {"ppl_w_end_random_l2"}


def test_a_model_without_w_is_refused_in_one_sentence(latent_lab, checkpoint):
    outcome = latent_lab("analyze", "truncation", "--ckpt", checkpoint, "--out", "o")
    assert outcome.code == 2
    assert "truncation needs a model with" in outcome.error
    assert "Traceback" not in outcome.error


@pytest.mark.parametrize("space", ["w", "w+"])
def test_latents_of_images_are_sought_in_w_and_in_each_layer_of_it(space, latent_lab, stylegan, folder):
    options = [
        "--num",
        "2",
        "--steps",
        "5",
        "--restarts",
        "1",
        "--perceptual",
        "random_l2",
        "--perceptual-weight",
        "0.1",
    ]
    outcome = latent_lab("invert", "--ckpt", stylegan, "--space", space, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["view"] == {"space": space}


def test_samples_are_truncated_on_demand_and_the_protocol_says_so(latent_lab, stylegan, folder):
    plain = latent_lab("sample", "--ckpt", stylegan, "--num", "4", "--out", "plain")
    mean = latent_lab(
        "sample", "--ckpt", stylegan, "--num", "4", "--truncation", "0", "--truncated-layers", "2", "--out", "mean"
    )
    assert (plain.code, mean.code) == (0, 0), mean.error
    view = json.loads((folder / "mean" / "result.json").read_text())["protocol"]["view"]
    assert view == {"truncation": 0.0, "truncated_layers": 2}
    assert "view" not in json.loads((folder / "plain" / "result.json").read_text())["protocol"]
    assert (folder / "mean" / "samples.png").read_bytes() != (folder / "plain" / "samples.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "y"], "--space must be z, w or w+, got y"),
        (["--truncation", "much"], "--truncation must be a number, got much"),
        (["--truncated-layers", "2"], "--truncated-layers goes with --truncation"),
    ],
)
def test_impossible_views_are_refused(options, message, latent_lab, stylegan):
    outcome = latent_lab("sample", "--ckpt", stylegan, *options)
    assert outcome.code == 2
    assert message in outcome.error


def test_a_model_without_w_has_no_view_of_it(latent_lab, checkpoint):
    outcome = latent_lab("sample", "--ckpt", checkpoint, "--space", "w")
    assert outcome.code == 2
    assert "a StyleGAN" in outcome.error
