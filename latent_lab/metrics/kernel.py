"""Kernel distance as a metric: features tagged with their index."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.kernel import KernelSummands, kernel_summands
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor, IndexedMetric
from latent_lab.types import Indices, Scalar


class KernelDistance(IndexedMetric):
    """Squared maximum mean discrepancy between features of real and of generated images; see `functional.kernel`.

    With the canonical Inception as extractor it is KID, with any other it must not be called so.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
        full_up_to: largest set for which all pairs are used.
        subset_size: vectors in each subset of larger sets.
        seed: of the subsets.
    """

    higher_is_better = False

    def __init__(
        self, extractor: FeatureExtractor, *, full_up_to: int = 10_000, subset_size: int = 1_000, seed: int = 0
    ) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.full_up_to = full_up_to
        self.subset_size = subset_size
        self.seed = seed
        self.standard_error = float("nan")
        """Of the last computed value."""
        self._summands: KernelSummands | None = None
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

    def compute(self) -> Scalar:
        """The distance, float64; may be negative.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        summands = kernel_summands(
            self.table("real"),
            self.table("fake"),
            full_up_to=self.full_up_to,
            subset_size=self.subset_size,
            seed=self.seed,
        )
        self._summands = summands
        estimate = summands.estimate()
        self.standard_error = estimate.standard_error
        return torch.tensor(estimate.value, dtype=torch.float64)

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """How far the distance would move if other images had been drawn; see `kernel_distance_interval`.

        Every rank must ask.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        self.compute()
        assert self._summands is not None
        return self._summands.interval(level=level, num_resamples=num_resamples, seed=seed)
