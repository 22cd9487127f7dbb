"""Tests of normality: definitions, an independent program, invariance, level and power."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from latent_lab.metrics.functional import (
    bhep,
    coordinate_normality,
    henze_zirkler,
    mardia,
    normality_null,
    projected_normality,
)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def student(n: int, d: int, freedom: int = 3, seed: int = 0) -> Tensor:
    """Multivariate t: whole points are scaled."""
    chi2 = normal(n, freedom, seed + 10_000).square().sum(1, keepdim=True)
    return normal(n, d, seed) * (freedom / chi2).sqrt()


def mixed(codes: Tensor, seed: int = 5) -> Tensor:
    """An invertible affine map."""
    return codes @ (torch.eye(codes.shape[1]).double() + 0.5 * normal(codes.shape[1], codes.shape[1], seed)) + 10.0


def test_the_statistic_is_its_definition_written_out() -> None:
    codes = mixed(normal(30, 3))
    test = henze_zirkler(codes)
    inverse = torch.linalg.inv(torch.cov(codes.T, correction=0))
    b2, centred = test.beta**2, codes - codes.mean(0)
    pairs = codes.unsqueeze(1) - codes
    between = torch.einsum("ijk,kl,ijl->ij", pairs, inverse, pairs)
    own = torch.einsum("ik,kl,il->i", centred, inverse, centred)
    expected = torch.exp(-b2 / 2 * between).sum() / 30 + 30 * (1 + 2 * b2) ** -1.5
    expected -= 2 * (1 + b2) ** -1.5 * torch.exp(-b2 / (2 * (1 + b2)) * own).sum()
    assert test.statistic == pytest.approx(expected.item(), rel=1e-10)
    assert test.beta == pytest.approx((7 * 30 / 4) ** (1 / 7) / math.sqrt(2))


@pytest.mark.parametrize(("n", "d"), [(40, 2), (100, 5), (300, 10), (520, 30)])
@pytest.mark.parametrize("draw", [normal, student])
def test_agrees_with_pingouin(draw: Callable[[int, int], Tensor], n: int, d: int) -> None:
    pingouin = pytest.importorskip("pingouin")
    codes = draw(n, d)
    theirs = pingouin.multivariate_normality(codes.numpy())
    ours = henze_zirkler(codes)
    assert ours.statistic == pytest.approx(theirs.hz, rel=1e-9)
    # Theirs subtracts from 1, which at 30 dimensions leaves ten digits of a deviation of 1e-5.
    assert ours.p_value == pytest.approx(theirs.pval, rel=1e-6, abs=1e-12)


def test_affine_maps_and_the_order_of_codes_change_nothing() -> None:
    codes = student(150, 4)
    other = mixed(codes)[torch.randperm(150, generator=torch.Generator().manual_seed(1))]
    assert henze_zirkler(other).statistic == pytest.approx(henze_zirkler(codes).statistic, rel=1e-9)
    assert bhep(other, num_draws=3).statistic == pytest.approx(bhep(codes, num_draws=3).statistic, rel=1e-9)
    assert mardia(other, num_draws=3).skewness.statistic == pytest.approx(mardia(codes, num_draws=3).skewness.statistic)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = student(101, 6)
    whole = henze_zirkler(codes)
    monkeypatch.setattr(sys.modules["latent_lab.metrics.functional.normality"], "_BLOCK", 10)
    # 101 rows: the last block is a single row, which has no pair left.
    assert henze_zirkler(codes).excess == pytest.approx(whole.excess, rel=1e-11)


def test_the_excess_keeps_its_digits_where_the_statistic_is_one() -> None:
    test = henze_zirkler(normal(400, 300))
    assert test.statistic == 1.0
    assert 0.0 < abs(test.excess) < 1e-30
    assert not test.informative
    assert test.p_value == pytest.approx(0.5, abs=0.01)


def test_nothing_underflows_in_fifteen_hundred_dimensions() -> None:
    test = henze_zirkler(normal(1550, 1500).float())
    assert math.isfinite(test.p_value)
    assert test.null_mean == 1.0
    assert not test.informative
    twins = normal(1550, 1500)
    twins[1] = twins[0]
    assert henze_zirkler(twins).p_value == 0.0


def test_it_says_from_which_dimension_on_it_says_nothing() -> None:
    assert [henze_zirkler(normal(500, d)).informative for d in (10, 32, 64, 128)] == [True, True, False, False]


@pytest.mark.parametrize("codes", [normal(20, 30), normal(50, 4) * torch.tensor([1, 1, 0, 1])])
def test_a_singular_covariance_is_flagged(codes: Tensor) -> None:
    test = henze_zirkler(codes)
    assert test.singular
    assert not test.informative
    assert test.statistic == 4 * len(codes)


def test_p_values_are_uniform_for_normal_codes() -> None:
    p_values = [henze_zirkler(normal(300, 5, seed)).p_value for seed in range(300)]
    # Were they uniform, 300 would be rejected once in a thousand times.
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)


def test_monte_carlo_p_values_are_uniform_for_normal_codes() -> None:
    null = normality_null(100, 20)
    tests = [bhep(normal(100, 20, seed), null=null).p_value for seed in range(300)]
    moments = [mardia(normal(100, 20, seed), null=null) for seed in range(300)]
    kurtoses = [test.kurtosis.p_value for test in moments]
    for p_values in (tests, [test.skewness.p_value for test in moments], kurtoses):
        # The null itself is 199 draws, which all 300 share: two samples.
        grid = np.arange(1, 200) / 200
        assert scipy.stats.ks_2samp(p_values, grid).pvalue > 1e-3
    # The asymptotic law is far off here: it rejects a quarter of the normal codes at 5 %.
    assert np.mean([test.asymptotic_kurtosis_p < 0.05 for test in moments]) > 0.15


@pytest.mark.parametrize("d", [2, 16, 64])
def test_heavy_tails_are_rejected_at_every_dimension(d: int) -> None:
    codes = student(200, d)
    assert bhep(codes, num_draws=99).p_value == 0.01
    assert mardia(codes, num_draws=99).kurtosis.p_value == 0.02
    assert projected_normality(codes).p_value < 1e-6
    assert coordinate_normality(codes).rejected() > 0.5


def test_uniform_coordinates_are_seen_by_bhep_where_henze_zirkler_is_blind() -> None:
    codes = torch.rand(1000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert henze_zirkler(codes).p_value > 0.05
    test = bhep(codes, num_draws=49)
    assert test.p_value == 0.02
    assert test.deviations > 5


def test_skewness_and_kurtosis_are_their_definitions_and_mean() -> None:
    codes = normal(200, 3)
    test = mardia(codes, num_draws=99)
    centred = codes - codes.mean(0)
    products = centred @ torch.linalg.inv(torch.cov(codes.T, correction=0)) @ centred.T
    assert test.skewness.statistic == pytest.approx(products.pow(3).mean().item(), rel=1e-10)
    assert test.kurtosis.statistic == pytest.approx(products.diagonal().square().mean().item(), rel=1e-10)
    expected = scipy.stats.chi2.sf(200 * test.skewness.statistic / 6, 10)
    assert test.asymptotic_skewness_p == pytest.approx(expected, rel=1e-10)
    # The exact mean of b2 for normal codes.
    assert test.kurtosis.null_mean == pytest.approx(15 * 199 / 201, abs=4 * test.kurtosis.null_deviation / 99**0.5)


def test_draws_depend_on_their_number_alone() -> None:
    module = sys.modules["latent_lab.metrics.functional.normality"]
    whole = normality_null(50, 4, numbers=range(6), seed=3)
    module._null_draw.cache_clear()
    parts = [normality_null(50, 4, numbers=range(start, 6, 2), seed=3).bhep for start in (1, 0)]
    assert torch.equal(torch.stack(parts[::-1], 1).flatten(), whole.bhep)
    before = module._null_draw.cache_info().misses
    bhep(normal(50, 4), num_draws=6, seed=3)
    mardia(normal(50, 4), num_draws=6, seed=3)
    assert module._null_draw.cache_info().misses == before
    assert not torch.equal(normality_null(50, 4, numbers=range(6), seed=4).bhep, whole.bhep)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    bhep(normal(40, 3), num_draws=3)
    projected_normality(normal(40, 3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_projections_are_named_and_adjusted() -> None:
    test = projected_normality(normal(300, 40), principal=(2, 16), num_random=3, random_dim=4)
    assert test.names == ("principal_2", "principal_16", "random_4_0", "random_4_1", "random_4_2")
    assert (test.adjusted >= test.p_values).all()
    assert test.p_value > 0.05


def test_projections_leave_out_collapsed_coordinates_and_axes_that_are_not_there() -> None:
    codes = normal(100, 6)
    codes[:, 3:] = 0.5
    test = projected_normality(codes, principal=(2, 5), num_random=1, random_dim=5)
    assert test.names == ("principal_2", "random_3_0")
    assert test.p_value > 0.01


def test_fewer_codes_than_coordinates_can_still_be_projected() -> None:
    assert projected_normality(normal(60, 200)).p_value > 0.01


@pytest.mark.parametrize("test", ["dagostino", "shapiro"])
def test_coordinates_agree_with_scipy(test: str) -> None:
    codes = mixed(student(60, 3, freedom=5))
    found = coordinate_normality(codes, test=test)
    function = {"dagostino": scipy.stats.normaltest, "shapiro": scipy.stats.shapiro}[test]
    expected = [function(column) for column in codes.T.numpy()]
    assert found.statistics.tolist() == pytest.approx([one.statistic for one in expected], rel=1e-8)
    assert found.p_values.tolist() == pytest.approx([one.pvalue for one in expected], rel=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_anderson_darling_is_scipys_statistic_and_its_tables_critical_values() -> None:
    codes = torch.cat([normal(200, 3), student(200, 1)], 1)
    found = coordinate_normality(codes, test="anderson")
    expected = [scipy.stats.anderson(column).statistic for column in codes.T.numpy()]
    assert found.statistics.tolist() == pytest.approx(expected, rel=1e-9)
    assert (found.p_values[:3] > 0.01).all()
    assert found.p_values[3] < 1e-6
    # Stephens' critical values of the corrected statistic: 0.631 at 10 %, 0.752 at 5 %, 1.035 at 1 %.
    module = sys.modules["latent_lab.metrics.functional.normality"]
    statistic, p_value = module._anderson_darling(torch.linspace(-3, 3, 200).double().unsqueeze(1))
    assert p_value.item() == pytest.approx(module._anderson_p_value(statistic, 200).item())
    corrected = torch.tensor([0.631, 0.752, 1.035], dtype=torch.float64)
    raw = corrected / (1 + 0.75 / 200 + 2.25 / 200**2)
    assert module._anderson_p_value(raw, 200).tolist() == pytest.approx([0.10, 0.05, 0.01], rel=0.03)


@pytest.mark.parametrize("test", ["dagostino", "shapiro", "anderson"])
def test_coordinates_of_normal_codes_are_rejected_at_the_level(test: str) -> None:
    found = coordinate_normality(normal(200, 300), test=test)
    assert (found.p_values < 0.05).double().mean().item() == pytest.approx(0.05, abs=0.04)
    assert found.rejected() <= 0.01


def test_constant_coordinates_are_not_tested() -> None:
    codes = normal(100, 3)
    codes[:, 1] = 0.1
    found = coordinate_normality(codes)
    assert found.constant == 1
    assert found.p_values.isnan().tolist() == [False, True, False]
    assert found.p_value > 0.01
    assert math.isnan(coordinate_normality(torch.ones(30, 2)).p_value)


@pytest.mark.parametrize("function", [henze_zirkler, bhep, mardia, projected_normality, coordinate_normality])
def test_codes_that_are_not_finite_are_refused(function: Callable[[Tensor], object]) -> None:
    codes = normal(40, 3)
    codes[[3, 4], 0] = torch.tensor([float("nan"), float("inf")], dtype=torch.float64)
    with pytest.raises(ValueError, match="finite codes, but 2 of 40 are not"):
        function(codes)


@pytest.mark.parametrize("function", [bhep, mardia])
def test_singular_codes_are_refused_where_nothing_could_be_said(function: Callable[[Tensor], object]) -> None:
    with pytest.raises(ValueError, match="20 codes in 30 dimensions have a singular covariance: give more than 30"):
        function(normal(20, 30))
    collapsed = normal(50, 4) * torch.tensor([1, 0, 1, 1])
    with pytest.raises(ValueError, match="they span 3 of 4 dimensions"):
        function(collapsed)


def test_what_cannot_be_asked_for_is_said() -> None:
    with pytest.raises(ValueError, match="beta of a BHEP test must be positive, got 0"):
        bhep(normal(40, 3), beta=0.0)
    with pytest.raises(ValueError, match="1 to 16 dimensions"):
        projected_normality(normal(100, 40), principal=(20,))
    with pytest.raises(ValueError, match="needs at least 21 codes, got 15"):
        projected_normality(normal(15, 40))
    with pytest.raises(ValueError, match="all 30 codes are equal"):
        projected_normality(torch.ones(30, 3))
    with pytest.raises(ValueError, match="at most 5000 codes, got 5001"):
        coordinate_normality(torch.zeros(5001, 1), test="shapiro")
