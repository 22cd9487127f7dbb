"""`latent-lab normality`, `distances` and `neighbours`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Pioneer


@pytest.fixture
def models(folder: Path) -> list[Path]:
    """Untrained models of 8 and 6 coordinates at 8 px."""
    made = []
    for name, dim in (("a", 8), ("b", 6)):
        model = Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=dim, widths=[8, 8], seed=dim)
        content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
        model.on_save_checkpoint(content)
        content["latent_lab"]["data"] = SyntheticFaces(num_images=24, num_val=8, num_test=24, resolution=8).recipe
        made.append(folder / f"{name}.ckpt")
        torch.save(content, made[-1])
    return made


@pytest.mark.parametrize(
    ("command", "options", "number", "picture"),
    [
        ("normality", ["--num-draws", "3"], "b/rayleigh_24", "histograms"),
        ("distances", ["--num-resamples", "0"], "b/ratio_near_24", "pairs"),
        ("neighbours", ["--k", "3", "--num-components", "4"], "b/overlap_k3_24_with_a", "neighbours"),
    ],
)
def test_two_models_give_numbers_figures_and_a_report(
    command: str, options: list[str], number: str, picture: str, latent_lab, models: list[Path], folder: Path
) -> None:
    outcome = latent_lab(command, *models, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert number in outcome.out
    result = json.loads((folder / "o" / "result.json").read_text())
    assert number in result["numbers"]
    assert set(result["protocol"]["models"]) == {"a", "b"}
    assert (folder / "o" / f"{picture}.png").is_file()
    assert (folder / "o" / "report.md").is_file()


def test_what_is_no_option_gets_one_sentence(latent_lab, models: list[Path]) -> None:
    outcome = latent_lab("neighbours", models[0], "--among", "test")
    assert outcome.code == 2
    assert "--among must be one of reference, held_out, got test" in outcome.error
    assert "Traceback" not in outcome.error
