"""Errors of reconstructions as metrics, and what the mean image would achieve."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from latent_lab.images import check_range
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, mean_interval
from latent_lab.metrics.functional.reconstruction import PairMeasure, is_larger_better
from latent_lab.metrics.indexed import Borrowed, IndexedMetric, synchronised
from latent_lab.types import Images, Indices, Scalar


class ReconstructionError(IndexedMetric):
    """Mean over images of a measure of each pair (image, reconstruction); each image counts once.

    Args:
        measure: (images, reconstructions) -> (N,): an error or a similarity of `functional`, such as
            `mean_squared_error` or `structural_similarity`, a perceptual distance, a distance of identities, or one of
            these on the face alone (`functional.FaceCropped`); used, not owned.
    """

    def __init__(self, measure: PairMeasure) -> None:
        super().__init__()
        self._measure = Borrowed(measure)
        self.add_table("errors", (), torch.float64)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether the measure is a similarity, as `functional.larger_is_better` marks them."""
        return is_larger_better(self._measure.value)

    def update(self, images: Images, reconstructions: Images, index: Indices) -> None:
        """Adds pairs (N, C, H, W) in [-1, 1] with the images' places in their split (N,).

        Raises:
            ValueError: if there are not equally many of both, or `images.check_range` refuses their values.
        """
        if images.shape != reconstructions.shape:
            raise ValueError(
                f"images and reconstructions must have one shape, got {tuple(images.shape)} and "
                f"{tuple(reconstructions.shape)}"
            )
        check_range(images)
        check_range(reconstructions, "reconstructions")
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

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """The bootstrap interval of the mean over images; every rank must ask.

        Raises:
            ValueError: if no image was given.
        """
        with self.synchronised():
            return mean_interval(self.table("errors"), level=level, num_resamples=num_resamples, seed=seed)


class MeanImageError(Metric):
    """Mean squared error of the best constant reconstruction, the set's own mean image: the variance over images per
    pixel.

    A model's mean squared error divided by it is the share of the variance that reconstructions miss. Its state is
    sums, of which nothing can be resampled: `functional.relative_error_interval` takes each image's error of
    `mean_image`.

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
        check_range(images)
        values = images.detach().to(self.device, torch.float64)
        self.count = self.count + len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + values.square().sum(0)

    def compute(self) -> Scalar:
        """Mean over channels and pixels of E[x²] - E[x]², float64."""
        return (self.squares / self.count - (self.total / self.count).square()).mean()

    def mean_image(self) -> Float[Tensor, "1 C R R"]:
        """The mean of the images of all ranks, float64; every rank must ask."""
        with synchronised(self):
            return (self.total / self.count).unsqueeze(0)
