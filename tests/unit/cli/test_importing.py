from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import latent_lab as package
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.unit.importers import stylegan_by_hand
from tests.unit.importers.automodulator_by_hand import AutomodulatorByHand
from tests.unit.importers.keras_by_hand import SplitVAEInKeras
from tests.unit.importers.pioneer_by_hand import PioneerByHand


def test_published_weights_become_a_checkpoint_that_commands_take(latent_lab, folder: Path):
    SplitVAEInKeras().save(folder / "split.hdf5")
    outcome = latent_lab("import", "split_vae_keras", "split.hdf5", "--out", "new/split.ckpt")
    assert outcome.code == 0, outcome.error
    assert "SplitVAE, 16 px, 3 channels, 5 latents" in outcome.out
    assert package.load(folder / "new" / "split.ckpt").resolution == 16
    assert latent_lab("sample", "--ckpt", "new/split.ckpt", "--num", "2", "--out", "o").code == 0


def test_options_of_a_format_are_options_of_the_command(latent_lab, folder: Path):
    SplitVAEInKeras().save(folder / "split.hdf5")
    latent_lab("import", "split_vae_keras", "split.hdf5", "--out", "split.ckpt", "--kl-weight", "8")
    described = read_checkpoint(folder / "split.ckpt")[CHECKPOINT_KEY]
    assert described["model"]["init_args"]["kl_weight"] == 8.0


def test_what_a_file_does_not_hold_is_named_with_what_stands_there_instead(latent_lab, folder: Path):
    torch.save(stylegan_by_hand.lernapparat(stylegan_by_hand.of("Gs", stylegan_by_hand.variables())), folder / "x.pt")
    outcome = latent_lab("import", "stylegan_lernapparat", "x.pt", "--out", "x.ckpt", "--fused-from", "8")
    assert outcome.code == 0, outcome.error
    assert "StyleGAN, 16 px, 3 channels, 16 latents" in outcome.out
    assert "not in the file: to-RGB below 16 px (here: 0)" in outcome.out
    described = read_checkpoint(folder / "x.ckpt")[CHECKPOINT_KEY]
    assert described["model"]["init_args"]["fused_from"] == 8
    assert "maps of noise (here: drawn, one for each layer)" in described["imported"]["absent"]


def test_an_unknown_format_is_refused_with_those_there_are(latent_lab):
    outcome = latent_lab("import", "split_vae", "x.hdf5", "--out", "x.ckpt")
    assert outcome.code == 2
    assert "there is no format split_vae: did you mean split_vae_keras" in outcome.error


def test_a_file_of_another_network_is_refused_in_one_sentence_and_nothing_is_written(latent_lab, folder: Path):
    np.savez(folder / "other.npz", np.zeros((3, 3)))
    outcome = latent_lab("import", "gan_tensors", "other.npz", "--out", "x.ckpt")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "other.npz is not the vanilla GAN" in outcome.error
    assert not (folder / "x.ckpt").exists()


def test_an_output_that_is_no_checkpoint_is_refused(latent_lab):
    outcome = latent_lab("import", "gan_tensors", "x.npz", "--out", "x.safetensors")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "--out must end with .ckpt, got x.safetensors" in outcome.error


def test_a_missing_output_is_asked_for(latent_lab):
    outcome = latent_lab("import", "gan_tensors", "x.npz")
    assert outcome.code == 2
    assert "latent-lab import FORMAT FILE --out X.ckpt" in outcome.error


def test_what_a_checkpoint_of_the_pioneer_family_holds_beyond_the_model_is_named(latent_lab, folder: Path):
    PioneerByHand().save(folder)
    outcome = latent_lab("import", "balanced_pioneer", "3000000_state", "--out", "new.ckpt")
    assert outcome.code == 0, outcome.error
    summary, *dropped = outcome.out.splitlines()
    assert summary.startswith("new.ckpt: Pioneer, 16 px, 3 channels, 8 latents, ")
    assert summary.endswith(" parameters, after 3,000,000 images")
    assert all(line.startswith("dropped: ") for line in dropped)
    assert "dropped: optimizerG, optimizerD (state of training)" in dropped
    assert latent_lab("sample", "--ckpt", "new.ckpt", "--num", "2", "--out", "o").code == 0


def test_an_automodulator_becomes_a_checkpoint_that_commands_take(latent_lab, folder: Path):
    AutomodulatorByHand().save(folder)
    outcome = latent_lab("import", "automodulator", "8000000_state.pth", "--out", "new.ckpt", "--resolution", "8")
    assert outcome.code == 0, outcome.error
    assert "new.ckpt: Automodulator, 8 px, 3 channels, 16 latents, " in outcome.out
    assert latent_lab("sample", "--ckpt", "new.ckpt", "--num", "2", "--out", "o").code == 0


def test_a_direction_becomes_a_file_of_tensors(latent_lab, folder: Path):
    torch.save(torch.ones(1, 4), folder / "hat_delta")
    outcome = latent_lab("import", "attribute_delta", "hat_delta", "--out", "hat.safetensors")
    assert (outcome.code, outcome.out.startswith("hat.safetensors: direction of hat_delta, 4 latents")) == (0, True)
    outcome = latent_lab("import", "attribute_delta", "hat_delta", "--out", "hat.ckpt")
    assert (outcome.code, "--out must end with .safetensors, got hat.ckpt" in outcome.error) == (2, True)


def _without_a_tensor(content: dict[str, Any]) -> None:
    del content["G_state_dict"]["module.to_rgb.0.bias"]


def _with_another_tensor(content: dict[str, Any]) -> None:
    content["G_state_dict"]["module.other"] = torch.zeros(1)


def _with_another_shape(content: dict[str, Any]) -> None:
    content["G_state_dict"]["module.to_rgb.0.bias"] = torch.zeros(4)


def _with_a_foreign_class(content: dict[str, Any]) -> None:
    content["alpha"] = Fraction(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_tensor, "G_state_dict of 1_state has no tensor to_rgb.0.bias"),
        (_with_another_tensor, "G_state_dict of 1_state has tensors that belong to no part of the network: other"),
        (_with_another_shape, "to_rgb.0.bias has shape (4,) where (3,) belongs"),
        (_with_a_foreign_class, "1_state was not opened: it asks for fractions.Fraction"),
    ],
)
@pytest.mark.parametrize("name", ["balanced_pioneer", "automodulator"])
def test_a_doubtful_file_is_refused_in_one_sentence_and_nothing_is_written(
    latent_lab, folder: Path, name: str, change: Callable, message: str
):
    content = (PioneerByHand() if name == "balanced_pioneer" else AutomodulatorByHand()).content()
    change(content)
    torch.save(content, folder / "1_state")
    torch.save(PioneerByHand().snu(), folder / "1_SNU")
    outcome = latent_lab("import", name, "1_state", "--out", "new.ckpt")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert message in outcome.error
    assert not (folder / "new.ckpt").exists()


def test_a_resolution_beyond_the_trained_one_is_refused(latent_lab, folder: Path):
    PioneerByHand().save(folder)
    outcome = latent_lab("import", "balanced_pioneer", "3000000_state", "--out", "new.ckpt", "--resolution", "256")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "3000000_state was trained up to 16 px and its blocks for 256 px are as they were drawn" in outcome.error
