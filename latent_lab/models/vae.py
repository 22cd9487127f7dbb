"""Plain VAE and Wasserstein autoencoder: the encoder-decoder baselines of the Automodulator paper.

Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), with Higgins et al.'s beta (2017):

    loss = -log p(x | z) + beta KL(q(z | x), N(0, I)),    z ~ q(z | x),

the evidence bound in nats per image, up to a constant, for beta = 1; and Tolstikhin et al., "Wasserstein Auto-Encoders"
(2018), in its MMD form:

    loss = d(x, G(E(x))) + lambda MMD^2(E(x), z),    z ~ N(0, I).

Each has one of two decoders, "classical" or "adain" (`networks.vae`). The paper (Heljakka et al., "Deep
Automodulators", 2020) published no code, weights of losses, latent size or schedule for these baselines: every choice
here is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab import distributed
from latent_lab.growth import GrowthSchedule
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractStochasticEncoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.models.base import AdamSettings, LatentModel, single_resolution
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.vae import DECODERS, DecoderKind, HeadedEncoder
from latent_lab.objectives import mmd, vae
from latent_lab.objectives.age import image_distance
from latent_lab.types import Images, Latents

Likelihood = Literal["gaussian", "laplace"]


class VAE(LatentModel, AbstractStochasticEncoder):
    """Plain VAE and beta-VAE with Pioneer's encoder and a classical or AdaIN decoder.

    The image term is a sum over the values of an image and a mean over the batch: with P values it is P / 2 times the
    mean squared error ("gaussian", variance 1 in the units of [-1, 1]) or P times the mean absolute error ("laplace",
    scale 1). A program that averages over values has the same optimum with beta divided by that factor; beta 1 of a
    program that computes in [0, 1] is beta 4 (gaussian) or 2 (laplace) here.

    Args:
        schedule: batch sizes and learning rates; one resolution.
        latent_dim: D of R^D with the standard normal prior.
        decoder: classical (Balanced Pioneer's generator) or adain (the Automodulator's decoder without layer noise).
        widths: channels at 4, 8, ... pixels of both networks; null: D up to 32 pixels, then halved with every doubling.
        likelihood: gaussian or laplace (an L1 image term).
        beta: weight of the KL; 1 is the evidence bound.
        adam: of the one optimiser.
        average_half_life_kimg: of the averaged decoder.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights and of the noise of training.
    """

    training_only = ("decoder",)
    progress_names = ("train/image", "train/kl", "train/latents/active")
    curve_panels = MappingProxyType(
        {
            "negative evidence bound (nats)": ("train/loss",),
            "image error (mean over values)": ("train/image",),
            "KL (nats)": ("train/kl",),
            "latents": ("train/latents/active", "train/latents/inactive"),
            "Var(mean) + mean(variance)": ("train/latents/variance_law",),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 512,
        decoder: DecoderKind = "classical",
        widths: Sequence[int] | None = None,
        likelihood: Likelihood = "gaussian",
        beta: float = 1.0,
        adam: AdamSettings = AdamSettings(),  # noqa: B008 (frozen)
        average_half_life_kimg: float = 20.0,
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        resolution = single_resolution(schedule, type(self))
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        self.channels = image_channels
        self.likelihood: Likelihood = likelihood
        self.beta = beta
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        with self.seeded():
            self.encoder = HeadedEncoder(latent_dim, resolution, num_heads=2, widths=widths, channels=image_channels)
            self.decoder = DECODERS[decoder](latent_dim, resolution, widths=widths, channels=image_channels)
        self.generator_average = AveragedNetwork(self.decoder, half_life_kimg=average_half_life_kimg)
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
        mean, log_variance = self._moments(images)
        return Normal(mean, torch.exp(0.5 * log_variance))

    def encode(self, images: Images) -> Latents:
        """The posterior's means (N, D)."""
        return self._moments(images)[0]

    def decode(self, latents: Latents) -> Images:
        """Images of latents: by the averaged decoder in evaluation mode, by the current one in training mode."""
        return (self.decoder if self.training else self.generator_average)(latents)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for both networks."""
        return self.adam.build([*self.encoder.parameters(), *self.decoder.parameters()], self.now.learning_rate)

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step down the negative evidence bound.

        Returns:
            The step's statistics, without gradient: `train/loss` and `train/kl` in nats per image, `train/image` as a
            mean over values.
        """
        self.set_learning_rate(self.now)
        real: Images = batch.images
        mean, log_variance = self._moments(real)
        noise = self.training_normals(real, "posterior", self._space.dim)
        rebuilt = self.decoder(mean + torch.exp(0.5 * log_variance) * noise)

        error = image_distance(rebuilt, real, "l2" if self.likelihood == "gaussian" else "l1")
        values = real[0].numel()
        log_likelihood = -values * (error / 2 if self.likelihood == "gaussian" else error)
        kl = vae.kl_to_standard_normal(mean, log_variance).mean()
        loss = self.beta * kl - log_likelihood
        self.descend(loss)

        count = self.count_images(real)
        self.generator_average.update(self.decoder, count, self.images_seen)
        self.advance(count)
        means, log_variances = distributed.gather(mean.detach()), distributed.gather(log_variance.detach())
        return {
            "train/loss": loss.detach(),
            "train/image": error.detach(),
            "train/kl": kl.detach(),
            **vae.latent_statistics(means, log_variances),
        }

    def _moments(self, images: Images) -> tuple[Latents, Latents]:
        mean, log_variance = self.encoder(images.contiguous(memory_format=self.memory_format))
        return mean, log_variance


