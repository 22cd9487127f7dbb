"""Changes of labels by edits, as a regressor estimates them."""

from __future__ import annotations

import pytest
import torch

from latent_lab.analyses.label_changes import Estimates, label_change
from latent_lab.networks.label_regressor import LabelRegressor


@pytest.fixture
def regressor() -> LabelRegressor:
    made = LabelRegressor(("a", "b", "c"), (False, False, False), 8, widths=[1])
    made.facts = {"quality": {"a": {"r2": 0.9}, "b": {"r2": 0.9}, "c": {"r2": 0.1}}}
    return made


BEFORE = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 2.0, 1.0]])


def moved(by: list[float]) -> Estimates:
    return Estimates(BEFORE + torch.tensor(by), BEFORE + torch.tensor(by))


def test_changes_are_means_and_leakage_compares_deviations_of_labels_that_are_estimated_well(regressor) -> None:
    # Deviations of a, b, c are 1, 2 and 1/2; c is estimated poorly and does not count.
    found = label_change(regressor, "a", Estimates(BEFORE, BEFORE), moved([0.5, -0.5, 3.0]))
    assert found.changes == pytest.approx({"a": 0.5, "b": -0.5, "c": 3.0})
    assert found.in_deviations == pytest.approx({"a": 0.5, "b": -0.25})
    assert found.right_way == 1.0
    assert found.leakage == pytest.approx(0.5)


def test_the_edited_label_counts_even_where_it_is_estimated_poorly(regressor) -> None:
    found = label_change(regressor, "c", Estimates(BEFORE, BEFORE), moved([0.0, 0.0, -1.0]))
    assert found.in_deviations["c"] == pytest.approx(-2.0)
    assert found.right_way == 0.0
    assert found.leakage == 0.0


def test_a_label_that_the_regressor_does_not_know_has_neither_way_nor_leakage(regressor) -> None:
    found = label_change(regressor, "hat", Estimates(BEFORE, BEFORE), moved([0.5, 0.0, 0.0]))
    assert found.right_way is None
    assert found.leakage is None
    assert set(found.in_deviations) == {"a", "b"}
