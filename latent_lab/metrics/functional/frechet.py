"""Fréchet distance between two sets of feature vectors (Dowson & Landau 1982; as FID: Heusel et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Features


class Moments(NamedTuple):
    """Mean and unbiased covariance of a set of feature vectors."""

    mean: Float[Tensor, "F"]
    covariance: Float[Tensor, "F F"]
    num_vectors: int


class FrechetEstimate(NamedTuple):
    """A Fréchet distance, in squared feature units."""

    value: float
    """Never negative."""
    raw: float
    """Before it was clamped; equal sets may give -1e-12."""


def moments(features: Features) -> Moments:
    """Mean and covariance over the rows, in float64; the covariance divides by N - 1.

    Args:
        features: (N, F), N at least 2.

    Raises:
        ValueError: with fewer than two rows.
    """
    rows = features.double()
    if len(rows) < 2:
        raise ValueError(f"a covariance needs at least 2 feature vectors, got {len(rows)}")
    mean = rows.mean(0)
    centred = rows - mean
    return Moments(mean, centred.T @ centred / (len(rows) - 1), len(rows))


def moments_from_sums(count: int, total: Float[Tensor, "F"], products: Float[Tensor, "F F"]) -> Moments:
    """Mean and unbiased covariance from float64 sums, which add up over batches and ranks.

    Args:
        count: N, number of vectors, at least 2.
        total: (F,) sum of the vectors.
        products: (F, F) sum of their outer products.

    Raises:
        ValueError: with fewer than two vectors.
    """
    if count < 2:
        raise ValueError(f"a covariance needs at least 2 feature vectors, got {count}")
    mean = total / count
    return Moments(mean, (products - count * torch.outer(mean, mean)) / (count - 1), count)


def _root(covariance: Float[Tensor, "F F"]) -> Float[Tensor, "F R"]:
    """A with A Aᵀ = covariance and as many columns as the covariance has rank."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    noise = torch.finfo(covariance.dtype).eps * len(covariance) * eigenvalues[-1].clamp_min(0.0)
    kept = eigenvalues > noise
    return eigenvectors[:, kept] * eigenvalues[kept].sqrt()


def frechet_distance(a: Moments, b: Moments) -> FrechetEstimate:
    """|ma - mb|² + tr(Sa) + tr(Sb) - 2 tr((Sa^½ Sb Sa^½)^½).

    With Sa = A Aᵀ the last trace is the sum of the square roots of the eigenvalues of Aᵀ Sb A, a symmetric matrix:
    real and stable where the general matrix root is not. Fewer vectors than features give A few columns, so small
    sets are fast. The set with fewer vectors takes the part of a.

    Args:
        a: moments of one set.
        b: moments of the other; the order does not matter.
    """
    few, many = (a, b) if a.num_vectors <= b.num_vectors else (b, a)
    root = _root(few.covariance)
    eigenvalues = torch.linalg.eigvalsh(root.T @ many.covariance @ root)
    common = eigenvalues.clamp_min(0.0).sqrt().sum()
    raw = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2.0 * common
    return FrechetEstimate(max(0.0, raw.item()), raw.item())
