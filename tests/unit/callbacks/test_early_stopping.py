from __future__ import annotations

import dataclasses
import errno
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer

from latent_lab.analyses import AbstractAnalysis, Result
from latent_lab.callbacks import AnalysisPlan, EarlyStopping, RunOptions, build_callbacks
from latent_lab.callbacks.checkpointing import AtomicCheckpointIO, SaveCheckpoints
from latent_lab.callbacks.records import Records
from latent_lab.callbacks.run_analysis import RunAnalysis
from latent_lab.callbacks.stopping import StopAtTheEnd, StopEarly, TrainingStopped
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.contract.recipes import build_data, build_model
from tests.contract.test_models import assert_equal

FRESH_IMAGES = itertools.count(10, 10)


class Run:
    """The callback with analyses whose numbers are written down, and a trainer that saves nothing."""

    def __init__(self, folder: Path, *, every_kimg: Sequence[float | None] = (0.01,), **options: Any) -> None:
        self.analyses: list[Any] = [
            SimpleNamespace(numbers={}, done_at=-1, interval=SimpleNamespace(images=every)) for every in every_kimg
        ]
        self.saved: list[int] = []
        checkpoints = SaveCheckpoints(folder, None)
        checkpoints.save_best = lambda trainer, model: self.saved.append(model.images_seen)  # type: ignore[method-assign]
        self.callback = StopEarly(self.analyses, checkpoints, **{"metric": "val/fid", "mode": "min", **options})
        self.trainer: Any = SimpleNamespace(should_stop=False)

    def see(self, numbers: dict[str, float], analysis: int = 0) -> bool:
        """One evaluation; whether the run ends."""
        model: Any = SimpleNamespace(images_seen=next(FRESH_IMAGES))
        self.analyses[analysis].numbers, self.analyses[analysis].done_at = numbers, model.images_seen
        self.callback.look(self.trainer, model)
        return self.trainer.should_stop

    def see_all(self, *values: float) -> list[bool]:
        return [self.see({"val/fid": value}) for value in values]


def test_patience_begins_anew_only_where_the_difference_counts(tmp_path: Path):
    run = Run(tmp_path, min_delta=1.0, patience=3)
    # 9.5 and 9.2 are better, but by less than 1 than 10; 8.9 is by more.
    assert run.see_all(10.0, 9.5, 9.2, 8.9, 9.0, 8.0, 8.5) == [False] * 6 + [True]


def test_a_difference_of_exactly_min_delta_does_not_count(tmp_path: Path):
    assert Run(tmp_path, min_delta=1.0, patience=1).see_all(10.0, 9.0) == [False, True]


def test_larger_is_better_in_mode_max(tmp_path: Path):
    run = Run(tmp_path, mode="max", min_delta=0.1, patience=2)
    assert run.see_all(1.0, 1.2, 0.9, 1.25) == [False, False, False, True]


def test_every_improvement_is_kept_however_small(tmp_path: Path):
    run = Run(tmp_path, min_delta=1.0, patience=9)
    run.see_all(10.0, 9.5, 9.6, 9.4)
    assert len(run.saved) == 3
    assert run.callback.best == 9.4


def test_a_value_that_is_no_number_is_no_improvement(tmp_path: Path):
    run = Run(tmp_path, patience=2)
    assert run.see_all(float("nan"), float("inf")) == [False, True]
    assert run.saved == []


def test_steps_without_an_evaluation_do_not_count(tmp_path: Path):
    run = Run(tmp_path, patience=1)
    run.see_all(10.0)
    for images in range(10_000, 10_005):
        run.callback.look(run.trainer, SimpleNamespace(images_seen=images))
    assert run.callback.waited == 0


def test_evaluations_of_other_analyses_do_not_count(tmp_path: Path):
    run = Run(tmp_path, every_kimg=(0.01, 0.01), patience=1)
    run.see_all(10.0)
    assert not run.see({"prior/std": 0.3}, analysis=1)


def test_the_beginning_of_one_name_is_enough(tmp_path: Path):
    run = Run(tmp_path, metric="val/fid")
    run.see({"val/fid_clean_1k": 7.0, "val/kid_clean_1k": 1.0, "val/rec_fid_clean_1k": 3.0})
    assert run.callback.best == 7.0


def test_a_full_name_wins_over_names_that_begin_with_it(tmp_path: Path):
    run = Run(tmp_path, metric="val/kid_clean_1k")
    run.see({"val/kid_clean_1k": 7.0, "val/kid_clean_1k_standard_error": 1.0})
    assert run.callback.best == 7.0


def test_the_beginning_of_several_names_is_refused_with_all_of_them(tmp_path: Path):
    run = Run(tmp_path, metric="val/rec")
    with pytest.raises(TrainingStopped, match="val/rec fits 2 numbers, val/rec_l1, val/rec_mse: write one of them"):
        run.see({"val/rec_mse": 7.0, "val/rec_l1": 1.0})


def test_a_number_that_no_analysis_gives_is_refused_with_what_there_is(tmp_path: Path):
    run = Run(tmp_path, metric="val/fid", every_kimg=(0.01, 0.02, None))
    run.see({"prior/std": 0.3}, analysis=0)  # the second one may still give it
    with pytest.raises(
        TrainingStopped, match="val/fid is no number of the analyses of this run, which give prior/std, val/x"
    ):
        run.see({"val/x": 0.3}, analysis=1)


