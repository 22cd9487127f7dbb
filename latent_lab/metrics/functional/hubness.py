"""What nearest neighbours tell of a space: hubs that are everybody's neighbour, attributes that neighbours share, and
whether two spaces have the same neighbours.

Functions take the indices that `neighbours.nearest` or `distinct_neighbours` return.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    Interval,
    interval_of,
    mean_interval,
    resample,
)
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


class AgreementBeyondChance(NamedTuple):
    """How much more often neighbours share binary labels than random points: (agreement - chance) / (1 - chance)."""

    value: float
    """Mean over queries of `of_queries`."""
    of_labels: Float[Tensor, "A"]
    """Of every label; NaN where all images are alike."""
    of_queries: Scores
    """(N,) mean over labels, for intervals; NaN where none is known."""


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


def distinct_neighbours(points: Features, k: int, *, queries: Float[Tensor, "_ _"] | None = None) -> Neighbours:
    """The k nearest neighbours of every query among the points, its exact copies left out.

    Args:
        points: (M, F).
        k: neighbours of each, each at a distance above 0.
        queries: (N, F); the points themselves by default, of which none is its own neighbour.

    Raises:
        ValueError: if vectors are not finite, or some have fewer than k points that differ from them.
    """
    if len(points) == 0:
        raise ValueError("neighbours need points, got none")
    # Of a query that is one of the points, its place in the count of copies is its own.
    copies = int(torch.unique(points, dim=0, return_counts=True)[1].max())
    if k + copies > len(points):
        raise ValueError(
            f"some of {len(points)} points have {len(points) - copies} others that differ from them, and not "
            f"{k}: ask for fewer neighbours"
        )
    if queries is None:
        found = nearest(points, points, k + copies - 1, exclude_same=True)
    else:
        found = nearest(queries, points, k + copies)
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


def agreement_beyond_chance(
    indices: NeighbourIndices, query_labels: Float[Tensor, "_ A"], point_labels: Float[Tensor, "_ _"] | None = None
) -> AgreementBeyondChance:
    """Agreement of binary labels of queries and their neighbours on a scale from 0 (random points) to 1 (all share).

    Args:
        indices: see `attribute_retention`.
        query_labels: see `attribute_retention`.
        point_labels: see `attribute_retention`.

    Raises:
        ValueError: see `attribute_retention`.
    """
    points = query_labels if point_labels is None else point_labels
    chance = attribute_retention(indices, query_labels, points).chance_agreement
    own, near = _presence(query_labels).unsqueeze(1), _presence(points)[indices]
    equal = (own * near + (1 - own) * (1 - near)).nanmean(1)
    beyond = torch.where(chance < 1, (equal - chance) / (1 - chance), float("nan"))
    of_queries = beyond.nanmean(1)
    return AgreementBeyondChance(of_queries.nanmean().item(), beyond.nanmean(0), of_queries)


def binomial_hubness(num_queries: int, num_candidates: int, k: int) -> Hubness:
    """The hubness of neighbours that are drawn at random: N_k is binomial, `num_queries` draws of chance k /
    num_candidates.

    Its statistics are those of the law, not of samples; `largest` is what one point in num_candidates exceeds.

    Args:
        num_queries: whose neighbours are searched.
        num_candidates: points among which each has its neighbours.
        k: neighbours of each.
    """
    law = torch.distributions.Binomial(num_queries, torch.tensor(k / num_candidates, dtype=torch.float64))
    counts = torch.arange(num_queries + 1, dtype=torch.float64)
    shares = law.log_prob(counts).exp()
    mean, variance = law.mean.item(), law.variance.item()
    hubs = counts >= 2.0 * mean
    exceeded = shares.flip(0).cumsum(0).flip(0)
    return Hubness(
        skewness=(1 - 2 * k / num_candidates) / math.sqrt(variance) if variance > 0 else 0.0,
        antihub_share=shares[0].item(),
        hub_share=shares[hubs].sum().item(),
        hub_occurrence=(shares * counts)[hubs].sum().item() / mean,
        largest=int((exceeded >= 1 / num_candidates).sum()) - 1,
        robin_hood=(shares * (counts - mean).abs()).sum().item() / (2.0 * mean),
    )


def hubness_interval(
    indices: NeighbourIndices,
    num_points: int,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """An interval for every number of `hubness` but the largest, by name; queries are resampled, points are given.

    Resampled occurrences vary more than those of the queries themselves, so intervals are centred where these are.

    Args:
        indices: (N, k) of the neighbours among the points.
        num_points: M.
        level: share of the resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.
    """
    estimate = hubness(neighbour_occurrence(indices, num_points))
    rows = (resample(len(indices), number, seed).to(indices.device) for number in range(num_resamples))
    values = [hubness(neighbour_occurrence(indices[some], num_points)) for some in rows]
    columns = dict(zip(Hubness._fields, torch.tensor(values, dtype=torch.float64).unbind(1), strict=True))
    del columns["largest"]
    lowest = {name: None if name == "skewness" else 0.0 for name in columns}
    return {
        name: interval_of(column, estimate=getattr(estimate, name), level=level, lowest=lowest[name])
        for name, column in columns.items()
    }


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
