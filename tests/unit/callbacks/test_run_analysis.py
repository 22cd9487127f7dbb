"""Analyses while a model trains."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latent_lab.analyses import AbstractAnalysis, Evaluate, Result
from latent_lab.callbacks.records import Records
from latent_lab.callbacks.run_analysis import RunAnalysis
from latent_lab.metrics import SlicedWasserstein
from latent_lab.types import ImageSource
from tests.unit.analyses.toys import Noise, ToyAutoencoder


def run(callback: RunAnalysis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, at 1 kimg, without a trainer."""
    monkeypatch.setattr(Records, "numbers", lambda *args: None)
    monkeypatch.setattr(Records, "picture", lambda *args: None)
    model: Any = ToyAutoencoder()
    model.images_seen = 1000
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(source=lambda split: Noise(9)))
    # Checks of annotations know no stand-in for a trainer.
    inspect.unwrap(RunAnalysis.run)(callback, trainer, model)


def test_evaluation_in_training_spends_no_time_on_intervals_that_nobody_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interval(*args: Any, **options: Any) -> None:
        raise AssertionError("an interval was asked for")

    monkeypatch.setattr(SlicedWasserstein, "intervals", interval)
    evaluation = Evaluate(metrics=("swd",), num_samples=6, num_swd=6, num_reconstructions=6, num_pictures=2)
    callback = RunAnalysis(evaluation, Records(tmp_path), tmp_path)
    run(callback, monkeypatch)
    assert set(callback.numbers) == {"val/swd_6", "val/swd_6_at_16px", "val/rec_swd_6"}
    assert callback.analysis is evaluation


def test_notes_are_said_once_while_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = Evaluate(metrics=("fd",), extractor="random", num_samples=6, num_reconstructions=6, num_pictures=2)
    callback = RunAnalysis(evaluation, Records(tmp_path), tmp_path)
    run(callback, monkeypatch)
    run(callback, monkeypatch)
    said = capsys.readouterr().err.splitlines()
    assert sum("evaluate at 1 kimg: fd_random_6 is of 6 images and 9 reference images" in line for line in said) == 1
    assert len(set(said)) == len(said)


def test_absent_weights_end_a_run_before_it_begins(tmp_path: Path) -> None:
    callback = RunAnalysis(Evaluate(extractor="inception", extractor_path="/nowhere"), Records(tmp_path), tmp_path)
    model: Any = ToyAutoencoder()
    with pytest.raises(ValueError, match="were expected at /nowhere"):
        inspect.unwrap(RunAnalysis.setup)(callback, SimpleNamespace(), model, "fit")


@dataclass(frozen=True)
class Writing(AbstractAnalysis):
    """Has a file for other programs, in a folder of its own."""

    name = "writing"

    def run(self, model: Any, source: ImageSource | None) -> Result:
        """No numbers."""
        return Result(self.name, {}, {}, files={"maps/a.txt": lambda path: path.write_text("map") and None})


def test_files_of_a_result_are_written_for_each_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(RunAnalysis(Writing(), Records(tmp_path), tmp_path), monkeypatch)
    assert (tmp_path / "maps" / "a-000001.0k.txt").read_text() == "map"
