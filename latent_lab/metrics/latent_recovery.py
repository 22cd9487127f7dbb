"""I-MSE as a metric: prior samples and what decoding and encoding makes of them, tagged with their index."""

from __future__ import annotations

import torch

from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval
from latent_lab.metrics.functional.latent_recovery import (
    LatentRecoveryEstimate,
    LatentRecoveryIntervals,
    latent_recovery,
    latent_recovery_interval,
)
from latent_lab.metrics.indexed import IndexedMetric
from latent_lab.types import Indices, Latents, Scalar


class LatentRecovery(IndexedMetric):
    """Mean squared error between latents z and encode(decode(z)); see `functional.latent_recovery`.

    Args:
        dim: number D of coordinates of the latent space.
    """

    higher_is_better = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.estimate: LatentRecoveryEstimate | None = None
        """The last computed value together with its share of Var(z) and the mean cosine."""
        for name in ("latents", "recovered"):
            self.add_table(name, (dim,), torch.float32)

    def update(self, autoencoder: AbstractAutoencoder, latents: Latents, index: Indices) -> None:
        """Adds samples of the prior (N, D) with their indices (N,); images in between are not rounded.

        Raises:
            ValueError: if what is recovered is not finite.
        """
        recovered = autoencoder.encode(autoencoder.decode(latents))
        if not torch.isfinite(recovered).all():
            raise ValueError("recovered latents contain NaN or infinite values: the model has diverged")
        self.append("latents", latents, index)
        self.append("recovered", recovered, index)

    def compute(self) -> Scalar:
        """I-MSE, float64.

        Raises:
            ValueError: if fewer than two latents were given.
        """
        self.estimate = latent_recovery(self.table("latents"), self.table("recovered"))
        return torch.tensor(self.estimate.value, dtype=torch.float64)

    def intervals(
        self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
    ) -> LatentRecoveryIntervals:
        """Those of I-MSE, its share of Var(z) and the cosine; every rank must ask."""
        with self.synchronised():
            return latent_recovery_interval(
                self.table("latents"), self.table("recovered"), level=level, num_resamples=num_resamples, seed=seed
            )

    def interval(self, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
        """That of I-MSE; every rank must ask."""
        return self.intervals(level=level, num_resamples=num_resamples, seed=seed).value
