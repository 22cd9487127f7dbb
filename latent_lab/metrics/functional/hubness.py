"""What nearest neighbours tell of a space: hubs that are everybody's neighbour, attributes that neighbours share, and
whether two spaces have the same neighbours.

Functions take the indices that `neighbours.nearest` or `distinct_neighbours` return.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, mean_interval
from latent_lab.metrics.functional.neighbours import Neighbours, nearest
from latent_lab.types import Features, Scores

NeighbourIndices: TypeAlias = Int[Tensor, "N k"]
"""Rows of the k nearest points of every query."""


class Hubness(NamedTuple):
    """How unevenly points occur among the k nearest neighbours of others (Radovanović et al. 2010).

    N_k(i) is how often point i occurs; its mean is k times queries by points. In a space without hubs it is binomial.
    """

    skewness: float
    """Of N_k (third standardised moment); 0 if all points occur equally often."""
    antihub_share: float
    """Share of the points that are nobody's neighbour."""
    hub_share: float
    """Share of the points that occur at least `hub_size` times as often as the mean."""
    hub_occurrence: float
    """Share of all neighbours that are hubs."""
    largest: int
    """max N_k."""
    robin_hood: float
    """½ sum |N_k - mean| / sum N_k: share of the occurrences that would have to be given away for all to be equal."""


class AttributeRetention(NamedTuple):
    """How far neighbours share attributes (columns of binary labels); NaN where no label is known."""

    query_rate: Float[Tensor, "A"]
    """Share of the queries with the attribute."""
    neighbour_rate: Float[Tensor, "A"]
    """Share of the neighbours with it: lower if it gets lost (hats that vanish)."""
    retention: Float[Tensor, "A"]
    """Share of the neighbours of queries with the attribute that have it, too; by chance: the rate among points."""
    point_rate: Float[Tensor, "A"]
    """Share of the points with the attribute."""
    agreement: Float[Tensor, "A"]
    """Share of pairs of a query and its neighbour with the same label."""
    chance_agreement: Float[Tensor, "A"]
    """The same for a random point instead of the neighbour."""


class NeighbourOverlap(NamedTuple):
    """How many neighbours two spaces have in common."""

    value: float
    """Mean over queries of |A ∩ B| / k."""
    chance: float
    """What neighbours without relation give: k / (number of candidates)."""
    shares: Scores
    """Of every query (N,)."""


def _check_indices(indices: Tensor, num_points: int) -> None:
    if indices.numel() == 0:
        raise ValueError(f"neighbours are needed, got indices of shape {tuple(indices.shape)}")
    if int(indices.min()) < 0 or int(indices.max()) >= num_points:
        raise ValueError(
            f"neighbours of {num_points} points have indices from 0 to {num_points - 1}, got "
            f"{int(indices.min())} to {int(indices.max())}"
        )


def distinct_neighbours(points: Features, k: int) -> Neighbours:
    """The k nearest neighbours of every point within its set, itself and its exact copies left out.

    Args:
        points: (N, F).
        k: neighbours of each, each at a distance above 0.

    Raises:
        ValueError: if points are not finite, or some have fewer than k others that differ from them.
    """
    if len(points) == 0:
        raise ValueError("neighbours need points, got none")
    copies = int(torch.unique(points, dim=0, return_counts=True)[1].max()) - 1
    if k + copies > len(points) - 1:
        raise ValueError(
            f"some of {len(points)} points have {len(points) - 1 - copies} others that differ from them, and not "
            f"{k}: ask for fewer neighbours"
        )
    found = nearest(points, points, k + copies, exclude_same=True)
    # Copies come first, at distance 0.
    first = (found.distances == 0).sum(1, keepdim=True) + torch.arange(k, device=points.device)
    return Neighbours(found.distances.gather(1, first), found.indices.gather(1, first))


def neighbour_occurrence(indices: NeighbourIndices, num_points: int) -> Int[Tensor, "M"]:
    """N_k, (M,): how often every point is among the k nearest of the queries.

    Args:
        indices: (N, k) of the neighbours among the points.
        num_points: M.

    Raises:
        ValueError: if there are no neighbours or some are none of the points.
    """
    _check_indices(indices, num_points)
    return torch.bincount(indices.flatten(), minlength=num_points)


