"""Linear separability: how well hyperplanes in a latent space tell binary attributes apart (Karras et al. 2019,
section 4.2).

For each attribute a linear support vector machine predicts from the latent what a classifier sees in the image. The
conditional entropy H(Y | X) of the classifier's label Y given the machine's X is what a hyperplane leaves open; the
score is 2 to the power of the sum over attributes: 1 is perfect, 2^K for K balanced attributes knows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_lab.types import Latents, Scores


def conditional_entropy(counts: Float[Tensor, "A B"]) -> float:
    """H(column | row) in bits, sum over cells of -p(row, column) log2 p(column | row); 0 log 0 is 0.

    Args:
        counts: how often, or with what probability, each row (what is known) comes with each column (what is asked).

    Raises:
        ValueError: if nothing was counted.
    """
    counts = counts.double()
    total = counts.sum()
    if total <= 0:
        raise ValueError("a conditional entropy needs at least one observation, got none")
    given_row = counts / counts.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return -(torch.xlogy(counts, given_row).sum() / (total * math.log(2.0))).item() + 0.0


def separability_score(entropies: Iterable[float]) -> float:
    """2 to the power of the sum of conditional entropies in bits."""
    return 2.0 ** sum(entropies)


def most_confident(log_odds: Scores, share: float) -> Int[Tensor, "M"]:
    """Rows of the share (rounded down, at least one) of samples of which a classifier is surest, either way."""
    count = max(1, int(share * len(log_odds)))
    return log_odds.abs().argsort(descending=True, stable=True)[:count]


def hyperplane_predictions(latents: Latents, labels: Bool[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """What a linear support vector machine (squared hinge, C = 1) that was fitted to these samples says of them.

    The primal problem is solved, which has one solution. The published program's solver of the dual stops after 1,000
    sweeps wherever it is. Where all labels are equal, so are the predictions.

    Args:
        latents: (N, D).
        labels: (N,).
    """
    if labels.all() or not labels.any():
        return labels.clone()
    # Slow to import and used here alone.
    from sklearn.svm import LinearSVC

    points = latents.double().cpu().numpy()
    machine = LinearSVC(dual=False).fit(points, labels.cpu().numpy())
    return torch.from_numpy(machine.predict(points)).to(labels.device)


def attribute_entropy(latents: Latents, log_odds: Scores, kept_share: float = 0.5) -> float:
    """H(Y | X) in bits of one attribute over the samples of which the classifier is surest.

    Args:
        latents: (N, D).
        log_odds: (N,) of the classifier; its label is whether they are positive.
        kept_share: of the samples, published: 1/2.
    """
    rows = most_confident(log_odds, kept_share)
    labels = log_odds[rows] > 0
    predicted = hyperplane_predictions(latents[rows], labels)
    cells = torch.bincount(2 * predicted.long() + labels.long(), minlength=4)
    return conditional_entropy(cells.view(2, 2).double())
