"""Are codes uniform on the unit sphere, the prior of spherical latent spaces?

Codes on a sphere are never normal, so tests of normality do not apply to them as they are. Here: tests of uniformity
that see a mean direction (Rayleigh, Ajne), axes (Bingham, Giné), and clusters (Gaussian potential), each against
simulated uniform codes, and the exact test of one-dimensional projections, whose law is known.

Directions are all that counts: rows are scaled to unit length first. Sums over pairs are in float64 and in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.metrics.functional.active_subspace import check_codes
from latent_lab.metrics.functional.significance import MonteCarloTest, holm, monte_carlo_test
from latent_lab.types import Latents

NUM_DRAWS = 199
"""Simulated data sets of a null: the smallest p-value is 1 / 200."""
_BLOCK = 256


class RotationTest(NamedTuple):
    """A test of uniformity by a chi-squared law for many codes."""

    statistic: float
    p_value: float
    degrees_of_freedom: int


class SphereStatistics(NamedTuple):
    """Statistics of uniformity of a set of codes; all grow as codes gather. θ is the angle between two codes."""

    rayleigh: float
    """N D |mean|²."""
    bingham: float
    """N D (D + 2) / 2 (tr T² - 1 / D) with T the mean of x xᵀ."""
    ajne: float
    """N / 4 - sum over pairs of θ / (π N): alternatives that are not symmetric about the centre."""
    gine: float
    """N / 2 - (D - 1) / (2 N) (Γ((D - 1) / 2) / Γ(D / 2))² sum over pairs of sin θ: symmetric alternatives."""
    gine_combined: float
    """4 ajne + gine: consistent against every alternative (Giné 1975; Prentice 1978)."""
    potential: float
    """log of the mean over pairs of exp(-t |x - y|²): the uniformity loss of Wang & Isola 2020."""


class SphereNull(NamedTuple):
    """Statistics of simulated uniform codes, one entry for each data set."""

    statistics: Float[Tensor, "R 6"]

    def of(self, name: str) -> Float[Tensor, "R"]:
        """The column of one of the fields of `SphereStatistics`."""
        return self.statistics[:, SphereStatistics._fields.index(name)]


class SphereUniformity(NamedTuple):
    """Tests of uniformity against simulated uniform codes; small p-values speak against it."""

    rayleigh: MonteCarloTest
    bingham: MonteCarloTest
    ajne: MonteCarloTest
    gine: MonteCarloTest
    gine_combined: MonteCarloTest
    potential: MonteCarloTest


class ProjectedUniformity(NamedTuple):
    """Kolmogorov-Smirnov tests of projections on single directions against their exact law."""

    statistics: Float[Tensor, "K"]
    """Largest difference of the distribution functions."""
    p_values: Float[Tensor, "K"]
    adjusted: Float[Tensor, "K"]
    """After Holm."""

    @property
    def p_value(self) -> float:
        """Of all projections having the law that uniformity gives them."""
        return self.adjusted.min().item()


def unit_directions(codes: Latents) -> Float[Tensor, "N D"]:
    """Rows scaled to unit length, in float64.

    Args:
        codes: (N, D), N and D at least 2.

    Raises:
        ValueError: with fewer than two codes or coordinates, if some are not finite, or 0 and without direction.
    """
    rows = check_codes(codes, "a test of uniformity on the sphere")
    if rows.shape[1] < 2:
        raise ValueError("a sphere has at least 2 coordinates, got codes of 1")
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if (length == 0).any():
        raise ValueError(f"{int((length == 0).sum())} of {len(rows)} codes are 0 and have no direction: leave them out")
    return rows / length


def rayleigh(codes: Latents) -> RotationTest:
    """Rayleigh's test: is there a mean direction?

    S = N D |mean|² is chi-squared with D degrees of freedom; (1 - 1/(2N)) S + S² / (2 N (D + 2)) is so to order 1/N²
    (Mardia & Jupp 2000, 10.4.1), and gives the p-value.

    Args:
        codes: (N, D), N and D at least 2.

    Raises:
        ValueError: see `unit_directions`.
    """
    from scipy.special import chdtrc

    rows = unit_directions(codes)
    number, dim = rows.shape
    statistic = number * dim * rows.mean(0).square().sum().item()
    corrected = (1 - 1 / (2 * number)) * statistic + statistic**2 / (2 * number * (dim + 2))
    return RotationTest(statistic, float(chdtrc(dim, corrected)), dim)


def bingham(codes: Latents) -> RotationTest:
    """Bingham's test: do some axes hold more than others?

    N D (D + 2) / 2 (tr T² - 1/D), T = mean of x xᵀ, is chi-squared with (D - 1)(D + 2) / 2 degrees of freedom for many
    codes (Mardia & Jupp 2000, 10.7.1), and has exactly that mean for any N.

    Args:
        codes: (N, D), N and D at least 2.

    Raises:
        ValueError: see `unit_directions`.
    """
    from scipy.special import chdtrc

    rows = unit_directions(codes)
    number, dim = rows.shape
    # The squared distance from I / D instead of a difference of near numbers.
    scatter = rows.T @ rows / number - torch.eye(dim, dtype=rows.dtype, device=rows.device) / dim
    statistic = number * dim * (dim + 2) / 2 * scatter.square().sum().item()
    degrees = (dim - 1) * (dim + 2) // 2
    return RotationTest(statistic, float(chdtrc(degrees, statistic)), degrees)


def expected_potential(dim: int, t: float = 2.0) -> float:
    """The smallest potential that any distribution has, that of the uniform one on the unit sphere in R^D.

    log E exp(-t |x - y|²) = -2 t + log 0F1(; D/2; t²) for independent uniform x and y.

    Args:
        dim: D, at least 2.
        t: inverse squared width of the kernel, published: 2.
    """
    # The series of 0F1, all of whose terms are positive.
    term, total, k = 1.0, 1.0, 0
    while term > 1e-17 * total:
        term *= t * t / ((k + 1) * (dim / 2 + k))
        total, k = total + term, k + 1
    return math.log(total) - 2.0 * t


def sphere_statistics(codes: Latents, *, t: float = 2.0) -> SphereStatistics:
    """All statistics from one pass over the pairs.

    Args:
        codes: (N, D), N and D at least 2.
        t: inverse squared width of the Gaussian potential, published: 2.

    Raises:
        ValueError: see `unit_directions`.
    """
    return _statistics(unit_directions(codes), t)


def _statistics(rows: Float[Tensor, "N D"], t: float) -> SphereStatistics:
    number, dim = rows.shape
    cosines, squares, angles, sines, potential = 0.0, 0.0, 0.0, 0.0, 0.0
    for start in range(0, number, _BLOCK):
        block = (rows[start : start + _BLOCK] @ rows[start:].T).clamp_(-1.0, 1.0)
        # Pairs i < j alone: a code with itself belongs to no sum.
        square = block[:, : len(block)]
        upper = torch.ones_like(square, dtype=torch.bool).triu_(1)
        for pairs in (square[upper], block[:, len(block) :]):
            cosines += pairs.sum().item()
            squared = pairs.square()
            squares += squared.sum().item()
            sines += squared.neg_().add_(1.0).sqrt_().sum().item()
            angles += pairs.acos().sum().item()
            potential += pairs.sub(1.0).mul_(2.0 * t).exp_().sum().item()
    ratio = math.exp(2.0 * (math.lgamma((dim - 1) / 2) - math.lgamma(dim / 2)))
    ajne = number / 4 - angles / (math.pi * number)
    gine = number / 2 - (dim - 1) / (2 * number) * ratio * sines
    return SphereStatistics(
        rayleigh=dim * (1.0 + 2.0 * cosines / number),
        bingham=dim * (dim + 2) / 2 * (1.0 + 2.0 * squares / number - number / dim),
        ajne=ajne,
        gine=gine,
        gine_combined=4.0 * ajne + gine,
        potential=math.log(2.0 * potential / (number * (number - 1))),
    )


@lru_cache(maxsize=100_000)
def _null_draw(num_vectors: int, dim: int, t: float, seed: int, number: int, device: str) -> SphereStatistics:
    rng = IndexedRandom(seed, f"sphere/{num_vectors}x{dim}").generator(number)
    rows = torch.randn(num_vectors, dim, generator=rng, dtype=torch.float64).to(device)
    return _statistics(rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True), t)


def sphere_null(
    num_vectors: int,
    dim: int,
    *,
    t: float = 2.0,
    numbers: Sequence[int] = range(NUM_DRAWS),
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> SphereNull:
    """Statistics of simulated uniform codes.

    Each draw depends on its number alone, so that processes may share the work, and is remembered for the life of the
    process.

    Args:
        num_vectors: N.
        dim: D.
        t: of the Gaussian potential.
        numbers: of the draws.
        seed: of all draws.
        device: where they are computed; the random numbers are the same on all.
    """
    draws = [_null_draw(num_vectors, dim, t, seed, number, str(device)) for number in numbers]
    return SphereNull(torch.tensor(draws, dtype=torch.float64).reshape(-1, 6))


def sphere_uniformity(
    codes: Latents, *, t: float = 2.0, num_draws: int = NUM_DRAWS, seed: int = 0, null: SphereNull | None = None
) -> SphereUniformity:
    """Every statistic of `sphere_statistics` against simulated uniform codes of the same number.

    Args:
        codes: (N, D), N and D at least 2.
        t: inverse squared width of the Gaussian potential, published: 2.
        num_draws: simulated data sets.
        seed: of the simulation.
        null: of `sphere_null` with the same N, D and t, if it is there already.

    Raises:
        ValueError: see `unit_directions`.
    """
    rows = unit_directions(codes)
    if null is None:
        null = sphere_null(*rows.shape, t=t, numbers=range(num_draws), seed=seed, device=rows.device)
    found = _statistics(rows, t)
    return SphereUniformity(*(monte_carlo_test(value, null.of(name)) for name, value in found._asdict().items()))


def sphere_projections(
    codes: Latents, directions: Float[Tensor, "D K"] | None = None, *, num_directions: int = 16, seed: int = 0
) -> Float[Tensor, "N K"]:
    """sqrt(D) times the coordinate of every code along some directions; close to standard normal for uniform codes.

    The law of x = u·code is exact: (1 + x) / 2 is Beta((D - 1)/2, (D - 1)/2), of variance 1/D.

    Args:
        codes: (N, D); scaled to unit length.
        directions: (D, K) unit columns, for example of the identity; random ones by default.
        num_directions: K of random ones.
        seed: of random ones.

    Raises:
        ValueError: see `unit_directions`.
    """
    rows = unit_directions(codes)
    dim = rows.shape[1]
    if directions is None:
        normal = IndexedRandom(seed, f"sphere/directions/{dim}").normal(range(num_directions), dim).double()
        directions = (normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)).T
    return math.sqrt(dim) * rows @ directions.to(rows)


def projected_uniformity(
    codes: Latents, directions: Float[Tensor, "D K"] | None = None, *, num_directions: int = 16, seed: int = 0
) -> ProjectedUniformity:
    """Kolmogorov-Smirnov tests of projections against their exact law, adjusted after Holm (Cuesta-Albertos et al.
    2009).

    No simulation, so it is quick at any size; but it sees few directions only.

    Args:
        codes: (N, D).
        directions: (D, K) unit columns; random ones by default.
        num_directions: K of random ones.
        seed: of random ones.

    Raises:
        ValueError: see `unit_directions`.
    """
    # Slow to import and used here alone.
    from scipy.stats import beta, kstest

    dim = codes.shape[1]
    values = sphere_projections(codes, directions, num_directions=num_directions, seed=seed) / math.sqrt(dim)
    law = beta((dim - 1) / 2, (dim - 1) / 2, loc=-1.0, scale=2.0)
    found = [kstest(column, law.cdf) for column in values.T.cpu().numpy()]
    p_values = torch.tensor([float(one.pvalue) for one in found], dtype=torch.float64)
    statistics = torch.tensor([float(one.statistic) for one in found], dtype=torch.float64)
    return ProjectedUniformity(statistics, p_values, holm(p_values))
