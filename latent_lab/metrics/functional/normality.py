"""Are codes multivariate normal? Tests that are right at 2 and at 512 dimensions.

The test of Henze and Zirkler (1990) with its own bandwidth says next to nothing from 60 dimensions or so on, where its
statistic is 1 to rounding for most data; `HenzeZirkler.informative` tells. What can be said there: the same statistic
with a bandwidth of the size of distances (`bhep`), Mardia's moments (`mardia`), both against simulated normal data, the
test on low-dimensional projections (`projected_normality`), and tests of the coordinates one by one
(`coordinate_normality`).

All statistics are computed in float64 over blocks of pairs; nothing of the size N x N is held. They do not change when
codes are mapped by an invertible affine map, so that one null serves every mean and covariance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.metrics.functional.active_subspace import Whitened, check_codes, whiten
from latent_lab.metrics.functional.significance import MonteCarloTest, holm, monte_carlo_test
from latent_lab.types import Latents

NUM_DRAWS = 199
"""Simulated data sets of a null: the smallest p-value is 1 / 200."""
_BLOCK = 256
_MOST_PROJECTED = 16
_SHAPIRO_MOST = 5000

CoordinateTest: TypeAlias = Literal["dagostino", "shapiro", "anderson"]
"""D'Agostino & Pearson 1973 (skewness and kurtosis), Shapiro & Wilk 1965, Anderson & Darling 1954."""


class HenzeZirkler(NamedTuple):
    """Henze and Zirkler's test; small p-values speak against normality."""

    statistic: float
    """HZ, 1 + excess; 4 N by convention where the covariance is singular."""
    excess: float
    """HZ - 1, summed without the 1, so that it keeps its digits where HZ is 1 to rounding."""
    p_value: float
    """Of the log-normal law; 0 by convention where the covariance is singular."""
    beta: float
    null_mean: float
    null_deviation: float
    num_vectors: int
    dim: int
    rank: int
    """Of the covariance; below `dim` latents are collapsed or fewer than coordinates, and nothing was tested."""

    @property
    def singular(self) -> bool:
        """Whether the covariance is."""
        return self.rank < self.dim

    @property
    def informative(self) -> bool:
        """Whether a p-value that is not small says anything.

        It does not if the null's variance is below the rounding of the statistic (from about 60 dimensions on): then
        the statistic is 1 for nearly all data, normal or not, and its law is no longer log-normal. A p-value of 0 still
        means what it says: points that are far too close together for normal data.
        """
        return not self.singular and self.null_deviation**2 > torch.finfo(torch.float64).eps


class NormalityNull(NamedTuple):
    """Statistics of simulated normal data, one entry for each data set."""

    bhep: Float[Tensor, "R"]
    skewness: Float[Tensor, "R"]
    kurtosis: Float[Tensor, "R"]


class Mardia(NamedTuple):
    """Mardia's (1970) skewness and kurtosis: each against simulated normal data, and by its asymptotic law."""

    skewness: MonteCarloTest
    """Of b1 = mean over all pairs of ((x - m)ᵀ S⁻¹ (y - m))³."""
    kurtosis: MonteCarloTest
    """Of b2 = mean of ((x - m)ᵀ S⁻¹ (x - m))², two-sided; D (D + 2) for normal data of any number."""
    asymptotic_skewness_p: float
    """N b1 / 6 is chi-squared with D (D + 1) (D + 2) / 6 degrees of freedom, for N far above D."""
    asymptotic_kurtosis_p: float
    """b2 is normal about D (D + 2) with variance 8 D (D + 2) / N, for N far above D²; wrong otherwise."""


class ProjectedNormality(NamedTuple):
    """Henze-Zirkler tests on low-dimensional projections."""

    names: tuple[str, ...]
    """principal_5: the five leading principal axes; random_5_0: the first random 5-dimensional projection."""
    statistics: Float[Tensor, "K"]
    p_values: Float[Tensor, "K"]
    adjusted: Float[Tensor, "K"]
    """After Holm."""

    @property
    def p_value(self) -> float:
        """Of all projections being normal."""
        return self.adjusted.min().item()


