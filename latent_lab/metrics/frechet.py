"""Fréchet distance as a metric: sums in float64, added up over ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from latent_lab.metrics.functional.frechet import Moments, frechet_distance, moments_from_sums
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor
from latent_lab.types import Scalar


class FrechetDistance(Metric):
    """Fréchet distance between features of real and of generated images; see `functional.frechet`.

    With the canonical Inception as extractor it is FID, with any other it must not be called so.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.raw = float("nan")
        """The last computed value before it was clamped at 0."""
        width = extractor.num_features
        # Features are of order one, so float64 sums of products keep ten digits of the covariance without a shift.
        for kind in ("real", "fake"):
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_total", torch.zeros(width, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_products", torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, batch: Tensor, *, real: bool) -> None:
        """Adds images (or features, for `AlreadyExtracted`); each image must be given once, over all ranks.

        Args:
            batch: (N, C, H, W) in [-1, 1], or (N, F).
            real: whether they belong to the real set.
        """
        kind = "real" if real else "fake"
        features = self._extractor.value(batch).detach().to(self.device, torch.float64)
        setattr(self, f"{kind}_count", getattr(self, f"{kind}_count") + len(features))
        setattr(self, f"{kind}_total", getattr(self, f"{kind}_total") + features.sum(0))
        setattr(self, f"{kind}_products", getattr(self, f"{kind}_products").addmm(features.T, features))

    def compute(self) -> Scalar:
        """The distance, float64.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        estimate = frechet_distance(self._moments("real"), self._moments("fake"))
        self.raw = estimate.raw
        return torch.tensor(estimate.value, dtype=torch.float64)

    def _moments(self, kind: str) -> Moments:
        count = int(getattr(self, f"{kind}_count"))
        return moments_from_sums(count, getattr(self, f"{kind}_total"), getattr(self, f"{kind}_products"))
