"""Runs from the command line that are killed, stopped or broken off, and go on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.contract.recipes import GROWTH
from tests.contract.test_models import assert_equal

IMAGES = 1600


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    path = tmp_path_factory.mktemp("configuration") / "tiny.yaml"
    recipe = {
        "model": {"class_path": "Pioneer", "init_args": {"schedule": GROWTH, "latent_dim": 8, "sample_buffer": 16}},
        "data": {
            "class_path": "SyntheticFaces",
            "init_args": {
                "num_images": 60,
                "num_val": 7,
                "num_test": 9,
                "resolution": 16,
                "cache_dir": str(cache),
                "epoch_kimg": 0.1,
            },
        },
        "run": {"max_kimg": IMAGES / 1000, "checkpoint_kimg": 0.04, "record_kimg": 0.008, "analyses": []},
        "trainer": {"accelerator": "cpu", "devices": 1},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(configuration: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    words = ["fit", "--config", str(configuration), "--run-dir", str(folder), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", "latent_lab.cli", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def wait_for_progress(process: subprocess.Popen[str], folder: Path, images: int) -> None:
    """Until a line of metrics.jsonl says that so many images were seen."""
    end = time.monotonic() + 120
    records = folder / "metrics.jsonl"
    while time.monotonic() < end and process.poll() is None:
        if records.is_file() and f'"images": {images}' in records.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"no progress: {process.communicate(timeout=10)[0][-2000:]}")


@pytest.fixture(scope="module")
def uninterrupted(configuration: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, output = finish(start(configuration, folder))
    assert code == 0, output
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def assert_same_end(folder: Path, expected: dict[str, object]) -> None:
    found = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    for key in ("state_dict", "optimizer_states", CHECKPOINT_KEY, "callbacks"):
        assert_equal(found[key], expected[key], key)


@pytest.mark.parametrize("images", [80, 336])
def test_a_run_killed_at_any_step_goes_on_exactly(
    images: int, configuration: Path, uninterrupted: dict[str, object], tmp_path: Path
):
    folder = tmp_path / "run"
    process = start(configuration, folder)
    wait_for_progress(process, folder, images)
    process.kill()
    finish(process)
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")[CHECKPOINT_KEY]["images_seen"] < IMAGES
    code, output = finish(start(configuration, folder, "--resume", "auto"))
    assert code == 0, output
    assert_same_end(folder, uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_with_a_checkpoint_of_that_moment(
    number: signal.Signals, code: int, configuration: Path, uninterrupted: dict[str, object], tmp_path: Path
):
    folder = tmp_path / "run"
    process = start(configuration, folder)
    wait_for_progress(process, folder, 120)
    process.send_signal(number)
    found, output = finish(process)
    assert found == code, output
    assert f"stopped by {number.name}" in output
    assert "Traceback" not in output
    found, output = finish(start(configuration, folder, "--resume", "auto"))
    assert found == 0, output
    assert_same_end(folder, uninterrupted)


def test_a_run_is_not_overwritten_by_accident(configuration: Path, tmp_path: Path):
    folder = tmp_path / "run"
    assert finish(start(configuration, folder, "--max-kimg", "0.016"))[0] == 0
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    code, output = finish(start(configuration, folder, "--max-kimg", "0.016"))
    assert code == 2
    assert "continue it with --resume auto" in output
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_half_written_checkpoint_is_said_and_an_earlier_one_is_used(configuration: Path, tmp_path: Path):
    folder = tmp_path / "run"
    assert finish(start(configuration, folder, "--max-kimg", "0.08"))[0] == 0
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    code, output = finish(start(configuration, folder, "--resume", "auto", "--max-kimg", "0.16"))
    assert code == 0, output
    assert "damaged or only half written" in output
    assert read_checkpoint(last)[CHECKPOINT_KEY]["images_seen"] == 160
