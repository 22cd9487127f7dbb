"""`latent-lab map` and `map-matrix`, and what other commands do with the maps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import latent_lab as package
from latent_lab.cli import main
from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.images import to_bytes
from latent_lab.models import Pioneer

QUICK = ("--num-images", "4", "--num-shuffles", "1", "--num-resamples", "0", "--batch-size", "8")
MAP = (*QUICK, "--num-recovered", "0", "--beside", "orthogonal", "--perceptual", "random_l2")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models of 8 and 6 coordinates at 8 px, and a map from the first to the second."""
    folder = tmp_path_factory.mktemp("once")
    for name, dim in (("a", 8), ("b", 6)):
        model = Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=dim, widths=[8, 8], seed=dim)
        content: dict[str, Any] = {"state_dict": model.state_dict(), "optimizer_states": []}
        model.on_save_checkpoint(content)
        content["latent_lab"]["data"] = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=8).recipe
        torch.save(content, folder / f"{name}.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENT_LAB_CACHE", str(folder / "cache"))
        models = [str(folder / f"{name}.ckpt") for name in ("a", "b")]
        assert main(["map", *models, *MAP, "--out", str(folder / "maps")]) == 0
    return folder


@pytest.fixture
def models(once: Path, folder: Path) -> list[Path]:
    """Copies of the models in the working folder, which has their pack of data, too."""
    shutil.copytree(once, folder, dirs_exist_ok=True)
    return [folder / "a.ckpt", folder / "b.ckpt"]


@pytest.fixture
def fitted(models: list[Path], folder: Path) -> Path:
    """The map from the first to the second."""
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


def test_predict_writes_what_the_other_model_makes_of_the_codes(
    latent_lab, fitted: Path, models: list[Path], folder: Path
) -> None:
    words = ["--ckpt", models[0], "--map", fitted, "--target", models[1], "--out", "o"]
    outcome = latent_lab("predict", *words)
    assert outcome.code == 0, outcome.error
    codes = load_file(folder / "o" / "codes.safetensors")["latents"]
    source, target = (package.load(path) for path in models)
    assert codes.shape == (8, source.latent_space.dim)
    picture = torch.from_numpy(np.array(Image.open(folder / "o" / "reconstructions" / "000003.png")))
    with torch.no_grad():
        expected = package.mapped(source, package.load_map(fitted)[0], target).decode(codes[3:4])
    assert (picture.permute(2, 0, 1).float() - to_bytes(expected)[0].float()).abs().max() <= 1.0


def test_samples_of_the_other_model_are_explained(latent_lab, fitted: Path, models: list[Path], folder: Path) -> None:
    words = ["--extractor", "random", "--factors", "covariance", "--num", "8", "--out"]
    ways = {"plain": [], "mapped": ["--map", fitted, "--target", models[1]]}
    results = {}
    for name, way in ways.items():
        outcome = latent_lab("why-fid", "--ckpt", models[0], *words, name, *way)
        assert outcome.code == 0, outcome.error
        results[name] = json.loads((folder / name / "result.json").read_text())
    assert results["mapped"]["protocol"]["view"]["target"]["file"] == "b.ckpt"
    assert results["mapped"]["numbers"]["fd_base"] != results["plain"]["numbers"]["fd_base"]


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
