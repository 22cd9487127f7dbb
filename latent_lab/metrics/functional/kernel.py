"""Kernel distance: squared maximum mean discrepancy of features (KID: Bińkowski et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Features

OtherFeatures: TypeAlias = Float[Tensor, "M F"]
"""A second set of features, of another size."""
_BLOCK = 2048


class KernelEstimate(NamedTuple):
    """An unbiased estimate of the squared discrepancy; it may be negative when the sets are alike."""

    value: float
    standard_error: float
    """Deviation of the estimate over repetitions with other samples."""


def polynomial_kernel(
    a: Features, b: OtherFeatures, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> Tensor:
    """k(x, y) = (gamma x·y + coef)^degree for all pairs of rows, (N, M); gamma is 1/F by default."""
    scale = 1.0 / a.shape[1] if gamma is None else gamma
    return (a @ b.T).mul_(scale).add_(coef).pow_(degree)


def _row_sums(a: Tensor, b: Tensor, degree: int, gamma: float | None, coef: float) -> tuple[Tensor, Tensor]:
    """Sums of the kernel matrix over its columns (N,) and over its rows (M,), a block at a time."""
    over_b, over_a = a.new_zeros(len(a)), a.new_zeros(len(b))
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = polynomial_kernel(a[rows], b, degree=degree, gamma=gamma, coef=coef)
        over_b[rows] = block.sum(1)
        over_a += block.sum(0)
    return over_b, over_a


def _own_means(a: Tensor, degree: int, gamma: float | None, coef: float) -> Tensor:
    """For each row the mean kernel with the other rows of its set, itself left out, (N,)."""
    sums, _ = _row_sums(a, a, degree, gamma, coef)
    scale = 1.0 / a.shape[1] if gamma is None else gamma
    with_itself = (a.square().sum(1) * scale + coef) ** degree
    return (sums - with_itself) / (len(a) - 1)


def full_kernel_distance(
    real: Features, fake: OtherFeatures, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> KernelEstimate:
    """The unbiased U-statistic over all pairs: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with x ≠ x', y ≠ y'.

    The standard error is the first-order one of a U-statistic (Hoeffding 1948): with h(x) = mean k(x, x') - mean k(x,
    y), and likewise for y, it is sqrt(4 var h(x) / N + 4 var h(y) / M).

    Args:
        real: (N, F), N at least 2.
        fake: (M, F), M at least 2.
        degree: of the polynomial.
        gamma: scale of the inner product, 1/F by default.
        coef: added to the scaled inner product.
    """
    x, y = real.double(), fake.double()
    own_x, own_y = _own_means(x, degree, gamma, coef), _own_means(y, degree, gamma, coef)
    across_x, across_y = _row_sums(x, y, degree, gamma, coef)
    from_x, from_y = own_x - across_x / len(y), own_y - across_y / len(x)
    variance = 4.0 * from_x.var() / len(x) + 4.0 * from_y.var() / len(y)
    return KernelEstimate((from_x.mean() + from_y.mean()).item(), variance.sqrt().item())


def kernel_distance(
    real: Features,
    fake: OtherFeatures,
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
        ValueError: if a set has fewer than two vectors, or is too small for two subsets where subsets are used.
    """
    smallest = min(len(real), len(fake))
    if smallest < 2:
        raise ValueError(f"a kernel distance needs at least 2 vectors in each set, got {len(real)} and {len(fake)}")
    if max(len(real), len(fake)) <= full_up_to:
        return full_kernel_distance(real, fake, degree=degree, gamma=gamma, coef=coef)
    subset_size = min(subset_size, smallest // 2)
    if subset_size < 2:
        raise ValueError(f"two subsets need at least 4 vectors in each set, got {len(real)} and {len(fake)}")
    rng = torch.Generator().manual_seed(seed)
    order_real = torch.randperm(len(real), generator=rng).to(real.device)
    order_fake = torch.randperm(len(fake), generator=rng).to(fake.device)
    values = []
    for start in range(0, smallest - subset_size + 1, subset_size):
        part_real = real[order_real[start : start + subset_size]]
        part_fake = fake[order_fake[start : start + subset_size]]
        values.append(full_kernel_distance(part_real, part_fake, degree=degree, gamma=gamma, coef=coef).value)
    estimates = torch.tensor(values, dtype=torch.float64)
    return KernelEstimate(estimates.mean().item(), (estimates.std() / len(values) ** 0.5).item())
