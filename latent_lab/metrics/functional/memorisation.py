"""Whether generated images are copies of training images: memorisation-informed Fréchet distance (Bai et al. 2021) and
authenticity (Alaa et al. 2022).

Both ask of each generated image how near its nearest training image is, and need the training images themselves: of
other real images they say nothing about memorisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap, mean_interval
from latent_lab.metrics.functional.checks import OtherVectors, check_pair
from latent_lab.metrics.functional.frechet import frechet_distance, frechet_influences, moments
from latent_lab.metrics.functional.neighbours import as_vectors, nearest
from latent_lab.types import Features

THRESHOLD = 0.1
"""Memorisation distance from which on nothing counts as memorised: that of the competition the paper reports on."""
OFFSET = 1e-14
"""Keeps the penalty of perfect copies finite, as in the competition's program."""
_NAMES = ("training", "fake")


class MemorisationEstimate(NamedTuple):
    """A Fréchet distance and what memorisation makes of it."""

    value: float
    """The memorisation-informed distance."""
    frechet: float
    """The plain distance."""
    distance: float
    """The memorisation distance, in [0, 1]."""


def cosine_distances(training: Features, fake: OtherVectors) -> Float[Tensor, "M"]:
    """For each generated vector the smallest 1 - |cos| to a training vector, (M,) float64 in [0, 1].

    Exact also for copies, whose distance is 0; a zero vector is at distance 1 from all.

    Args:
        training: (N, F).
        fake: (M, F), on the same device.

    Raises:
        ValueError: if a set is empty, widths differ, or values are not finite.
    """
    check_pair(training, fake, names=_NAMES, least=1, by="a memorisation distance")
    points, queries = _unit(training), _unit(fake)
    # Zero vectors have no direction: left in, they would seem nearer than what is at right angles.
    points = points[points.any(1)]
    if len(points) == 0:
        return queries.new_ones(len(queries))
    if (points < 0).any() or (queries < 0).any():
        # |cos| of a vector is the larger cosine of it and its negative; features after a ReLU have none below 0.
        points = torch.cat([points, -points])
    # Of unit vectors 1 - cos is half the squared distance.
    distances = (nearest(queries, points, 1).distances[:, 0].square() / 2.0).clamp_max(1.0)
    return torch.where(queries.any(1), distances, 1.0)


def _unit(vectors: Tensor) -> Tensor:
    unit = as_vectors(vectors).to(torch.float64, copy=True)
    largest = unit.abs().amax(1, keepdim=True)
    # Scaled first, so that squares neither overflow nor vanish.
    unit.div_(largest.where(largest > 0, 1.0))
    return unit.div_(unit.norm(dim=1, keepdim=True).clamp_min(1.0))


def memorisation_distance(training: Features, fake: OtherVectors) -> float:
    """Mean over generated vectors of the smallest cosine distance 1 - |cos| to a training vector (Bai et al. 2021).

    torchmetrics averages over the training vectors instead, so that one copied image among many does not show: another
    number.

    Args:
        training: (N, F).
        fake: (M, F), on the same device.

    Raises:
        ValueError: if a set is empty, widths differ, or values are not finite.
    """
    return cosine_distances(training, fake).mean().item()


