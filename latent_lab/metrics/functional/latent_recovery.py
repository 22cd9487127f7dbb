"""Whether latents survive decoding and encoding: I-MSE, the error of encode(decode(z)) for samples z of the prior.

I-MSE judges recoders (Asperti and Tonelli 2022) and every other autoencoder from the side of the latents; it sees no
real image. Its share of Var(z) is comparable between spaces of different scale: 1 is what the prior's mean achieves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap, mean_interval
from latent_lab.types import Indices, Latents, Scores


class LatentRecoveryEstimate(NamedTuple):
    """How well latents were found again."""

    value: float
    """I-MSE: mean over latents and coordinates of (z - z')²."""
    relative: float
    """Its share of Var(z), the mean over coordinates of the variance of the given latents."""
    cosine: float
    """Mean cosine of z and z'. On spheres, whose points have length 1, 1 - cosine is D/2 times I-MSE."""


class LatentRecoveryIntervals(NamedTuple):
    """The interval of each part of the estimate."""

    value: Interval
    relative: Interval
    cosine: Interval


def latent_errors(latents: Latents, recovered: Latents) -> Scores:
    """Mean over coordinates of (z - z')², (N,) float64."""
    return (latents.double() - recovered.double()).square().mean(1)


def latent_cosines(latents: Latents, recovered: Latents) -> Scores:
    """Cosine of the angle between z and z', (N,) float64; 0 if one of them is zero."""
    return F.cosine_similarity(latents.double(), recovered.double(), dim=1, eps=1e-12)


def _check(latents: Latents, recovered: Latents) -> None:
    if latents.shape != recovered.shape:
        raise ValueError(
            f"latents and recovered latents must have one shape, got {tuple(latents.shape)} and "
            f"{tuple(recovered.shape)}"
        )
    if len(latents) < 2:
        raise ValueError(f"the recovery of latents needs at least 2 of them for their variance, got {len(latents)}")


def latent_recovery(latents: Latents, recovered: Latents) -> LatentRecoveryEstimate:
    """I-MSE, its share of the variance of the latents (unbiased, of the given ones), and the mean cosine.

    Args:
        latents: (N, D) z, samples of the prior, N at least 2.
        recovered: (N, D) encode(decode(z)).

    Raises:
        ValueError: if shapes differ or there are fewer than two.
    """
    _check(latents, recovered)
    error = latent_errors(latents, recovered).mean().item()
    variance = latents.double().var(0).mean().item()
    return LatentRecoveryEstimate(
        error, error / max(variance, 1e-300), latent_cosines(latents, recovered).mean().item()
    )


def latent_recovery_interval(
    latents: Latents,
    recovered: Latents,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> LatentRecoveryIntervals:
    """Bootstrap intervals over pairs of all three numbers.

    Of the share, errors and squared deviations from the mean of all latents are resampled together.

    Args:
        latents: (N, D), N at least 2.
        recovered: (N, D).
        level: share of the resampled values inside.
        num_resamples: number of resampled values.
        seed: of the resamples.

    Raises:
        ValueError: if shapes differ or there are fewer than two.
    """
    _check(latents, recovered)
    count = len(latents)
    errors = latent_errors(latents, recovered).cpu()
    deviations = latent_errors(latents, latents.double().mean(0).expand_as(latents)).cpu() * (count / (count - 1))

    def share(rows: Indices) -> float:
        return (errors[rows].sum() / deviations[rows].sum().clamp_min(torch.finfo(torch.float64).tiny)).item()

    cosines = latent_cosines(latents, recovered)
    return LatentRecoveryIntervals(
        mean_interval(errors, level=level, num_resamples=num_resamples, seed=seed),
        bootstrap(share, [count], level=level, num_resamples=num_resamples, seed=seed),
        mean_interval(cosines, level=level, num_resamples=num_resamples, seed=seed),
    )
