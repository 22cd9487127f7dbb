"""Sliced Wasserstein distance as a metric: 8-bit images tagged with their index."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from latent_lab.images import check_range, to_bytes
from latent_lab.metrics.functional.bootstrap import LEVEL, Interval
from latent_lab.metrics.functional.sliced_wasserstein import (
    FEW_RESAMPLES,
    SlicedWassersteinIntervals,
    pyramid_resolutions,
    sliced_wasserstein,
    sliced_wasserstein_interval,
)
from latent_lab.metrics.indexed import IndexedMetric
from latent_lab.types import Images, Indices, Scalar


class SlicedWasserstein(IndexedMetric):
    """Mean over the pyramid's levels of the sliced Wasserstein distance times 1000; see
    `functional.sliced_wasserstein`.

    Args:
        resolution: pixels per side of the images, 16, 32, 64 ...
        channels: of the images.
        seed: of patch places and directions.
    """

    higher_is_better = False

    def __init__(self, resolution: int, *, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        pyramid_resolutions(resolution)
        self.seed = seed
        self.levels: Mapping[int, float] = {}
        """Resolution -> distance, of the last computed value."""
        for kind in ("real", "fake"):
            self.add_table(kind, (channels, resolution, resolution), torch.uint8)

    def update(self, images: Images, index: Indices, *, real: bool) -> None:
        """Adds images (N, C, R, R) in [-1, 1] with their global indices (N,) within the real or the generated set.

        Raises:
            ValueError: if `images.check_range` refuses the values.
        """
        check_range(images)
        self.append("real" if real else "fake", to_bytes(images), index)

    def compute(self) -> Scalar:
        """Mean over levels, float64.

        Raises:
            ValueError: if the sets are not equally large.
        """
        self.levels = sliced_wasserstein(self.table("real"), self.table("fake"), seed=self.seed)
        return torch.tensor(sum(self.levels.values()) / len(self.levels), dtype=torch.float64)

    def intervals(
        self, *, paired: bool = False, level: float = LEVEL, num_resamples: int = FEW_RESAMPLES, seed: int | None = None
    ) -> SlicedWassersteinIntervals:
        """Those of every level and of their mean, see `functional.sliced_wasserstein_interval`; every rank must ask.

        Args:
            paired: whether images of one index belong together (reconstructions).
            level: share of the resampled values inside.
            num_resamples: each costs as much as the distance itself.
            seed: of the resamples, patch places and directions; none: the metric's own.
        """
        with self.synchronised():
            return sliced_wasserstein_interval(
                self.table("real"),
                self.table("fake"),
                paired=paired,
                level=level,
                num_resamples=num_resamples,
                seed=self.seed if seed is None else seed,
            )

    def interval(
        self, *, paired: bool = False, level: float = LEVEL, num_resamples: int = FEW_RESAMPLES, seed: int | None = None
    ) -> Interval:
        """That of the mean over levels, see `intervals`; every rank must ask."""
        return self.intervals(paired=paired, level=level, num_resamples=num_resamples, seed=seed).mean
