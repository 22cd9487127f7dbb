"""`latent-lab mix` and `latent-lab condition`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Automodulator


@pytest.fixture
def layered(folder: Path) -> Path:
    """An untrained Automodulator at 16 px that looks like the end of a run."""
    model = Automodulator(GrowthSchedule([Stage(16, 0.064, 8)]), latent_dim=8, widths=[8, 8, 8])
    model.advance(64)
    content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=16).recipe
    path = folder / "layered.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("command", ["mix", "condition"])
def test_models_without_layers_are_refused_in_one_sentence(command, latent_lab, checkpoint):
    outcome = latent_lab(command, "--ckpt", checkpoint, "--split", "test", "--out", "o")
    assert outcome.code == 2
    assert f"{command} needs a model with decode_layers" in outcome.error
    assert "Traceback" not in outcome.error


def test_mix_is_of_samples_unless_images_are_asked_for(latent_lab, layered, folder):
    few = ["--num-pairs", "2", "--num-bases", "2", "--scales", "coarse,1-end"]
    for out, more in (("samples", []), ("images", ["--split", "test"])):
        outcome = latent_lab("mix", "--ckpt", layered, *few, *more, "--out", out)
        assert outcome.code == 0, outcome.error
        assert (folder / out / "mix_coarse.png").is_file()
        assert (folder / out / "mix_1-end.png").is_file()
    samples, images = (json.loads((folder / out / "result.json").read_text()) for out in ("samples", "images"))
    assert samples["protocol"]["mixed"] == "samples"
    assert images["protocol"]["mixed"] == "encoded images"


def test_condition_takes_the_data_of_the_checkpoint(latent_lab, layered, folder):
    outcome = latent_lab("condition", "--ckpt", layered, "--num", "2", "--kept", "lo", "--out", "o")
    assert outcome.code == 0, outcome.error
    assert (folder / "o" / "condition_fine.png").is_file()
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]["split"] == "test"
