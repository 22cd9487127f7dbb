"""Similarities of spaces: what they ignore, what chance gives, shapes, a common space, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.metrics.functional.similarity import (
    MEASURES,
    canonical_correlations,
    consensus_shares,
    consensus_shares_intervals,
    consensus_space,
    debiased_cka,
    linear_cka,
    minibatch_cka,
    permutation_test,
    permutation_tests,
    procrustes_disparity,
    procrustes_distance,
    regression_share,
    relative_representations,
    representational_similarity,
    shape_angle,
    similarity,
    similarity_interval,
    similarity_intervals,
)

EVERY = pytest.mark.parametrize("name", MEASURES)
BEST = {name: 0.0 if measure.alternative == "smaller" else 1.0 for name, measure in MEASURES.items()}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes(count: int = 120) -> Tensor:
    return normal(count, 6) * torch.tensor([3.0, 2.0, 1.5, 1.0, 0.7, 0.5])


def rotation(dim: int = 6, seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(dim, dim, seed=seed))[0]


@EVERY
def test_rotations_scales_and_translations_do_not_count(name: str) -> None:
    # PWCCA weighs directions by absolute values of projections on the coordinates, which a rotation changes.
    turn = torch.eye if name == "pwcca" else rotation
    x, y = codes(), 3.0 * codes() @ turn(6).double() + 10.0
    # Angles near 0 are square roots of roundings of 1 - cos.
    assert similarity(name, x, y) == pytest.approx(BEST[name], abs=1e-6)
    other = codes() @ normal(6, 4, seed=1) + 0.5 * normal(120, 4, seed=2)
    turned = similarity(name, y, other @ turn(4).double() * 0.2 - 1.0)
    assert similarity(name, x, other) == pytest.approx(turned, abs=1e-8)


@EVERY
def test_the_order_of_samples_does_not_count_as_long_as_it_is_the_same(name: str) -> None:
    x, y = codes(), codes() + normal(120, 6, seed=1)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    if name in {"cka_minibatch", "relative"}:
        # Batches and anchors are other samples then; of one batch and all anchors the order does not count.
        x, y, order = x[:100], y[:100], torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert similarity(name, x[order], y[order]) == pytest.approx(similarity(name, x, y), abs=1e-9)


@EVERY
def test_permutations_tell_related_from_unrelated_codes(name: str) -> None:
    x = codes()
    related = permutation_test(name, x, x @ normal(6, 5, seed=1) + 0.3 * normal(120, 5, seed=2), num_permutations=60)
    unrelated = permutation_test(name, x, normal(120, 5, seed=3), num_permutations=60)
    assert related.p_value == pytest.approx(1 / 61)
    assert abs(related.deviations) > 4
    assert unrelated.p_value > 0.03
    assert abs(unrelated.deviations) < 3
    again = permutation_test(name, x, normal(120, 5, seed=3), num_permutations=60)
    assert again == unrelated


@EVERY
def test_permuted_parts_are_those_of_permuted_samples(name: str) -> None:
    x, y = codes(60), codes(60) + normal(60, 6, seed=1)
    measure = MEASURES[name]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    fast = measure.compare(measure.prepare(x, "x"), measure.reorder(order, measure.prepare(y, "y")))
    if name == "relative":
        return  # anchors stay pairs of one sample, which other rows of the codes would not
    assert fast == pytest.approx(similarity(name, x, y[order]), abs=1e-9)


def test_p_values_are_uniform_for_unrelated_codes() -> None:
    tests = [
        permutation_test("cka_linear", normal(40, 4, seed=2 * n), normal(40, 3, seed=2 * n + 1), num_permutations=39)
        for n in range(100)
    ]
    p_values = torch.tensor([test.p_value for test in tests])
    # Deviation of a mean of 100 uniform numbers: 0.029.
    assert p_values.mean().item() == pytest.approx(0.5, abs=0.09)
    assert (p_values <= 0.1).double().mean().item() == pytest.approx(0.1, abs=0.09)


def test_any_invertible_linear_map_is_ignored_by_canonical_correlations_but_not_by_alignment() -> None:
    x = codes()
    y = x @ (normal(6, 6, seed=1) + 2 * torch.eye(6))
    torch.testing.assert_close(canonical_correlations(x, y), torch.ones(6, dtype=torch.float64), atol=1e-9, rtol=0)
    assert regression_share(x, y) == pytest.approx(1.0, abs=1e-9)
    assert shape_angle(x, y, whitening=1.0) == pytest.approx(0.0, abs=1e-6)
    assert linear_cka(x, y) < 0.99
    assert shape_angle(x, y) > 0.1


def test_debiasing_removes_what_few_samples_add() -> None:
    biased, debiased = [], []
    for n in range(20):
        x, y = normal(30, 100, seed=2 * n), normal(30, 100, seed=2 * n + 1)
        biased.append(linear_cka(x, y))
        debiased.append(debiased_cka(x, y))
    assert min(biased) > 0.7
    assert sum(debiased) / 20 == pytest.approx(0.0, abs=0.02)


def test_debiased_alignment_is_that_of_gram_matrices_without_their_diagonals() -> None:
    x, y = codes(40) + 2.0, codes(40) + normal(40, 6, seed=1)

    def hsic(a: Tensor, b: Tensor) -> Tensor:
        left, right = (gram - torch.diag(gram.diagonal()) for gram in (a @ a.T, b @ b.T))
        rest = left.sum() * right.sum() / (39 * 38) - 2 * (left @ right).sum() / 38
        return (left * right).sum() + rest

    assert debiased_cka(x, y) == pytest.approx((hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()).item(), rel=1e-9)
    assert minibatch_cka([(x, y)]) == pytest.approx(debiased_cka(x, y), rel=1e-12)


def test_wide_and_narrow_products_agree() -> None:
    x, y = normal(10, 30), normal(10, 40, seed=1)
    padded = torch.linalg.qr(normal(40, 40, seed=2))[0]
    assert linear_cka(x, y) == pytest.approx(linear_cka(x @ torch.eye(30, 9 + 21).double(), y @ padded), rel=1e-9)
    grams = [a - a.mean(0) for a in (x, y)]
    expected = (grams[0].T @ grams[1]).norm() ** 2 / ((grams[0].T @ grams[0]).norm() * (grams[1].T @ grams[1]).norm())
    assert linear_cka(x, y) == pytest.approx(expected.item(), rel=1e-9)


def test_shape_angles_obey_the_triangle_inequality_and_distances_count_scale() -> None:
    spaces = [normal(50, dim, seed=dim) for dim in (4, 5, 6)]
    ab, bc, ac = (shape_angle(spaces[i], spaces[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert ac <= ab + bc
    assert 1 - math.cos(ab) ** 2 == pytest.approx(procrustes_disparity(spaces[0], spaces[1]), abs=1e-9)
    x = spaces[0] - spaces[0].mean(0)
    assert procrustes_distance(x, 3.0 * x) == pytest.approx(2.0 * (x.norm() / 50**0.5).item(), rel=1e-9)


def test_relative_representations_are_cosines_to_anchors() -> None:
    x = codes()
    relative = relative_representations(x, x[:7])
    assert relative.diagonal().tolist() == pytest.approx([1.0] * 7)
    turned = x @ rotation() * 4.0
    torch.testing.assert_close(relative_representations(turned, turned[:7]), relative)
    moved = turned + 3.0
    torch.testing.assert_close(
        relative_representations(moved, moved[:7], centre=moved.mean(0)),
        relative_representations(x, x[:7], centre=x.mean(0)),
    )


def test_rank_correlations_ignore_increasing_functions_of_distances() -> None:
    line = torch.tensor([[0.0], [1.0], [10.0], [100.0]])
    steps = torch.tensor([[0.0], [1.0], [4.0], [12.0]])  # distances in the same order
    assert representational_similarity(line, steps) == pytest.approx(1.0)


def test_chance_shares_few_neighbours() -> None:
    unrelated = similarity("mutual_neighbours", normal(500, 5), normal(500, 5, seed=1))
    assert unrelated == pytest.approx(10 / 499, abs=0.01)


@pytest.mark.parametrize("name", ["cka_debiased", "procrustes", "mutual_neighbours"])
def test_intervals_surround_the_value(name: str) -> None:
    x, y = codes(), codes() + normal(120, 6, seed=1)
    interval = similarity_interval(name, x, y, num_resamples=40)
    value = similarity(name, x, y)
    assert interval.low < value < interval.high
    assert interval.high - interval.low < 0.4
    assert interval == similarity_interval(name, x, y, num_resamples=40)


def test_half_samples_spread_as_other_samples_would() -> None:
    def draw(seed: int) -> tuple[Tensor, Tensor]:
        x = normal(100, 4, seed=seed)
        return x, x + normal(100, 4, seed=seed + 1)

    others = torch.tensor([similarity("cka_debiased", *draw(2 * n)) for n in range(100)])
    interval = similarity_interval("cka_debiased", *draw(0), num_resamples=100)
    # 95 % of a normal law are 3.92 deviations; one set's estimate of it is within a third or so.
    assert (interval.high - interval.low) / (3.92 * others.std().item()) == pytest.approx(1.0, abs=0.35)


def test_rotated_copies_have_themselves_as_consensus_and_maps_lead_there() -> None:
    x = codes()
    spaces = [x, 5.0 * x @ rotation(6, 1) + 2.0, 0.1 * x @ rotation(6, 2)]
    consensus = consensus_space(spaces)
    assert consensus.agreements == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    for space, fitted in zip(spaces, consensus.maps, strict=True):
        torch.testing.assert_close(fitted(space), consensus.codes, atol=1e-8, rtol=0)
        torch.testing.assert_close(fitted.inverse()(consensus.codes), space, atol=1e-7, rtol=0)
    # Principal axes: uncorrelated coordinates in the order of their variance.
    covariance = consensus.codes.T @ consensus.codes / 120
    variances = covariance.diagonal()
    torch.testing.assert_close(covariance, torch.diag(variances), atol=1e-8, rtol=0)
    assert (variances[:-1] >= variances[1:]).all()
    assert variances.mean().item() == pytest.approx(1.0)


def test_a_consensus_of_noisy_spaces_of_several_widths_is_nearer_to_the_truth_than_each() -> None:
    truth = codes(200)
    spaces = [truth @ rotation(6, n) + 0.5 * normal(200, 6, seed=10 + n) for n in range(4)]
    spaces.append(truth @ normal(6, 4, seed=9))
    consensus = consensus_space(spaces)
    left = procrustes_disparity(consensus.codes, truth)
    assert left < min(procrustes_disparity(space, truth) for space in spaces)
    assert consensus.codes.shape == (200, 6)
    assert consensus.iterations < 200
    again = consensus_space([space @ rotation(space.shape[1], 7) * 2.0 for space in spaces])
    assert procrustes_disparity(again.codes, consensus.codes) < 1e-6


@pytest.mark.parametrize("name", ["cka_debiased", "pwcca", "rsa"])
def test_several_spaces_at_once_give_what_each_two_give(name: str) -> None:
    spaces = [codes(40), codes(40) + normal(40, 6, seed=1), normal(40, 4, seed=2)]
    tests = permutation_tests(name, spaces, num_permutations=5)
    intervals = similarity_intervals(name, spaces, num_resamples=4)
    assert set(tests) == set(intervals) == {(0, 1), (0, 2), (1, 2)}
    for first, second in tests:
        pair = spaces[first], spaces[second]
        assert tests[first, second] == permutation_test(name, *pair, num_permutations=5)
        assert intervals[first, second] == similarity_interval(name, *pair, num_resamples=4)


def test_shares_of_a_consensus_are_squared_cosines_with_all_and_with_the_others() -> None:
    one, other = normal(300, 5), normal(300, 5, seed=1)
    same = consensus_shares([one, one + 3.0, one])
    torch.testing.assert_close(torch.stack(same), torch.ones(2, 3).double())
    shares = consensus_shares([one, one, other])
    # With the mean of the others: (one + other) / 2 is at 45 degrees to one, and one + one at 90 to other.
    torch.testing.assert_close(shares.of_others, torch.tensor([0.5, 0.5, 0.0]).double(), rtol=0, atol=0.05)
    # With 2 one + other: 4 / 5 and 1 / 5.
    torch.testing.assert_close(shares.of_all, torch.tensor([0.8, 0.8, 0.2]).double(), rtol=0, atol=0.05)


def test_intervals_of_shares_hold_the_shares() -> None:
    mapped = [normal(200, 5), normal(200, 5) + normal(200, 5, seed=1), normal(200, 5, seed=2)]
    estimate = consensus_shares(mapped)
    intervals = consensus_shares_intervals(mapped, num_resamples=40)
    for values, ends in zip(estimate, intervals, strict=True):
        assert all(one.low <= value <= one.high for value, one in zip(values.tolist(), ends, strict=True))


def test_bad_input_is_refused_in_one_sentence() -> None:
    x = codes()
    with pytest.raises(ValueError, match="on the same samples, got 120 and 119 rows"):
        linear_cka(x, x[1:])
    with pytest.raises(ValueError, match="at least 3 rows in each space"):
        linear_cka(x[:2], x[:2])
    with pytest.raises(ValueError, match=r"6 samples in 6 dimensions .* are explained by anything linear"):
        canonical_correlations(x[:6], x[:6])
    with pytest.raises(ValueError, match="all 120 rows of y are equal: a space that has collapsed"):
        debiased_cka(x, torch.full((120, 3), 0.1))
    broken = x.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 120 rows of y are not finite"):
        similarity("rsa", x, broken)
    with pytest.raises(ValueError, match="there is no similarity cosine: there are cka_linear"):
        similarity("cosine", x, x)
    with pytest.raises(ValueError, match="at least two spaces, got 1"):
        consensus_space([x])
    with pytest.raises(ValueError, match="10000 at most fit, got 10001"):
        similarity("rsa", torch.zeros(10_001, 1), torch.zeros(10_001, 1))
