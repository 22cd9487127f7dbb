"""Support sets: who is chosen by each method, in which order, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.latent.support import (
    SUPPORT_METHODS,
    choose_support,
    k_centre,
    leverage_scores,
    outliers,
    principal_extremes,
)

EVERY = pytest.mark.parametrize("method", SUPPORT_METHODS)


def codes(count: int = 200, dim: int = 8) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 3.0, dim) + 1.0


def test_outliers_are_the_extremes_of_every_coordinate() -> None:
    points = codes()
    ordered = points.sort(0).indices
    expected = torch.cat([ordered[:2], ordered[-2:]]).unique()
    assert torch.equal(outliers(points, per_side=2).sort().values, expected)
    assert outliers(points)[:2].tolist() == [ordered[-1, 0], ordered[0, 0]]


def test_outliers_do_not_depend_on_scales_and_ignore_collapsed_coordinates() -> None:
    points = codes()
    scaled = torch.cat([points * torch.logspace(-2, 2, 8), torch.full((200, 1), 7.0)], 1)
    assert torch.equal(outliers(points, 40), outliers(scaled, 40))


def test_principal_extremes_do_not_depend_on_the_axes_of_the_space() -> None:
    points = codes().double()
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)).double())[0]
    assert torch.equal(principal_extremes(points, 30), principal_extremes(points @ rotation - 2.0, 30))


def test_k_centre_takes_one_of_each_cluster_first() -> None:
    centres = 100.0 * torch.eye(5)
    points = centres.repeat(20, 1) + codes(100, 5) * 0.1
    chosen = k_centre(points, 5)
    assert sorted((chosen % 5).tolist()) == [0, 1, 2, 3, 4]


def test_k_centre_names_every_sample_once_even_among_copies() -> None:
    assert sorted(k_centre(torch.zeros(6, 2), 6).tolist()) == list(range(6))


def test_leverage_scores_are_the_diagonal_of_the_hat_matrix() -> None:
    points = codes(50, 4).double()
    design = torch.cat([points, torch.ones(50, 1)], 1)
    hat = design @ torch.linalg.pinv(design)
    torch.testing.assert_close(leverage_scores(points), hat.diagonal(), atol=1e-10, rtol=0)


@EVERY
def test_sets_are_reproducible_distinct_and_begin_alike(method: str) -> None:
    points = codes()
    large, small = choose_support(points, method, 60), choose_support(points, method, 20)
    assert torch.equal(large.indices[:20], small.indices)
    assert len(large.indices.unique()) == 60
    assert torch.equal(large.indices, choose_support(points, method, 60).indices)
    assert large.pairs_per_dimension == 60 / 8
    singular = torch.linalg.svdvals(points[large.indices].double())
    assert large.condition == pytest.approx((singular[0] / singular[-1]).item(), rel=1e-6)
    assert choose_support(points, method, 5).condition == float("inf")


@EVERY
def test_only_allowed_samples_are_chosen(method: str) -> None:
    allowed = torch.arange(200) % 3 == 0
    assert (choose_support(codes(), method, 30, allowed=allowed).indices % 3 == 0).all()


def test_another_seed_draws_other_random_samples() -> None:
    first, second = (choose_support(codes(), "random", 30, seed=seed).indices for seed in (0, 1))
    assert not torch.equal(first, second)


def test_bad_input_is_refused_in_one_sentence() -> None:
    points = codes()
    with pytest.raises(ValueError, match="a support set of 300 needs as many samples to choose from, got 200"):
        choose_support(points, "random", 300)
    with pytest.raises(ValueError, match="all 200 codes are equal: a space that has collapsed"):
        choose_support(torch.ones(200, 3), "outliers", 5)
    with pytest.raises(ValueError, match="no support method best: there are outliers, random"):
        choose_support(points, "best", 5)
    with pytest.raises(ValueError, match="allowed has 3 entries for 200 codes"):
        choose_support(points, "random", 5, allowed=torch.ones(3, dtype=torch.bool))
    points[4] = torch.nan
    with pytest.raises(ValueError, match="1 of 200 codes are not finite"):
        choose_support(points, "k_centre", 5)