class CoordinateNormality(NamedTuple):
    """A test of every coordinate by itself."""

    test: CoordinateTest
    statistics: Float[Tensor, "D"]
    p_values: Float[Tensor, "D"]
    """NaN where a coordinate is constant."""
    adjusted: Float[Tensor, "D"]
    """After Holm."""
    constant: int
    """Coordinates that were not tested."""

    @property
    def p_value(self) -> float:
        """Of all tested coordinates being normal; NaN if none could be tested."""
        tested = self.adjusted[~self.adjusted.isnan()]
        return tested.min().item() if len(tested) else float("nan")

    def rejected(self, level: float = 0.05) -> float:
        """Share of the tested coordinates that are rejected at a level, after Holm."""
        tested = self.adjusted[~self.adjusted.isnan()]
        return (tested < level).double().mean().item()


def henze_zirkler_beta(num_vectors: int, dim: int) -> float:
    """The published bandwidth, (1 / sqrt 2) ((2 D + 1) N / 4)^(1 / (D + 4))."""
    return ((2 * dim + 1) * num_vectors / 4) ** (1 / (dim + 4)) / math.sqrt(2)


def distance_beta(dim: int) -> float:
    """2 / sqrt D: the kernel's width is half of the distance of a normal vector from its mean."""
    return 2.0 / math.sqrt(dim)


class _Logs(NamedTuple):
    """Logarithms of numbers that may be far below the smallest float."""

    gap: float
    """1 - null mean."""
    variance: float


def _null_logs(dim: int, beta: float) -> _Logs:
    """Mean and variance of the statistic for many normal vectors (Henze & Zirkler 1990, theorem 2.2).

    With a = 1 + 2 b², w = (1 + b²)(1 + 3 b²):
    mean = 1 - a^(-D/2) (1 + D b²/a + D (D+2) b⁴/(2 a²)),
    variance = 2 (1 + 4 b²)^(-D/2) + 2 a^(-D) (1 + 2 D b⁴/a² + 3 D (D+2) b⁸/(4 a⁴))
    - 4 w^(-D/2) (1 + 3 D b⁴/(2 w) + D (D+2) b⁸/(2 w²)).
    """
    b2 = beta**2
    a, w, pairs = 1 + 2 * b2, (1 + b2) * (1 + 3 * b2), dim * (dim + 2)
    log_a, log_w = math.log1p(2 * b2), math.log1p(b2) + math.log1p(3 * b2)
    gap = -dim / 2 * log_a + math.log(1 + dim * b2 / a + pairs * b2**2 / (2 * a**2))
    first = math.log(2) - dim / 2 * math.log1p(4 * b2)
    second = math.log(2) - dim * log_a + math.log(1 + 2 * dim * b2**2 / a**2 + 3 * pairs * b2**4 / (4 * a**4))
    third = math.log(4) - dim / 2 * log_w + math.log(1 + 3 * dim * b2**2 / (2 * w) + pairs * b2**4 / (2 * w**2))
    rest = 1 + math.exp(second - first) - math.exp(third - first)
    return _Logs(gap, first + math.log(rest))


def _gram_blocks(rows: Float[Tensor, "N R"]) -> Iterator[tuple[int, int, Tensor]]:
    """Inner products of rows start ... stop with all rows from start on: each pair once, a block at a time."""
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        yield start, stop, rows[start:stop] @ rows[start:].T


def _whole(block: Tensor) -> Tensor:
    """Sum over the pairs of a block in both orders: its leading square holds both already."""
    return 2.0 * block.sum() - block[:, : len(block)].sum()


def _log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