class WAE(LatentModel, AbstractAutoencoder):
    """Wasserstein autoencoder (MMD, inverse multiquadratic kernel) with Pioneer's encoder and one of two decoders.

    The image term is a mean over the values of an image and over the batch, the discrepancy that of the whole batch
    over all devices. A program that sums over the P values of an image has the same optimum with P times the weight.

    Args:
        schedule: batch sizes and learning rates; one resolution.
        latent_dim: D of R^D with the standard normal prior.
        decoder: classical (Balanced Pioneer's generator) or adain (the Automodulator's decoder without layer noise).
        widths: channels at 4, 8, ... pixels of both networks; null: D up to 32 pixels, then halved with every doubling.
        image_metric: l2 (mean squared) or l1 (mean absolute), of images in [-1, 1].
        mmd_weight: lambda.
        kernel_scales: C of the kernel, multiples of the expected squared distance 2 D of two samples of the prior.
        adam: of the one optimiser.
        average_half_life_kimg: of the averaged decoder.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights and of the prior samples of training.
    """

    training_only = ("decoder",)
    progress_names = ("train/image", "train/mmd", "train/codes/variance")
    curve_panels = MappingProxyType(
        {
            "image error (mean over values)": ("train/image",),
            "MMD^2": ("train/mmd",),
            "codes, per coordinate": ("train/codes/variance", "train/codes/mean_square"),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 512,
        decoder: DecoderKind = "classical",
        widths: Sequence[int] | None = None,
        image_metric: Literal["l1", "l2"] = "l2",
        mmd_weight: float = 10.0,
        kernel_scales: Sequence[float] = mmd.SCALES,
        adam: AdamSettings = AdamSettings(),  # noqa: B008 (frozen)
        average_half_life_kimg: float = 20.0,
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        resolution = single_resolution(schedule, type(self))
        if mmd_weight < 0:
            raise ValueError(f"mmd_weight must not be negative, got {mmd_weight}")
        if not kernel_scales or min(kernel_scales) <= 0:
            raise ValueError(f"kernel_scales must be one or more positive numbers, got {list(kernel_scales)}")
        self.channels = image_channels
        self.image_metric: Literal["l1", "l2"] = image_metric
        self.mmd_weight = mmd_weight
        self.kernel_scales = tuple(kernel_scales)
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        with self.seeded():
            self.encoder = HeadedEncoder(latent_dim, resolution, num_heads=1, widths=widths, channels=image_channels)
            self.decoder = DECODERS[decoder](latent_dim, resolution, widths=widths, channels=image_channels)
        self.generator_average = AveragedNetwork(self.decoder, half_life_kimg=average_half_life_kimg)
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.decoder.compile()

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Gaussian:
        """R^D with the standard normal prior."""
        return self._space

    def encode(self, images: Images) -> Latents:
        """Codes (N, D)."""
        (codes,) = self.encoder(images.contiguous(memory_format=self.memory_format))
        return codes

    def decode(self, latents: Latents) -> Images:
        """Images of latents: by the averaged decoder in evaluation mode, by the current one in training mode."""
        return (self.decoder if self.training else self.generator_average)(latents)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for both networks."""
        return self.adam.build([*self.encoder.parameters(), *self.decoder.parameters()], self.now.learning_rate)

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step: reconstruct, and draw the batch's codes towards the prior as a set.

        Returns:
            The step's statistics, without gradient.
        """
        self.set_learning_rate(self.now)
        real: Images = batch.images
        codes = self.encode(real)
        error = image_distance(self.decoder(codes), real, self.image_metric)
        all_codes = distributed.gather(codes)
        prior = distributed.gather(self.training_normals(real, "prior", self._space.dim))
        discrepancy = mmd.mmd_squared(all_codes, prior, scales=self.kernel_scales)
        loss = error + self.mmd_weight * discrepancy
        self.descend(loss)

        count = self.count_images(real)
        self.generator_average.update(self.decoder, count, self.images_seen)
        self.advance(count)
        all_codes = all_codes.detach()
        return {
            "train/loss": loss.detach(),
            "train/image": error.detach(),
            "train/mmd": discrepancy.detach(),
            "train/codes/variance": all_codes.var(0, correction=0).mean(),
            "train/codes/mean_square": all_codes.mean(0).square().mean(),
        }
