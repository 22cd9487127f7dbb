from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

QUICK = ("--perceptual", "random_l2", "--num-samples", "2", "--num-resamples", "5", "--step", "1", "--out", "o")
DRAWN = ("--data", "SyntheticCameraRun", "--data.num_frames", "5", "--data.num_runs", "2")
RUNS = (*DRAWN, "--data.num_val_runs", "1", "--data.num_test_runs", "2")


@pytest.fixture
def walk(folder: Path) -> Path:
    """Images 1, 6, 11 and 16 of a run, and the published table of poses with one frame more."""
    images = folder / "walk"
    images.mkdir()
    noise = np.random.default_rng(0)
    lines = []
    for number in (1, 6, 11, 16, 21):
        angle = np.deg2rad(2.0 * number)
        columns = [np.cos(angle), 0, -np.sin(angle), 0, 1, 0, np.sin(angle), 0, np.cos(angle)]
        lines.append(",".join(map(str, [0.1 * number, number, 0, 0, 0, *columns])))
        if number < 21:
            Image.fromarray(noise.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(images / f"{number:04d}.png")
    (folder / "frames.csv").write_text("\n".join(lines))
    return images


def test_ones_own_frames_and_poses(latent_lab, checkpoint, walk, folder):
    outcome = latent_lab("view-synthesis", "--ckpt", checkpoint, "--frames", walk, "--poses", "frames.csv", *QUICK)
    assert outcome.code == 0, outcome.error
    result = json.loads((folder / "o" / "result.json").read_text())
    assert result["protocol"]["shown"]["observed"] == [1, 16]
    assert "1 frames of walk have no image" in outcome.error
    assert {"views.png", "views.gif", "report.md"} <= {path.name for path in (folder / "o").iterdir()}


def test_data_with_poses_takes_the_place_of_the_checkpoints(latent_lab, checkpoint, folder):
    outcome = latent_lab("view-synthesis", "--ckpt", checkpoint, *RUNS, "--observed", "0,2,4", *QUICK)
    assert outcome.code == 0, outcome.error
    protocol = json.loads((folder / "o" / "result.json").read_text())["protocol"]
    assert (protocol["runs"], protocol["data"]["split"]) == (2, "test")


def test_training_runs_are_fitted_to(latent_lab, checkpoint, folder):
    words = ("--hyperparameters", "fitted", "--fit-frames", "4")
    outcome = latent_lab("view-synthesis", "--ckpt", checkpoint, *RUNS, *words, *QUICK)
    assert outcome.code == 0, outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["fits"]["view"]["runs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--frames", "walk"), "needs both --frames DIR and --poses FILE"),
        (("--poses-axes", "opencv"), "there is no --poses FILE"),
        (("--frames", "walk", "--poses", "absent.csv"), "does not exist"),
        ((), "have neither or only one of the two"),
    ],
)
def test_it_says_what_is_wrong_in_one_sentence(latent_lab, checkpoint, walk, words, message):
    outcome = latent_lab("view-synthesis", "--ckpt", checkpoint, *words, *QUICK)
    assert outcome.code == 2
    assert message in outcome.error


def test_images_of_other_frames_are_refused(latent_lab, checkpoint, walk, folder):
    for path in walk.iterdir():
        path.rename(walk / f"1{path.name}")
    outcome = latent_lab("view-synthesis", "--ckpt", checkpoint, "--frames", walk, "--poses", "frames.csv", *QUICK)
    assert outcome.code == 2
    assert "fewer than two frames of frames.csv have an image" in outcome.error
