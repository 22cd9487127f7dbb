"""Pioneer and Balanced Pioneer networks: progressively grown adversarial generator-encoders.

Heljakka, Solin, Kannala: "Pioneer Networks: Progressively Growing Generative Autoencoder" (ACCV 2018) and "Towards
Photographic Image Manipulation with Balanced Growing of Generative Autoencoders" (WACV 2020). Two networks, no
discriminator: the encoder E pulls real images' codes towards the prior and pushes generated images' codes away from it,
the generator G does the opposite:

    E: min  w_x |x - G(E(x))|_1 + max(-margin, w_r KL(E(x)) - w_f KL(E(G(z))))
    G: min  w_g KL(E(G(z))) + w_z (2 - cos(E(G(z)), z) / D)

with the moment-KL of `objectives.age`. The image term trains the encoder alone: its gradient passes through a frozen
generator. Follows AaltoVision/pioneer and AaltoVision/balanced-pioneer; their defects are named options here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, cast

import torch
from torch import Tensor

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule, GrowthState
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Hypersphere
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, deviation_over_batch
from latent_lab.models.sample_buffer import SampleRecall
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.pioneer import Normalisation, PioneerEncoder, PioneerGenerator, Upsampling
from latent_lab.objectives import age
from latent_lab.types import Images, Latents


@dataclasses.dataclass(frozen=True)
class PioneerWeights:
    """Weights of the loss terms in code units (paper units are ten times as large)."""

    kl_real: float = 0.1
    """w_r: real images' codes towards the prior."""
    kl_fake: float = 0.1
    """w_f: generated images' codes away from it, in the encoder's step."""
    kl_generator: float = 0.1
    """w_g: generated images' codes towards it, in the generator's step."""
    image: float = 1.0
    """w_x while a resolution fades in."""
    image_stable: float = 1.5
    """w_x once it has."""
    latent: float = 100.0
    """w_z; the cosine is averaged over D dimensions, so one unit of cosine weighs latent / D."""
    kl_real_outside_margin: float = 0.0
    """Balanced Pioneer's `realm` option (there 0.1): KL of real codes once more, where the margin does not reach."""
    image_boost: float = 0.0
    """Balanced Pioneer's `boostreco` k: w_x times 1 + max(0, (phase + alpha - 5) k)."""


