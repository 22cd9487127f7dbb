"""Tests of uniformity on the sphere: definitions, closed forms, level, and what each of them sees."""

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
    SphereUniformity,
    bingham,
    expected_potential,
    projected_uniformity,
    rayleigh,
    sphere_null,
    sphere_projections,
    sphere_statistics,
    sphere_uniformity,
    unit_directions,
)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(codes: Tensor) -> Tensor:
    return codes @ torch.linalg.qr(normal(codes.shape[1], codes.shape[1], 9)).Q


def test_statistics_are_their_definitions_written_out() -> None:
    n, d, t = 12, 4, 2.0
    x = torch.nn.functional.normalize(normal(n, d), dim=1)
    found = sphere_statistics(x, t=t)
    i, j = torch.triu_indices(n, n, 1)
    angles = (x[i] * x[j]).sum(1).acos()
    scatter = x.T @ x / n
    ajne = n / 4 - angles.sum().item() / (math.pi * n)
    ratio = (math.gamma((d - 1) / 2) / math.gamma(d / 2)) ** 2
    gine = n / 2 - (d - 1) / (2 * n) * ratio * angles.sin().sum().item()
    assert found.rayleigh == pytest.approx(n * d * x.mean(0).square().sum().item())
    assert found.bingham == pytest.approx(n * d * (d + 2) / 2 * (scatter.square().sum().item() - 1 / d))
    assert found.ajne == pytest.approx(ajne)
    assert found.gine == pytest.approx(gine)
    assert found.gine_combined == pytest.approx(4 * ajne + gine)
    potential = torch.exp(-t * (x[i] - x[j]).square().sum(1)).mean().log().item()
    assert found.potential == pytest.approx(potential)


def test_statistics_of_two_opposite_points() -> None:
    found = sphere_statistics(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    assert found.rayleigh == pytest.approx(0.0, abs=1e-12)
    assert found.ajne == pytest.approx(0.0)  # 2/4 - pi / (2 pi)
    assert found.gine == pytest.approx(1.0)  # 2/2 - 0
    assert found.potential == pytest.approx(-8.0)


def test_tests_by_law_and_by_pairs_are_the_same_statistic() -> None:
    codes = normal(300, 20)
    found = sphere_statistics(codes)
    assert rayleigh(codes).statistic == pytest.approx(found.rayleigh, rel=1e-9)
    assert bingham(codes).statistic == pytest.approx(found.bingham, rel=1e-8)
    assert (rayleigh(codes).degrees_of_freedom, bingham(codes).degrees_of_freedom) == (20, 209)


def test_rotations_lengths_order_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = normal(101, 5) + 0.3
    whole = sphere_statistics(codes)
    lengths = torch.linspace(0.1, 9, 101).double().unsqueeze(1)
    assert sphere_statistics((rotated(codes) * lengths).flip(0)) == pytest.approx(whole, rel=1e-10)
    monkeypatch.setattr(sys.modules["latent_lab.metrics.functional.sphere"], "_BLOCK", 10)
    assert sphere_statistics(codes) == pytest.approx(whole, rel=1e-11)


@pytest.mark.parametrize("d", [2, 3, 64, 512])
def test_the_smallest_potential_is_that_of_uniform_codes(d: int) -> None:
    # On the circle 0F1 is the modified Bessel function I0(2 t), on the sphere sinh(2 t) / (2 t).
    closed = {2: scipy.special.i0(4.0), 3: math.sinh(4.0) / 4.0}
    if d in closed:
        assert expected_potential(d) == pytest.approx(math.log(closed[d]) - 4.0, rel=1e-12)
    null = sphere_null(400, d, numbers=range(20)).of("potential")
    assert null.mean().item() == pytest.approx(expected_potential(d), abs=4 * null.std().item() / 20**0.5 + 1e-4)


@pytest.mark.parametrize("test", [rayleigh, bingham])
def test_p_values_by_law_are_uniform_for_uniform_codes(test: Callable[[Tensor], object]) -> None:
    p_values = [test(normal(200, 10, seed)).p_value for seed in range(300)]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_p_values_by_simulation_are_uniform_for_uniform_codes() -> None:
    null = sphere_null(60, 8)
    tests = [sphere_uniformity(normal(60, 8, seed), null=null) for seed in range(200)]
    grid = np.arange(1, 200) / 200
    for name in SphereUniformity._fields:
        p_values = [getattr(test, name).p_value for test in tests]
        assert scipy.stats.ks_2samp(p_values, grid).pvalue > 1e-3, name


def test_a_mean_direction_is_seen_by_rayleigh_and_ajne() -> None:
    codes = normal(300, 16)
    codes[:, 0] += 1.0
    test = sphere_uniformity(codes, num_draws=99)
    assert rayleigh(codes).p_value < 1e-6
    assert {test.rayleigh.p_value, test.ajne.p_value, test.gine_combined.p_value, test.potential.p_value} == {0.01}


def test_an_axis_is_seen_by_bingham_and_gine_and_not_by_rayleigh() -> None:
    codes = normal(500, 16)
    codes[:, 0] *= 3.0
    test = sphere_uniformity(codes, num_draws=99)
    assert bingham(codes).p_value < 1e-6
    assert {test.bingham.p_value, test.gine.p_value, test.gine_combined.p_value} == {0.01}
    assert rayleigh(codes).p_value > 1e-4


def test_projections_have_their_exact_law() -> None:
    codes = normal(2000, 6)
    values = sphere_projections(codes, torch.eye(6).double())
    torch.testing.assert_close(values, math.sqrt(6) * unit_directions(codes))
    assert values.var().item() == pytest.approx(1.0, abs=0.05)
    assert projected_uniformity(codes).p_value > 0.01
    skewed = codes.abs()
    assert projected_uniformity(skewed, torch.eye(6).double()).p_value < 1e-10


def test_projections_of_uniform_codes_are_rejected_at_the_level() -> None:
    p_values = projected_uniformity(normal(300, 12), num_directions=200).p_values
    assert (p_values < 0.05).double().mean().item() == pytest.approx(0.05, abs=0.06)


def test_random_directions_and_draws_depend_on_the_seed_alone() -> None:
    codes = normal(20, 4)
    before = torch.random.get_rng_state()
    assert torch.equal(sphere_projections(codes, seed=1), sphere_projections(codes, seed=1))
    assert not torch.equal(sphere_projections(codes, seed=1), sphere_projections(codes, seed=2))
    parts = [sphere_null(20, 4, numbers=numbers).statistics for numbers in (range(3), range(3, 5))]
    assert torch.equal(torch.cat(parts), sphere_null(20, 4, numbers=range(5)).statistics)
    assert torch.equal(before, torch.random.get_rng_state())


def test_codes_without_direction_are_refused() -> None:
    codes = normal(10, 3)
    codes[4] = 0.0
    with pytest.raises(ValueError, match="1 of 10 codes are 0 and have no direction"):
        sphere_uniformity(codes)
    with pytest.raises(ValueError, match="at least 2 coordinates, got codes of 1"):
        rayleigh(normal(10, 1))
    with pytest.raises(ValueError, match="at least 2 codes, got 1"):
        bingham(normal(1, 4))
    codes[4] = float("nan")
    with pytest.raises(ValueError, match="finite codes, but 1 of 10"):
        projected_uniformity(codes)
