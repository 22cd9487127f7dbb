"""Inception score (Salimans et al. 2016): whether a classifier is sure of each image and sees many classes in all.

exp(mean KL(p(y | x) || p(y))), where p(y) is the mean of p(y | x) over the images of a split; between 1 and the number
of classes. Real images play no part in it. Only with the class scores of the canonical network is it the Inception
score.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, LOOP, NUM_RESAMPLES, Interval, interval_of, resample
from latent_lab.metrics.functional.checks import check_finite
from latent_lab.progress import one_by_one

Logits: TypeAlias = Float[Tensor, "N K"]
"""Class scores before the softmax, one row for each image."""

SPLITS = 10
"""Parts whose scores are averaged, as published."""


class InceptionScoreEstimate(NamedTuple):
    """Mean and deviation over splits."""

    value: float
    deviation: float
    """Over splits, dividing by their number, as published; it is no error of the mean."""


def _checked(logits: Logits, splits: int, shuffle_seed: int | None) -> Float[Tensor, "N K"]:
    """Float64 logits in the order in which they are split."""
    if splits < 1:
        raise ValueError(f"an inception score needs at least 1 split, got {splits}")
    if len(logits) < splits:
        raise ValueError(
            f"an inception score of {splits} splits needs at least as many images, got {len(logits)}: "
            "use fewer splits or more images"
        )
    check_finite(logits, "logits")
    if shuffle_seed is not None:
        order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(shuffle_seed))
        logits = logits[order.to(logits.device)]
    return logits.double()


def _bounds(count: int, splits: int) -> list[tuple[int, int]]:
    return [(part * count // splits, (part + 1) * count // splits) for part in range(splits)]


def inception_score(logits: Logits, *, splits: int = SPLITS, shuffle_seed: int | None = None) -> InceptionScoreEstimate:
    """The mean over splits of exp(mean over images of Σ p(y | x) (log p(y | x) - log p(y))), in float64.

    Args:
        logits: (N, K).
        splits: consecutive parts of the rows, as equal as possible.
        shuffle_seed: of the order in which rows are split; none: as they come, which is right for samples of a prior,
            but not for images sorted by class.

    Raises:
        ValueError: if there are fewer images than splits, or a logit is not finite.
    """
    log_p = _checked(logits, splits, shuffle_seed).log_softmax(1)
    scores = []
    for start, stop in _bounds(len(log_p), splits):
        part = log_p[start:stop]
        p = part.exp()
        scores.append((p * (part - p.mean(0).log())).nan_to_num_(0.0).sum(1).mean().exp())
    found = torch.stack(scores)
    return InceptionScoreEstimate(found.mean().item(), found.std(correction=0).item())


def inception_score_interval(
    logits: Logits,
    *,
    splits: int = SPLITS,
    shuffle_seed: int | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far the score would move if other images had been drawn, as many as these.

    Rows are drawn anew and cut into splits. Draws with copies show fewer classes than distinct images, so that
    resampled scores lie too low; the interval is centred at the score itself.

    Args:
        logits: (N, K).
        splits: see `inception_score`.
        shuffle_seed: see `inception_score`.
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as of `inception_score`.
    """
    estimate = inception_score(logits, splits=splits, shuffle_seed=shuffle_seed).value
    log_p = _checked(logits, splits, shuffle_seed).log_softmax(1)
    p = log_p.exp()
    # The mean divergence of a split is its mean negative entropy less that of its mean distribution.
    certainty = torch.special.entr(p).sum(1).neg()
    count = len(p)
    bounds = _bounds(count, splits)
    sizes = torch.tensor([stop - start for start, stop in bounds], dtype=torch.float64, device=p.device)
    of_split = torch.repeat_interleave(torch.arange(splits), sizes.long().cpu())
    values = []
    for number in one_by_one(range(num_resamples), LOOP):
        # How often each row is in each split: means over splits are then one product.
        places = of_split * count + resample(count, number, seed)
        weights = torch.bincount(places, minlength=splits * count).view(splits, count).to(p) / sizes[:, None]
        divergence = weights @ certainty + torch.special.entr(weights @ p).sum(1)
        values.append(divergence.exp().mean().cpu())
    return interval_of(torch.stack(values), estimate=estimate, level=level, lowest=1.0)
