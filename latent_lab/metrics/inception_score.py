"""Inception score as a metric: class scores tagged with their index."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.inception_score import SPLITS, inception_score, inception_score_interval
from latent_lab.metrics.indexed import Borrowed, FeatureExtractor, IndexedMetric
from latent_lab.types import Indices, Scalar


@runtime_checkable
class Classifier(Protocol):
    """A network that gives class scores beside its features."""

    num_classes: int | None

    def observe(self, images: Any, /) -> Any:
        """Something whose `logits` are the class scores (N, num_classes)."""


class InceptionScore(IndexedMetric):
    """How sure a classifier is of each image, and how many classes it sees in all; see `functional.inception_score`.

    Real images play no part. With any but the canonical Inception's class scores it must not be called so.

    Args:
        extractor: gives `observe(images).logits` (N, num_classes); or images -> logits, with `num_features` of them, as
            `AlreadyExtracted(K)` has it, which takes logits in `update`. Used, not owned.
        splits: consecutive parts, in the order of indices, whose scores are averaged.
        shuffle_seed: of another order; none: that of the indices.
    """

    higher_is_better = True

    def __init__(
        self, extractor: Classifier | FeatureExtractor, *, splits: int = SPLITS, shuffle_seed: int | None = None
    ) -> None:
        super().__init__()
        if isinstance(extractor, Classifier):
            if extractor.num_classes is None:
                raise ValueError(
                    f"an inception score needs class scores, and {getattr(extractor, 'name', extractor)} classifies "
                    "nothing: use inception, or efflite0 under another name"
                )
            width = extractor.num_classes
        else:
            width = extractor.num_features
        self._extractor = Borrowed(extractor)
        self.splits = splits
        self.shuffle_seed = shuffle_seed
        self.deviation = float("nan")
        """Over the splits of the last computed value."""
        self.add_table("logits", (width,), torch.float32)

    def update(self, batch: Tensor, index: Indices) -> None:
        """Adds generated images (or logits, for `AlreadyExtracted`).

        Args:
            batch: (N, C, H, W) in [-1, 1], or (N, K).
            index: (N,) global index of each; an index counts once.
        """
        extractor = self._extractor.value
        logits = extractor.observe(batch).logits if isinstance(extractor, Classifier) else extractor(batch)
        self.append("logits", logits, index)

    def compute(self) -> Scalar:
        """Mean over splits, float64.

        Raises:
            ValueError: if there are fewer images than splits.
        """
        estimate = inception_score(self.table("logits"), splits=self.splits, shuffle_seed=self.shuffle_seed)
        self.deviation = estimate.deviation
        return torch.tensor(estimate.value, dtype=torch.float64)

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """How far the score would move if other images had been drawn; see `inception_score_interval`. Every rank must
        ask.

        Args:
            level: share of resampled values inside.
            num_resamples: number of resamples.
            seed: of the resamples.

        Raises:
            ValueError: if there are fewer images than splits.
        """
        with self.synchronised():
            return inception_score_interval(
                self.table("logits"),
                splits=self.splits,
                shuffle_seed=self.shuffle_seed,
                level=level,
                num_resamples=num_resamples,
                seed=seed,
            )