class _Sums(NamedTuple):
    """What one pass over all pairs of whitened codes gives."""

    log_pairs: float
    """log of (1/N) sum over i ≠ j of exp(-b² |zi - zj|² / 2); -inf if there are none."""
    log_centre: float
    """log of (1 + b²)^(-D/2) sum over i of exp(-b² |zi|² / (2 (1 + b²)))."""
    log_constant: float
    """log of N (1 + 2 b²)^(-D/2)."""
    skewness: float
    kurtosis: float

    @property
    def excess(self) -> float:
        """BHEP statistic - 1."""
        return math.exp(self.log_pairs) - 2.0 * math.exp(self.log_centre) + math.exp(self.log_constant)


def _sums(rows: Float[Tensor, "N R"], beta: float) -> _Sums:
    number, dim = rows.shape
    b2 = beta**2
    squares = rows.square().sum(1)
    # Shifted by a running maximum, as exp(-b² D) itself underflows in a thousand dimensions.
    log_pairs, cubes = -math.inf, 0.0
    for start, stop, gram in _gram_blocks(rows):
        cubes += _whole(gram.square().mul_(gram)).item()
        gram.sub_(squares[start:stop, None] / 2).sub_(squares[start:] / 2).clamp_max_(0.0).mul_(b2)
        gram.diagonal().fill_(-math.inf)
        largest = gram.max().item()
        if largest > -math.inf:
            block = largest + math.log(_whole(gram.sub_(largest).exp_()).item())
            log_pairs = _log_add(log_pairs, block)
    centre = torch.logsumexp(squares * (-b2 / (2 * (1 + b2))), 0).item()
    return _Sums(
        log_pairs=log_pairs - math.log(number),
        log_centre=centre - dim / 2 * math.log1p(b2),
        log_constant=math.log(number) - dim / 2 * math.log1p(2 * b2),
        skewness=cubes / number**2,
        kurtosis=squares.square().mean().item(),
    )


def _log_normal_tail(sums: _Sums, null: _Logs) -> float:
    """P(LogN(m, s²) > HZ) with the mean and variance of the null: m = log(mean / sqrt(1 + r)), s² = log(1 + r), r =
    variance / mean².

    Where the null's deviation is far below 1, s is that deviation, and logarithms of numbers next to 1 are their
    distances from 1: then (HZ - mean) / deviation is formed from logarithms of all terms, which nothing rounds to 0.
    """
    if null.variance > 2 * math.log(1e-8):
        mean = -math.expm1(null.gap)
        s2 = math.log1p(math.exp(null.variance) / mean**2)
        z = (math.log1p(sums.excess) - math.log(mean) + s2 / 2) / math.sqrt(s2)
    else:
        above = _log_add(_log_add(sums.log_pairs, sums.log_constant), null.gap)
        below = math.log(2) + sums.log_centre
        high, low = max(above, below), min(above, below)
        # exp(700) is the largest that there is; by then the p-value is 0 or 1.
        size = 0.0 if high == low else min(high + math.log(-math.expm1(low - high)) - null.variance / 2, 700.0)
        z = 0.0 if high == low else math.copysign(math.exp(size), above - below)
    return math.erfc(z / math.sqrt(2)) / 2


def henze_zirkler(latents: Latents) -> HenzeZirkler:
    """Henze and Zirkler's (1990) statistic with the published bandwidth, and its p-value by the log-normal law.

    With D_ij = (zi - zj)ᵀ S⁻¹ (zi - zj), D_i = (zi - m)ᵀ S⁻¹ (zi - m) and the population covariance S,
    HZ = (1/N) sum_ij exp(-b² D_ij / 2) - 2 (1 + b²)^(-D/2) sum_i exp(-b² D_i / (2 (1 + b²))) + N (1 + 2 b²)^(-D/2).

    Codes are centred first: published programs form products of the raw ones and lose digits to a large mean. Values
    for different D cannot be compared.

    Args:
        latents: (N, D), N at least 2. With N <= D or collapsed coordinates the covariance is singular, and the result
            says so.

    Raises:
        ValueError: with fewer than two codes, or if some are not finite.
    """
    rows = check_codes(latents, "a test of normality")
    number, dim = rows.shape
    beta = henze_zirkler_beta(number, dim)
    null = _null_logs(dim, beta)
    whitened = whiten(rows)
    singular = whitened.rank < dim
    sums = None if singular else _sums(whitened.rows, beta)
    excess = 4.0 * number - 1.0 if sums is None else sums.excess
    return HenzeZirkler(
        statistic=1.0 + excess,
        excess=excess,
        p_value=0.0 if sums is None else _log_normal_tail(sums, null),
        beta=beta,
        null_mean=-math.expm1(null.gap),
        null_deviation=math.exp(null.variance / 2),
        num_vectors=number,
        dim=dim,
        rank=whitened.rank,
    )


