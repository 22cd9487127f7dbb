"""Bootstrap intervals: coverage, seeds, place, and bad input."""

import pytest
import torch

from latent_lab.metrics.functional.bootstrap import bootstrap, interval_of, mean_interval, resample


def test_intervals_of_a_mean_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = torch.Generator().manual_seed(0)
    held = 0
    for trial in range(200):
        interval = mean_interval(torch.randn(100, generator=rng), level=0.9, num_resamples=200, seed=trial)
        held += interval.low <= 0.0 <= interval.high
    # Binomial deviation 0.021; percentile intervals of 100 values hold a little less than they say.
    assert 0.82 <= held / 200 <= 0.97


def test_the_width_of_a_mean_is_that_of_its_standard_error() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval = mean_interval(values, num_resamples=1000)
    expected = 2 * 1.96 * values.std().item() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


def test_the_seed_decides_and_streams_are_independent() -> None:
    assert torch.equal(resample(50, 3, seed=1), resample(50, 3, seed=1))
    assert not torch.equal(resample(50, 3, seed=1), resample(50, 3, seed=2))
    assert not torch.equal(resample(50, 3, seed=1), resample(50, 3, seed=1, stream=1))


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    mean_interval(torch.arange(10.0), num_resamples=5)
    assert torch.equal(torch.rand(1), expected)


def test_with_an_estimate_the_interval_is_moved_to_it() -> None:
    values = torch.linspace(10.0, 12.0, 101)
    moved = interval_of(values, estimate=5.0, level=0.9)
    plain = interval_of(values, level=0.9)
    assert (moved.low, moved.high) == pytest.approx((plain.low - 6.0, plain.high - 6.0))
    assert interval_of(values, estimate=0.0, lowest=0.0).low == 0.0


def test_sets_are_resampled_independently() -> None:
    a = torch.arange(30.0)
    difference = bootstrap(lambda i, j: (a[i].mean() - a[j].mean()).item(), [30, 30], num_resamples=200)
    assert difference.low < 0 < difference.high


def test_impossible_intervals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        interval_of(torch.arange(3.0), level=1.5)
    with pytest.raises(ValueError, match="at least 2 resamples, got 1"):
        interval_of(torch.arange(1.0))
    with pytest.raises(ValueError, match="at least one value, got none"):
        mean_interval(torch.empty(0))
