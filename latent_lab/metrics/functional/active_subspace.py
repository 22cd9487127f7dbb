"""How many dimensions codes really use: spectrum, ranks, collapsed coordinates, and whitening within what is left."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.types import Latents

COLLAPSED_BELOW = 0.01
"""Variance, as a share of the mean variance, below which a coordinate counts as collapsed: for codes of unit variance
the threshold of Burda et al. 2016."""


class ActiveSubspace(NamedTuple):
    """The spectrum of codes and what it says about their dimension."""

    eigenvalues: Float[Tensor, "D"]
    """Of the unbiased covariance, largest first, never negative."""
    numerical_rank: int
    """Dimensions in which codes differ at all: rank of the correlation matrix to float64 rounding."""
    participation_ratio: float
    """(sum λ)² / sum λ²: D for equal variances, 1 if one direction holds all."""
    entropy_rank: float
    """exp(-sum p log p) with p = λ / sum λ (Roy & Vetterli 2007, here of the variances)."""
    collapsed: Int[Tensor, "K"]
    """Coordinates whose variance is next to nothing."""
    variances: Float[Tensor, "D"]
    """Of the coordinates, unbiased."""


class Whitened(NamedTuple):
    """Codes whose population covariance is the identity within the subspace that they span."""

    rows: Float[Tensor, "N R"]
    rank: int
    dim: int
    """Coordinates D of the codes before."""


def check_codes(latents: Latents, purpose: str, least: int = 2) -> Latents:
    """The codes in float64, if there are enough of them and all are finite.

    Args:
        latents: (N, D).
        purpose: what they are for, the beginning of a message: "a test of normality".
        least: smallest N.

    Raises:
        ValueError: if there are fewer codes, or if some are not finite.
    """
    if len(latents) < least:
        raise ValueError(f"{purpose} needs at least {least} codes, got {len(latents)}")
    broken = ~torch.isfinite(latents).all(1)
    if broken.any():
        raise ValueError(
            f"{purpose} needs finite codes, but {int(broken.sum())} of {len(latents)} are not: the model has diverged, "
            "or these rows must be left out"
        )
    return latents.detach().double()


def _eigen(standardised: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "K"], Float[Tensor, "D K"], int]:
    """Eigenvalues (ascending) and eigenvectors of the population covariance, and how many are above rounding.

    They are K = min(N, D); with fewer rows than columns they come from the products of rows, whose eigenvalues other
    than 0 are the same.
    """
    number, dim = standardised.shape
    products = standardised.T @ standardised if number >= dim else standardised @ standardised.T
    values, vectors = torch.linalg.eigh(products / number)
    noise = torch.finfo(values.dtype).eps * max(number, dim) * values[-1].clamp_min(0.0)
    if number < dim:
        scale = (number * values.clamp_min(torch.finfo(values.dtype).tiny)).rsqrt()
        vectors = standardised.T @ (vectors * torch.where(values > noise, scale, 0.0))
    return values, vectors, int((values > noise).sum())


def _standardise(rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Centred columns of unit variance, so that ranks do not depend on the units of coordinates; constants become 0."""
    centred = rows - rows.mean(0)
    deviation = centred.square().mean(0).sqrt()
    # What rounding of a constant column leaves is no variance.
    constant = deviation <= torch.finfo(rows.dtype).eps * rows.abs().amax(0) * 4.0
    return torch.where(constant, 0.0, centred / deviation.masked_fill(constant, 1.0))


def whiten(rows: Float[Tensor, "N D"]) -> Whitened:
    """Centred codes in principal axes of their correlation, scaled to population variance 1, largest axis first.

    Axes without variance are left out. Distances between whitened rows are Mahalanobis distances.

    Args:
        rows: (N, D) finite float64, N at least 2.
    """
    standardised = _standardise(rows)
    values, vectors, rank = _eigen(standardised)
    axes = (vectors * values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt()).flip(1)[:, :rank]
    return Whitened(standardised @ axes, rank, rows.shape[1])


def active_subspace(latents: Latents, *, collapsed_below: float = COLLAPSED_BELOW) -> ActiveSubspace:
    """Spectrum, rank and effective rank of codes, in float64.

    Args:
        latents: (N, D), N at least 2.
        collapsed_below: variance, as a share of the coordinates' mean variance, below which one counts as collapsed.

    Raises:
        ValueError: with fewer than two codes, if some are not finite, or if all codes are equal.
    """
    rows = check_codes(latents, "an active subspace")
    variances = rows.var(0)
    _, _, rank = _eigen(_standardise(rows))
    if rank == 0:
        raise ValueError(f"all {len(rows)} codes are equal: the latent space has collapsed")
    centred = rows - rows.mean(0)
    wide = len(rows) < rows.shape[1]
    products = centred @ centred.T if wide else centred.T @ centred
    found = torch.linalg.eigvalsh(products / (len(rows) - 1)).flip(0).clamp_min(0.0)
    eigenvalues = torch.cat([found, found.new_zeros(rows.shape[1] - len(found))])
    total = eigenvalues.sum()
    shares = eigenvalues / total
    return ActiveSubspace(
        eigenvalues=eigenvalues,
        numerical_rank=rank,
        participation_ratio=(total.square() / eigenvalues.square().sum()).item(),
        entropy_rank=torch.exp(-torch.xlogy(shares, shares).sum()).item(),
        collapsed=torch.nonzero(variances <= collapsed_below * variances.mean()).flatten(),
        variances=variances,
    )
