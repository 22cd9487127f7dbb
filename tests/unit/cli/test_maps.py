"""`latent-lab map` and `map-matrix`, and what other commands do with the maps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import latent_lab as package
from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Pioneer

QUICK = ("--num-images", "4", "--num-shuffles", "1", "--num-resamples", "0", "--batch-size", "8")
MAP = (*QUICK, "--num-recovered", "0", "--beside", "orthogonal", "--perceptual", "random_l2")


@pytest.fixture
def models(folder: Path) -> list[Path]:
    """Untrained models of 8 and 6 coordinates at 8 px."""
    made = []
    for name, dim in (("a", 8), ("b", 6)):
        model = Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=dim, widths=[8, 8], seed=dim)
        content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
        model.on_save_checkpoint(content)
        content["latent_lab"]["data"] = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=8).recipe
        made.append(folder / f"{name}.ckpt")
        torch.save(content, made[-1])
    return made


@pytest.fixture
def fitted(latent_lab, models: list[Path], folder: Path) -> Path:
    """A map from the first to the second."""
    outcome = latent_lab("map", *models, *MAP, "--out", "maps")
    assert outcome.code == 0, outcome.error
    return folder / "maps" / "map_a_to_b.safetensors"


def test_a_map_is_written_with_what_it_was_fitted_to(fitted: Path, folder: Path) -> None:
    linear, facts = package.load_map(fitted)
    assert (linear.source_dim, linear.target_dim) == (8, 6)
    assert (facts["source"], facts["target"], facts["source_file"], facts["map"]) == ("a", "b", "a.ckpt", "affine")
    result = json.loads((folder / "maps" / "result.json").read_text())
    assert {"a_to_b/r2_affine", "a_to_b/r2_orthogonal", "a_to_b/m_mse_affine", "a/r_mse"} <= set(result["numbers"])
    assert (folder / "maps" / "map_a_to_b.png").is_file()


@pytest.mark.parametrize(
    ("command", "options"),
    [("reconstruct", []), ("sample", ["--num", "4"]), ("test", ["--metrics", "rmse", "--num-reconstructions", "4"])],
)
def test_a_mapped_model_is_looked_at_like_any_other(
    command: str, options: list[str], latent_lab, fitted: Path, models: list[Path], folder: Path
) -> None:
    through = ["--ckpt", models[0], "--map", fitted, "--target", models[1]]
    outcome = latent_lab(command, *through, *options, "--out", "o")
    assert outcome.code == 0, outcome.error
    view = json.loads((folder / "o" / "result.json").read_text())["protocol"]["view"]
    assert view["map"]["file"] == "map_a_to_b.safetensors"
    assert view["target"]["file"] == "b.ckpt"
    assert "note" not in outcome.error


def test_a_map_of_other_checkpoints_is_refused_or_remarked(latent_lab, fitted: Path, models: list[Path]) -> None:
    turned = latent_lab("sample", "--ckpt", models[1], "--map", fitted, "--target", models[0], "--out", "o")
    assert turned.code == 2
    assert "the map is from 8 to 6 coordinates, but the models have 6 and 8" in turned.error
    content = torch.load(models[1], weights_only=True)
    content["latent_lab"]["images_seen"] += 1
    torch.save(content, models[1])
    later = latent_lab("sample", "--ckpt", models[0], "--map", fitted, "--target", models[1], "--out", "o")
    assert later.code == 0
    assert "the target of map_a_to_b.safetensors was another checkpoint than b.ckpt" in later.error


def test_a_map_needs_a_target(latent_lab, fitted: Path, models: list[Path]) -> None:
    outcome = latent_lab("sample", "--ckpt", models[0], "--map", fitted)
    assert outcome.code == 2
    assert "--map and --target go together" in outcome.error


def test_mapped_models_are_made_in_python_as_the_readme_says(fitted: Path, models: list[Path]) -> None:
    source, target = (package.load(path) for path in models)
    linear, _ = package.load_map(fitted)
    model = package.mapped(source, linear, target)
    images = source.decode(source.latent_space.sample(2, torch.Generator().manual_seed(0)))
    expected = target.decode(target.latent_space.project(linear(source.encode(images))))
    torch.testing.assert_close(model.reconstruct(images), expected)


def test_a_matrix_takes_any_number_of_checkpoints(latent_lab, models: list[Path], folder: Path) -> None:
    outcome = latent_lab("map-matrix", *models, *QUICK, "--out", "o")
    assert outcome.code == 0, outcome.error
    tables = json.loads((folder / "o" / "result.json").read_text())["tables"]
    assert len(tables["maps"]) == 3
    assert (folder / "o" / "r2.png").is_file()


def test_one_checkpoint_is_too_few(latent_lab, models: list[Path]) -> None:
    outcome = latent_lab("map", models[0])
    assert outcome.code == 2
    assert "map needs at least 2 checkpoints" in outcome.error
