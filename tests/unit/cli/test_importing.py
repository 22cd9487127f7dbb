from __future__ import annotations

from pathlib import Path

import numpy as np

import latent_lab as package
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.unit.importers.keras_by_hand import SplitVAEInKeras


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