def memorisation_distance_interval(
    training: Features,
    fake: OtherVectors,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of `memorisation_distance` over generated images; the training set is what it is.

    Args:
        training: (N, F).
        fake: (M, F).
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.
    """
    return mean_interval(cosine_distances(training, fake), level=level, num_resamples=num_resamples, seed=seed)


def penalised(frechet: float, distance: float, *, threshold: float = THRESHOLD) -> float:
    """A Fréchet distance over the memorisation distance if that lies below the threshold, else as it is.

    Args:
        frechet: plain distance.
        distance: memorisation distance.
        threshold: in [0, 1]; 0 never penalises.
    """
    return frechet / (distance + OFFSET) if distance < threshold else frechet


def memorisation_informed_frechet(
    training: Features, fake: OtherVectors, *, threshold: float = THRESHOLD
) -> MemorisationEstimate:
    """The Fréchet distance, divided by the memorisation distance where that is below the threshold.

    With the canonical Inception it is MiFID. The jump at the threshold (by a factor of 1 / threshold) is the paper's.

    Args:
        training: (N, F), N at least 2.
        fake: (M, F), M at least 2.
        threshold: see `penalised`; it depends on the extractor, and 0.1 was chosen for Inception.

    Raises:
        ValueError: if a set has fewer than two vectors, widths differ, or values are not finite.
    """
    check_pair(training, fake, names=_NAMES, least=2, by="a memorisation-informed Fréchet distance")
    frechet = frechet_distance(moments(training), moments(fake)).value
    distance = memorisation_distance(training, fake)
    return MemorisationEstimate(penalised(frechet, distance, threshold=threshold), frechet, distance)


def memorisation_informed_frechet_interval(
    training: Features,
    fake: OtherVectors,
    *,
    threshold: float = THRESHOLD,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How far the value would move if other images had been drawn.

    Both factors move with the same drawn generated images: the Fréchet distance to first order (see
    `frechet_interval`), the memorisation distance given the training images, whose own redrawing moves only the
    Fréchet distance. Where the memorisation distance is near the threshold the interval spans the jump.

    Args:
        training: (N, F).
        fake: (M, F).
        threshold: see `memorisation_informed_frechet`.
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: as of `memorisation_informed_frechet`.
    """
    check_pair(training, fake, names=_NAMES, least=2, by="a memorisation-informed Fréchet distance")
    return interval_from_distances(
        training,
        fake,
        cosine_distances(training, fake),
        threshold=threshold,
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )


def interval_from_distances(
    training: Features,
    fake: OtherVectors,
    distances: Float[Tensor, "M"],
    *,
    threshold: float,
    level: float,
    num_resamples: int,
    seed: int,
) -> Interval:
    """`memorisation_informed_frechet_interval` for who has the cosine distances (M,) already."""
    distances = distances.cpu()
    frechet = frechet_distance(moments(training), moments(fake)).value
    training_pulls, fake_pulls = (pulls.cpu() for pulls in frechet_influences(training, fake))

    def resampled(training_rows: Tensor, fake_rows: Tensor) -> float:
        moved = frechet + (training_pulls[training_rows].mean() + fake_pulls[fake_rows].mean()).item()
        return penalised(max(0.0, moved), distances[fake_rows].mean().item(), threshold=threshold)

    return bootstrap(
        resampled, (len(training), len(fake)), level=level, num_resamples=num_resamples, seed=seed, lowest=0.0
    )


def authentic(training: Features, fake: OtherVectors) -> Bool[Tensor, "M"]:
    """For each generated vector whether it is authentic, (M,) (Alaa et al. 2022).

    It is if it is farther from its nearest training vector than that one is from its own nearest training vector. A
    copy of a training image that is in the training set twice is not authentic, both distances being 0.

    Args:
        training: (N, F), N at least 2.
        fake: (M, F), on the same device.

    Raises:
        ValueError: if there are fewer than two training vectors or no generated one, widths differ, or values are not
            finite.
    """
    check_pair(training, fake, names=_NAMES, least=1, by="authenticity")
    if len(training) < 2:
        raise ValueError(f"authenticity needs at least 2 training vectors, got {len(training)}")
    to_training = nearest(fake, training, 1)
    # Only training vectors that are nearest to some generated one are asked for their own neighbours: the second
    # nearest of all training vectors, the first being the vector itself or a copy at distance 0.
    asked, place = to_training.indices[:, 0].unique(return_inverse=True)
    among_training = nearest(training[asked], training, 2).distances[:, 1][place]
    return to_training.distances[:, 0] > among_training


def authentic_percent(training: Features, fake: OtherVectors) -> float:
    """Share of generated vectors that are authentic, in percent (AuthPct).

    New vectors of the training distribution give 33 in one dimension and up to about 50 in many. See `authentic` for
    arguments and errors.
    """
    return 100.0 * authentic(training, fake).double().mean().item()


def authentic_percent_interval(
    training: Features,
    fake: OtherVectors,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of `authentic_percent` over generated images; the training set is what it is.

    Args:
        training: (N, F).
        fake: (M, F).
        level: share of resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.
    """
    indicators = 100.0 * authentic(training, fake).double()
    return mean_interval(indicators, level=level, num_resamples=num_resamples, seed=seed)
