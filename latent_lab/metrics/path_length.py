"""Perceptual path length as a metric: one distance for each pair of latents, tagged with its index."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.latent.layer_noise import IndexedNoise
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.path_length import (
    NOISE_BATCH,
    LayerNoise,
    PathNoise,
    PathRecipe,
    path_distances,
    path_length_interval,
    trimmed_mean,
)
from latent_lab.metrics.indexed import Borrowed, IndexedMetric
from latent_lab.types import Images, Indices, Latents, Scalar, Scores


class PathLength(IndexedMetric):
    """Trimmed mean of the squared speed of pictures along paths in latent space; see `functional.path_length`.

    Args:
        distance: perceptual distance of image batches; used, not owned.
        epsilon: length of a step.
        crop: whether only the middle of the face is compared.
        noise: what the decoder's layers add, always the same at both ends of a step: stored (the decoder's own, the
            same for all pictures), pair (each pair's own) or batch (as published, shared by the pairs of a batch; here
            by every `NOISE_BATCH` pairs of consecutive indices, so that the number depends neither on how many are
            decoded at a time nor on the number of processes).
        seed: of the noise.
    """

    higher_is_better = False

    def __init__(
        self,
        distance: Callable[[Images, Images], Scores],
        *,
        epsilon: float = 1e-4,
        crop: bool = False,
        noise: PathNoise = "stored",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._distance = Borrowed(distance)
        self.epsilon = epsilon
        self.crop = crop
        self.noise = noise
        self.seed = seed
        self.add_table("lengths", (), torch.float64)

    @classmethod
    def of_recipe(cls, recipe: PathRecipe, distance: Any, *, seed: int = 0) -> PathLength:
        """The metric with a recipe's settings; space, sampling and number of pairs are what `update` is given.

        Args:
            recipe: for example `functional.RECIPES["ppl2_wend"]`.
            distance: perceptual distance; without clamping its method `unclamped` is taken, if it has one.
            seed: of the noise.
        """
        compared = distance if recipe.clamp else getattr(distance, "unclamped", distance)
        return cls(compared, epsilon=recipe.epsilon, crop=recipe.crop, noise=recipe.noise, seed=seed)

    def update(self, decoder: AbstractDecoder, a: Latents, b: Latents, t: Scores, index: Indices) -> None:
        """Adds pairs of latents (N, D) at shares t (N,): zeros for `end`, uniform on [0, 1) for `full`.

        Raises:
            ValueError: if a length is not finite.
        """
        lengths = path_distances(
            decoder,
            self._distance.value,
            a,
            b,
            t,
            epsilon=self.epsilon,
            crop=self.crop,
            noise=self._drawn(index, a.device),
        )
        if not torch.isfinite(lengths).all():
            raise ValueError("path lengths are NaN or infinite: the model has diverged")
        self.append("lengths", lengths, index)

    def _drawn(self, index: Indices, device: torch.device) -> LayerNoise | None:
        if self.noise == "stored" or len(index) == 0:
            return None
        sharing = index if self.noise == "pair" else index.div(NOISE_BATCH, rounding_mode="floor")
        places, rows = sharing.unique(return_inverse=True)
        drawn = IndexedNoise(self.seed, f"path length/{self.noise}", places.tolist(), device)
        return functools.partial(_rows, drawn, len(places), rows.to(device))

    def compute(self) -> Scalar:
        """Mean between the 1st and the 99th percentile, float64.

        Raises:
            ValueError: if no pair was given.
        """
        return torch.tensor(trimmed_mean(self.table("lengths")), dtype=torch.float64)

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """See `functional.path_length_interval`; every rank must ask."""
        with self.synchronised():
            return path_length_interval(self.table("lengths"), level=level, num_resamples=num_resamples, seed=seed)


def _rows(noise: IndexedNoise, count: int, rows: Tensor, shape: torch.Size) -> Tensor:
    """Noise of a shape, of which there are only so many different rows."""
    return noise(torch.Size((count, *shape[1:])))[rows]
