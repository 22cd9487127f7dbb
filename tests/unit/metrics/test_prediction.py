"""Figures of merit of estimated labels."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

from latent_lab.metrics.functional import area_under_curve, explained_share


def test_scores_in_the_right_order_have_area_one_and_in_the_wrong_order_none() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert area_under_curve(torch.tensor([0.1, 0.2, 0.3, 0.4]), labels) == 1.0
    assert area_under_curve(torch.tensor([0.4, 0.3, 0.2, 0.1]), labels) == 0.0


def test_ties_count_half() -> None:
    # Of the pairs (positive, negative) one is in order, one is tied.
    assert area_under_curve(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])) == 0.75


def test_area_agrees_with_scikit_learn_also_with_many_ties() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 20, (500,), generator=rng).float()
    labels = (torch.rand(500, generator=rng) < 0.3).float()
    # Both are exact up to rounding of float64.
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_area_does_not_depend_on_an_increasing_function_of_the_scores() -> None:
    rng = torch.Generator().manual_seed(1)
    scores, labels = torch.randn(100, generator=rng), (torch.rand(100, generator=rng) < 0.5).float()
    assert area_under_curve(scores, labels) == area_under_curve(scores.double().exp().float(), labels)


def test_area_needs_both_kinds() -> None:
    assert math.isnan(area_under_curve(torch.tensor([0.1, 0.2]), torch.ones(2)))


def test_explained_share_is_one_for_exact_estimates_and_zero_for_the_mean() -> None:
    labels = torch.tensor([1.0, 2.0, 6.0])
    assert explained_share(labels, labels) == 1.0
    assert explained_share(torch.full((3,), 3.0), labels) == 0.0
    assert math.isnan(explained_share(labels, torch.ones(3)))


def test_explained_share_agrees_with_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(2)
    labels = torch.randn(50, generator=rng)
    estimates = labels + 0.3 * torch.randn(50, generator=rng)
    assert explained_share(estimates, labels) == pytest.approx(r2_score(labels.double(), estimates.double()), abs=1e-12)
