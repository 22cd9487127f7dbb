"""Precision, recall, density and coverage as metrics: features tagged with their index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.manifold_overlap import (
    DENSITY_K,
    PRECISION_K,
    ManifoldIndicators,
    indicator_intervals,
    manifold_indicators,
)
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor, IndexedMetric
from latent_lab.types import Indices, Scalar


class ManifoldOverlap(IndexedMetric):
    """Precision, recall, density and coverage from one pass; see `functional.manifold_overlap`.

    Report them with extractor, k and both counts: nothing else makes them comparable.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
        k: neighbours that radii of precision and recall reach to.
        density_k: neighbours that radii of density and coverage reach to.
    """

    higher_is_better = True
    reported: ClassVar[tuple[str, ...]] = ("precision", "recall", "density", "coverage")
    """Names of the values."""

    def __init__(self, extractor: FeatureExtractor, *, k: int = PRECISION_K, density_k: int = DENSITY_K) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.k = k
        self.density_k = density_k
        self._indicators: ManifoldIndicators | None = None
        for kind in ("real", "fake"):
            self.add_table(kind, (extractor.num_features,), torch.float32)

    def update(self, batch: Tensor, index: Indices, *, real: bool) -> None:
        """Adds images (or features, for `AlreadyExtracted`).

        Args:
            batch: (N, C, H, W) in [-1, 1], or (N, F).
            index: (N,) global index of each within its set; an index counts once.
            real: whether they belong to the real set.
        """
        self.append("real" if real else "fake", self._extractor.value(batch), index)

    def compute(self) -> Mapping[str, Scalar]:
        """Values by name, float64.

        Raises:
            ValueError: if a set has no more than k images.
        """
        found = manifold_indicators(self.table("real"), self.table("fake"), k=self.k, density_k=self.density_k)
        # Small, of all ranks, and all that intervals need.
        self._indicators = found
        values = zip(ManifoldOverlap.reported, found, strict=True)
        return {name: value.double().mean() for name, value in values if name in self.reported}

    def interval(
        self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
    ) -> Mapping[str, Interval]:
        """Intervals by name, given the balls; see `indicator_intervals` for what that leaves out. Every rank must ask.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if a set has no more than k images.
        """
        self.compute()
        assert self._indicators is not None
        intervals = indicator_intervals(self._indicators, level=level, num_resamples=num_resamples, seed=seed)
        return {name: intervals[name] for name in self.reported}


class PrecisionRecall(ManifoldOverlap):
    """Improved precision and recall alone; see `ManifoldOverlap`.

    Args:
        extractor: as there.
        k: neighbours that radii reach to.
    """

    reported = ("precision", "recall")

    def __init__(self, extractor: FeatureExtractor, *, k: int = PRECISION_K) -> None:
        super().__init__(extractor, k=k, density_k=k)


class DensityCoverage(ManifoldOverlap):
    """Density and coverage alone; see `ManifoldOverlap`.

    Args:
        extractor: as there.
        k: neighbours that radii reach to.
    """

    reported = ("density", "coverage")

    def __init__(self, extractor: FeatureExtractor, *, k: int = DENSITY_K) -> None:
        super().__init__(extractor, k=k, density_k=k)