def test_patience_survives_a_resume_and_a_stopped_run_stays_so(tmp_path: Path):
    whole, first = Run(tmp_path, patience=3), Run(tmp_path, patience=3)
    first.see_all(10.0, 10.0)
    second = Run(tmp_path, patience=3)
    second.callback.load_state_dict(first.callback.state_dict())
    assert second.see_all(10.0, 10.0) == whole.see_all(10.0, 10.0, 10.0, 10.0)[2:] == [False, True]
    third = Run(tmp_path, patience=3)
    third.callback.load_state_dict(second.callback.state_dict())
    third.callback.stop_if_out_of_patience(third.trainer)
    assert third.trainer.should_stop


def test_the_end_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Run(tmp_path, min_delta=1.0, patience=2).see_all(10.0, 9.5, 9.25)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "stopped early: val/fid was best, 9.25, at" in said
    assert "has not improved by 1 in 2 evaluations" in said


def test_early_stopping_without_an_analysis_while_training_is_refused(tmp_path: Path):
    options = RunOptions(analyses=[AnalysisPlan("evaluate")], early_stopping=EarlyStopping("val/fid"))
    with pytest.raises(ValueError, match=r"run\.analyses has none with every_kimg: add one"):
        build_callbacks(options, tmp_path)


def test_it_acts_after_the_analyses_and_before_checkpoints_are_renewed(tmp_path: Path):
    options = RunOptions(analyses=[AnalysisPlan("sample", every_kimg=1)], early_stopping=EarlyStopping("prior/std"))
    kinds = [type(callback).__name__ for callback in build_callbacks(options, tmp_path)]
    order = [kinds.index(kind) for kind in ("RunAnalysis", "StopEarly", "SaveCheckpoints", "StopAtTheEnd")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": ""}, "metric is empty"),
        ({"metric": "a", "min_delta": -1}, "min_delta must not be negative"),
        ({"metric": "a", "patience": 0}, "patience must be at least 1 evaluation, got 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


def test_a_full_disk_leaves_the_best_state_as_it_was(tmp_path: Path):
    checkpoints = SaveCheckpoints(tmp_path, None)
    for path in (checkpoints.last, checkpoints.best):
        path.write_text("earlier")
    trainer = Mock(spec=Trainer)
    trainer.save_checkpoint.side_effect = OSError(errno.ENOSPC, "No space left on device")
    with pytest.warns(UserWarning, match="could not be saved"):
        checkpoints.save_best(trainer, SimpleNamespace(images_seen=1000))
    assert checkpoints.best.read_text() == "earlier"
    trainer.save_checkpoint.side_effect = lambda path: path.write_text("new")
    checkpoints.save_best(trainer, SimpleNamespace(images_seen=1000))
    assert checkpoints.best.read_text() == "new"


# In real runs


@dataclasses.dataclass(frozen=True)
class Scripted(AbstractAnalysis):
    """A number that is written down for every 16 images."""

    name = "scripted"
    values: tuple[float, ...] = (5.0, 3.0, 2.5, 2.6, 2.7, 1.0, 0.0)

    def run(self, model: Any, source: Any) -> Result:
        return Result(self.name, {"quality": self.values[model.images_seen // 16 - 1]}, {})


def train(folder: Path, cache: Path, images: int, *, resume: Path | None = None) -> Any:
    model: Any = build_model("WAE")
    model.max_images = images
    checkpoints = SaveCheckpoints(folder / "checkpoints", None)
    analysis = RunAnalysis(Scripted(), Records(folder), folder, every_kimg=0.016)
    early = StopEarly([analysis], checkpoints, metric="prior/qual", min_delta=1.0, patience=3)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[analysis, early, checkpoints, StopAtTheEnd()],
        plugins=[AtomicCheckpointIO()],
        max_epochs=-1,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    folder.mkdir(exist_ok=True)
    trainer.fit(model, datamodule=build_data(cache), ckpt_path=str(resume) if resume else None)
    return read_checkpoint(checkpoints.last)


def test_a_run_ends_out_of_patience_and_keeps_its_best_state_whole(tmp_path: Path):
    last = train(tmp_path / "run", tmp_path, 320)
    assert last[CHECKPOINT_KEY]["images_seen"] == 16 * 5
    best = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert best[CHECKPOINT_KEY]["images_seen"] == 16 * 3
    assert best.keys() == last.keys()


def test_a_resumed_run_stops_where_an_uninterrupted_one_does(tmp_path: Path):
    expected = train(tmp_path / "whole", tmp_path, 320)
    # 56 images: between two evaluations, so the run's end makes one that must not count.
    train(tmp_path / "parts", tmp_path, 56)
    found = train(tmp_path / "parts", tmp_path, 320, resume=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    for key in ("state_dict", "optimizer_states", CHECKPOINT_KEY, "callbacks"):
        assert_equal(found[key], expected[key], key)
    kept = [read_checkpoint(tmp_path / part / "checkpoints" / "best.ckpt") for part in ("whole", "parts")]
    assert_equal(kept[0]["state_dict"], kept[1]["state_dict"])


def test_a_stopped_run_trains_no_further_when_resumed(tmp_path: Path):
    before = train(tmp_path / "run", tmp_path, 320)
    after = train(tmp_path / "run", tmp_path, 320, resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert after[CHECKPOINT_KEY]["images_seen"] == before[CHECKPOINT_KEY]["images_seen"]
    assert all(torch.equal(after["state_dict"][name], value) for name, value in before["state_dict"].items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["images"] for line in lines) == 80
