from __future__ import annotations

from pathlib import Path

import pytest

from latent_lab.callbacks.checkpointing import SaveCheckpoints
from latent_lab.callbacks.stopping import Guard, TrainingStopped

HEALTHY = {"train/images/fake_deviation": 0.4, "train/images/real_deviation": 0.5}
FLAT = {"train/images/fake_deviation": 0.001, "train/images/real_deviation": 0.5}


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    checkpoints = SaveCheckpoints(tmp_path, None)
    checkpoints.saved_kimg = 4.0
    return Guard(checkpoints, collapse_ratio=0.03, collapse_patience_kimg=10.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_good_state(guard: Guard, value: float):
    message = (
        r"train/encoder/loss is no longer a number at 5.0 kimg; the last good state, of 4.0 kimg, is .*last.ckpt: try"
    )
    with pytest.raises(TrainingStopped, match=message):
        guard.judge(HEALTHY | {"train/encoder/loss": value}, 5000)


def test_samples_that_stay_alike_stop_the_run(guard: Guard):
    guard.judge(FLAT, 1000)
    guard.judge(FLAT, 10_000)
    with pytest.raises(TrainingStopped, match=r"the samples have been all alike .* since 1.0 kimg"):
        guard.judge(FLAT, 11_000)


def test_samples_that_are_alike_for_a_while_do_not(guard: Guard):
    for images, averages in ((1000, FLAT), (9000, HEALTHY), (12_000, FLAT), (21_000, FLAT)):
        guard.judge(averages, images)


def test_a_ratio_of_zero_switches_the_test_off(tmp_path: Path):
    guard = Guard(SaveCheckpoints(tmp_path, None), collapse_ratio=0.0, collapse_patience_kimg=1.0)
    for images in (0, 10_000, 20_000):
        guard.judge(FLAT, images)


def test_patience_survives_a_resume(guard: Guard, tmp_path: Path):
    guard.judge(FLAT, 1000)
    resumed = Guard(SaveCheckpoints(tmp_path, None), collapse_ratio=0.03, collapse_patience_kimg=10.0)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(TrainingStopped, match=r"since 1\.0 kimg"):
        resumed.judge(FLAT, 11_000)


def test_statistics_of_a_model_without_samples_are_judged_for_numbers_only(guard: Guard):
    for images in (0, 100_000):
        guard.judge({"train/loss": 1.0}, images)


SURE = HEALTHY | {"train/discriminator/accuracy_real": 1.0, "train/discriminator/accuracy_fake": 0.995}


def test_a_discriminator_that_stays_sure_is_said_once_in_one_sentence(guard: Guard, capsys: pytest.CaptureFixture[str]):
    for images in (1000, 10_000):
        guard.judge(SURE, images)
    assert capsys.readouterr().err == ""
    for images in (11_000, 12_000):
        guard.judge(SURE, images)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the discriminator has been right about 99.5 % of real and generated images since 1.0 kimg" in said


def test_a_discriminator_that_errs_on_real_images_is_not_sure(guard: Guard, capsys: pytest.CaptureFixture[str]):
    for images in (1000, 20_000):
        guard.judge(SURE | {"train/discriminator/accuracy_real": 0.8}, images)
    assert capsys.readouterr().err == ""


def test_the_warning_is_not_repeated_by_a_resumed_run(guard: Guard, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for images in (1000, 11_000):
        guard.judge(SURE, images)
    resumed = Guard(SaveCheckpoints(tmp_path, None), collapse_ratio=0.03, collapse_patience_kimg=10.0)
    resumed.load_state_dict(guard.state_dict())
    capsys.readouterr()
    resumed.judge(SURE, 12_000)
    assert capsys.readouterr().err == ""