def hubness(occurrence: Int[Tensor, "M"], *, hub_size: float = 2.0) -> Hubness:
    """Statistics of how often points occur among neighbours.

    Args:
        occurrence: (M,) of `neighbour_occurrence`.
        hub_size: a hub occurs at least so many times as often as the mean.

    Raises:
        ValueError: if no point occurs.
    """
    counts = occurrence.double()
    total = counts.sum()
    if total == 0:
        raise ValueError("hubness needs points that occur among neighbours, got none")
    mean = counts.mean()
    centred = counts - mean
    deviation = centred.square().mean().sqrt()
    hubs = counts >= hub_size * mean
    return Hubness(
        skewness=((centred / deviation) ** 3).mean().item() if deviation > 0 else 0.0,
        antihub_share=(counts == 0).double().mean().item(),
        hub_share=hubs.double().mean().item(),
        hub_occurrence=(counts[hubs].sum() / total).item(),
        largest=int(occurrence.max()),
        robin_hood=(centred.abs().sum() / (2.0 * total)).item(),
    )


def attribute_retention(
    indices: NeighbourIndices, query_labels: Float[Tensor, "_ A"], point_labels: Float[Tensor, "_ _"] | None = None
) -> AttributeRetention:
    """Rates of binary attributes among queries and among their neighbours, and how often both agree.

    Args:
        indices: (N, k) of the neighbours among the points.
        query_labels: (N, A), above 0.5 where an attribute is present, NaN where it is not known.
        point_labels: (M, A); the queries' own by default.

    Raises:
        ValueError: if numbers of rows or columns do not fit.
    """
    points = query_labels if point_labels is None else point_labels
    if len(query_labels) != len(indices) or points.shape[1] != query_labels.shape[1]:
        raise ValueError(
            f"neighbours of {len(indices)} queries need as many rows of labels and equal columns for queries and "
            f"points, got {tuple(query_labels.shape)} and {tuple(points.shape)}"
        )
    _check_indices(indices, len(points))
    own, theirs = _presence(query_labels), _presence(points)
    near = theirs[indices]
    # NaN spreads to pairs of which one label is not known.
    equal = own.unsqueeze(1) * near + (1 - own.unsqueeze(1)) * (1 - near)
    query_rate, point_rate = own.nanmean(0), theirs.nanmean(0)
    with_it = near.masked_fill((own != 1).unsqueeze(1), float("nan"))
    return AttributeRetention(
        query_rate=query_rate,
        neighbour_rate=near.flatten(0, 1).nanmean(0),
        retention=with_it.flatten(0, 1).nanmean(0),
        point_rate=point_rate,
        agreement=equal.flatten(0, 1).nanmean(0),
        chance_agreement=query_rate * point_rate + (1 - query_rate) * (1 - point_rate),
    )


def _presence(labels: Tensor) -> Tensor:
    """1 where present, 0 where absent, NaN where not known, in float64."""
    return torch.where(labels.isnan(), float("nan"), (labels > 0.5).double())


def neighbour_overlap(a: NeighbourIndices, b: Int[Tensor, "_ _"], *, num_candidates: int) -> NeighbourOverlap:
    """Mutual k-nearest neighbours of the same items in two spaces (Huh et al. 2024).

    Args:
        a: (N, k) neighbours in one space, without repetition within a row.
        b: (N, k) neighbours of the same queries in the other.
        num_candidates: points among which neighbours were searched; without the query itself where it is left out.

    Raises:
        ValueError: if the shapes differ, or there are fewer candidates than neighbours.
    """
    if a.shape != b.shape or a.numel() == 0:
        raise ValueError(f"an overlap needs equally many neighbours in both, got {tuple(a.shape)} and {tuple(b.shape)}")
    k = a.shape[1]
    if num_candidates < k:
        raise ValueError(f"{k} neighbours need at least as many candidates, got {num_candidates}")
    shares = (a.unsqueeze(2) == b.unsqueeze(1)).any(2).double().mean(1)
    return NeighbourOverlap(shares.mean().item(), k / num_candidates, shares)


def neighbour_overlap_interval(
    a: NeighbourIndices,
    b: Int[Tensor, "_ _"],
    *,
    num_candidates: int,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of the overlap over queries, the points among which neighbours are searched being given.

    Args:
        a: see `neighbour_overlap`.
        b: see `neighbour_overlap`.
        num_candidates: see `neighbour_overlap`.
        level: share of the resampled means inside.
        num_resamples: number of resampled means.
        seed: of the resamples.
    """
    shares = neighbour_overlap(a, b, num_candidates=num_candidates).shares
    return mean_interval(shares, level=level, num_resamples=num_resamples, seed=seed)
