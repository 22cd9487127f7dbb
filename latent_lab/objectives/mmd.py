"""Maximum mean discrepancy between codes and prior samples (Gretton et al. 2012; Tolstikhin et al. 2018, WAE-MMD).

    MMD^2(Q, P) = E k(q, q') + E k(p, p') - 2 E k(q, p)

vanishes exactly where both distributions are equal. The kernel is the inverse multiquadratic, summed over scales,

    k(a, b) = sum_C c / (c + |a - b|^2),    c = C * 2 D sigma^2,

where 2 D sigma^2 is the expected squared distance of two samples of the prior N(0, sigma^2 I) in D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_lab.types import Latents, Scalar

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""C, multiples of the expected squared distance."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 of all pairs of rows, (N, M), from rows (N, D) and (M, D)."""
    # Unlike cdist's, this gradient exists where two rows are equal.
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2.0 * a @ b.mT).clamp_min(0.0)


def inverse_multiquadratic(
    distances: Tensor, dim: int, *, scales: Sequence[float] = SCALES, prior_deviation: float = 1.0
) -> Tensor:
    """The kernel as a function of squared distances, elementwise; the number of scales at distance 0.

    Args:
        distances: squared distances, any shape.
        dim: D.
        scales: C.
        prior_deviation: sigma of the prior.
    """
    expected = 2.0 * dim * prior_deviation**2
    return torch.stack([scale * expected / (scale * expected + distances) for scale in scales]).sum(0)


def mmd_squared(
    codes: Latents, prior: Latents, *, scales: Sequence[float] = SCALES, prior_deviation: float = 1.0
) -> Scalar:
    """Unbiased estimate of MMD^2: means over pairs of different rows; it may be negative near 0.

    Args:
        codes: (N, D) of the whole batch over all devices (`distributed.gather`); the statistic is of the batch.
        prior: (N, D) samples of the prior.
        scales: of the kernel.
        prior_deviation: sigma of the prior.

    Returns:
        A scalar, at most twice the number of scales, float32 or wider.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    if len(codes) < 2:
        raise ValueError(f"the discrepancy is one of sets and needs at least 2 codes, got {len(codes)}")
    dtype = torch.promote_types(codes.dtype, torch.float32)
    codes, prior = codes.to(dtype), prior.to(dtype)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return inverse_multiquadratic(
            squared_distances(a, b), a.shape[1], scales=scales, prior_deviation=prior_deviation
        )

    return (
        _mean_of_others(kernel(codes, codes))
        + _mean_of_others(kernel(prior, prior))
        - 2.0 * kernel(codes, prior).mean()
    )


def _mean_of_others(gram: Tensor) -> Tensor:
    """Mean over the entries off the diagonal."""
    count = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (count * (count - 1))
