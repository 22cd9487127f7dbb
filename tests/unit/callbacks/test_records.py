from __future__ import annotations

from pathlib import Path

import pytest

from latent_lab.callbacks.pacing import EveryKimg
from latent_lab.callbacks.records import Records
from latent_lab.plotting import plot_curves, read_records


def test_lines_after_the_resumed_image_and_half_lines_are_dropped(tmp_path: Path):
    records = Records(tmp_path)
    records.path.write_text(
        '{"images": 100, "kimg": 0.1, "a": 1.0}\n{"images": 200, "kimg": 0.2, "a": 2.0}\n{"images": 30'
    )
    records.forget_after(150)
    assert read_records(records.path) == {"a": ([0.1], [1.0])}


@pytest.mark.parametrize(
    ("before", "after", "due"), [(0, 999, False), (999, 1000, True), (1000, 1999, False), (1500, 4500, True)]
)
def test_something_is_due_when_a_multiple_of_its_interval_is_passed(before: int, after: int, due: bool):
    assert EveryKimg(1.0).due(before, after) is due


def test_no_interval_is_never_due():
    assert not EveryKimg(None).due(0, 10**9)


def test_an_interval_must_be_positive():
    with pytest.raises(ValueError, match="must be positive or null"):
        EveryKimg(0.0)


def test_curves_are_drawn_for_the_names_that_exist(tmp_path: Path):
    plot_curves(
        {"train/a": ([1.0, 2.0], [3.0, 4.0])}, {"one": ["train/a", "train/b"], "two": ["c"]}, tmp_path / "c.png"
    )
    assert (tmp_path / "c.png").stat().st_size > 1000
