"""The vanilla GAN of the study of latent spaces.

Asperti and Tonelli: "Comparing the latent space of generative models" (2022); Tonelli's thesis, section 3.1.2. The
discriminator D sees generated and real images in one batch and is trained with noisy labels; the generator G is trained
with the non-saturating loss on fresh latents:

    D: min  mean of -t ln P - (1 - t) ln(1 - P) over G(z) and x, with t = label + 0.05 U(0, 1)
    G: min  -mean of ln P(real | G(z))
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, cast

import torch
from torch import Tensor

from latent_lab.growth import GrowthSchedule
from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.models.base import AdamSettings, LatentModel, deviation_over_batch, single_resolution
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.gan import GANDiscriminator, GANGenerator
from latent_lab.networks.strided import PUBLISHED_WIDTHS, Activation
from latent_lab.objectives import gan
from latent_lab.types import Images, Latents


class GAN(LatentModel, AbstractDecoder):
    """Vanilla GAN (Tonelli 2022); a `Recoder` or an inversion makes it an autoencoder.

    Args:
        schedule: batch sizes and learning rates; one resolution.
        latent_dim: L of R^L with the standard normal prior.
        generator_widths: channels after each doubling; they grow with the resolution, as published. The square that the
            doublings begin with has resolution / 2^(number of widths) pixels per side; published: 8.
        discriminator_widths: channels after each halving.
        start_channels: of the square.
        label_noise: largest number that is added to a label, drawn evenly; 0: none.
        label_convention: what the discriminator's output is the probability of. Published: fake_is_one.
        activation: relu is what was trained; leaky_relu what the tables seem to say.
        dropout: in the discriminator, before its last layer; the tables say 0.2, but it was never active.
        adam: of both optimisers. The published program takes Keras's values: 0.9, 0.999.
        average_half_life_kimg: of the averaged generator, which makes all images but those of training; null: the
            current generator makes them, as published.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights, latents, label noise and dropout.
    """

    progress_names = (
        "train/discriminator/loss",
        "train/discriminator/accuracy_real",
        "train/discriminator/accuracy_fake",
        "train/generator/loss",
        "train/images/diversity",
    )
    curve_panels = MappingProxyType(
        {
            "cross-entropy (nats)": ("train/discriminator/loss", "train/generator/loss"),
            "discriminator's accuracy": ("train/discriminator/accuracy_real", "train/discriminator/accuracy_fake"),
            "deviation over a batch": ("train/images/fake_deviation", "train/images/real_deviation"),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 64,
        generator_widths: Sequence[int] = PUBLISHED_WIDTHS,
        discriminator_widths: Sequence[int] = PUBLISHED_WIDTHS,
        start_channels: int = 16,
        label_noise: float = 0.05,
        label_convention: gan.LabelConvention = "real_is_one",
        activation: Activation = "relu",
        dropout: float = 0.0,
        adam: AdamSettings = AdamSettings(beta1=0.5, beta2=0.999),  # noqa: B008 (frozen)
        average_half_life_kimg: float | None = None,
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        resolution = single_resolution(schedule, type(self))
        if label_noise < 0:
            raise ValueError(f"label_noise must not be negative, got {label_noise}: 0 adds none")
        self.real_label = gan.class_label(real=True, convention=label_convention)
        self.fake_label = gan.class_label(real=False, convention=label_convention)
        self.label_convention: gan.LabelConvention = label_convention
        self.label_noise = label_noise
        self.channels = image_channels
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        with self.seeded():
            self.generator = GANGenerator(
                latent_dim,
                resolution,
                widths=generator_widths,
                start_channels=start_channels,
                activation=activation,
                channels=image_channels,
            )
            self.discriminator = GANDiscriminator(
                resolution,
                widths=discriminator_widths,
                activation=activation,
                dropout=dropout,
                channels=image_channels,
            )
        self.generator_average = (
            None
            if average_half_life_kimg is None
            else AveragedNetwork(self.generator, half_life_kimg=average_half_life_kimg)
        )
        self.training_only = ("discriminator",) if self.generator_average is None else ("discriminator", "generator")
        self.to(memory_format=self.memory_format)
        if compile:
            self.generator.compile()
            self.discriminator.compile()

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Gaussian:
        """R^L with the standard normal prior."""
        return self._space

    def decode(self, latents: Latents) -> Images:
        """Images (N, C, R, R): in evaluation mode by the averaged generator, if there is one."""
        average = None if self.training else self.generator_average
        return (average or self.generator)(latents)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the discriminator, one for the generator."""
        rate = self.now.learning_rate
        return [
            self.adam.build(self.discriminator.parameters(), rate),
            self.adam.build(self.generator.parameters(), rate),
        ]

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step of the discriminator, one of the generator, one of its average.

        Returns:
            The step's statistics, without gradient; losses in nats.
        """
        self.set_learning_rate(self.now)
        real = batch.images.contiguous(memory_format=self.memory_format)
        statistics = self.update_discriminator(real) | self.update_generator(real)
        count = self.count_images(real)
        if self.generator_average is not None:
            self.generator_average.update(self.generator, count, self.images_seen)
        self.advance(count)
        return statistics

    def update_discriminator(self, real: Images) -> dict[str, Tensor]:
        """Tell as many generated images from the real ones, both in one batch."""
        optimizer = self._optimizer("discriminator")
        with self.toggled_optimizer(optimizer):
            with torch.no_grad():
                fake = self.generator(self._latents(real, "discriminator"))
            both = torch.cat([fake, real]).contiguous(memory_format=self.memory_format)
            on_fake, on_real = self.discriminator(both, self._dropout(real, "dropout/discriminator", 2)).chunk(2)
            noise = self.training_uniforms(real, "label_noise", 2).to(on_fake)
            loss = gan.discriminator_loss(
                on_fake,
                on_real,
                gan.noisy_labels(self.fake_label, noise[:, 0], self.label_noise),
                gan.noisy_labels(self.real_label, noise[:, 1], self.label_noise),
            )
            self.descend(loss, optimizer)
        return {
            "train/discriminator/loss": loss.detach(),
            "train/discriminator/accuracy_real": gan.judged_real(on_real, self.label_convention).float().mean(),
            "train/discriminator/accuracy_fake": 1.0 - gan.judged_real(on_fake, self.label_convention).float().mean(),
        }

    def update_generator(self, real: Images) -> dict[str, Tensor]:
        """Make images that the discriminator takes for real."""
        optimizer = self._optimizer("generator")
        with self.toggled_optimizer(optimizer):
            fake = self.generator(self._latents(real, "generator"))
            loss = gan.generator_loss(
                self.discriminator(fake, self._dropout(real, "dropout/generator", 1)), self.label_convention
            )
            self.descend(loss, optimizer)
        fake_deviation, real_deviation = deviation_over_batch(fake), deviation_over_batch(real)
        return {
            "train/generator/loss": loss.detach(),
            "train/images/fake_deviation": fake_deviation,
            "train/images/real_deviation": real_deviation,
            "train/images/diversity": fake_deviation / real_deviation.clamp_min(1e-6),
        }

    # ------------------------------------------------------------------------------------------------- pieces

    def _optimizer(self, name: Literal["discriminator", "generator"]) -> Any:
        discriminator_optimizer, generator_optimizer = cast("list[Any]", self.optimizers())
        return discriminator_optimizer if name == "discriminator" else generator_optimizer

    def _latents(self, like: Images, stream: str) -> Latents:
        return self._space.from_normal(self.training_normals(like, stream, self._space.dim))

    def _dropout(self, like: Images, stream: str, parts: int) -> Tensor | None:
        """Decisions of the discriminator's dropout for as many batches as there are parts, one after the other."""
        if self.discriminator.dropout == 0:
            return None
        uniform = self.training_uniforms(like, stream, parts * self.discriminator.num_features)
        return torch.cat(uniform.chunk(parts, dim=1))
