"""How far two sets cover each other: improved precision and recall (Kynkäänniemi et al. 2019), density and coverage
(Naeem et al. 2020).

A set's manifold is the union of balls around its vectors, each reaching to the vector's k-th nearest neighbour in the
set (itself not counted). All four numbers are means of what is known of each vector: whether, or how often, it lies in
balls of the other set. Balls are closed: a vector at exactly the radius is inside, up to the rounding of float64.

Both papers use features of their own choice (VGG16's second fully connected layer, 50,000 images, k = 3; 10,000 images,
k = 5); values depend on extractor, k and counts, and belong into one table only where all of these are equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, mean_interval
from latent_lab.metrics.functional.checks import OtherVectors, check_pair
from latent_lab.metrics.functional.neighbours import BLOCK, CROWD, SquaredDistances, as_vectors, nearest, parts_of
from latent_lab.progress import one_by_one
from latent_lab.types import Features

PRECISION_K = 3
"""Neighbours that radii of precision and recall reach to, as Kynkäänniemi et al. have it."""
DENSITY_K = 5
"""Neighbours that radii of density and coverage reach to, as Naeem et al. have it."""
_SAME = 1e-12
"""Relative difference of squared distances below which they count as equal: float64's rounding over many features."""


class ManifoldIndicators(NamedTuple):
    """What is known of each vector; the four numbers are means of these."""

    precise: Bool[Tensor, "M"]
    """(M,) generated vectors in a ball around a real one; their share is the precision."""
    recalled: Bool[Tensor, "N"]
    """(N,) real vectors in a ball around a generated one; their share is the recall."""
    densities: Float[Tensor, "M"]
    """(M,) number of balls around real vectors that each generated one lies in, over k; their mean is the density."""
    covered: Bool[Tensor, "N"]
    """(N,) real vectors whose own ball holds a generated one; their share is the coverage."""


class PrecisionRecall(NamedTuple):
    """Share of generated vectors on the real manifold, and of real ones on the generated manifold."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Mean number of real balls around a generated vector over k, and share of real balls with a generated vector."""

    density: float
    """May exceed 1; 1 is expected of two sets from one distribution."""
    coverage: float
    """In [0, 1]; 1 - 2^-k is expected of two large, equally large sets from one distribution."""


def manifold_indicators(
    real: Features,
    fake: OtherVectors,
    *,
    k: int = PRECISION_K,
    density_k: int = DENSITY_K,
    block: int = BLOCK,
) -> ManifoldIndicators:
    """All that the four numbers need, from one pass over each of the three distance matrices.

    Args:
        real: (N, F).
        fake: (M, F), on the same device.
        k: of precision and recall.
        density_k: of density and coverage.
        block: vectors at a time; changes no result.

    Raises:
        ValueError: if a set has fewer than k + 1 vectors, their widths differ, or values are not finite.
    """
    if min(k, density_k) < 1:
        raise ValueError(f"the number of neighbours k must be at least 1, got {min(k, density_k)}")
    most = max(k, density_k)
    by = f"a manifold of balls to neighbour k={most}"
    check_pair(real, fake, names=("real", "fake"), least=most + 1, by=by)
    real, fake = as_vectors(real), as_vectors(fake)
    around_real = nearest(real, real, most, exclude_same=True, block=block).distances
    around_fake = nearest(fake, fake, k, exclude_same=True, block=block).distances
    distances = SquaredDistances(fake, real)
    radii = (around_real[:, k - 1], around_real[:, density_k - 1], around_fake[:, k - 1])
    limits = _Limits(*((radius / distances.scale).square() * (1.0 + _SAME) for radius in radii))

    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=fake.device)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    covered = torch.zeros_like(recalled)
    for part in one_by_one(parts_of(len(fake), len(real), block), "balls of the other set"):
        row, point, squares = _pairs_within(distances, part, limits)
        row += part.start
        precise[row[squares <= limits.real[point]]] = True
        recalled[point[squares <= limits.fake[row]]] = True
        inside = squares <= limits.real_density[point]
        covered[point[inside]] = True
        balls += torch.bincount(row[inside], minlength=len(fake))
    return ManifoldIndicators(precise, recalled, balls.double() / density_k, covered)


