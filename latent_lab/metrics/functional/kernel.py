"""Kernel distance: squared maximum mean discrepancy of features (KID: Bińkowski et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap
from latent_lab.metrics.functional.checks import OtherVectors, check_pair
from latent_lab.progress import one_by_one
from latent_lab.types import Features

_BLOCK = 2048
_LOOP = "kernel of pairs of images"


class KernelEstimate(NamedTuple):
    """An unbiased estimate of the squared discrepancy; it may be negative when the sets are alike."""

    value: float
    standard_error: float
    """Deviation of the estimate over repetitions with other samples."""


def polynomial_kernel(
    a: Features, b: OtherVectors, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> Tensor:
    """k(x, y) = (gamma x·y + coef)^degree for all pairs of rows, (N, M); gamma is 1/F by default."""
    scale = 1.0 / a.shape[1] if gamma is None else gamma
    return (a @ b.T).mul_(scale).add_(coef).pow_(degree)


def _parts(count: int) -> list[slice]:
    """Rows or columns of the blocks of a matrix."""
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _own_means(a: Tensor, degree: int, gamma: float | None, coef: float) -> Tensor:
    """For each row the mean kernel with the other rows of its set, itself left out, (N,)."""
    sums = a.new_zeros(len(a))
    parts = _parts(len(a))
    # The matrix is symmetric: blocks above the diagonal count for their columns, too.
    upper = [(rows, columns) for place, rows in enumerate(parts) for columns in parts[place:]]
    for rows, columns in one_by_one(upper, _LOOP):
        block = polynomial_kernel(a[rows], a[columns], degree=degree, gamma=gamma, coef=coef)
        sums[rows] += block.sum(1)
        if columns != rows:
            sums[columns] += block.sum(0)
    scale = 1.0 / a.shape[1] if gamma is None else gamma
    with_itself = (a.square().sum(1) * scale + coef) ** degree
    return (sums - with_itself) / (len(a) - 1)


def _means_across(a: Tensor, b: Tensor, degree: int, gamma: float | None, coef: float) -> tuple[Tensor, Tensor]:
    """For each row of a set the mean kernel with the rows of the other, (N,) and (M,)."""
    over_b, over_a = a.new_zeros(len(a)), a.new_zeros(len(b))
    pairs = [(rows, columns) for rows in _parts(len(a)) for columns in _parts(len(b))]
    for rows, columns in one_by_one(pairs, _LOOP):
        block = polynomial_kernel(a[rows], b[columns], degree=degree, gamma=gamma, coef=coef)
        over_b[rows] += block.sum(1)
        over_a[columns] += block.sum(0)
    return over_b / len(b), over_a / len(a)


class KernelSummands(NamedTuple):
    """What an estimate is made of: it is the sum of the means of these values."""

    values: tuple[Float[Tensor, "_"], ...]
    """One for each real and one for each generated vector; or one for each pair of subsets. Float64."""
    order: int
    """How many times its share of a mean each of them moves the estimate: 2 for vectors, which are in both places of
    the pairs, 1 for subsets."""

    def estimate(self) -> KernelEstimate:
        """The estimate and its standard error."""
        value = sum(part.mean().item() for part in self.values)
        variance = sum(self.order**2 * part.var().item() / len(part) for part in self.values)
        return KernelEstimate(value, variance**0.5)

    def interval(self, *, level: float, num_resamples: int, seed: int) -> Interval:
        """Of the estimate, with its parts resampled; see `kernel_distance_interval`."""
        parts = [part.cpu() for part in self.values]
        value = sum(part.mean().item() for part in parts)

        def resampled(*rows: Tensor) -> float:
            moved = (part[chosen].mean() - part.mean() for part, chosen in zip(parts, rows, strict=True))
            return value + self.order * sum(move.item() for move in moved)

        counts = [len(part) for part in parts]
        return bootstrap(resampled, counts, estimate=value, level=level, num_resamples=num_resamples, seed=seed)


def _full_summands(real: Features, fake: OtherVectors, degree: int, gamma: float | None, coef: float) -> KernelSummands:
    x, y = real.double(), fake.double()
    across_x, across_y = _means_across(x, y, degree, gamma, coef)
    own_x, own_y = _own_means(x, degree, gamma, coef), _own_means(y, degree, gamma, coef)
    return KernelSummands((own_x - across_x, own_y - across_y), order=2)


def full_kernel_distance(
    real: Features, fake: OtherVectors, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> KernelEstimate:
    """The unbiased U-statistic over all pairs: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with x ≠ x', y ≠ y'.

    The standard error is the first-order one of a U-statistic (Hoeffding 1948): with h(x) = mean k(x, x') - mean k(x,
    y), and likewise for y, it is sqrt(4 var h(x) / N + 4 var h(y) / M).

    Products are float64: with float32 ones the value is off by about 1e-10, which is 1e-7 of a usual value of 1e-3 but
    2e-5 of the small ones of sets that are alike, and takes half the time.

    Args:
        real: (N, F), N at least 2.
        fake: (M, F), M at least 2.
        degree: of the polynomial.
        gamma: scale of the inner product, 1/F by default.
        coef: added to the scaled inner product.
    """
    check_pair(real, fake, names=("real", "fake"), least=2, by="a kernel distance")
    return _full_summands(real, fake, degree, gamma, coef).estimate()


def kernel_summands(
    real: Features,
    fake: OtherVectors,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    full_up_to: int = 10_000,
    subset_size: int = 1_000,
    seed: int = 0,
) -> KernelSummands:
    """What `kernel_distance` and its interval are computed from, for who wants both; arguments as there."""
    check_pair(real, fake, names=("real", "fake"), least=2, by="a kernel distance")
    if max(len(real), len(fake)) <= full_up_to:
        return _full_summands(real, fake, degree, gamma, coef)
    smallest = min(len(real), len(fake))
    subset_size = min(subset_size, smallest // 2)
    if subset_size < 2:
        raise ValueError(f"two subsets need at least 4 vectors in each set, got {len(real)} and {len(fake)}")
    rng = torch.Generator().manual_seed(seed)
    order_real = torch.randperm(len(real), generator=rng).to(real.device)
    order_fake = torch.randperm(len(fake), generator=rng).to(fake.device)
    values = []
    for start in one_by_one(range(0, smallest - subset_size + 1, subset_size), "distances of subsets"):
        part_real = real[order_real[start : start + subset_size]]
        part_fake = fake[order_fake[start : start + subset_size]]
        values.append(_full_summands(part_real, part_fake, degree, gamma, coef).estimate().value)
    return KernelSummands((torch.tensor(values, dtype=torch.float64),), order=1)


def kernel_distance(
    real: Features,
    fake: OtherVectors,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    full_up_to: int = 10_000,
    subset_size: int = 1_000,
    seed: int = 0,
) -> KernelEstimate:
    """Kernel distance of two sets of any size.

    Up to `full_up_to` vectors in each set all pairs count. Larger sets are shuffled and cut into disjoint pairs of
    subsets, whose estimates are averaged: being independent, they give an honest standard error (published programs
    draw subsets that overlap and report the deviation over subsets, which is no error of the mean).

    Args:
        real: (N, F).
        fake: (M, F).
        degree: of the polynomial kernel, published: 3.
        gamma: scale of the inner product, published: 1/F.
        coef: added to it, published: 1.
        full_up_to: largest set for which all pairs are used.
        subset_size: vectors in each subset of larger sets.
        seed: of the shuffling; torch's global random state is left alone.

    Raises:
        ValueError: if a set has fewer than two vectors, or is too small for two subsets where subsets are used, or if
            widths differ or values are not finite.
    """
    return kernel_summands(
        real, fake, degree=degree, gamma=gamma, coef=coef, full_up_to=full_up_to, subset_size=subset_size, seed=seed
    ).estimate()


def kernel_distance_interval(
    real: Features,
    fake: OtherVectors,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    full_up_to: int = 10_000,
    subset_size: int = 1_000,
    subset_seed: int = 0,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far the kernel distance would move if other images had been drawn, as many as these.

    A resample is computed to first order: the distance plus twice what the resampled means of h (see
    `full_kernel_distance`) differ from the means, without a kernel matrix for each resample. Where the sets have one
    distribution h is noise, and the interval is up to 1.4 times too wide. Of larger sets the subsets' estimates are
    resampled; fewer than about ten of them give a rough interval.

    Args:
        real: (N, F).
        fake: (M, F).
        degree: of the polynomial kernel.
        gamma: scale of the inner product, 1/F by default.
        coef: added to it.
        full_up_to: largest set for which all pairs are used.
        subset_size: vectors in each subset of larger sets.
        subset_seed: of the subsets.
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as of `kernel_distance`.
    """
    summands = kernel_summands(
        real,
        fake,
        degree=degree,
        gamma=gamma,
        coef=coef,
        full_up_to=full_up_to,
        subset_size=subset_size,
        seed=subset_seed,
    )
    return summands.interval(level=level, num_resamples=num_resamples, seed=seed)
