"""SplitVAE: a VAE whose decoder emits two images and the map that mixes them.

Asperti, Bugo, Filippini: "Enhancing Variational Generation Through Self-Decomposition" (IEEE Access 2022). With x1, x2
and the map s from one decoder,

    x' = s x1 + (1 - s) x2,    loss = sum (x - x')^2 / (2 gamma^2) + beta KL(q(z | x), N(0, I)),

images in [0, 1]. Nothing is asked of x1, x2 and s by themselves: what the network makes of its freedom differs from run
to run, from fine interleaving to contours.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule
from latent_lab.latent.interfaces import AbstractSplitDecoder, AbstractStochasticEncoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.models.base import AdamSettings, LatentModel, single_resolution
from latent_lab.models.gamma_balance import GammaBalance
from latent_lab.networks.split_vae import (
    PUBLISHED_MOMENTUM,
    SplitImages,
    SplitVAEBottleneck,
    SplitVAEDecoder,
    SplitVAEEncoder,
)
from latent_lab.objectives import vae
from latent_lab.types import Images, Latents


class SplitVAE(LatentModel, AbstractStochasticEncoder, AbstractSplitDecoder):
    """VAE that decodes two images and their mixture (Asperti et al. 2022).

    Args:
        schedule: batch sizes and learning rates; one resolution.
        latent_dim: D of R^D with the standard normal prior. Published: CelebA 150, CIFAR-10 200, MNIST 32.
        base_dim: channels at the finest scale; doubled at every coarser one.
        num_scales: strided convolutions of the encoder.
        embedding_dim: width between convolutions and latent.
        max_width: cap on channels.
        batch_norm_momentum: share of a batch in the running moments. The published 0.001 needs thousands of steps
            before encode and decode can be judged; give 0.01 or more to short runs.
        gamma_rule: split, as published; or ema_min (Asperti and Trentin), running_min (of the latent comparison).
        kl_weight: beta. Published: CelebA and CIFAR-10 3, MNIST 8.
        adam: of the one optimiser; the default is Keras's.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights and of the noise of training.
    """

    training_only = ("balance",)
    progress_names = ("train/reconstruction_mse", "train/gamma", "train/kl", "train/latents/active")
    curve_panels = MappingProxyType(
        {
            "mean squared error ([0, 1] units)": ("train/reconstruction_mse", "train/gamma_squared"),
            "KL (nats)": ("train/kl",),
            "latents": ("train/latents/active", "train/latents/inactive"),
            "Var(mean) + mean(variance)": ("train/latents/variance_law",),
            "split": ("train/split/map", "train/split/difference"),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 150,
        base_dim: int = 64,
        num_scales: int = 4,
        embedding_dim: int = 512,
        max_width: int = 1024,
        batch_norm_momentum: float = PUBLISHED_MOMENTUM,
        gamma_rule: vae.GammaRule = "split",
        kl_weight: float = 3.0,
        adam: AdamSettings = AdamSettings(beta1=0.9, beta2=0.999, epsilon=1e-7),  # noqa: B008 (frozen)
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        resolution = single_resolution(schedule, type(self))
        if kl_weight < 0:
            raise ValueError(f"kl_weight must not be negative, got {kl_weight}")
        self.channels = image_channels
        self.adam = adam
        self.kl_weight = kl_weight
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        self.balance = GammaBalance(gamma_rule)
        with self.seeded():
            self.encoder = SplitVAEEncoder(
                resolution,
                channels=image_channels,
                base_dim=base_dim,
                num_scales=num_scales,
                embedding_dim=embedding_dim,
                max_width=max_width,
                batch_norm_momentum=batch_norm_momentum,
            )
            self.bottleneck = SplitVAEBottleneck(embedding_dim, latent_dim)
            self.decoder = SplitVAEDecoder(
                resolution,
                channels=image_channels,
                base_dim=base_dim,
                embedding_dim=embedding_dim,
                max_width=max_width,
                batch_norm_momentum=batch_norm_momentum,
            )
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.decoder.compile()

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Gaussian:
        """R^D with the standard normal prior."""
        return self._space

    def posterior(self, images: Images) -> Normal:
        """q(z | x), independent normals (N, D)."""
        mean, log_variance = self._posterior(images)
        return Normal(mean, torch.exp(0.5 * log_variance))

    def encode(self, images: Images) -> Latents:
        """The posterior's means (N, D)."""
        return self._posterior(images)[0]

    def decode(self, latents: Latents) -> Images:
        """The mixtures x', (N, C, R, R)."""
        return self.parts(latents).mixed

    def parts(self, latents: Latents) -> SplitImages:
        """x1 and x2, (N, C, R, R) in [-1, 1], and the share (N, 1, R, R) of x1 in [0, 1]."""
        split = self._split(latents)
        return SplitImages(images.from_unit(split.first), images.from_unit(split.second), split.map)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for all networks."""
        return self.adam.build(self.parameters(), self.now.learning_rate)

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step down the loss.

        Returns:
            The step's statistics, without gradient; errors in units of [0, 1].
        """
        now = self.now
        self.set_learning_rate(now)
        real = images.to_unit(batch.images)
        mean, log_variance = self._posterior(batch.images)
        noise = self.training_normals(real, "posterior", self._space.dim)
        split = self._split(mean + torch.exp(0.5 * log_variance) * noise)

        error = vae.mean_squared_error(split.mixed, real)
        variance = self.balance(error)
        reconstruction = vae.gaussian_term(error, variance, real[0].numel(), with_constants=False)
        kl = vae.kl_to_standard_normal(mean, log_variance).mean()
        loss = reconstruction + self.kl_weight * kl
        self.descend(loss)
        self.advance(self.count_images(real))
        with torch.no_grad():
            return {
                "train/loss": loss.detach(),
                "train/reconstruction": reconstruction.detach(),
                "train/reconstruction_mse": error.detach(),
                "train/gamma": variance.detach().sqrt(),
                "train/gamma_squared": variance.detach(),
                "train/kl": kl.detach(),
                "train/split/map": split.map.mean(),
                "train/split/difference": (split.first - split.second).abs().mean(),
                **vae.latent_statistics(distributed.gather(mean.detach()), distributed.gather(log_variance.detach())),
            }

    # ------------------------------------------------------------------------------------------------- pieces

    def _posterior(self, real: Images) -> tuple[Latents, Latents]:
        unit = images.to_unit(real).contiguous(memory_format=self.memory_format)
        return self.bottleneck(self.encoder(unit))

    def _split(self, latents: Latents) -> SplitImages:
        return self.decoder(self.bottleneck.to_embedding(latents))