class _Limits(NamedTuple):
    """Squared radii, scaled as the distances are."""

    real: Tensor
    real_density: Tensor
    fake: Tensor


def _pairs_within(
    distances: SquaredDistances, part: slice, limits: _Limits
) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"], Float[Tensor, "P"]]:
    """Pairs (fake vector within the part, real vector) of which one may lie in a ball of the other, with squared
    distances that fall on the right side of all three limits.
    """
    for precise in (False, True):
        values, error = distances.block(part, precise=precise)
        of_rows = distances.row_squares[part, None]
        roundings = 4.0 * torch.finfo(values.dtype).eps
        error = error.double() + roundings * (1.0 + of_rows.sqrt()).square()
        values += of_rows.to(values.dtype)
        of_real = torch.maximum(limits.real, limits.real_density) * (1.0 + roundings) + error.max()
        of_fake = limits.fake[part, None] * (1.0 + roundings) + error
        near = values <= of_real.to(values.dtype)
        near |= values <= of_fake.to(values.dtype)
        row, point = near.nonzero(as_tuple=True)
        squares = values[row, point].double()
        doubtful = torch.zeros_like(row, dtype=torch.bool)
        for limit in (limits.real[point], limits.real_density[point], limits.fake[part][row]):
            doubtful |= (squares - limit).abs() <= error[row, 0] + roundings * limit
        if precise or int(doubtful.sum()) <= CROWD * len(values):
            break
    squares[doubtful] = distances.exact(row[doubtful] + part.start, point[doubtful])
    return row, point, squares


def precision_recall(real: Features, fake: OtherVectors, *, k: int = PRECISION_K) -> PrecisionRecall:
    """Improved precision and recall; see `manifold_indicators` for arguments and errors."""
    found = manifold_indicators(real, fake, k=k, density_k=k)
    return PrecisionRecall(found.precise.double().mean().item(), found.recalled.double().mean().item())


def density_coverage(real: Features, fake: OtherVectors, *, k: int = DENSITY_K) -> DensityCoverage:
    """Density and coverage; see `manifold_indicators` for arguments and errors.

    The published program takes open balls; the two differ where distances are exactly equal.
    """
    found = manifold_indicators(real, fake, k=k, density_k=k)
    return DensityCoverage(found.densities.mean().item(), found.covered.double().mean().item())


def indicator_intervals(
    indicators: ManifoldIndicators, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of the four numbers, by name, given the balls.

    What is known of each vector is resampled while the balls around the other set's vectors stay as they are. This
    leaves out that another draw of the images would have other balls: precision and density do not feel the real set's
    randomness, recall not the generated set's; of coverage, only the choice of balls is resampled, not what fell into
    them. Resampling the sets themselves is no way out, since copies shrink the radii to zero.

    Args:
        indicators: of two sets.
        level: share of the resampled means inside.
        num_resamples: number of resampled means.
        seed: of the resamples.
    """
    names = zip(("precision", "recall", "density", "coverage"), indicators, strict=True)
    return {
        name: mean_interval(values.double(), level=level, num_resamples=num_resamples, seed=seed)
        for name, values in names
    }


def precision_recall_interval(
    real: Features,
    fake: OtherVectors,
    *,
    k: int = PRECISION_K,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of precision and recall by name; see `indicator_intervals` for what they leave out."""
    found = manifold_indicators(real, fake, k=k, density_k=k)
    intervals = indicator_intervals(found, level=level, num_resamples=num_resamples, seed=seed)
    return {name: intervals[name] for name in PrecisionRecall._fields}


def density_coverage_interval(
    real: Features,
    fake: OtherVectors,
    *,
    k: int = DENSITY_K,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of density and coverage by name; see `indicator_intervals` for what they leave out."""
    found = manifold_indicators(real, fake, k=k, density_k=k)
    intervals = indicator_intervals(found, level=level, num_resamples=num_resamples, seed=seed)
    return {name: intervals[name] for name in DensityCoverage._fields}
