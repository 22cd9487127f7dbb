"""Bootstrap intervals (Efron 1979): how far a number would move if other images had been drawn.

Rows are drawn anew with replacement, each resample from a stream of its own, so that intervals depend on the seed and
the order of the rows alone. Intervals say nothing about a metric's bias in the number of images, which resampling
cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.progress import one_by_one
from latent_lab.types import Scores

LEVEL = 0.95
NUM_RESAMPLES = 200
LOOP = "resamples for an interval"
"""How loops over resamples are called where progress is shown."""


class Interval(NamedTuple):
    """Where the middle share `level` of the resampled values lies."""

    low: float
    high: float
    level: float
    num_resamples: int


def resample(count: int, number: int, seed: int, stream: int = 0) -> Int[Tensor, "N"]:
    """Rows (count,) of one resample, drawn with replacement.

    Args:
        count: rows of the set.
        number: of the resample.
        seed: of all resamples.
        stream: of the set, so that several sets are drawn independently.
    """
    mixed = ((seed * 1_000_003 + number) * 1_009 + stream) % 2**63
    return torch.randint(max(1, count), (count,), generator=torch.Generator().manual_seed(mixed))


def interval_of(
    values: Float[Tensor, "R"], *, estimate: float | None = None, level: float = LEVEL, lowest: float | None = None
) -> Interval:
    """The interval of resampled values: their quantiles, moved so that they are centred where the estimate is.

    Distances between sets grow when rows are drawn twice, so that the quantiles of resampled distances lie above the
    estimate itself; their spread is right, their place is not. With `estimate` the interval is the quantiles of value -
    mean of values, around the estimate.

    Args:
        values: (R,) of the resamples.
        estimate: of the set itself; none: quantiles as they are.
        level: share of the values inside.
        lowest: no end lies below it.

    Raises:
        ValueError: if the level is not between 0 and 1, or there are fewer than two values.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"an interval's level must lie between 0 and 1, got {level}")
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 resamples, got {len(values)}")
    values = values.double()
    if estimate is not None:
        values = values - values.mean() + estimate
    tails = torch.tensor([(1.0 - level) / 2.0, (1.0 + level) / 2.0], dtype=torch.float64)
    low, high = values.quantile(tails).tolist()
    if lowest is not None:
        low, high = max(low, lowest), max(high, lowest)
    return Interval(low, high, level, len(values))


def bootstrap(
    statistic: Callable[..., float],
    counts: Sequence[int],
    *,
    estimate: float | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    lowest: float | None = None,
) -> Interval:
    """The interval of any statistic of one or several sets.

    Args:
        statistic: takes the rows of each set's resample, (N,) int64 for every entry of `counts`, and gives its value.
        counts: rows of each set; all are resampled independently.
        estimate: see `interval_of`.
        level: share of the values inside.
        num_resamples: how often the statistic is computed.
        seed: of the resamples.
        lowest: no end lies below it.
    """
    values = [
        statistic(*(resample(count, number, seed, stream) for stream, count in enumerate(counts)))
        for number in one_by_one(range(num_resamples), LOOP)
    ]
    return interval_of(torch.tensor(values, dtype=torch.float64), estimate=estimate, level=level, lowest=lowest)


def mean_interval(
    values: Scores, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """The interval of a mean over images.

    Args:
        values: (N,) one number for each image.
        level: share of the resampled means inside.
        num_resamples: number of resampled means.
        seed: of the resamples.

    Raises:
        ValueError: if there is no value.
    """
    if len(values) == 0:
        raise ValueError("an interval of a mean needs at least one value, got none")
    values = values.detach().double().cpu()
    means = [values[resample(len(values), number, seed)].mean() for number in one_by_one(range(num_resamples), LOOP)]
    return interval_of(torch.stack(means), level=level)
