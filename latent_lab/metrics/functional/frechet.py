"""Fréchet distance between two sets of feature vectors (Dowson & Landau 1982; as FID: Heusel et al. 2017).

Also how far it would move with other images (`frechet_interval`), and where it would go with ever more generated ones
(`frechet_infinity`, Chong & Forsyth 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap
from latent_lab.metrics.functional.checks import OtherVectors
from latent_lab.progress import one_by_one
from latent_lab.types import Features, Scores

# Large matrices are worked on in pieces: a symmetric product then costs half, and pieces stay in a processor's caches
# and in memory that it has used before.
_ROWS_AT_ONCE = 1024
_PANELS = 8


# ------------------------------------------------------------------------------------------------- mean and covariance


class Moments(NamedTuple):
    """Mean and unbiased covariance of a set of feature vectors, float64."""

    mean: Float[Tensor, "F"]
    covariance: Float[Tensor, "F F"]
    num_vectors: int | None
    """None where it is not known, as with statistics that others have published."""


class CentredSums(NamedTuple):
    """What moments are accumulated in: sums about the mean, which lose no digits where the mean is far from 0."""

    num_vectors: Int[Tensor, ""]
    mean: Float[Tensor, "F"]
    """Of them, float64."""
    products: Float[Tensor, "F F"]
    """Σ (x - mean)(x - mean)ᵀ, float64; its lower triangle alone is valid."""


def empty_sums(width: int, device: torch.device | str = "cpu") -> CentredSums:
    """The sums of no vectors of F = width features."""
    return CentredSums(
        torch.zeros((), dtype=torch.int64, device=device),
        torch.zeros(width, dtype=torch.float64, device=device),
        torch.zeros(width, width, dtype=torch.float64, device=device),
    )


def _panels(width: int) -> Iterator[slice]:
    """Ranges of columns that make up a matrix."""
    size = max(1, -(-width // _PANELS))
    for start in range(0, width, size):
        yield slice(start, min(start + size, width))


def _add_products(products: Float[Tensor, "F F"], rows: Float[Tensor, "N F"]) -> None:
    """Adds the lower triangle of rowsᵀ rows to that of `products`, in place."""
    for panel in _panels(len(products)):
        products[panel, : panel.stop].addmm_(rows[:, panel].T, rows[:, : panel.stop])


def _mirror(matrix: Float[Tensor, "F F"]) -> Float[Tensor, "F F"]:
    """Makes a matrix symmetric by its lower triangle, in place."""
    for panel in _panels(len(matrix)):
        matrix[: panel.start, panel] = matrix[panel, : panel.start].T
        corner = matrix[panel, panel]
        corner.copy_(corner.tril() + corner.tril(-1).T)
    return matrix


def accumulate(sums: CentredSums, features: Features) -> CentredSums:
    """The sums of the vectors so far and of further ones; the products are added to in place.

    The mean moves from m to m' = m + d n / (N + n), where d is the difference between the new vectors' mean and m;
    the products about m' are those of both parts about their own means and d dᵀ N n / (N + n) (Chan et al. 1983).

    Args:
        sums: of N vectors.
        features: (n, F) on the same device, of any float type; none is fine.
    """
    count, mean, products = sums
    added = len(features)
    if added == 0:
        return sums
    added_mean = torch.stack([rows.double().sum(0) for rows in features.split(_ROWS_AT_ONCE)]).sum(0) / added
    for rows in features.split(_ROWS_AT_ONCE):
        _add_products(products, rows.double() - added_mean)
    shift = added_mean - mean
    share = added / (count + added).double()
    _add_products(products, (shift * (share * count).sqrt())[None])
    return CentredSums(count + added, mean + shift * share, products)


def merge_sums(parts: Sequence[CentredSums]) -> CentredSums:
    """The sums over several disjoint sets of vectors; sets without vectors take part."""
    counts = torch.stack([part.num_vectors for part in parts]).double()
    means = torch.stack([part.mean for part in parts])
    mean = counts @ means / counts.sum().clamp_min(1.0)
    products = parts[0].products.clone()
    for part in parts[1:]:
        products += part.products
    _add_products(products, (means - mean) * counts.sqrt()[:, None])
    return CentredSums(counts.sum().long(), mean, products)


def moments_from_sums(sums: CentredSums) -> Moments:
    """Mean and unbiased covariance.

    Raises:
        ValueError: with fewer than two vectors, or if some were not finite.
    """
    count = int(sums.num_vectors)
    if count < 2:
        raise ValueError(f"a covariance needs at least 2 feature vectors, got {count}")
    if not sums.mean.isfinite().all():
        raise ValueError(f"feature vectors must be finite, got NaN or infinity among {count} of them")
    return Moments(sums.mean, _mirror(sums.products / (count - 1)), count)


def moments(features: Features) -> Moments:
    """Mean and covariance over the rows, in float64; the covariance divides by N - 1.

    Args:
        features: (N, F), N at least 2.

    Raises:
        ValueError: with fewer than two rows, or if some are not finite.
    """
    return moments_from_sums(accumulate(empty_sums(features.shape[1], features.device), features))


# ------------------------------------------------------------------------------------------------------------ distance


class FrechetEstimate(NamedTuple):
    """A Fréchet distance, in squared feature units."""

    value: float
    """Never negative."""
    raw: float
    """Before it was clamped; nearly equal sets may give -1e-12."""


class _Root(NamedTuple):
    """A with A Aᵀ = a covariance."""

    matrix: Float[Tensor, "F R"]
    is_triangular: bool
    """Whether it is Cholesky's; otherwise its columns are orthogonal, and as many as the covariance has rank."""


