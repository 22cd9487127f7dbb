"""Every shipped configuration is a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from latent_lab.cli import main, recipes
from latent_lab.cli.chain_build import chain_options
from latent_lab.cli.configuration import read_configuration
from latent_lab.data import OrderedDomains
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint

CONFIGS = Path(__file__).parents[2] / "configs"
COMPLETE = sorted(CONFIGS.glob("*.yaml"))
PIECES = sorted(path for path in CONFIGS.glob("*/*.yaml"))
STUDY = [path for path in COMPLETE if path.stem.startswith("study_")]
LAPTOP = [*(path for path in COMPLETE if path.stem.endswith(("_synthetic", "_folder", "_views"))), *STUDY]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(noise.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def turntable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five objects from ten sides."""
    folder = tmp_path_factory.mktemp("turntable")
    noise = np.random.default_rng(0)
    rows = ["file,object,azimuth_deg"]
    for one in range(5):
        for side in range(10):
            Image.fromarray(noise.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{one}_{side}.png")
            rows.append(f"{one}_{side}.png,{one},{36 * side}")
    (folder / "poses.csv").write_text("\n".join(rows))
    return folder


def schedule_of(path: Path) -> GrowthSchedule:
    rows = yaml.safe_load(path.read_text())["model"]["init_args"]["schedule"]["stages"]
    return GrowthSchedule([Stage(**row) for row in rows])


def provide_decoder(path: Path) -> None:
    """The checkpoint that a recoder's configuration names, grown but untrained."""
    decoder = yaml.safe_load(path.read_text())["model"]["init_args"].get("decoder", "")
    if not decoder.endswith(".ckpt"):
        return
    _, name, *_ = Path(decoder).parts
    model = recipes.build_model(recipes.compose([read_configuration(CONFIGS / f"{name}.yaml")]))
    model.advance(round(1000 * model.schedule.total_kimg))
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    Path(decoder).parent.mkdir(parents=True)
    torch.save(content, decoder)


def build_everything(*paths: Path) -> None:
    provide_decoder(paths[0])
    whole = recipes.compose([read_configuration(path) for path in paths])
    model = recipes.build_model(whole)
    data = recipes.build_data(whole)
    recipes.run_options(whole)
    recipes.trainer_options(whole)
    assert data.resolution == model.schedule.resolution


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_it_builds(path: Path):
    build_everything(path)


@pytest.mark.parametrize("path", [path for path in COMPLETE if path not in LAPTOP], ids=lambda path: path.stem)
def test_absent_data_is_explained_in_one_sentence(path: Path, capsys: pytest.CaptureFixture[str]):
    provide_decoder(path)
    assert main(["fit", "--config", path.name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "http" in error


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("recoder_*.yaml")), ids=lambda path: path.stem)
def test_an_absent_decoder_is_explained_in_one_sentence(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--config", path.name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    of = path.stem.removeprefix("recoder_")
    decoder = of if of.startswith("stylegan") else f"gan_{of}"
    assert f"no checkpoint at runs/{decoder}/checkpoints/last.ckpt" in error


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("chain_*.yaml")), ids=lambda path: path.stem)
def test_a_chains_section_goes_with_its_domains_and_its_schedule(path: Path):
    whole = recipes.compose([read_configuration(path)])
    options, data = chain_options(whole), recipes.build_data(whole)
    assert isinstance(data, OrderedDomains)
    assert tuple(options.domains) == data.domain_names
    assert {row.resolution for row in options.reuse} == {data.resolution}


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_its_header_states_published_value_our_value_and_protocol(path: Path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Published:", "Ours:", "Protocol:"):
        assert any(word in line for line in header), word


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_its_run_reaches_the_target_resolution_fully_faded_in(path: Path):
    schedule = schedule_of(path)
    limit = yaml.safe_load(path.read_text()).get("run", {}).get("max_kimg") or schedule.total_kimg
    end = schedule.at(round(1000 * limit) - 1)
    assert end.resolution == schedule.resolution
    assert end.alpha == 1.0


@pytest.mark.parametrize("piece", PIECES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_piece_goes_with_a_complete_configuration(piece: Path):
    # A faithful piece bears the name of the configurations that it changes.
    whole = next((path for path in COMPLETE if path.stem.startswith(f"{piece.stem}_")), None)
    build_everything(whole or CONFIGS / "balanced_pioneer_celebahq.yaml", piece)


@pytest.mark.parametrize("path", LAPTOP, ids=lambda path: path.stem)
def test_it_runs_three_steps_checkpoints_and_resumes(
    path: Path, folder_of_images: Path, turntable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    provide_decoder(path)
    batch = schedule_of(path).stages[0].batch_size
    # Domains hold the data set that they are made of.
    where = "data.images.init_args" if path.stem.startswith(("translator_", "chain_")) else "data"
    small = [f"--{where}.num_images", "64", f"--{where}.num_val", "8", f"--{where}.num_test", "8"]
    folder = ["--data.root", str(folder_of_images), "--data.holdout", "8"]
    data = folder if path.stem.endswith("_folder") else small
    if path in STUDY:
        data = [*folder, "--data.crop", "center"]
    if path.stem.endswith("_views"):
        few = ["--data.num_objects", "8", "--data.num_views", "8"]
        data = few if path.stem.endswith("_synthetic_views") else ["--data.root", str(turntable)]
    if path.stem.startswith("view_synthesis_"):
        data = ["--data.num_frames", "6", "--data.num_runs", "12", "--data.num_test_runs", "1"]
    for steps, resume in ((3, "no"), (5, "auto")):
        words = ["fit", "--config", path.name, "--max-kimg", str(steps * batch / 1000), "--resume", resume, *data]
        assert main(words) == 0, capsys.readouterr().err
        saved = read_checkpoint(tmp_path / "runs" / path.stem / "checkpoints" / "last.ckpt")
        assert saved[CHECKPOINT_KEY]["images_seen"] == steps * batch
