"""Perceptual path length as a metric: one distance for each pair of latents, tagged with its index."""

from __future__ import annotations

from collections.abc import Callable

import torch

from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.metrics.functional.path_length import path_distances, trimmed_mean
from latent_lab.metrics.indexed import Borrowed, IndexedMetric
from latent_lab.types import Images, Indices, Latents, Scalar, Scores


class PathLength(IndexedMetric):
    """Trimmed mean of the squared speed of pictures along paths in latent space; see `functional.path_length`.

    Args:
        distance: perceptual distance of image batches; used, not owned.
        epsilon: length of a step.
        crop: whether only the middle of the face is compared.
    """

    higher_is_better = False

    def __init__(
        self, distance: Callable[[Images, Images], Scores], *, epsilon: float = 1e-4, crop: bool = False
    ) -> None:
        super().__init__()
        self._distance = Borrowed(distance)
        self.epsilon = epsilon
        self.crop = crop
        self.add_table("lengths", (), torch.float64)

    def update(self, decoder: AbstractDecoder, a: Latents, b: Latents, t: Scores, index: Indices) -> None:
        """Adds pairs of latents (N, D) at shares t (N,): zeros for `end`, uniform on [0, 1) for `full`."""
        lengths = path_distances(decoder, self._distance.value, a, b, t, epsilon=self.epsilon, crop=self.crop)
        self.append("lengths", lengths, index)

    def compute(self) -> Scalar:
        """Mean between the 1st and the 99th percentile, float64.

        Raises:
            ValueError: if no pair was given.
        """
        return torch.tensor(trimmed_mean(self.table("lengths")), dtype=torch.float64)
