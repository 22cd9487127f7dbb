"""Fréchet distance as a metric: sums about the mean in float64, merged over ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.frechet import (
    NUM_POINTS,
    CentredSums,
    Moments,
    accumulate,
    empty_sums,
    frechet_distance,
    frechet_infinity,
    frechet_infinity_interval,
    frechet_interval,
    merge_sums,
    moments_from_sums,
)
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor, IndexedMetric
from latent_lab.types import Indices, Scalar


class FrechetDistance(IndexedMetric):
    """Fréchet distance between features of real and of generated images; see `functional.frechet`.

    With the canonical Inception as extractor it is FID, with any other it must not be called so.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
        keep_rows: whether the features are kept, too, which `interval` needs: 4 F bytes for each image.
    """

    higher_is_better = False

    def __init__(self, extractor: FeatureExtractor, *, keep_rows: bool = False) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.keep_rows = keep_rows
        self.raw = float("nan")
        """The last computed value before it was clamped at 0."""
        for kind in ("real", "fake"):
            # Not reduced: after synchronisation a state has one entry for each rank; moments are of all of them.
            for part, value in empty_sums(extractor.num_features)._asdict().items():
                self.add_state(f"{kind}_{part}", value, dist_reduce_fx=None)
            if keep_rows:
                self.add_table(f"{kind}_rows", (extractor.num_features,), torch.float32)

    def update(self, batch: Tensor, *, real: bool) -> None:
        """Adds images (or features, for `AlreadyExtracted`); each image must be given once, over all ranks.

        Args:
            batch: (N, C, H, W) in [-1, 1], or (N, F).
            real: whether they belong to the real set.
        """
        kind = "real" if real else "fake"
        features = self._extractor.value(batch).detach().to(self.device)
        (sums,) = self._sums(kind)
        if self.keep_rows:
            # Any numbers that no other row has will do, since an interval does not depend on the order of rows.
            place = int(sums.num_vectors) + torch.arange(len(features))
            self.append(f"{kind}_rows", features, place * distributed.world_size() + distributed.rank())
        for part, value in accumulate(sums, features)._asdict().items():
            setattr(self, f"{kind}_{part}", value)

    def compute(self) -> Scalar:
        """The distance, float64.

        Raises:
            ValueError: if a set has fewer than two images.
        """
        estimate = frechet_distance(self.moments("real"), self.moments("fake"))
        self.raw = estimate.raw
        return torch.tensor(estimate.value, dtype=torch.float64)

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """How far the distance would move if other images had been drawn; see `frechet_interval`.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if the rows were not kept, or a set has fewer than two images.
        """
        if not self.keep_rows:
            raise ValueError("an interval needs the features of every image: build FrechetDistance with keep_rows=True")
        with self.synchronised():
            return frechet_interval(
                self.table("real_rows"),
                self.table("fake_rows"),
                level=level,
                num_resamples=num_resamples,
                seed=seed,
            )

    def moments(self, kind: str) -> Moments:
        """Of what this rank, or after synchronisation every rank, was given.

        Args:
            kind: "real" or "fake".

        Raises:
            ValueError: if there are fewer than two images.
        """
        return moments_from_sums(merge_sums(self._sums(kind)))

    def _sums(self, kind: str) -> list[CentredSums]:
        """One for each rank whose states are here."""
        width = self._extractor.value.num_features
        counts = getattr(self, f"{kind}_num_vectors").view(-1)
        means = getattr(self, f"{kind}_mean").view(-1, width)
        products = getattr(self, f"{kind}_products").view(-1, width, width)
        return [CentredSums(*parts) for parts in zip(counts, means, products, strict=True)]


class FrechetInfinity(IndexedMetric):
    """The Fréchet distance that ever more generated images would have (Chong & Forsyth 2020); see `frechet_infinity`.

    With the canonical Inception as extractor it is FID-infinity.

    Args:
        extractor: images -> (N, F), with `num_features`; used, not owned. `AlreadyExtracted(F)` takes features in
            `update`.
        num_points: how many distances the line goes through.
        smallest: fewest generated images in one of them; none: a quarter.
        seed: of which images are taken.
    """

    higher_is_better = False

    def __init__(
        self,
        extractor: FeatureExtractor,
        *,
        num_points: int = NUM_POINTS,
        smallest: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._extractor = Borrowed(extractor)
        self.num_points = num_points
        self.smallest = smallest
        self.seed = seed
        self.standard_error = float("nan")
        """Of the last computed value, from the residuals of its line."""
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
            ValueError: if a set has too few images.
        """
        estimate = frechet_infinity(
            self.table("real"),
            self.table("fake"),
            num_points=self.num_points,
            smallest=self.smallest,
            seed=self.seed,
        )
        self.standard_error = estimate.standard_error
        return torch.tensor(estimate.value, dtype=torch.float64)

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """How far the value would move if other images had been drawn; see `frechet_infinity_interval`.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if a set has too few images.
        """
        with self.synchronised():
            return frechet_infinity_interval(
                self.table("real"),
                self.table("fake"),
                num_points=self.num_points,
                smallest=self.smallest,
                subset_seed=self.seed,
                level=level,
                num_resamples=num_resamples,
                seed=seed,
            )
