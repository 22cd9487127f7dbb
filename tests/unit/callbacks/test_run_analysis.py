"""Analyses while a model trains."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latent_lab.analyses import Evaluate
from latent_lab.callbacks.records import Records
from latent_lab.callbacks.run_analysis import RunAnalysis
from latent_lab.metrics import SlicedWasserstein
from tests.unit.analyses.toys import Noise, ToyAutoencoder


def test_evaluation_in_training_spends_no_time_on_intervals_that_nobody_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interval(*args: Any, **options: Any) -> None:
        raise AssertionError("an interval was asked for")

    monkeypatch.setattr(SlicedWasserstein, "interval", interval)
    monkeypatch.setattr(Records, "numbers", lambda *args: None)
    monkeypatch.setattr(Records, "picture", lambda *args: None)
    evaluation = Evaluate(metrics=("swd",), num_samples=6, num_swd=6, num_reconstructions=6, num_pictures=2)
    callback = RunAnalysis(evaluation, Records(tmp_path), tmp_path)
    model: Any = ToyAutoencoder()
    model.images_seen = 1000
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(source=lambda split: Noise(9)))
    # Checks of annotations know no stand-in for a trainer.
    inspect.unwrap(RunAnalysis.run)(callback, trainer, model)
    assert set(callback.numbers) == {"val/swd_6", "val/swd_6_at_16px", "val/rec_swd_6"}
    assert callback.analysis is evaluation