@lru_cache(maxsize=100_000)
def _null_draw(
    num_vectors: int, dim: int, beta: float, seed: int, number: int, device: str
) -> tuple[float, float, float]:
    """BHEP, skewness and kurtosis of one simulated set of normal vectors."""
    rng = IndexedRandom(seed, f"normality/{num_vectors}x{dim}").generator(number)
    rows = torch.randn(num_vectors, dim, generator=rng, dtype=torch.float64).to(device)
    sums = _sums(whiten(rows).rows, beta)
    return 1.0 + sums.excess, sums.skewness, sums.kurtosis


def normality_null(
    num_vectors: int,
    dim: int,
    *,
    beta: float | None = None,
    numbers: Sequence[int] = range(NUM_DRAWS),
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> NormalityNull:
    """Statistics of simulated standard normal data of the same size, which have the law of those of any normal data.

    Each draw depends on its number alone: processes may share the work by taking different `numbers`. Draws are
    remembered for the life of the process, so that several models of one size cost one simulation. A draw costs N² D
    multiplications: 0.4 s on one thread for 5,000 x 512.

    Args:
        num_vectors: N, more than D.
        dim: D.
        beta: bandwidth of the BHEP statistic, 2 / sqrt D by default.
        numbers: of the draws.
        seed: of all draws.
        device: where they are computed; the random numbers are the same on all.

    Raises:
        ValueError: if there are not more vectors than coordinates.
    """
    _check_size(num_vectors, dim)
    beta = distance_beta(dim) if beta is None else beta
    draws = [_null_draw(num_vectors, dim, beta, seed, number, str(device)) for number in numbers]
    columns = torch.tensor(draws, dtype=torch.float64).reshape(-1, 3).unbind(1)
    return NormalityNull(*columns)


def _check_size(num_vectors: int, dim: int) -> None:
    if num_vectors <= dim:
        raise ValueError(
            f"{num_vectors} codes in {dim} dimensions have a singular covariance: give more than {dim} images, or test "
            "projections of the codes"
        )


def _whiten_fully(latents: Latents, purpose: str) -> Whitened:
    rows = check_codes(latents, purpose)
    _check_size(*rows.shape)
    whitened = whiten(rows)
    if whitened.rank < whitened.dim:
        raise ValueError(
            f"{purpose} needs codes that fill their space, but they span {whitened.rank} of {whitened.dim} dimensions: "
            "leave out the collapsed coordinates, or test projections of the codes"
        )
    return whitened


def bhep(
    latents: Latents,
    *,
    beta: float | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    null: NormalityNull | None = None,
) -> MonteCarloTest:
    """The statistic of `henze_zirkler` with a free bandwidth (Baringhaus & Henze 1988; Epps & Pulley 1983) against
    simulated normal data.

    With 2 / sqrt D the kernel sees all pairs at any D, instead of the nearest alone.

    Args:
        latents: (N, D), N above D.
        beta: bandwidth, 2 / sqrt D by default.
        num_draws: simulated data sets.
        seed: of the simulation.
        null: of `normality_null` with the same N, D and beta, if it is there already.

    Raises:
        ValueError: with N <= D, for collapsed codes, if some codes are not finite, or if beta is not positive.
    """
    if beta is not None and not beta > 0:
        raise ValueError(f"beta of a BHEP test must be positive, got {beta}")
    whitened = _whiten_fully(latents, "a BHEP test")
    number, dim = whitened.rows.shape
    beta = distance_beta(dim) if beta is None else beta
    if null is None:
        device = whitened.rows.device
        null = normality_null(number, dim, beta=beta, numbers=range(num_draws), seed=seed, device=device)
    return monte_carlo_test(1.0 + _sums(whitened.rows, beta).excess, null.bhep)


def mardia(latents: Latents, *, num_draws: int = NUM_DRAWS, seed: int = 0, null: NormalityNull | None = None) -> Mardia:
    """Mardia's multivariate skewness and kurtosis.

    Args:
        latents: (N, D), N above D.
        num_draws: simulated data sets.
        seed: of the simulation; the same as in `bhep` shares its draws.
        null: of `normality_null` with the same N and D, if it is there already.

    Raises:
        ValueError: with N <= D, for collapsed codes, or if some codes are not finite.
    """
    from scipy.special import chdtrc

    whitened = _whiten_fully(latents, "Mardia's test")
    number, dim = whitened.rows.shape
    if null is None:
        null = normality_null(number, dim, numbers=range(num_draws), seed=seed, device=whitened.rows.device)
    sums = _sums(whitened.rows, distance_beta(dim))
    z = (sums.kurtosis - dim * (dim + 2)) / math.sqrt(8 * dim * (dim + 2) / number)
    return Mardia(
        skewness=monte_carlo_test(sums.skewness, null.skewness),
        kurtosis=monte_carlo_test(sums.kurtosis, null.kurtosis, alternative="two-sided"),
        asymptotic_skewness_p=float(chdtrc(dim * (dim + 1) * (dim + 2) / 6, number * sums.skewness / 6)),
        asymptotic_kurtosis_p=math.erfc(abs(z) / math.sqrt(2)),
    )


def projected_normality(
    latents: Latents,
    *,
    principal: Sequence[int] = (2, 5, 10),
    num_random: int = 10,
    random_dim: int = 5,
    seed: int = 0,
) -> ProjectedNormality:
    """Henze-Zirkler tests on leading principal axes and on random subspaces, with p-values adjusted after Holm.

    If codes are normal, so is every projection; the test keeps its power in few dimensions. Random subspaces are drawn
    in whitened coordinates, where every direction varies alike. Most projections of high-dimensional data are close to
    normal whatever the data (Diaconis & Freedman 1984), so a rejection says more than its absence.

    Args:
        latents: (N, D); collapsed coordinates are left out.
        principal: numbers of leading axes of the correlation matrix, each at most 16; those above the rank of the codes
            are left out.
        num_random: random subspaces.
        random_dim: their dimension, at most 16 and at most the rank.
        seed: of the subspaces.

    Raises:
        ValueError: for more than 16 dimensions, too few codes for them, equal codes, or codes that are not finite.
    """
    widest = max([*principal, random_dim])
    if widest > _MOST_PROJECTED or min([*principal, random_dim]) < 1:
        raise ValueError(
            f"the Henze-Zirkler test is made on 1 to {_MOST_PROJECTED} dimensions, got {[*principal, random_dim]}"
        )
    rows = check_codes(latents, "a test of normality", least=2 * widest + 1)
    whitened = whiten(rows)
    if whitened.rank == 0:
        raise ValueError(f"all {len(rows)} codes are equal: the latent space has collapsed")
    projections = {f"principal_{width}": whitened.rows[:, :width] for width in principal if width <= whitened.rank}
    random_dim = min(random_dim, whitened.rank)
    streams = IndexedRandom(seed, "normality/projections")
    for number in range(num_random):
        draw = torch.randn(whitened.rank, random_dim, generator=streams.generator(number), dtype=torch.float64)
        frame = torch.linalg.qr(draw).Q.to(rows.device)
        projections[f"random_{random_dim}_{number}"] = whitened.rows @ frame
    tests = [henze_zirkler(projection) for projection in projections.values()]
    p_values = torch.tensor([test.p_value for test in tests], dtype=torch.float64)
    statistics = torch.tensor([test.statistic for test in tests], dtype=torch.float64)
    return ProjectedNormality(tuple(projections), statistics, p_values, holm(p_values))


def _anderson_darling(rows: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
    """A² of every column with estimated mean and variance, and its p-value."""
    number = len(rows)
    ordered = ((rows - rows.mean(0)) / rows.std(0)).sort(0).values
    weights = torch.arange(1, 2 * number, 2, dtype=torch.float64, device=rows.device).unsqueeze(1)
    logs = torch.special.log_ndtr(ordered) + torch.special.log_ndtr(-ordered.flip(0))
    statistic = -number - (weights * logs).mean(0)
    return statistic, _anderson_p_value(statistic, number)


def _anderson_p_value(statistic: Float[Tensor, "D"], number: int) -> Float[Tensor, "D"]:
    """Of A² for N values with estimated mean and variance (D'Agostino & Stephens 1986, table 4.9)."""
    a = statistic * (1.0 + 0.75 / number + 2.25 / number**2)
    # Farther out the fitted parabola would turn upwards; the p-value is about 1e-30 there.
    tail = a.clamp_max(15.0)
    p_value = torch.exp(1.2937 - 5.709 * tail + 0.0186 * tail.square())
    for edge, constant, linear, quadratic, upper in (
        (0.6, 0.9177, -4.279, -1.38, True),
        (0.34, -8.318, 42.796, -59.938, False),
        (0.2, -13.436, 101.14, -223.73, False),
    ):
        fit = constant + linear * a + quadratic * a.square()
        p_value = torch.where(a < edge, torch.exp(fit) if upper else -torch.expm1(fit), p_value)
    return p_value.clamp(0.0, 1.0)


def coordinate_normality(latents: Latents, *, test: CoordinateTest = "dagostino") -> CoordinateNormality:
    """A test of normality of every coordinate, with p-values adjusted after Holm.

    Coordinates may all be normal without the codes being so, but not the other way round.

    Args:
        latents: (N, D), N at least 8 (20 for D'Agostino's test); constant coordinates are not tested.
        test: "dagostino" (skewness and kurtosis), "shapiro" (at most 5,000 codes), "anderson".

    Raises:
        ValueError: for too few or too many codes, another name, or codes that are not finite.
    """
    if test not in ("dagostino", "shapiro", "anderson"):
        raise ValueError(f"a test of coordinates is dagostino, shapiro or anderson, got {test!r}")
    rows = check_codes(latents, f"the test {test!r}", least=20 if test == "dagostino" else 8)
    if test == "shapiro" and len(rows) > _SHAPIRO_MOST:
        raise ValueError(
            f"the test of Shapiro and Wilk is for at most {_SHAPIRO_MOST} codes, got {len(rows)}: use dagostino or "
            "anderson"
        )
    centred = rows - rows.mean(0)
    constant = centred.abs().amax(0) <= torch.finfo(torch.float64).eps * rows.abs().amax(0) * 4.0
    statistics = torch.full((rows.shape[1],), float("nan"), dtype=torch.float64)
    p_values = statistics.clone()
    kept = (~constant).cpu()
    if kept.any():
        columns = centred[:, ~constant]
        if test == "anderson":
            statistics[kept], p_values[kept] = (column.cpu() for column in _anderson_darling(columns))
        else:
            # Slow to import and used here alone.
            from scipy.stats import normaltest, shapiro

            values = columns.cpu().numpy()
            one = normaltest if test == "dagostino" else shapiro
            found = one(values, axis=0)
            statistics[kept], p_values[kept] = torch.from_numpy(found.statistic), torch.from_numpy(found.pvalue)
    return CoordinateNormality(test, statistics, p_values, holm(p_values), int(constant.sum()))
