"""Errors of maps: closed forms, explained variance and its interval, baselines, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.latent.maps import NormalEquations, fit_least_squares
from latent_lab.metrics.functional.bootstrap import bootstrap
from latent_lab.metrics.functional.mapping import (
    derangement,
    explained_gain_interval,
    explained_variance,
    explained_variance_interval,
    latent_errors,
    mean_image_errors,
    random_pair_error,
    unit_error,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_errors_of_images_are_in_units_of_the_unit_range() -> None:
    image = torch.full((2, 3, 4, 4), 1.0)
    assert unit_error(image, image - 2.0).tolist() == [1.0, 1.0]
    assert unit_error(image - 1.0, image).tolist() == [0.25, 0.25]


def test_latent_errors_are_means_over_coordinates() -> None:
    assert latent_errors(torch.zeros(2, 4), torch.tensor([[1.0, 1, 1, 1], [2.0, 0, 0, 0]])).tolist() == [1.0, 1.0]


def test_explained_variance_is_one_for_the_truth_and_zero_for_the_mean() -> None:
    targets = normal(100, 3) * torch.tensor([1.0, 5.0, 1.0])
    assert explained_variance(targets, targets).pooled == 1.0
    assert explained_variance(targets, targets.mean(0).expand(100, -1)).pooled == pytest.approx(0.0, abs=1e-6)
    half = targets.clone()
    half[:, 0] = half[:, 0].mean()
    shares = explained_variance(targets, half)
    assert shares.per_dimension.tolist() == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    variances = targets.double().var(0)
    assert shares.pooled == pytest.approx(1 - (variances[0] / variances.sum()).item(), abs=1e-6)


def test_collapsed_coordinates_have_no_share_of_their_own() -> None:
    targets = torch.cat([normal(50, 2), torch.full((50, 1), 0.3)], 1)
    shares = explained_variance(targets, targets)
    assert shares.per_dimension.isnan().tolist() == [False, False, True]
    assert shares.pooled == 1.0


def test_intervals_of_explained_variance_are_those_of_resampled_rows() -> None:
    targets = normal(60, 3) + 4.0
    estimates = targets + 0.7 * normal(60, 3, seed=1)
    fast = explained_variance_interval(targets, estimates, num_resamples=50, seed=3)
    slow = bootstrap(
        lambda rows: explained_variance(targets[rows], estimates[rows]).pooled,
        [60],
        estimate=explained_variance(targets, estimates).pooled,
        num_resamples=50,
        seed=3,
    )
    assert fast[:2] == pytest.approx(slow[:2], abs=1e-6)


def test_a_gain_is_the_difference_of_shares_and_surer_than_either() -> None:
    targets = normal(80, 3)
    worse = targets + normal(80, 3, seed=1)
    better = targets + 0.9 * (worse - targets)
    gain, interval = explained_gain_interval(targets, better, worse, num_resamples=50)
    shares = [explained_variance(targets, estimates).pooled for estimates in (better, worse)]
    assert gain == pytest.approx(shares[0] - shares[1])
    assert interval.low < gain < interval.high
    slow = bootstrap(
        lambda rows: explained_gain_interval(targets[rows], better[rows], worse[rows], num_resamples=2)[0],
        [80],
        estimate=gain,
        num_resamples=50,
    )
    assert interval[:2] == pytest.approx(slow[:2], abs=1e-6)
    alone = explained_variance_interval(targets, worse, num_resamples=50)
    assert interval.high - interval.low < alone.high - alone.low


def test_a_rotated_copy_is_explained_and_unrelated_codes_are_not() -> None:
    source = normal(3000, 16)
    rotation = torch.linalg.qr(normal(16, 16, seed=1))[0]
    copies, unrelated = 2.0 * source @ rotation, normal(3000, 16, seed=2)
    for target, related in ((copies, True), (unrelated, False)):
        fit = fit_least_squares(NormalEquations.of(source[:2000], target[:2000]), affine=True)
        mapped = fit.map(source[2000:])
        share = explained_variance(target[2000:], mapped).pooled
        interval = explained_variance_interval(target[2000:], mapped)
        if related:
            assert share > 0.999
            assert interval.low > 0.999
        else:
            # A map of 16 coordinates fitted to noise costs 16 / 2000 of the variance on other samples.
            assert share == pytest.approx(-16 / 2000, abs=0.01)
            assert interval.low <= -16 / 2000 <= interval.high
            assert interval.high < 0.02


def test_in_a_derangement_nobody_is_paired_with_itself() -> None:
    partner = derangement(101)
    assert (partner != torch.arange(101)).all()
    assert partner.unique().numel() == 101
    assert torch.equal(partner, derangement(101))
    assert not torch.equal(partner, derangement(101, seed=1))
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        derangement(1)


def test_random_pairs_err_twice_as_much_as_the_mean_image() -> None:
    images = normal(40, 3, 4, 4)
    pairs = torch.tensor(
        [((images[i] - images[j]).square().mean() / 4).item() for i in range(40) for j in range(40) if i != j]
    )
    error = random_pair_error(images)
    assert error == pytest.approx(pairs.double().mean().item(), rel=1e-5)
    assert 2 * mean_image_errors(images).mean().item() == pytest.approx(error * 39 / 40, rel=1e-6)
    given = mean_image_errors(images, torch.zeros(3, 4, 4))
    torch.testing.assert_close(given, images.double().square().mean((1, 2, 3)) / 4)


def test_bad_input_is_refused_in_one_sentence() -> None:
    codes = normal(10, 3)
    with pytest.raises(ValueError, match=r"same shape \(N, D\), got \(10, 3\) and \(9, 3\)"):
        latent_errors(codes, codes[1:])
    with pytest.raises(ValueError, match="all 10 target codes are equal"):
        explained_variance(torch.full((10, 3), 0.1), codes)
    broken = codes.clone()
    broken[2] = torch.nan
    with pytest.raises(ValueError, match="1 of 10 compared codes are not finite"):
        latent_errors(codes, broken)
    with pytest.raises(ValueError, match="images of one size are compared"):
        unit_error(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="pairs of images need at least 2, got 1"):
        random_pair_error(torch.zeros(1, 3, 4, 4))