def _root(a: Moments) -> _Root:
    """Cholesky's where the covariance has full rank, which is much faster; else from its eigenvectors."""
    if a.num_vectors is None or a.num_vectors > len(a.mean):
        factor, failed = torch.linalg.cholesky_ex(a.covariance)
        if not failed.item():
            return _Root(factor, is_triangular=True)
    eigenvalues, eigenvectors = torch.linalg.eigh(a.covariance)
    kept = eigenvalues > _noise(eigenvalues)
    return _Root(eigenvectors[:, kept] * eigenvalues[kept].sqrt(), is_triangular=False)


def _noise(eigenvalues: Float[Tensor, "R"]) -> Tensor:
    """Below it ascending eigenvalues are rounding errors."""
    if len(eigenvalues) == 0:
        return eigenvalues.new_zeros(())
    return torch.finfo(eigenvalues.dtype).eps * len(eigenvalues) * eigenvalues[-1].clamp_min(0.0)


def _check_widths(a: Moments, b: Moments) -> None:
    if len(a.mean) != len(b.mean):
        raise ValueError(
            f"a Fréchet distance compares equally many features, got {len(a.mean)} and {len(b.mean)}: take both sets "
            "from the same extractor"
        )


def _is_smaller(a: Moments, b: Moments) -> bool:
    """Whether a has no more vectors than b; a set of unknown size counts as large."""
    return b.num_vectors is None or (a.num_vectors is not None and a.num_vectors <= b.num_vectors)


def _common(root: _Root, covariance: Float[Tensor, "F F"]) -> Float[Tensor, "R R"]:
    """Aᵀ S A; its lower triangle alone is valid, which is all that eigenvalues of symmetric matrices are taken from."""
    matrix = root.matrix
    if not root.is_triangular:
        return matrix.T @ covariance @ matrix
    right, product = torch.empty_like(matrix), torch.zeros_like(matrix)
    for panel in _panels(len(matrix)):
        right[:, panel] = covariance[:, panel.start :] @ matrix[panel.start :, panel]
    for panel in _panels(len(matrix)):
        product[panel, : panel.stop] = matrix[panel.start :, panel].T @ right[panel.start :, : panel.stop]
    return product


def _distance(a: Moments, b: Moments, root: _Root) -> FrechetEstimate:
    """The distance, given A with A Aᵀ = Sa."""
    common = torch.linalg.eigvalsh(_common(root, b.covariance)).clamp_min(0.0).sqrt().sum()
    raw = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2.0 * common
    return FrechetEstimate(max(0.0, raw.item()), raw.item())


