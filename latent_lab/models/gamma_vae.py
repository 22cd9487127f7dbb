"""A VAE whose balance between reconstruction and prior is computed from its own errors.

Asperti and Trentin: "Balancing reconstruction error and Kullback-Leibler divergence in Variational Autoencoders" (IEEE
Access 2020); as trained in Asperti and Tonelli: "Comparing the latent space of generative models" (2022). With e the
mean squared error per value of a minibatch and n the values of an image, both of images in [0, 1],

    loss = n e / (2 gamma^2) + n log gamma + n log(2 pi) / 2 + w KL(q(z | x), N(0, I)),

and gamma^2 follows e by one of the rules of `objectives.vae`. Their programs' defects are named options here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule
from latent_lab.latent.interfaces import AbstractStochasticEncoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.models.base import AdamSettings, LatentModel, single_resolution
from latent_lab.models.gamma_balance import GammaBalance
from latent_lab.networks.gamma_vae import DECODER_WIDTHS, DecoderPreset, GammaVAEDecoder, GammaVAEEncoder
from latent_lab.networks.strided import PUBLISHED_WIDTHS, Activation
from latent_lab.objectives import vae
from latent_lab.types import Images, Latents


class GammaVAE(LatentModel, AbstractStochasticEncoder):
    """VAE with computed balance gamma (Asperti and Trentin 2020).

    Args:
        schedule: batch sizes and learning rates; one resolution.
        latent_dim: D of R^D with the standard normal prior.
        encoder_widths: channels of the strided convolutions; null: 128, 256, 512, as published.
        decoder: code (of the published program: channels fall with resolution) or thesis (as its text has it: the GAN's
            generator, channels rise with resolution).
        decoder_widths: channels of the first map and of each doubling; null: the preset's, for three doublings.
        gamma_rule: ema_min (Asperti and Trentin), split (SplitVAE's), or running_min (of the latent comparison).
        detach_gamma: false reproduces a defect of the published running_min: the reconstruction term's gradient is
            exactly zero whenever a minibatch sets a new minimum.
        reconstruction: mse, or bce with the published reduction (mean over channels, sum over pixels).
        kl_weight: w. 1 is the evidence bound; the balancing program has 4 for 64 pixels and 64 latents.
        activation: relu is what was trained; leaky_relu what the tables seem to say.
        dropout: before the latent; the tables say 0.2, but it was never active.
        adam: of the one optimiser. The published programs take Keras's values: 0.9, 0.999.
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
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 64,
        encoder_widths: Sequence[int] | None = None,
        decoder: DecoderPreset = "code",
        decoder_widths: Sequence[int] | None = None,
        gamma_rule: vae.GammaRule = "ema_min",
        detach_gamma: bool = True,
        reconstruction: vae.ReconstructionError = "mse",
        kl_weight: float = 1.0,
        activation: Activation = "relu",
        dropout: float = 0.0,
        adam: AdamSettings = AdamSettings(beta1=0.9, beta2=0.999),  # noqa: B008 (frozen)
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
        self.reconstruction: vae.ReconstructionError = reconstruction
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        self.balance = GammaBalance(gamma_rule, detach=detach_gamma)
        with self.seeded():
            self.encoder = GammaVAEEncoder(
                resolution,
                latent_dim,
                channels=image_channels,
                widths=encoder_widths or PUBLISHED_WIDTHS,
                activation=activation,
                dropout=dropout,
            )
            self.decoder = GammaVAEDecoder(
                resolution,
                latent_dim,
                channels=image_channels,
                widths=decoder_widths or DECODER_WIDTHS[decoder],
                activation=activation,
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
        """The observation model's means, (N, C, R, R)."""
        return images.from_unit(torch.sigmoid(self.decoder(latents)))

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for both networks."""
        return self.adam.build([*self.encoder.parameters(), *self.decoder.parameters()], self.now.learning_rate)

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step down the negative evidence bound.

        Returns:
            The step's statistics, without gradient; errors in units of [0, 1].
        """
        now = self.now
        self.set_learning_rate(now)
        real = images.to_unit(batch.images)
        mean, log_variance = self._posterior(batch.images, self._dropout(real))
        noise = self.training_normals(real, "posterior", self._space.dim)
        latents = mean + torch.exp(0.5 * log_variance) * noise
        logits = self.decoder(latents)
        rebuilt = torch.sigmoid(logits)

        kl = vae.kl_per_latent(mean, log_variance)
        if self.reconstruction == "bce":
            error, values = vae.binary_cross_entropy(logits, real), real[0, 0].numel()
        else:
            error, values = vae.mean_squared_error(rebuilt, real), real[0].numel()
        variance = self.balance(error)
        reconstruction = vae.gaussian_term(error, variance, values, with_constants=self.reconstruction == "mse")
        loss = reconstruction + self.kl_weight * kl.sum(1).mean()
        self.descend(loss)
        self.advance(self.count_images(real))
        with torch.no_grad():
            return {
                "train/loss": loss.detach(),
                "train/reconstruction": reconstruction.detach(),
                "train/reconstruction_mse": vae.mean_squared_error(rebuilt, real),
                "train/gamma": variance.detach().sqrt(),
                "train/gamma_squared": variance.detach(),
                "train/kl": kl.sum(1).mean(),
                **vae.latent_statistics(distributed.gather(mean.detach()), distributed.gather(log_variance.detach())),
            }

    # ------------------------------------------------------------------------------------------------- pieces

    def _posterior(self, real: Images, uniform: Tensor | None = None) -> tuple[Latents, Latents]:
        return self.encoder(images.to_unit(real).contiguous(memory_format=self.memory_format), uniform)

    def _dropout(self, like: Images) -> Tensor | None:
        share = self.encoder.dropout
        return self.training_uniforms(like, "dropout", self.encoder.num_features) if share else None
