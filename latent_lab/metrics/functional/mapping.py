"""Errors of maps between latent spaces: of codes, of images, beside what no map at all would give.

Per-element means of squared differences, as Asperti and Tonelli report them ("Comparing the latent space of generative
models", 2022), one number for each sample, so that means, intervals and comparisons come from the same numbers. Image
errors are in units of the [0, 1] range, as published: a quarter of those in [-1, 1].

The error of a map in images (M-MSE) has two readings: |x - D2(map(E1(x)))|^2, as the published program computes it, and
|D2(E2(x)) - D2(map(E1(x)))|^2, to the ideal decoding, as the thesis describes it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, interval_of, resample
from latent_lab.metrics.functional.reconstruction import mean_squared_error
from latent_lab.types import Images, Indices, Latents, OtherImages, Scores


def unit_error(images: Images, others: OtherImages) -> Scores:
    """Mean squared errors (N,) of pairs of images in [-1, 1], in units of the [0, 1] range, float64.

    Raises:
        ValueError: if shapes differ.
    """
    if images.shape != others.shape:
        raise ValueError(
            f"images of one size are compared, got {tuple(images.shape)} and {tuple(others.shape)}: crop and resize "
            "them alike first"
        )
    # A range of 2 becomes one of 1.
    return mean_squared_error(images, others) / 4.0


def _check_codes(targets: Tensor, estimates: Tensor) -> None:
    if targets.ndim != 2 or targets.shape != estimates.shape or len(targets) == 0:
        raise ValueError(
            "codes and what is compared with them must have the same shape (N, D), got "
            f"{tuple(targets.shape)} and {tuple(estimates.shape)}"
        )
    for name, codes in (("codes", targets), ("compared codes", estimates)):
        broken = int((~codes.isfinite().all(1)).sum())
        if broken:
            raise ValueError(f"{broken} of {len(codes)} {name} are not finite: the model or the map is damaged")


def latent_errors(targets: Latents, estimates: Float[Tensor, "M E"]) -> Scores:
    """Mean over coordinates of (y - y')^2, (N,), float64.

    L-MSE of y = E2(x) and y' = map(E1(x)); I-MSE, the error of an inversion, of z from the prior and E(D(z)).

    Args:
        targets: (N, D) y.
        estimates: (N, D) y'.

    Raises:
        ValueError: if shapes differ or codes are not finite.
    """
    _check_codes(targets, estimates)
    return (targets.double() - estimates.double()).square().mean(1)


class ExplainedVariance(NamedTuple):
    """R^2 = 1 - squared error / squared deviation from the mean; 1 is exact, 0 no better than the mean code."""

    pooled: float
    """Of all coordinates together, so that those of much variance count most."""
    per_dimension: Float[Tensor, "D"]
    """Of each; NaN where a coordinate does not vary."""


def explained_variance(targets: Latents, estimates: Float[Tensor, "M E"]) -> ExplainedVariance:
    """R^2 of estimates of codes; held out, if these codes had no part in the fit.

    The mean is that of these targets, so that a map that knows nothing has about -D / N of the fit, or a little below.

    Args:
        targets: (N, D) y, N at least 2.
        estimates: (N, D) y'.

    Raises:
        ValueError: if shapes differ, codes are not finite, or all targets are equal.
    """
    _check_codes(targets, estimates)
    truth = targets.double()
    total = (truth - truth.mean(0)).square().sum(0)
    error = (truth - estimates.double()).square().sum(0)
    # Below this, a mean's rounding is all the deviation there is.
    nothing = total <= 1e-12 * truth.square().sum(0)
    if nothing.all():
        raise ValueError(f"all {len(truth)} target codes are equal: of a space that has collapsed nothing is explained")
    per_dimension = torch.where(nothing, torch.nan, 1.0 - error / total)
    return ExplainedVariance((1.0 - error.sum() / total.sum()).item(), per_dimension)


def explained_variance_interval(
    targets: Latents,
    estimates: Float[Tensor, "M E"],
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of the pooled R^2 over other samples, the map being what it is.

    Args:
        targets: (N, D).
        estimates: (N, D).
        level: share of the resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as `explained_variance`.
    """
    estimate = explained_variance(targets, estimates).pooled
    errors = latent_errors(targets, estimates).detach().cpu() * targets.shape[1]
    counts, total = _resampled_deviations(targets, num_resamples, seed)
    return interval_of(1.0 - counts @ errors / total, estimate=estimate, level=level)


def explained_gain_interval(
    targets: Latents,
    estimates: Float[Tensor, "M E"],
    others: Float[Tensor, "P F"],
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval]:
    """By how much the pooled R^2 of some estimates is above that of others, and the interval of this difference.

    Both are resampled together, so that what is hard to predict for either does not count.

    Args:
        targets: (N, D).
        estimates: (N, D).
        others: (N, D).
        level: share of the resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as `explained_variance`.
    """
    gain = explained_variance(targets, estimates).pooled - explained_variance(targets, others).pooled
    saved = (latent_errors(targets, others) - latent_errors(targets, estimates)).detach().cpu() * targets.shape[1]
    counts, total = _resampled_deviations(targets, num_resamples, seed)
    return gain, interval_of(counts @ saved / total, estimate=gain, level=level)


def _resampled_deviations(
    targets: Latents, num_resamples: int, seed: int
) -> tuple[Float[Tensor, "R N"], Float[Tensor, "R"]]:
    """How often each row is in each resample, and each resample's sum of squared deviations from its mean."""
    truth = targets.detach().double().cpu()
    # Resamples are counts of rows: deviations come from weighted sums, without a copy of the codes for each.
    truth = truth - truth.mean(0)
    count = len(truth)
    counts = torch.stack(
        [torch.bincount(resample(count, number, seed), minlength=count) for number in range(num_resamples)]
    ).double()
    return counts, counts @ truth.square().sum(1) - (counts @ truth).square().sum(1) / count


# What no map at all would give


def derangement(count: int, seed: int = 0) -> Indices:
    """A random permutation (count,) without fixed points: every sample is paired with another one.

    Samples are put in a random circle, and each gets its neighbour in it.

    Args:
        count: at least 2.
        seed: of the circle.

    Raises:
        ValueError: with fewer than two samples.
    """
    if count < 2:
        raise ValueError(f"shuffled pairs need at least 2 samples, got {count}")
    circle = torch.randperm(count, generator=IndexedRandom(seed, "mapping/derangement").generator(0))
    partner = torch.empty_like(circle)
    partner[circle] = circle.roll(-1)
    return partner


def mean_image_errors(images: Images, mean: Float[Tensor, "C H W"] | None = None) -> Scores:
    """Errors (N,) of the mean image as everybody's reconstruction, in units of the [0, 1] range.

    The fair baseline of image errors: a map that knows nothing of an image can do so well. Published as one is the
    error of pairs of random images (0.116 for CelebA), which is twice as large: see `random_pair_error`.

    Args:
        images: (N, C, H, W) in [-1, 1].
        mean: (C, H, W), of training images; none: of these images, slightly too good.

    Raises:
        ValueError: if shapes differ.
    """
    centre = images.double().mean(0) if mean is None else mean.double()
    return unit_error(images, centre.expand(len(images), *centre.shape))


def random_pair_error(images: Images) -> float:
    """Mean squared error of all pairs of different images, in units of the [0, 1] range: twice the unbiased variance.

    Args:
        images: (N, C, H, W) in [-1, 1], N at least 2.

    Raises:
        ValueError: with fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"pairs of images need at least 2, got {len(images)}")
    return 2.0 * (mean_image_errors(images).sum() / (len(images) - 1)).item()