def frechet_distance(a: Moments, b: Moments) -> FrechetEstimate:
    """|ma - mb|² + tr(Sa) + tr(Sb) - 2 tr((Sa^½ Sb Sa^½)^½).

    With Sa = A Aᵀ the last trace is the sum of the square roots of the eigenvalues of Aᵀ Sb A, a symmetric matrix:
    real and stable where the general matrix root is not. Fewer vectors than features give A few columns, so small
    sets are fast. The set with fewer vectors takes the part of a. Equal moments are at distance 0, without rounding.

    Args:
        a: moments of one set.
        b: moments of the other; the order does not matter.

    Raises:
        ValueError: if they have different numbers of features.
    """
    _check_widths(a, b)
    if torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance):
        return FrechetEstimate(0.0, 0.0)
    few, many = (a, b) if _is_smaller(a, b) else (b, a)
    return _distance(few, many, _root(few))


# ------------------------------------------------------------------------------------------------------------ interval


class FrechetInfluences(NamedTuple):
    """How much each vector pulls at a Fréchet distance: its derivative with respect to the vector's weight."""

    real: Float[Tensor, "N"]
    """With mean 0; float64."""
    fake: Float[Tensor, "M"]


def frechet_influences(real: Features, fake: OtherVectors) -> FrechetInfluences:
    """The derivatives of the distance with respect to the weights of the vectors, at equal weights.

    With the optimal transport map T = Sa^-½ (Sa^½ Sb Sa^½)^½ Sa^-½ from one Gaussian to the other, the derivative of
    the distance with respect to Sa is I - T, and that with respect to Sb is I - T⁻¹; a vector x of the first set hence
    moves it by 2 (ma - mb)·(x - ma) + (x - ma)ᵀ (I - T)(x - ma), less the mean of that over the set; that covariances
    divide by N - 1 makes the second term larger by N / (N - 1). Where a set has
    fewer vectors than features, T is taken on the span of its vectors, which no weights can leave: the derivatives
    stay exact.

    Args:
        real: (N, F).
        fake: (M, F).

    Raises:
        ValueError: if a set has fewer than two vectors, or their numbers of features differ.
    """
    return _influences(real, moments(real), fake, moments(fake))


def _influences(
    real: Features | None, real_moments: Moments, fake: OtherVectors, fake_moments: Moments
) -> FrechetInfluences:
    """As `frechet_influences`; of a real set without vectors, whose moments are given, there are none."""
    _check_widths(real_moments, fake_moments)
    swapped = not _is_smaller(real_moments, fake_moments)
    few, many = (fake_moments, real_moments) if swapped else (real_moments, fake_moments)
    root = _root(few)
    eigenvalues, eigenvectors = torch.linalg.eigh(_common(root, many.covariance))
    kept = eigenvalues > _noise(eigenvalues)
    # Sa = A Aᵀ and Aᵀ Sb A = V D Vᵀ give T = G Gᵀ with G = A⁻ᵀ V D^¼, and T⁻¹ = H Hᵀ with H = A V D^-¼.
    quarter = eigenvalues[kept].pow(0.25)
    turned = eigenvectors[:, kept]
    if root.is_triangular:
        onward = torch.linalg.solve_triangular(root.matrix.T, turned * quarter, upper=True)
    else:
        onward = (root.matrix / root.matrix.square().sum(0)) @ (turned * quarter)
    back = root.matrix @ (turned / quarter)
    maps = (back, onward) if swapped else (onward, back)
    shift = real_moments.mean - fake_moments.mean
    real_pulls = shift.new_zeros(0) if real is None else _pulls(real, real_moments.mean, shift, maps[0])
    return FrechetInfluences(real_pulls, _pulls(fake, fake_moments.mean, -shift, maps[1]))


def _pulls(
    features: Features, mean: Float[Tensor, "F"], shift: Float[Tensor, "F"], half: Float[Tensor, "F R"]
) -> Scores:
    """2 shift·y + (|y|² - |halfᵀ y|²) N / (N - 1) for y = x - mean, less the mean over the rows."""
    unbiased = len(features) / (len(features) - 1)
    pieces = []
    for rows in features.split(_ROWS_AT_ONCE):
        centred = rows - mean
        spread = centred.square().sum(1) - (centred @ half).square().sum(1)
        pieces.append(2.0 * centred @ shift + unbiased * spread)
    pulls = torch.cat(pieces)
    return pulls - pulls.mean()


