"""Memorisation of training images as metrics: features tagged with their index."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, mean_interval
from latent_lab.metrics.functional.frechet import frechet_distance, moments
from latent_lab.metrics.functional.memorisation import (
    THRESHOLD,
    authentic,
    cosine_distances,
    interval_from_distances,
    penalised,
)
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor, IndexedMetric
from latent_lab.types import Indices, Scalar, Scores


class Memorisation(IndexedMetric):
    """Memorisation-informed Fréchet distance, memorisation distance and authenticity; see `functional.memorisation`.

    Values are `memorisation_informed_frechet` (with the canonical Inception as extractor it is MiFID),
    `memorisation_distance` and `authentic_percent` (AuthPct). The real images must be the training images.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
        threshold: memorisation distance below which the Fréchet distance is divided by it.
    """

    # Of the three, the Fréchet distance should be low, the others high.
    higher_is_better = None

    def __init__(self, extractor: FeatureExtractor, *, threshold: float = THRESHOLD) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.threshold = threshold
        self._distances: Scores | None = None
        self._authentic: Tensor | None = None
        for kind in ("real", "fake"):
            self.add_table(kind, (extractor.num_features,), torch.float32)

    def update(self, batch: Tensor, index: Indices, *, real: bool) -> None:
        """Adds images (or features, for `AlreadyExtracted`).

        Args:
            batch: (N, C, H, W) in [-1, 1], or (N, F).
            index: (N,) global index of each within its set; an index counts once.
            real: whether they belong to the training set.
        """
        self.append("real" if real else "fake", self._extractor.value(batch), index)

    def compute(self) -> Mapping[str, Scalar]:
        """Values by name, float64.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        training, fake = self.table("real"), self.table("fake")
        frechet = frechet_distance(moments(training), moments(fake)).value
        # One number for each generated image, of all ranks, and most of what intervals need.
        self._distances = cosine_distances(training, fake)
        self._authentic = authentic(training, fake)
        distance = self._distances.mean()
        value = penalised(frechet, distance.item(), threshold=self.threshold)
        return {
            "memorisation_informed_frechet": torch.tensor(value, dtype=torch.float64),
            "memorisation_distance": distance,
            "authentic_percent": 100.0 * self._authentic.double().mean(),
        }

    def interval(
        self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
    ) -> Mapping[str, Interval]:
        """How far the values would move if other images had been generated; of the Fréchet distance also if others had
        been in the training set. Every rank must ask.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        self.compute()
        assert self._distances is not None
        assert self._authentic is not None
        with self.synchronised():
            frechet = interval_from_distances(
                self.table("real"),
                self.table("fake"),
                self._distances,
                threshold=self.threshold,
                level=level,
                num_resamples=num_resamples,
                seed=seed,
            )
        of_distances, of_authentic = (
            mean_interval(values, level=level, num_resamples=num_resamples, seed=seed)
            for values in (self._distances, 100.0 * self._authentic.double())
        )
        return {
            "memorisation_informed_frechet": frechet,
            "memorisation_distance": of_distances,
            "authentic_percent": of_authentic,
        }
