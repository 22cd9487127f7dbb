"""`latent-lab check`."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from latent_lab.callbacks import AnalysisPlan
from latent_lab.cli.checking import Row, duration, schedule_picture, seconds_until, size, times_of
from latent_lab.growth import GrowthSchedule, Stage

TWO_ROWS = GrowthSchedule([Stage(4, 1.0, 8), Stage(8, 2.0, 8, fade_kimg=1.0)])
ROWS = [Row(4, 8, 1000, 100.0, 1e3, 1), Row(8, 8, 2000, 20.0, 1e3, 1)]


@pytest.fixture
def longer(folder, tiny):
    """The tiny configuration with rows of some steps, and an analysis."""
    text = tiny.read_text().replace("0.032", "0.16").replace("kimg: 0.064", "kimg: 0.16")
    tiny.write_text(text.replace("analyses: []", "analyses: [{name: sample, every_kimg: 0.1, options: {num: 4}}]"))
    return tiny


def test_a_check_measures_every_row_and_leaves_no_run_behind(latent_lab, longer, folder):
    outcome = latent_lab("check", "--config", "tiny", "--seconds", "0.01", "--out", "o")
    assert outcome.code == 0, outcome.error
    assert "SyntheticFaces: 16 train, 8 val, 8 test images" in outcome.out
    assert "images/s" in outcome.out
    assert "time to 0.32 kimg" in outcome.out
    assert "a checkpoint:" in outcome.out
    assert "sample" in outcome.out
    assert (folder / "o" / "schedule.png").is_file()
    assert not (folder / "runs").exists()


def test_analyses_can_be_left_out(latent_lab, longer):
    outcome = latent_lab("check", "--config", "tiny", "--seconds", "0.01", "--analyses", "false", "--out", "o")
    assert "of which analyses 0 s" in outcome.out


def test_a_row_too_short_to_be_measured_is_named(latent_lab, tiny):
    outcome = latent_lab("check", "--config", "tiny", "--seconds", "0.01")
    assert outcome.code == 2
    assert "row 1 of the schedule ends after" in outcome.error


def test_a_full_disk_is_an_error_before_training(latent_lab, longer, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    outcome = latent_lab("check", "--config", "tiny", "--seconds", "0.01", "--analyses", "false", "--out", "o")
    assert outcome.code == 2
    assert "has 10 B free, its checkpoints need" in outcome.error


def test_time_is_the_sum_over_rows_and_the_last_row_goes_on():
    assert seconds_until(TWO_ROWS, ROWS, 3000) == pytest.approx(10 + 100)
    assert seconds_until(TWO_ROWS, ROWS, 5000) == pytest.approx(10 + 100 + 100)


def test_analyses_run_at_multiples_and_at_the_end():
    assert times_of(AnalysisPlan("sample", every_kimg=100), 300) == 3
    assert times_of(AnalysisPlan("sample", every_kimg=100), 320) == 4
    assert times_of(AnalysisPlan("sample"), 320) == 1


def test_the_schedule_is_drawn():
    assert schedule_picture(TWO_ROWS).shape[1] == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.24, "3.2 s"), (42, "42 s"), (240, "4 min"), (9000, "2.5 h"), (86400 * 3.1, "3.1 days")]
)
def test_durations_are_rounded_to_what_a_person_plans_with(seconds, text):
    assert duration(seconds) == text


def test_sizes_have_units_of_a_thousand():
    assert [size(12), size(1500), size(3_456_000), size(2 * 10**10)] == ["12 B", "1.5 kB", "3.46 MB", "20 GB"]
