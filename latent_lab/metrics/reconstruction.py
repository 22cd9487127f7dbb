"""Errors of reconstructions as metrics, and what the mean image would achieve."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from latent_lab.metrics.indexed import Borrowed, IndexedMetric
from latent_lab.types import Images, Indices, Scalar, Scores


class ReconstructionError(IndexedMetric):
    """Mean over images of an error of each pair (image, reconstruction); each image counts once.

    Args:
        measure: (images, reconstructions) -> (N,), smaller is better: an error of `functional.reconstruction` or a
            perceptual distance; used, not owned.
    """

    higher_is_better = False

    def __init__(self, measure: Callable[[Images, Images], Scores]) -> None:
        super().__init__()
        self._measure = Borrowed(measure)
        self.add_table("errors", (), torch.float64)

    def update(self, images: Images, reconstructions: Images, index: Indices) -> None:
        """Adds pairs (N, C, H, W) in [-1, 1] with the images' places in their split (N,)."""
        self.append("errors", self._measure.value(images, reconstructions), index)

    def compute(self) -> Scalar:
        """Mean over images, float64.

        Raises:
            ValueError: if no image was given.
        """
        errors = self.table("errors")
        if len(errors) == 0:
            raise ValueError("a reconstruction error needs at least one image, got none")
        return errors.mean()


class MeanImageError(Metric):
    """Mean squared error of the best constant reconstruction, the set's own mean image: the variance over images per
    pixel.

    A model's mean squared error divided by it is the share of the variance that reconstructions miss.

    Args:
        resolution: pixels per side.
        channels: of the images.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, resolution: int, *, channels: int = 3) -> None:
        super().__init__()
        shape = (channels, resolution, resolution)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Images) -> None:
        """Adds images (N, C, R, R) in [-1, 1]; each must be given once, over all ranks."""
        values = images.detach().to(self.device, torch.float64)
        self.count = self.count + len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + values.square().sum(0)

    def compute(self) -> Scalar:
        """Mean over channels and pixels of E[x²] - E[x]², float64."""
        return (self.squares / self.count - (self.total / self.count).square()).mean()
