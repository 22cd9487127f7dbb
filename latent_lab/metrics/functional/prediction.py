"""How well numbers are estimated: the area under the curve of a yes or no, the explained share of a quantity."""

from __future__ import annotations

import torch

from latent_lab.types import Scores


def area_under_curve(scores: Scores, labels: Scores) -> float:
    """Chance that a random positive has a higher score than a random negative, ties counted half; 0.5 is guessing.

    The area under the receiver operating characteristic, by ranks (Mann and Whitney 1947), so that any increasing
    function of the scores has the same.

    Args:
        scores: (N,) any numbers.
        labels: (N,) 1 for positives, 0 for negatives.

    Returns:
        In [0, 1]; NaN unless there are both kinds.
    """
    positive = labels == 1
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0:
        return float("nan")
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    counts = counts.double()
    # Equal scores share the mean of the ranks 1 ... N that they occupy.
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[place]
    surplus = ranks[positive].sum().item() - num_positive * (num_positive + 1) / 2
    return surplus / (num_positive * num_negative)


def explained_share(estimates: Scores, labels: Scores) -> float:
    """R^2 = 1 - sum (y - y')^2 / sum (y - mean y)^2: 1 is exact, 0 no better than the mean of these labels.

    Args:
        estimates: (N,) y', in the labels' units.
        labels: (N,) y.

    Returns:
        At most 1; NaN if all labels are equal.
    """
    truth = labels.double()
    total = (truth - truth.mean()).square().sum().item()
    if total == 0:
        return float("nan")
    return 1.0 - (truth - estimates.double()).square().sum().item() / total
