"""Intervals of Fréchet distances, and the limit of ever more samples."""

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch

from latent_lab.metrics import AlreadyExtracted, FrechetDistance, FrechetInfinity
from latent_lab.metrics.functional import (
    Moments,
    frechet_distance,
    frechet_infinity,
    frechet_infinity_interval,
    frechet_influences,
    frechet_interval,
    moments,
)
from latent_lab.metrics.functional.bootstrap import Interval, bootstrap


def features(count: int, width: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng)
    return torch.randn(count, width, generator=rng) @ mixing / width**0.5 + 0.1 * seed


def weighted_moments(rows: torch.Tensor, weights: torch.Tensor) -> Moments:
    """With weights of sum 1; equal ones give the unbiased covariance."""
    mean = weights @ rows
    centred = rows - mean
    return Moments(mean, (centred.T * weights) @ centred * len(rows) / (len(rows) - 1), len(rows))


# Both sets larger than the 16 features, both smaller, and one of each.
@pytest.mark.parametrize(("num_real", "num_fake"), [(60, 80), (80, 60), (9, 14), (14, 9), (9, 60), (60, 9)])
def test_influences_are_the_derivatives_of_the_distance_with_respect_to_weights(num_real: int, num_fake: int) -> None:
    step = 1e-5
    sets = features(num_real, 16, 1).double(), features(num_fake, 16, 2).double()
    influences = frechet_influences(*sets)
    for which, row in ((0, 0), (0, 5), (1, 0), (1, 5)):
        ends = []
        for moved_by in (step, -step):
            weights = [torch.full((len(rows),), 1.0 / len(rows), dtype=torch.float64) for rows in sets]
            weights[which] *= 1.0 - moved_by
            weights[which][row] += moved_by
            ends.append(frechet_distance(*map(weighted_moments, sets, weights)).raw)
        derivative = (ends[0] - ends[1]) / (2.0 * step)
        # Central differences: squares of the step and the rounding of distances, 1e-13 / 1e-5.
        assert influences[which][row].item() == pytest.approx(derivative, rel=1e-5, abs=1e-5)


def test_influences_of_shifted_sets_are_the_closed_form() -> None:
    # Equal covariances: T is the identity and 2 (ma - mb)·(x - ma) is left.
    real = features(200, 6, 1).double()
    shift = torch.arange(6, dtype=torch.float64)
    influences = frechet_influences(real, real + shift)
    expected = -2.0 * (real - real.mean(0)) @ shift
    torch.testing.assert_close(influences.real, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(influences.fake, -expected, rtol=1e-6, atol=1e-6)


def test_with_many_vectors_the_interval_is_as_wide_as_that_of_the_exact_bootstrap() -> None:
    real, fake = features(800, 4, 1).double(), 1.5 * features(800, 4, 2).double() + 0.3

    def exactly(real_rows: torch.Tensor, fake_rows: torch.Tensor) -> float:
        return frechet_distance(moments(real[real_rows]), moments(fake[fake_rows])).raw

    value = frechet_distance(moments(real), moments(fake)).value
    exact, linear = bootstrap(exactly, (800, 800), estimate=value), frechet_interval(real, fake)
    # Two independent sets of 200 resamples know these quantiles to about 7 % each.
    assert linear.high - linear.low == pytest.approx(exact.high - exact.low, rel=0.25)


@pytest.mark.parametrize("count", [12, 200])
def test_intervals_cover_the_expected_distance_of_known_gaussians(count: int) -> None:
    # Half as many vectors as features, and eight times as many; expected is the distance of sets of this size.
    rng = torch.Generator().manual_seed(0)
    scale = torch.arange(1, 25, dtype=torch.float64) ** -0.7

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        real, fake = (torch.randn(count, 24, dtype=torch.float64, generator=rng) * scale for _ in range(2))
        return real, 1.4 * fake.flip(1) + 0.1

    expected = statistics.mean(frechet_distance(moments(a), moments(b)).raw for a, b in (draw() for _ in range(200)))
    intervals = [frechet_interval(*draw(), num_resamples=60, seed=seed) for seed in range(80)]
    covered = statistics.mean(one.low <= expected <= one.high for one in intervals)
    # 95 % of 80 within three standard errors; quantiles of 60 resamples and the skew of small sets take some more.
    assert covered > 0.95 - 0.04 - 3.0 * math.sqrt(0.95 * 0.05 / 80)


def test_the_order_of_rows_does_not_move_an_interval() -> None:
    real, fake = features(50, 8, 1), features(60, 8, 2)
    there, back = frechet_interval(real, fake), frechet_interval(real.flip(0), fake.flip(0))
    assert tuple(there) == pytest.approx(tuple(back), rel=1e-6)


def test_the_metric_gives_the_interval_of_the_rows_that_it_kept() -> None:
    real, fake = features(50, 8, 1), features(60, 8, 2)
    metric = FrechetDistance(AlreadyExtracted(8), keep_rows=True)
    for batch in real.split(7):
        metric.update(batch, real=True)
    metric.update(fake, real=False)
    expected = frechet_interval(real, fake, num_resamples=50, seed=3)
    assert tuple(metric.interval(num_resamples=50, seed=3)) == pytest.approx(tuple(expected), rel=1e-6)
    assert metric.compute().item() == pytest.approx(frechet_distance(moments(real), moments(fake)).value, rel=1e-9)


def test_an_interval_without_rows_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="build FrechetDistance with keep_rows=True"):
        FrechetDistance(AlreadyExtracted(3)).interval()