class Pioneer(LatentModel, AbstractAutoencoder):
    """Pioneer (both papers' variants).

    Args:
        schedule: growth, batch sizes, learning rates and margins.
        latent_dim: D of the unit sphere in R^D.
        widths: channels at 4, 8, ... pixels; null: D up to 32 pixels, then halved with every doubling, as published.
        max_resolution: networks are built up to this number of pixels; null: the schedule's last.
        normalisation: of the generator's convolutions. Pioneer: pixel_norm_equalized; Balanced Pioneer: spectral.
        upsampling: of the generator.
        encoder_last_activation: LeakyReLU before the projection, present in all published weights by mistake.
        gradient_through_power_iteration: as in the published programs; false is the usual rule.
        weights: of the loss terms.
        adam: of both optimisers.
        generator_steps: per encoder step. Balanced Pioneer advises 1 for new trainings, Pioneer took 2.
        kl_direction: of the moment-KL.
        kl_form: exact, or a published wrong form.
        image_metric: of the reconstruction term.
        latent_metric: between codes of samples and their latents.
        sample_buffer: capacity of the buffer of earlier samples below 256 pixels; 0: none.
        sample_buffer_large: the same from 256 pixels on.
        buffer_restarts_with_stage: empty the buffer at every row of the schedule (Balanced), not only at a new
        resolution.
        average_half_life_kimg: of the averaged generator.
        average_decay_per_step: a fixed decay per step instead (published: 0.999).
        published_fade: real images of a fade quantised to 8 bits twice, as the published folder loader does.
        full_precision_below: under bf16, resolutions below this stay in float32: there the untrained, spectrally
            normalised generator's images differ by less than bf16 resolves.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights, latents, buffer draws and everything else random.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 512,
        widths: Sequence[int] | None = None,
        max_resolution: int | None = None,
        normalisation: Normalisation = "spectral",
        upsampling: Upsampling = "nearest",
        encoder_last_activation: bool = False,
        gradient_through_power_iteration: bool = False,
        weights: PioneerWeights = PioneerWeights(),
        adam: AdamSettings = AdamSettings(),  # noqa: B008 (frozen)
        generator_steps: int = 1,
        kl_direction: age.KlDirection = "qp",
        kl_form: age.KlForm = "exact",
        image_metric: Literal["l1", "l2"] = "l1",
        latent_metric: Literal["cos", "l1", "l2"] = "cos",
        sample_buffer: int = 200,
        sample_buffer_large: int = 100,
        buffer_restarts_with_stage: bool = False,
        average_half_life_kimg: float = 20.0,
        average_decay_per_step: float | None = None,
        published_fade: bool = False,
        full_precision_below: int = 16,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        if generator_steps < 1:
            raise ValueError(f"generator_steps must be at least 1, got {generator_steps}")
        if max_resolution is not None and max_resolution < schedule.resolution:
            raise ValueError(
                f"max_resolution {max_resolution} is below the schedule's {schedule.resolution} pixels: raise it or "
                "leave it null"
            )
        resolution = max_resolution or schedule.resolution
        self.weights = weights
        self.adam = adam
        self.generator_steps = generator_steps
        self.kl_direction: age.KlDirection = kl_direction
        self.kl_form: age.KlForm = kl_form
        self.image_metric: Literal["l1", "l2"] = image_metric
        self.latent_metric: Literal["cos", "l1", "l2"] = latent_metric
        self.fade = images.fade_images_as_published if published_fade else images.fade_images
        self.full_precision_below = full_precision_below
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

        self._space = Hypersphere(latent_dim)
        with self.seeded():
            self.encoder = PioneerEncoder(
                latent_dim,
                resolution,
                widths=widths,
                last_activation=encoder_last_activation,
                gradient_through_power_iteration=gradient_through_power_iteration,
            )
            self.generator = PioneerGenerator(
                latent_dim,
                resolution,
                widths=widths,
                normalisation=normalisation,
                upsampling=upsampling,
                gradient_through_power_iteration=gradient_through_power_iteration,
            )
        self.generator_average = AveragedNetwork(
            self.generator, half_life_kimg=average_half_life_kimg, decay_per_step=average_decay_per_step
        )
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.generator.compile()
        self.recall = SampleRecall(
            seed, sample_buffer, sample_buffer_large, restarts_with_stage=buffer_restarts_with_stage
        )

    progress_names = ("train/encoder/image", "train/encoder/kl_real", "train/encoder/kl_fake", "train/generator/cosine")
    training_only = ("generator",)
    curve_panels = MappingProxyType(
        {
            "moment KL (nats per dimension)": (
                "train/encoder/kl_real",
                "train/encoder/kl_fake",
                "train/generator/kl",
            ),
            "image error (mean |x - G(E(x))|)": ("train/encoder/image",),
            "cosine of z and E(G(z))": ("train/generator/cosine",),
            "deviation over a batch": ("train/images/fake_deviation", "train/images/real_deviation"),
            "level of detail": ("growth/level_of_detail",),
        }
    )

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Hypersphere:
        """The unit sphere."""
        return self._space

    def encode(self, images: Images) -> Latents:
        """Unit codes (N, D) of images at the model's current resolution."""
        now = self.now
        return self._space.project(self.encoder(self._layout(images), now.phase, now.alpha))

    def decode(self, latents: Latents) -> Images:
        """Images of unit latents: by the averaged generator in evaluation mode, by the current one in training mode."""
        now = self.now
        generator = self.generator if self.training else self.generator_average
        return generator(latents, now.phase, now.alpha)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the encoder, one for the generator; moments are kept when the networks grow."""
        rate = self.now.learning_rate
        return [
            self.adam.build(self.encoder.parameters(), rate),
            self.adam.build(self.generator.parameters(), rate),
        ]

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step of the encoder, `generator_steps` of the generator, one of its average.

        Returns:
            The step's statistics, without gradient; code units where weights are included.
        """
        now = self.now
        self.set_learning_rate(now)
        real = self._layout(self.fade(batch.images, now.alpha))
        with self.full_precision(now.resolution < self.full_precision_below):
            statistics = self.update_encoder(real, now)
            for repetition in range(self.generator_steps):
                statistics |= self.update_generator(real, now, repetition)
        count = self.count_images(real)
        self.generator_average.update(self.generator, count, self.images_seen)
        self.advance(count)
        return statistics

    def update_encoder(self, real: Images, now: GrowthState) -> dict[str, Tensor]:
        """Reconstruct through the frozen generator, pull real codes to the prior, push samples' codes away."""
        optimizer = self._optimizer("encoder")
        with self.toggled_optimizer(optimizer):
            codes = self._space.project(self.encoder(real, now.phase, now.alpha))
            kl_real = self._kl(codes)
            rebuilt = self.generator(codes, now.phase, now.alpha)
            image_error = age.image_distance(rebuilt, real, self.image_metric)

            with torch.no_grad():
                latents = self._latents(real, "encoder")
                fake = self._layout(self.recall(self.generator(latents, now.phase, now.alpha), now))
            fake_codes = self._space.project(self.encoder(fake, now.phase, now.alpha))
            kl_fake = self._kl(fake_codes)

            gap = self.weights.kl_real * kl_real - self.weights.kl_fake * kl_fake
            adversarial = age.clamp_gap(gap, now.margin) + self.weights.kl_real_outside_margin * kl_real
            loss = self._image_weight(now) * image_error + adversarial
            self.descend(loss, optimizer)
        clamped = torch.zeros_like(gap) if now.margin is None else (gap < -now.margin).float()
        return {
            "train/encoder/loss": loss.detach(),
            "train/encoder/image": image_error.detach(),
            "train/encoder/kl_real": kl_real.detach(),
            "train/encoder/kl_fake": kl_fake.detach(),
            "train/encoder/kl_gap": gap.detach(),
            "train/encoder/clamped": clamped.detach(),
            "train/codes/real_mean": codes.detach().mean(),
            "train/codes/real_variance": distributed.gather(codes.detach()).var(0, correction=0).mean(),
            "train/codes/fake_variance": distributed.gather(fake_codes.detach()).var(0, correction=0).mean(),
        }

    def update_generator(self, real: Images, now: GrowthState, repetition: int) -> dict[str, Tensor]:
        """Pull samples' codes to the prior and each one back to the latent it was made from."""
        optimizer = self._optimizer("generator")
        with self.toggled_optimizer(optimizer):
            latents = self._latents(real, f"generator/{repetition}")
            fake = self._layout(self.generator(latents, now.phase, now.alpha))
            codes = self._space.project(self.encoder(fake, now.phase, now.alpha))
            kl = self._kl(codes)
            latent_error = age.latent_distance(codes, latents, self.latent_metric)
            loss = self.weights.kl_generator * kl + self.weights.latent * latent_error
            self.descend(loss, optimizer)
        return {
            "train/generator/loss": loss.detach(),
            "train/generator/kl": kl.detach(),
            "train/generator/cosine": age.mean_cosine(codes.detach(), latents),
            "train/images/fake_deviation": deviation_over_batch(fake),
            "train/images/real_deviation": deviation_over_batch(real),
        }

    # ------------------------------------------------------------------------------------------------- pieces

    def _optimizer(self, name: Literal["encoder", "generator"]) -> Any:
        encoder_optimizer, generator_optimizer = cast("list[Any]", self.optimizers())
        return encoder_optimizer if name == "encoder" else generator_optimizer

    def _latents(self, like: Images, stream: str) -> Latents:
        return self._space.from_normal(self.training_normals(like, stream, self._space.dim))

    def _kl(self, codes: Latents) -> Tensor:
        whole_batch = distributed.gather(codes)
        return age.moment_kl(whole_batch, direction=self.kl_direction, form=self.kl_form)

    def _image_weight(self, now: GrowthState) -> float:
        weight = self.weights.image if now.alpha < 1 else self.weights.image_stable
        return weight * (1.0 + max(0.0, (now.level_of_detail - 5) * self.weights.image_boost))

    def _layout(self, images: Images) -> Images:
        return images.contiguous(memory_format=self.memory_format)

    # -------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sample buffer."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["sample_buffer"] = self.recall.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the sample buffer back."""
        super().on_load_checkpoint(checkpoint)
        self.recall.restore(checkpoint[CHECKPOINT_KEY]["sample_buffer"])