def _sorted_for_resampling(influences: FrechetInfluences) -> tuple[Tensor, Tensor]:
    """On the CPU and sorted, so that resamples do not depend on the order in which ranks delivered the rows."""
    return influences.real.cpu().sort().values, influences.fake.cpu().sort().values


def _known_of(real: Features | Moments) -> tuple[Features | None, Moments]:
    """The vectors, if there are some, and the moments."""
    return (None, real) if isinstance(real, Moments) else (real, moments(real))


def _mean(pulls: Scores, rows: Int[Tensor, "R"]) -> float:
    """Of the drawn rows; 0 for a set that has none, which is not drawn anew."""
    return pulls[rows].mean().item() if len(rows) else 0.0


def frechet_interval(
    real: Features | Moments,
    fake: OtherVectors,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far the distance would move if other images had been drawn, as many as these.

    A resample's distance is computed to first order: the distance plus the resampled means of the vectors' influences,
    which needs one pass over the vectors instead of a decomposition for each resample. Against repeated draws from
    known Gaussians (from half as many to ten times as many vectors as features) its standard deviation was 0.8 to 1.2
    of the true one where the sets differ, and 1.1 to 1.5 where they do not: influences vanish there, and intervals are
    too wide. Recomputing all of it with the drawn rows was seldom closer and up to 2.1 times too wide, since rows that
    are drawn twice make covariances noisier; so this is what is done for small sets, too.

    The interval is about the distance of sets of these sizes, whose bias (too large by about a constant / N) it
    contains; see `frechet_infinity`. The order of the rows does not matter.

    Args:
        real: (N, F), N at least 2; or its moments alone: then only generated images are drawn anew.
        fake: (M, F).
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as of `frechet_influences` and `interval_of`.
    """
    vectors, fixed = _known_of(real)
    generated = moments(fake)
    distance = frechet_distance(fixed, generated).value
    real_pulls, fake_pulls = _sorted_for_resampling(_influences(vectors, fixed, fake, generated))

    def resampled(real_rows: Tensor, fake_rows: Tensor) -> float:
        return distance + _mean(real_pulls, real_rows) + _mean(fake_pulls, fake_rows)

    return bootstrap(
        resampled,
        (len(real_pulls), len(fake)),
        estimate=distance,
        level=level,
        num_resamples=num_resamples,
        seed=seed,
        lowest=0.0,
    )


# ------------------------------------------------------------------------------------------- infinitely many samples


class FrechetInfinityEstimate(NamedTuple):
    """Where Fréchet distances go as the number of generated images grows, in squared feature units."""

    value: float
    """The line's value at 1/N = 0; may be negative."""
    standard_error: float
    """Of that value, from the residuals of the line: how well the line fits, not how far other images would move it."""
    slope: float
    """Of the line, by which a distance of N images is larger, times N."""
    counts: tuple[int, ...]
    """Numbers of generated images."""
    distances: tuple[float, ...]
    """Distances of that many of them."""


NUM_POINTS = 10


def _point_counts(available: int, num_points: int, smallest: int | None) -> list[int]:
    """Numbers of generated images whose inverses are evenly spaced, ascending, the last one all of them."""
    fewest = max(2, available // 4) if smallest is None else smallest
    if num_points < 3:
        raise ValueError(f"a line with a standard error needs at least 3 points, got num_points {num_points}")
    if not 2 <= fewest < available:
        raise ValueError(
            f"the smallest number of generated images must be 2 or more, below all {available} of them, got {fewest}"
        )
    inverses = torch.linspace(1.0 / fewest, 1.0 / available, num_points, dtype=torch.float64)
    counts = sorted({round(1.0 / inverse) for inverse in inverses.tolist()})
    if len(counts) < 3:
        raise ValueError(f"{available} generated images are too few for 3 counts from {fewest} on: add images")
    return counts


def _subsets(available: int, counts: Sequence[int], seed: int) -> list[Tensor]:
    """Rows of each count, drawn without replacement, each draw from a stream of its own."""
    return [
        torch.randperm(available, generator=torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63))[:count]
        for number, count in enumerate(counts)
    ]


def _intercept_weights(counts: Sequence[int]) -> Float[Tensor, "K"]:
    """Weights with sum 1 of the distances: their weighted sum is the intercept of the least squares line over 1/N."""
    inverses = 1.0 / torch.tensor(counts, dtype=torch.float64)
    centred = inverses - inverses.mean()
    return 1.0 / len(counts) - inverses.mean() * centred / centred.square().sum()


def frechet_infinity(
    real: Features | Moments,
    fake: OtherVectors,
    *,
    num_points: int = NUM_POINTS,
    smallest: int | None = None,
    seed: int = 0,
) -> FrechetInfinityEstimate:
    """The distance freed of its bias in the number of generated images (FID-infinity, Chong & Forsyth 2020).

    A distance of N images is too large by about a constant / N. Distances of several N, with 1/N evenly spaced, are
    extended along a straight line to 1/N = 0. The bias is straight where N is well above the number of features. The
    real set is taken as it is, so that the bias that belongs to its own number of images remains.

    Args:
        real: (N, F), or its moments, which may come from a file.
        fake: (M, F) generated.
        num_points: how many distances are computed.
        smallest: fewest generated images; none: a quarter of them.
        seed: of which images are taken.

    Raises:
        ValueError: if there are fewer than 3 points, or too few images for them, or the numbers of features differ.
    """
    fixed = real if isinstance(real, Moments) else moments(real)
    counts = _point_counts(len(fake), num_points, smallest)
    root = _root(fixed)
    distances = []
    for rows in one_by_one(_subsets(len(fake), counts, seed), "distances of subsets"):
        subset = moments(fake[rows.to(fake.device)])
        _check_widths(fixed, subset)
        # The real set's root serves every count, except that very small subsets have a much smaller one.
        small = len(rows) <= root.matrix.shape[1] // 2
        distances.append((frechet_distance(fixed, subset) if small else _distance(fixed, subset, root)).raw)
    return _line(counts, distances)


def _line(counts: Sequence[int], distances: Sequence[float]) -> FrechetInfinityEstimate:
    """The least squares line of the distances over 1/N."""
    inverses = 1.0 / torch.tensor(counts, dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    centred = inverses - inverses.mean()
    slope = (centred * y).sum() / centred.square().sum()
    value = (_intercept_weights(counts) * y).sum()
    residual = (y - value - slope * inverses).square().sum() / (len(counts) - 2)
    error = (residual * _intercept_weights(counts).square().sum()).sqrt()
    return FrechetInfinityEstimate(value.item(), error.item(), slope.item(), tuple(counts), tuple(distances))


def frechet_infinity_interval(
    real: Features | Moments,
    fake: OtherVectors,
    *,
    num_points: int = NUM_POINTS,
    smallest: int | None = None,
    subset_seed: int | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far `frechet_infinity` would move if other images had been drawn, to first order as in `frechet_interval`.

    The line's value is a weighted sum of distances, and thereby of influences: generated images that are in many
    subsets weigh more than others, and those of small subsets negatively.

    Args:
        real: (N, F), or its moments alone: then only generated images are drawn anew.
        fake: (M, F).
        num_points: as of `frechet_infinity`.
        smallest: as of `frechet_infinity`.
        subset_seed: of which images are taken, as `seed` of `frechet_infinity`; none: that of the resamples.
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as of `frechet_infinity`.
    """
    vectors, fixed = _known_of(real)
    chosen = seed if subset_seed is None else subset_seed
    estimate = frechet_infinity(fixed, fake, num_points=num_points, smallest=smallest, seed=chosen)
    real_pulls, fake_pulls = _sorted_for_resampling(_influences(vectors, fixed, fake, moments(fake)))
    weights = torch.zeros(len(fake), dtype=torch.float64)
    for rows, weight in zip(
        _subsets(len(fake), estimate.counts, chosen), _intercept_weights(estimate.counts), strict=True
    ):
        weights[rows] += weight / len(rows)

    def resampled(real_rows: Tensor, fake_rows: Tensor) -> float:
        return estimate.value + _mean(real_pulls, real_rows) + (weights * fake_pulls[fake_rows]).sum().item()

    return bootstrap(
        resampled,
        (len(real_pulls), len(fake)),
        estimate=estimate.value,
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )
