"""How alike two spaces lay out the same samples, whatever their axes: measures, permutation tests, a common space.

Rows of both sets belong to the same samples, in the same order; widths may differ. All measures ignore translation,
rotation and isotropic scale; those of CCA's kind ignore any invertible linear map. Many are far from 0 for unrelated
codes of few samples: `permutation_test` says what chance alone gives. Reviews: Kornblith et al. 2019 (arXiv
1905.00414), Williams et al. 2021 (2110.14739), Huh et al. 2024 (2405.07987).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.latent.maps import RESOLVED, LinearMap
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, interval_of, resample
from latent_lab.metrics.functional.hubness import neighbour_overlap
from latent_lab.metrics.functional.neighbours import nearest
from latent_lab.metrics.functional.significance import MonteCarloTest, monte_carlo_test
from latent_lab.types import Features

OtherFeatures: TypeAlias = Float[Tensor, "M G"]
"""Vectors of the same samples in another space; that M is N is checked in a sentence."""

Correlations: TypeAlias = Float[Tensor, "K"]
"""Canonical correlations, descending, in [0, 1]."""

LARGEST_TABLE = 10_000
"""Most samples of measures that hold a table of all pairs of samples in memory (800 MB each)."""


# Centred vectors and their column spaces


def _centred(vectors: Tensor, name: str, least: int = 3) -> Tensor:
    """Deviations from the mean, float64.

    Raises:
        ValueError: if there are too few samples, values are not finite, or all vectors are equal.
    """
    if vectors.ndim != 2 or len(vectors) < least:
        raise ValueError(f"a similarity needs at least {least} rows in each space, got {tuple(vectors.shape)} ({name})")
    rows = vectors.detach().double()
    broken = int((~rows.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {len(rows)} rows of {name} are not finite: the model is damaged")
    mean = rows.mean(0)
    centred = rows - mean
    if centred.square().mean() <= RESOLVED**2 * mean.square().mean():
        raise ValueError(f"all {len(rows)} rows of {name} are equal: a space that has collapsed resembles no other")
    return centred


def _check_rows(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise ValueError(f"two spaces are compared on the same samples, got {len(x)} and {len(y)} rows")


def _basis(centred: Tensor) -> Tensor:
    """Orthonormal columns (N, R) that span the columns, in the order of their variance; R is the rank."""
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    return left[:, singular > RESOLVED * singular[0]]


def _leading_basis(centred: Tensor, share: float) -> Tensor:
    """Orthonormal columns of the fewest principal components that hold this share of the variance."""
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    held = singular.square().cumsum(0) / singular.square().sum()
    # Without the allowance, rounding of the sum could ask for all components where the share is 1.
    return left[:, : min(len(singular), int((held < share - 1e-12).sum()) + 1)]


class _Columns(NamedTuple):
    """Centred vectors (N, F) beside a basis (N, R) of their columns."""

    centred: Tensor
    basis: Tensor


def _columns(vectors: Tensor, name: str) -> _Columns:
    centred = _centred(vectors, name)
    if len(centred) <= centred.shape[1]:
        raise ValueError(
            f"{len(centred)} samples in {centred.shape[1]} dimensions ({name}) are explained by anything linear: give "
            "more samples than dimensions, or use CKA or SVCCA"
        )
    return _Columns(centred, _basis(centred))


# Centred kernel alignment


def _product(a: Tensor, b: Tensor) -> Tensor:
    """<a a^T, b b^T> = |a^T b|^2 by the cheaper of the two."""
    return ((a @ a.T) * (b @ b.T)).sum() if min(a.shape[1], b.shape[1]) > len(a) else (a.T @ b).square().sum()


def _linear_cka(x: Tensor, y: Tensor) -> float:
    return (_product(x, y) / (_product(x, x) * _product(y, y)).sqrt()).item()


def linear_cka(x: Features, y: OtherFeatures) -> float:
    """|X^T Y|^2 / (|X^T X| |Y^T Y|) of centred columns, in [0, 1] (Kornblith et al. 2019).

    Biased upwards where there are not many more samples than dimensions: unrelated codes come near 1 when N << D.

    Args:
        x: (N, F), N at least 3.
        y: (N, G).

    Raises:
        ValueError: if numbers of rows differ, there are too few, or codes are not finite or all equal.
    """
    return similarity("cka_linear", x, y)


def _unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    """HSIC_1 of linear kernels of centred vectors, times n (n - 3) (Song et al. 2012).

    The estimator sums over Gram matrices K, L without their diagonals. It does not change when columns are centred, and
    then the sum of row i of K without the diagonal is -K_ii, so that only |X^T Y|^2 and the diagonals are needed.
    """
    n = len(x)
    own_x, own_y = x.square().sum(1), y.square().sum(1)
    both = (own_x * own_y).sum()
    return _product(x, y) - both + own_x.sum() * own_y.sum() / ((n - 1) * (n - 2)) - 2.0 * both / (n - 2)


def _ratio(across: Tensor, own_x: Tensor, own_y: Tensor) -> float:
    """The ratio across / sqrt(own_x own_y); NaN where an unbiased estimate of what is positive is not."""
    return (across / (own_x * own_y).sqrt()).item() if own_x > 0 and own_y > 0 else float("nan")


def _debiased_cka(x: Tensor, y: Tensor) -> float:
    return _ratio(_unbiased_hsic(x, y), _unbiased_hsic(x, x), _unbiased_hsic(y, y))


def debiased_cka(x: Features, y: OtherFeatures) -> float:
    """Linear CKA of unbiased estimates of HSIC (Song et al. 2012): around 0, also below, for unrelated codes.

    Args:
        x: (N, F), N at least 4.
        y: (N, G).

    Raises:
        ValueError: as `linear_cka`.
    """
    return similarity("cka_debiased", x, y)


def minibatch_cka(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Debiased CKA from batches: sums of the unbiased numerators and denominators (Nguyen et al. 2020).

    It needs no more than one batch in memory, and does not depend on the batch size in expectation of its parts.

    Args:
        pairs: batches (n, F) and (n, G) of the same samples, n at least 4; a smaller last one is left out.

    Raises:
        ValueError: if no batch is large enough; as `linear_cka`.
    """
    sums = torch.zeros(3, dtype=torch.float64)
    for x, y in pairs:
        _check_rows(x, y)
        if len(x) < 4:
            continue
        a, b = _centred(x, "x", least=4), _centred(y, "y", least=4)
        parts = torch.stack([_unbiased_hsic(a, b), _unbiased_hsic(a, a), _unbiased_hsic(b, b)])
        # Batches of other sizes count as the estimates they are.
        sums += parts.cpu() / (len(x) * (len(x) - 3))
    if not sums.any():
        raise ValueError("minibatch CKA needs at least one batch of 4 samples or more, got none")
    return _ratio(sums[0], sums[1], sums[2])


def _consecutive(x: Tensor, y: Tensor, batch_size: int) -> float:
    return minibatch_cka(zip(x.split(batch_size), y.split(batch_size), strict=True))


def _check_table(vectors: Tensor) -> None:
    if len(vectors) > LARGEST_TABLE:
        raise ValueError(
            f"this measure compares all pairs of samples, of which {LARGEST_TABLE} at most fit, got {len(vectors)}: "
            "draw some at random"
        )


def _squared_distances(centred: Tensor) -> Tensor:
    squares = centred.square().sum(1)
    table = (squares[:, None] + squares - 2.0 * centred @ centred.T).clamp_min_(0.0)
    return table.fill_diagonal_(0.0)


def _above_diagonal(table: Tensor) -> Tensor:
    """Entries of a square table above its diagonal, row by row."""
    return table[torch.ones_like(table, dtype=torch.bool).triu_(1)]


def _rbf_gram(vectors: Tensor, name: str, bandwidth: float, count_diagonal: bool) -> Tensor:
    """Gram matrix of a Gaussian kernel, doubly centred, of norm 1."""
    _check_table(vectors)
    squared = _squared_distances(_centred(vectors, name))
    median = (squared.flatten() if count_diagonal else _above_diagonal(squared)).median()
    if median == 0:
        raise ValueError(f"more than half of the pairs of rows of {name} are equal: there is no bandwidth for them")
    gram = torch.exp(squared / (-2.0 * bandwidth**2 * median))
    mean = gram.mean(0)
    gram = gram - mean - mean[:, None] + mean.mean()
    return gram / gram.norm()


def _aligned(a: Tensor, b: Tensor) -> float:
    """Cosine of two matrices of norm 1."""
    return torch.dot(a.flatten(), b.flatten()).item()


# Canonical correlations


def _correlations(a: Tensor, b: Tensor) -> Correlations:
    """Cosines of the principal angles between the spans of orthonormal columns."""
    return torch.linalg.svdvals(a.T @ b).clamp(0.0, 1.0)


def canonical_correlations(x: Features, y: OtherFeatures) -> Correlations:
    """Correlations of the best matching linear functions of both spaces (Hotelling 1936); min(F, G) at most.

    Args:
        x: (N, F), N above F.
        y: (N, G), N above G.

    Raises:
        ValueError: as `linear_cka`; with no more samples than dimensions, where all correlations are 1.
    """
    _check_rows(x, y)
    return _correlations(_columns(x, "x").basis, _columns(y, "y").basis)


def svcca(x: Features, y: OtherFeatures, *, variance_share: float = 0.99) -> float:
    """Mean canonical correlation of the principal components that hold most of the variance (Raghu et al. 2017).

    Args:
        x: (N, F).
        y: (N, G).
        variance_share: what the components of each space hold, in (0, 1].

    Raises:
        ValueError: as `linear_cka`.
    """
    _check_rows(x, y)
    a, b = (_leading_basis(_centred(v, n), variance_share) for v, n in ((x, "x"), (y, "y")))
    return _correlations(a, b).mean().item()


def _projection_weighted(a: _Columns, b: _Columns) -> float:
    left, correlations, _ = torch.linalg.svd(a.basis.T @ b.basis, full_matrices=False)
    weights = ((a.basis @ left).T @ a.centred).abs().sum(1)
    return ((correlations.clamp(0.0, 1.0) * weights).sum() / weights.sum()).item()


def _regression(a: _Columns, b: _Columns) -> float:
    return ((a.basis.T @ b.centred).square().sum() / b.centred.square().sum()).item()


def regression_share(x: Features, y: OtherFeatures) -> float:
    """R^2 of the best affine map from x to y over these samples, |Q_x^T Y|^2 / |Y|^2, in [0, 1].

    Its value for unrelated codes is about F / N; what holds for other samples is `metrics.functional.mapping`'s.

    Args:
        x: (N, F), N above F.
        y: (N, G), N above G.

    Raises:
        ValueError: as `canonical_correlations`.
    """
    return similarity("regression_share", x, y)


# Procrustes and shapes


def _unit(vectors: Tensor, name: str, whitening: float = 0.0) -> Tensor:
    """Centred vectors of Frobenius norm 1, partially whitened: X ((1 - w) I + w (X^T X / N)^-1/2).

    Directions without variance stay at 0.
    """
    centred = _centred(vectors, name)
    if whitening > 0.0:
        left, singular, right = torch.linalg.svd(centred, full_matrices=False)
        kept = singular > RESOLVED * singular[0]
        scaled = (1.0 - whitening) * singular[kept] + whitening * len(centred) ** 0.5
        centred = (left[:, kept] * scaled) @ right[kept]
    return centred / centred.norm()


def _nuclear(a: Tensor, b: Tensor) -> float:
    """Sum of the singular values of a^T b, the best inner product over rotations of one of them."""
    return torch.linalg.svdvals(a.T @ b).sum().item()


def _disparity(a: Tensor, b: Tensor) -> float:
    return max(0.0, 1.0 - _nuclear(a, b) ** 2)


def procrustes_disparity(x: Features, y: OtherFeatures) -> float:
    """Squared distance that is left after the best translation, rotation and scale, over that of the centre; in [0, 1].

    1 - (|X^T Y|_* / (|X| |Y|))^2, as scipy's `procrustes`; narrower codes are filled up with zeros. It tests whether
    spaces differ in rotation and scale alone: compare 1 minus it with `regression_share`.

    Args:
        x: (N, F).
        y: (N, G).

    Raises:
        ValueError: as `linear_cka`.
    """
    return similarity("procrustes", x, y)


def procrustes_distance(x: Features, y: OtherFeatures) -> float:
    """Root mean squared distance of samples after the best rotation, sqrt((|X|^2 + |Y|^2 - 2 |X^T Y|_*) / N).

    In the codes' units. A metric of sizes and shapes (Williams et al. 2021): scale counts, translation and rotation do
    not.

    Args:
        x: (N, F).
        y: (N, G).

    Raises:
        ValueError: as `linear_cka`.
    """
    _check_rows(x, y)
    a, b = _centred(x, "x"), _centred(y, "y")
    squared = a.square().sum() + b.square().sum() - 2.0 * _nuclear(a, b)
    return (squared.clamp_min(0.0) / len(a)).sqrt().item()


def _angle(a: Tensor, b: Tensor) -> float:
    return torch.tensor(_nuclear(a, b), dtype=torch.float64).clamp(0.0, 1.0).arccos().item()


def shape_angle(x: Features, y: OtherFeatures, *, whitening: float = 0.0) -> float:
    """Angle arccos(|X^T Y|_* / (|X| |Y|)) between shapes, radians: a metric, triangle inequality included.

    Args:
        x: (N, F).
        y: (N, G).
        whitening: 0 leaves codes as they are, 1 makes all their directions equally long, so that only what CCA sees is
            left; between them both count (Williams et al. 2021, with alpha = 1 - whitening).

    Raises:
        ValueError: as `linear_cka`; if whitening is not in [0, 1].
    """
    _check_rows(x, y)
    if not 0.0 <= whitening <= 1.0:
        raise ValueError(f"whitening must lie in [0, 1], got {whitening}")
    return _angle(_unit(x, "x", whitening), _unit(y, "y", whitening))


# Relations between samples


def relative_representations(
    codes: Features, anchors: Float[Tensor, "K F"], *, centre: Float[Tensor, "F"] | None = None
) -> Float[Tensor, "N K"]:
    """Cosines of codes to anchors, which rotation and scale of the space leave alone (Moschella et al. 2023).

    Args:
        codes: (N, F).
        anchors: (K, F) codes of samples that all spaces share, such as a support set.
        centre: (F,) subtracted from both first, such as the mean code, so that translation does not count either; none:
            cosines as seen from the origin, as published.
    """
    if centre is not None:
        codes, anchors = codes - centre, anchors - centre
    return F.normalize(codes, dim=1, eps=1e-12) @ F.normalize(anchors, dim=1, eps=1e-12).T


def _directions(vectors: Tensor, name: str) -> Tensor:
    return F.normalize(_centred(vectors, name), dim=1, eps=1e-12)


def _anchored(vectors: Tensor, name: str, num_anchors: int) -> Tensor:
    """Cosines (N, K) to the anchors, 0 in place of an anchor's cosine to itself, which is 1 in any space."""
    unit = _directions(vectors, name)
    order = torch.randperm(len(unit), generator=IndexedRandom(0, "similarity/anchors").generator(0))
    anchors = order[:num_anchors].to(unit.device)
    cosines = unit @ unit[anchors].T
    cosines[anchors, torch.arange(len(anchors), device=unit.device)] = 0.0
    return cosines


def _relative(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a, b, dim=1).mean().item()


def _neighbours(vectors: Tensor, name: str, k: int) -> Tensor:
    _centred(vectors, name)
    return nearest(vectors, vectors, k, exclude_same=True).indices


def _shared(a: Tensor, b: Tensor) -> float:
    return neighbour_overlap(a, b, num_candidates=len(a) - 1).value


def _relabelled(neighbours: Tensor, order: Tensor) -> Tensor:
    """Neighbours (N, k) of the samples in another order: row i is sample order[i], and numbers are places in it."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return place[neighbours[order]]


def _rank_table(vectors: Tensor, name: str) -> Tensor:
    """Ranks of all distances, ties sharing their mean rank, minus the mean rank; symmetric, diagonal 0, norm 1."""
    _check_table(vectors)
    squared = _squared_distances(_centred(vectors, name))
    ordered, order = _above_diagonal(squared).sort()
    _, counts = torch.unique_consecutive(ordered, return_counts=True)
    ranks = torch.empty_like(ordered)
    ranks[order] = (counts.cumsum(0) - (counts - 1) / 2.0).double().repeat_interleave(counts)
    table = torch.zeros_like(squared)
    table[torch.ones_like(table, dtype=torch.bool).triu_(1)] = ranks - ranks.mean()
    table = table + table.T
    return table / table.norm()


def representational_similarity(x: Features, y: OtherFeatures) -> float:
    """Spearman's correlation of the distances of all pairs of samples in both spaces, in [-1, 1].

    Representational similarity analysis (Kriegeskorte et al. 2008) with Euclidean distances.

    Args:
        x: (N, F), N at least 3 and at most `LARGEST_TABLE`.
        y: (N, G).

    Raises:
        ValueError: as `linear_cka`; with too many samples.
    """
    return similarity("rsa", x, y)


# All measures under one interface


def _rows_in(order: Tensor, prepared: Any) -> Any:
    return prepared[order]


def _columns_in(order: Tensor, prepared: _Columns) -> _Columns:
    return _Columns(prepared.centred[order], prepared.basis[order])


def _anchored_in(order: Tensor, prepared: Tensor) -> Tensor:
    # Samples are exchanged; anchors stay pairs of the same sample, or there would be no common frame at all.
    return prepared[order]


def _table_in(order: Tensor, prepared: Tensor) -> Tensor:
    return prepared.index_select(0, order).index_select(1, order)


def _neighbours_in(order: Tensor, prepared: Tensor) -> Tensor:
    return _relabelled(prepared, order)


@dataclass(frozen=True)
class Measure:
    """A measure in the parts that permutations need: what is computed once of each space, and what of each pairing."""

    prepare: Callable[[Tensor, str], Any]
    """Of the vectors (N, F) and their name in messages."""
    compare: Callable[[Any, Any], float]
    """Of two prepared spaces."""
    reorder: Callable[[Tensor, Any], Any] = _rows_in
    """A prepared space with its samples in another order."""
    alternative: Literal["larger", "smaller"] = "larger"
    """Which values speak for similarity."""
    symmetric: bool = True
    """Whether the order of the two spaces does not matter."""
    needs_more_samples: bool = False
    """Whether there must be more samples than dimensions."""


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "cka_linear": Measure(_centred, _linear_cka),
        "cka_debiased": Measure(functools.partial(_centred, least=4), _debiased_cka),
        "cka_minibatch": Measure(functools.partial(_centred, least=4), functools.partial(_consecutive, batch_size=256)),
        "cka_rbf": Measure(
            functools.partial(_rbf_gram, bandwidth=1.0, count_diagonal=False), _aligned, reorder=_table_in
        ),
        "cca": Measure(
            lambda vectors, name: _columns(vectors, name).basis,
            lambda a, b: _correlations(a, b).mean().item(),
            needs_more_samples=True,
        ),
        "svcca": Measure(
            lambda vectors, name: _leading_basis(_centred(vectors, name), 0.99),
            lambda a, b: _correlations(a, b).mean().item(),
        ),
        "pwcca": Measure(
            _columns,
            lambda a, b: (_projection_weighted(a, b) + _projection_weighted(b, a)) / 2.0,
            reorder=_columns_in,
            needs_more_samples=True,
        ),
        "regression_share": Measure(
            _columns, _regression, reorder=_columns_in, symmetric=False, needs_more_samples=True
        ),
        "procrustes": Measure(_unit, _disparity, alternative="smaller"),
        "shape_angle": Measure(_unit, _angle, alternative="smaller"),
        "relative": Measure(functools.partial(_anchored, num_anchors=128), _relative, reorder=_anchored_in),
        "mutual_neighbours": Measure(functools.partial(_neighbours, k=10), _shared, reorder=_neighbours_in),
        "rsa": Measure(_rank_table, _aligned, reorder=_table_in),
    }
)
"""Every measure by name, with the default options of its function."""


def _measure(name: str) -> Measure:
    if name not in MEASURES:
        raise ValueError(f"there is no similarity {name}: there are {', '.join(MEASURES)}")
    return MEASURES[name]


def similarity(name: str, x: Features, y: OtherFeatures) -> float:
    """A measure by its name in `MEASURES`.

    Args:
        name: "cka_linear", for example.
        x: (N, F).
        y: (N, G).

    Raises:
        ValueError: if there is no such measure; as the measure.
    """
    measure, (a, b) = _prepared(name, (x, y))
    return measure.compare(a, b)


def permutation_test(
    name: str, x: Features, y: OtherFeatures, *, num_permutations: int = 200, seed: int = 0
) -> MonteCarloTest:
    """A similarity beside those of the same codes with the pairing of samples shuffled.

    Args:
        name: of the measure.
        x: (N, F).
        y: (N, G).
        num_permutations: of the samples of y; the smallest possible p-value is 1 / (1 + this).
        seed: of the permutations, each from a stream of its own.

    Returns:
        Value, p-value against "no more alike than chance", mean and deviation under shuffling; `deviations` is z.

    Raises:
        ValueError: as `similarity`; with fewer than two permutations.
    """
    return permutation_tests(name, (x, y), num_permutations=num_permutations, seed=seed)[0, 1]


def permutation_tests(
    name: str, spaces: Sequence[Tensor], *, num_permutations: int = 200, seed: int = 0
) -> dict[tuple[int, int], MonteCarloTest]:
    """`permutation_test` of every two of several spaces, with the work on each done once.

    Args:
        name: of the measure.
        spaces: (N, D_i) codes of the same samples.
        num_permutations: of the samples of the second of each two.
        seed: of the permutations, the same for all.

    Returns:
        (i, j), i < j, to the test of spaces i and j.

    Raises:
        ValueError: as `permutation_test`.
    """
    measure, prepared = _prepared(name, spaces)
    null: dict[tuple[int, int], list[float]] = {pair: [] for pair in itertools.combinations(range(len(spaces)), 2)}
    random = IndexedRandom(seed, "similarity/permutations")
    for number in range(num_permutations):
        order = torch.randperm(len(spaces[0]), generator=random.generator(number)).to(spaces[0].device)
        for second in range(1, len(spaces)):
            shuffled = measure.reorder(order, prepared[second])
            for first in range(second):
                null[first, second].append(measure.compare(prepared[first], shuffled))
    return {
        (first, second): monte_carlo_test(
            measure.compare(prepared[first], prepared[second]),
            torch.tensor(values, dtype=torch.float64),
            alternative=measure.alternative,
        )
        for (first, second), values in null.items()
    }


def similarity_interval(
    name: str,
    x: Features,
    y: OtherFeatures,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far a similarity would move with other samples, from its spread over random halves of these.

    Halves without replacement vary as much around the value of all samples as that does around the truth (the
    delete-half jackknife: Shao and Wu 1989). Resamples with replacement will not do: a copy of a sample is its nearest
    neighbour in every space.

    Args:
        name: of the measure.
        x: (N, F).
        y: (N, G).
        level: share of the values inside.
        num_resamples: number of halves.
        seed: of the halves.

    Raises:
        ValueError: as `similarity`, of half the samples.
    """
    return similarity_intervals(name, (x, y), level=level, num_resamples=num_resamples, seed=seed)[0, 1]


def similarity_intervals(
    name: str,
    spaces: Sequence[Tensor],
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[tuple[int, int], Interval]:
    """`similarity_interval` of every two of several spaces, with the work on each done once.

    Args:
        name: of the measure.
        spaces: (N, D_i) codes of the same samples.
        level: share of the values inside.
        num_resamples: number of halves.
        seed: of the halves, the same for all.

    Returns:
        (i, j), i < j, to the interval of spaces i and j.

    Raises:
        ValueError: as `similarity_interval`.
    """
    measure, prepared = _prepared(name, spaces)
    pairs = list(itertools.combinations(range(len(spaces)), 2))
    values: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairs}
    random = IndexedRandom(seed, "similarity/halves")
    count = len(spaces[0])
    for number in range(num_resamples):
        half = torch.randperm(count, generator=random.generator(number))[: count // 2].to(spaces[0].device)
        halves = _prepared(name, [codes[half] for codes in spaces])[1]
        for first, second in pairs:
            values[first, second].append(measure.compare(halves[first], halves[second]))
    return {
        (first, second): interval_of(
            torch.tensor(values[first, second], dtype=torch.float64),
            estimate=measure.compare(prepared[first], prepared[second]),
            level=level,
        )
        for first, second in pairs
    }


def _prepared(name: str, spaces: Sequence[Tensor]) -> tuple[Measure, list[Any]]:
    """A measure, and what it computes of each space."""
    measure = _measure(name)
    for other in spaces[1:]:
        _check_rows(spaces[0], other)
    names = ("x", "y") if len(spaces) == 2 else [f"space {number}" for number in range(1, len(spaces) + 1)]
    return measure, [measure.prepare(codes, label) for codes, label in zip(spaces, names, strict=True)]


# A common space


class Consensus(NamedTuple):
    """A space into which several were rotated."""

    codes: Float[Tensor, "N D"]
    """Mean of the mapped codes, float64: centred, along its principal axes."""
    maps: tuple[LinearMap, ...]
    """From each space: a translation, a rotation and one scale; its `inverse` leads back."""
    agreements: tuple[float, ...]
    """Of each space with the consensus: 1 - Procrustes disparity, in [0, 1]."""
    iterations: int


def consensus_space(spaces: Sequence[Tensor], *, max_iterations: int = 200, tolerance: float = 1e-10) -> Consensus:
    """The space nearest to several ones up to rotation: generalised Procrustes analysis (Gower 1975).

    Spaces are centred and scaled to the same size, coordinates of about unit variance; then each is rotated to the mean
    of all in turn until the mean stays. Narrower ones are filled up with zeros. The result is turned to its principal
    axes, of which the largest entry over all samples is positive.

    Args:
        spaces: (N, D_i) codes of the same samples, three or more of them (two are just rotated to each other).
        max_iterations: rounds over all spaces.
        tolerance: relative decrease of the squared distances to the mean at which rounds end.

    Raises:
        ValueError: with fewer than two spaces, or different numbers of rows; codes that are not finite or all equal.
    """
    if len(spaces) < 2:
        raise ValueError(f"a consensus is of at least two spaces, got {len(spaces)}")
    for other in spaces[1:]:
        _check_rows(spaces[0], other)
    units = [_unit(codes, f"space {number}") for number, codes in enumerate(spaces, start=1)]
    width = max(codes.shape[1] for codes in units)
    # X_i^T X_j are all that rounds need, whose cost does not depend on the number of samples then.
    products = [[one.T @ other for other in units] for one in units]
    # The first of the widest spaces begins: its width is the consensus's.
    first = next(number for number, codes in enumerate(units) if codes.shape[1] == width)
    onto = [row[first] for row in products]
    rotations: list[Tensor] = []
    last = float("inf")
    for iteration in range(1, max_iterations + 1):
        rotations = [_rotation(product) for product in onto]
        onto = [_sum_of_products(row, rotations) / len(units) for row in products]
        # Codes have norm 1, so that the mean squared distance to their mean is 1 - |mean|^2.
        size = sum((turn * product).sum() for turn, product in zip(rotations, onto, strict=True)) / len(units)
        spread = 1.0 - float(size)
        if last - spread <= tolerance * max(last, tolerance) and iteration > 1:
            break
        last = spread
    mean = _sum_of_products(units, rotations) / len(units)
    _, _, axes = torch.linalg.svd(mean, full_matrices=False)
    axes = _completed(axes, width)
    projected = mean @ axes.T
    peak = projected.gather(0, projected.abs().argmax(0, keepdim=True))[0]
    axes = axes * torch.where(peak < 0, -1.0, 1.0)[:, None]
    size = (len(mean) * width) ** 0.5
    maps = []
    for codes, turn in zip(spaces, rotations, strict=True):
        rows = codes.detach().double()
        centre = rows.mean(0)
        matrix = turn @ axes.T * (size / (rows - centre).norm())
        maps.append(LinearMap(matrix, -centre @ matrix))
    agreements = tuple(1.0 - _disparity(codes, mean / mean.norm()) for codes in units)
    return Consensus(mean @ axes.T * size, tuple(maps), agreements, iteration)


class ConsensusShares(NamedTuple):
    """How much of spaces lies in what they have in common: squared cosines, (K,), float64, in [0, 1]."""

    of_all: Float[Tensor, "K"]
    """Of each space with the mean of all, itself included: about 1 / K for unrelated ones."""
    of_others: Float[Tensor, "K"]
    """With the mean of the others: about 0 for unrelated ones."""


def consensus_shares(mapped: Sequence[Tensor]) -> ConsensusShares:
    """Shares of each space's variance that their common space accounts for, with the best scale and nothing else.

    Args:
        mapped: (N, D) codes of the same samples by the maps of a `Consensus`; samples without part in its fit give
            shares that hold for others.
    """
    centred = torch.stack([_centred(codes, f"space {number}") for number, codes in enumerate(mapped, start=1)])
    total = centred.sum(0)

    def share(one: Tensor, other: Tensor) -> Tensor:
        return F.cosine_similarity(one.flatten(), other.flatten(), dim=0).clamp_min(0.0).square()

    return ConsensusShares(
        torch.stack([share(codes, total) for codes in centred]),
        torch.stack([share(codes, total - codes) for codes in centred]),
    )


def consensus_shares_intervals(
    mapped: Sequence[Tensor], *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[list[Interval], list[Interval]]:
    """Intervals of both shares of each space, of all and of others, over other samples, the maps being what they are.

    Args:
        mapped: as `consensus_shares`.
        level: share of the resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.
    """
    estimate = consensus_shares(mapped)
    drawn = []
    for number in range(num_resamples):
        rows = resample(len(mapped[0]), number, seed)
        drawn.append(torch.stack(consensus_shares([codes[rows] for codes in mapped])))
    values = torch.stack(drawn)

    def intervals(which: int) -> list[Interval]:
        return [
            interval_of(values[:, which, space], estimate=value, level=level, lowest=0.0)
            for space, value in enumerate(estimate[which].tolist())
        ]

    return intervals(0), intervals(1)


def _sum_of_products(factors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """The matrix sum_i F_i O_i."""
    return torch.stack([factor @ other for factor, other in zip(factors, others, strict=True)]).sum(0)


def _rotation(product: Tensor) -> Tensor:
    """(D, E) with orthonormal rows that turns codes X to Y, D at most E, as nearly as possible, from X^T Y."""
    left, _, right = torch.linalg.svd(product, full_matrices=False)
    return left @ right


def _completed(axes: Tensor, width: int) -> Tensor:
    """Orthonormal rows, completed to a square matrix where there are fewer than columns."""
    if len(axes) == width:
        return axes
    _, _, whole = torch.linalg.svd(axes, full_matrices=True)
    return torch.cat([axes, whole[len(axes) :]])