def test_the_limit_of_many_samples_is_nearer_the_truth_than_the_distance() -> None:
    rng = torch.Generator().manual_seed(0)
    reference = Moments(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64), None)
    found = [
        frechet_infinity(reference, 1.2 * torch.randn(400, 16, dtype=torch.float64, generator=rng)) for _ in range(20)
    ]
    truth = 16 * 0.2**2
    assert statistics.mean(one.distances[-1] for one in found) > truth + 0.15
    # Twenty values with a standard deviation of about 0.1 each.
    assert statistics.mean(one.value for one in found) == pytest.approx(truth, abs=0.075)
    assert statistics.mean(one.slope for one in found) > 0.0


def test_the_line_and_its_error_are_those_of_scipys_regression() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = frechet_infinity(features(300, 8, 1), features(400, 8, 2), num_points=7, seed=5)
    line = stats.linregress(1.0 / np.array(found.counts), np.array(found.distances))
    assert found.value == pytest.approx(line.intercept, rel=1e-9)
    assert found.standard_error == pytest.approx(line.intercept_stderr, rel=1e-7)
    assert found.slope == pytest.approx(line.slope, rel=1e-7)


def test_counts_are_evenly_spaced_in_their_inverses_up_to_all_images() -> None:
    counts = frechet_infinity(features(300, 4, 1), features(1000, 4, 2), num_points=5).counts
    # 4000 over 16, 13, 10, 7 and 4.
    assert counts == (250, 308, 400, 571, 1000)


def test_the_last_distance_is_that_of_all_images_and_seeds_move_only_the_others() -> None:
    real, fake = features(300, 8, 1), features(200, 8, 2)
    one, other = frechet_infinity(real, fake, seed=0), frechet_infinity(real, fake, seed=1)
    everything = frechet_distance(moments(real), moments(fake)).value
    assert one.distances[-1] == pytest.approx(everything, rel=1e-9)
    assert other.distances[-1] == pytest.approx(everything, rel=1e-9)
    assert one.distances[0] != other.distances[0]
    assert frechet_infinity(real, fake, seed=0) == one


def test_distances_of_few_images_are_those_of_a_direct_computation() -> None:
    real, fake = features(300, 40, 1), features(36, 40, 2)
    found = frechet_infinity(real, fake, num_points=4)
    assert found.distances[-1] == pytest.approx(frechet_distance(moments(real), moments(fake)).raw, rel=1e-6)


def test_intervals_of_the_limit_are_as_wide_as_repeated_draws_say() -> None:
    rng = torch.Generator().manual_seed(0)
    values, widths = [], []
    for trial in range(60):
        real, fake = (torch.randn(240, 8, dtype=torch.float64, generator=rng) for _ in range(2))
        fake = 1.5 * fake + 0.3
        values.append(frechet_infinity(real, fake, num_points=5, seed=trial).value)
        if trial < 20:
            interval = frechet_infinity_interval(real, fake, num_points=5, seed=trial, num_resamples=60)
            widths.append(interval.high - interval.low)
    # 3.92 standard deviations lie between the ends; 60 draws know one to 9 %, quantiles of 60 resamples add some.
    assert statistics.mean(widths) == pytest.approx(3.92 * statistics.stdev(values), rel=0.3)


def test_the_metric_of_the_limit_is_its_function_whatever_the_order_of_batches() -> None:
    real, fake = features(40, 8, 1), features(50, 8, 2)
    metric = FrechetInfinity(AlreadyExtracted(8), num_points=4, seed=2)
    for rows, is_real in ((fake, False), (real, True)):
        for places in reversed(torch.arange(len(rows)).split(9)):
            metric.update(rows[places], places, real=is_real)
    expected = frechet_infinity(real, fake, num_points=4, seed=2)
    assert metric.compute().item() == pytest.approx(expected.value, rel=1e-9)
    assert metric.standard_error == pytest.approx(expected.standard_error, rel=1e-6)
    interval = frechet_infinity_interval(real, fake, num_points=4, subset_seed=2, num_resamples=40)
    assert tuple(metric.interval(num_resamples=40)) == pytest.approx(tuple(interval), rel=1e-6)


def test_too_few_images_for_a_line_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="2 or more, below all 2 of them, got 2"):
        frechet_infinity(features(20, 4, 1), features(2, 4, 2))
    with pytest.raises(ValueError, match="at least 3 points, got num_points 2"):
        frechet_infinity(features(20, 4, 1), features(30, 4, 2), num_points=2)


@pytest.mark.parametrize("interval_of_features", [frechet_interval, frechet_infinity_interval])
def test_of_a_reference_without_vectors_the_generated_ones_alone_are_drawn_anew(
    interval_of_features: Callable[..., Interval],
) -> None:
    # Of real vectors that are many times as many, the randomness hardly counts.
    real, fake = features(4000, 6, 1), 1.3 * features(90, 6, 2) + 0.2
    whole, alone = interval_of_features(real, fake), interval_of_features(moments(real), fake)
    assert sum(alone[:2]) == pytest.approx(sum(whole[:2]), rel=0.05)
    assert alone.high - alone.low == pytest.approx(whole.high - whole.low, rel=0.2)
    few = interval_of_features(real[:60], fake)
    fixed = interval_of_features(moments(real[:60]), fake)
    assert fixed.high - fixed.low < 0.9 * (few.high - few.low)
