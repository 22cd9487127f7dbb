"""StyleGAN, first version: a generator whose styles are mapped latents, against a discriminator.

Karras, Laine, Aila: "A Style-Based Generator Architecture for Generative Adversarial Networks" (CVPR 2019), after the
program NVlabs/stylegan. A mapping turns the latent z into w, which scales and shifts every layer of the synthesis G; in
most batches another w takes over from a random layer on (mixing regularisation). With the discriminator D:

    D: min  mean softplus(D(G(z))) + mean softplus(-D(x)) + gamma / 2 mean |grad_x D(x)|^2
    G: min  mean softplus(-D(G(z)))

or, as in the paper's runs on CelebA-HQ, Wasserstein's objective with gradient penalty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule, GrowthState
from latent_lab.latent.interfaces import AbstractMappedNoisyDecoder
from latent_lab.latent.layer_noise import IndexedNoise, silence
from latent_lab.latent.spaces import GaussianDirections
from latent_lab.latent.styles import repeat
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, deviation_over_batch
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.stylegan import (
    FUSED_FROM,
    StyleGANDiscriminator,
    StyleGANGenerator,
    StyleGANMapping,
    StyleGANSynthesis,
    check_groups,
)
from latent_lab.objectives import gan, stylegan
from latent_lab.types import Images, Latents, Scalar, Scores, Styles


@dataclasses.dataclass(frozen=True)
class StyleGANWeights:
    """Weights of the penalties."""

    r1: float = 10.0
    """gamma: of half the squared gradient with respect to real images, with the logistic losses; 0: none."""
    gradient_penalty: float = 10.0
    """Of WGAN-GP's penalty, with the Wasserstein loss."""
    drift: float = 0.001
    """Of the squared scores of real images, with the Wasserstein loss."""


class StyleGAN(LatentModel, AbstractMappedNoisyDecoder):
    """StyleGAN (Karras et al. 2019), first version.

    Table 1's arms: B (tuned baseline) is styles, constant_input and layer_noise false with mapping_layers 0; C
    (mapping and styles) constant_input and layer_noise false; D (constant input) layer_noise false; E (noise) as it
    stands; C to E and the baseline with mixing_probability 0; F (mixing) is the default. A is Progressive GAN.

    Args:
        schedule: growth, batch sizes and learning rates. Published: 600 kimg at 8 px, then 1,200 for each resolution,
            in the first 600 of which it fades in.
        latent_dim: D of Z and of W.
        widths: channels of both networks at 4, 8, ... pixels; null: 512 up to 32 pixels, then halved with every
            doubling, as published.
        max_resolution: networks are built up to this number of pixels; null: the schedule's last.
        mapping_layers: dense layers from Z to W.
        styles: latents act in every layer; false: through the input alone, as in a traditional generator.
        constant_input: the first layer starts from a learned constant; false: from a dense layer of w.
        layer_noise: noise after convolutions, with a learned scale for each channel.
        mixing_probability: share of the batches in which another latent takes over from a random layer on; without
            styles there are none.
        loss: logistic (published), logistic_saturating (the min-max game as written) or wasserstein.
        weights: of the penalties.
        r1_as_published: weights.r1 divided by the squared ratio of full and present resolution while the networks grow,
            as the published program does in effect, since its discriminator sees enlarged images.
        group_size: images in each group of the minibatch deviation.
        fused_from: pixels from which on convolutions change the resolution in one step; weights of the generator are
            good for the value that they were trained with.
        bias_before_blur: biases of layers that upsample stand before the blur, which weakens them at the border, as in
            the program rosinality/style-based-gan-pytorch; by default behind the noise, as published.
        norm_epsilon: added to the variance of a map before AdaIN divides by its root; 1e-5 in that program.
        adam: of both optimisers.
        reset_optimizers: forget Adam's moments whenever a resolution begins and when it has faded in, as published.
        average_half_life_kimg: of the averaged generator.
        w_average_decay: of the running mean of w, at every step of the generator. (The published program updates it
            once for each network's step, that is twice as often.)
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile the generator with torch.compile; the discriminator is differentiated twice, which compiled
            networks cannot be.
        seed: of initial weights, stored noise, latents, mixing, noise and everything else random.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 512,
        widths: Sequence[int] | None = None,
        max_resolution: int | None = None,
        mapping_layers: int = 8,
        styles: bool = True,
        constant_input: bool = True,
        layer_noise: bool = True,
        mixing_probability: float = 0.9,
        loss: Literal["logistic", "logistic_saturating", "wasserstein"] = "logistic",
        weights: StyleGANWeights = StyleGANWeights(),
        r1_as_published: bool = False,
        group_size: int = 4,
        fused_from: int = FUSED_FROM,
        bias_before_blur: bool = False,
        norm_epsilon: float = 1e-8,
        adam: AdamSettings = AdamSettings(),  # noqa: B008 (frozen)
        reset_optimizers: bool = True,
        average_half_life_kimg: float = 10.0,
        w_average_decay: float = 0.995,
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        if not 0 <= mixing_probability <= 1:
            raise ValueError(f"mixing_probability must be in [0, 1], got {mixing_probability}")
        if not 0 <= w_average_decay < 1:
            raise ValueError(f"w_average_decay must be in [0, 1), got {w_average_decay}")
        if loss not in ("logistic", "logistic_saturating", "wasserstein"):
            raise ValueError(f"loss must be logistic, logistic_saturating or wasserstein, got {loss!r}")
        if max_resolution is not None and max_resolution < schedule.resolution:
            raise ValueError(
                f"max_resolution {max_resolution} is below the schedule's {schedule.resolution} pixels: raise it or "
                "leave it null"
            )
        for stage in schedule.stages:
            check_groups(stage.batch_size, group_size)
        self.full_resolution = max_resolution or schedule.resolution
        self.mixing_probability = mixing_probability
        self.loss = loss
        self.weights = weights
        self.r1_as_published = r1_as_published
        self.adam = adam
        self.resets_optimizers = reset_optimizers
        self.w_average_decay = w_average_decay
        self.layer_noise = layer_noise
        self.channels = image_channels
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = GaussianDirections(latent_dim)
        with self.seeded():
            synthesis = StyleGANSynthesis(
                latent_dim,
                self.full_resolution,
                widths=widths,
                styles=styles,
                constant_input=constant_input,
                layer_noise=layer_noise,
                fused_from=fused_from,
                bias_before_blur=bias_before_blur,
                epsilon=float(norm_epsilon),
                channels=image_channels,
            )
            self.generator = StyleGANGenerator(StyleGANMapping(latent_dim, mapping_layers), synthesis, latent_dim)
            self.discriminator = StyleGANDiscriminator(
                self.full_resolution,
                widths=widths,
                fused_from=fused_from,
                group_size=group_size,
                channels=image_channels,
            )
        self.generator_average = AveragedNetwork(self.generator, half_life_kimg=average_half_life_kimg)
        self.to(memory_format=self.memory_format)
        if compile:
            self.generator.mapping.compile()
            self.generator.synthesis.compile()
        self._growth: tuple[int, bool] | None = None

    progress_names = (
        "train/discriminator/loss",
        "train/discriminator/score_real",
        "train/discriminator/score_fake",
        "train/generator/loss",
        "train/images/diversity",
    )
    training_only = ("generator", "discriminator")
    curve_panels = MappingProxyType(
        {
            "loss": ("train/discriminator/loss", "train/generator/loss"),
            "score": ("train/discriminator/score_real", "train/discriminator/score_fake"),
            "penalty, not weighted": ("train/discriminator/penalty",),
            "deviation over a batch": ("train/images/fake_deviation", "train/images/real_deviation"),
            "level of detail": ("growth/level_of_detail",),
        }
    )

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> GaussianDirections:
        """Z: standard normal, of which the mapping reads the direction alone."""
        return self._space

    @property
    def num_layers(self) -> int:
        """Layers of the synthesis, two for each resolution; styles of those that do not take part yet have no effect.

        Without styles there is one, the input.
        """
        return len(self.layer_resolutions)

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """Pixels per side at which each layer works."""
        return self.generator.synthesis.layer_resolutions

    def map(self, latents: Latents) -> Latents:
        """Points of W (N, D) of latents of Z."""
        return self._generator_in_use.mapping(latents)

    def decode(self, latents: Latents) -> Images:
        """Images of latents of Z: by the averaged generator in evaluation mode, by the current one in training mode.

        Layers add the stored noise, which is the same for all images.
        """
        now = self.now
        return self._generator_in_use(latents, now.phase, now.alpha)

    def decode_layers(self, styles: Styles) -> Images:
        """Images of one latent of Z for every layer."""
        now = self.now
        return self._generator_in_use(styles, now.phase, now.alpha)

    def decode_with_noise(self, latents: Latents | Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """Images of latents of Z, or of one for every layer, with this noise in the layers; none: with none."""
        now = self.now
        return self._generator_in_use(latents, now.phase, now.alpha, noise or silence(latents.device))

    def decode_mapped(self, styles: Styles) -> Images:
        """Images of one point of W for every layer."""
        now = self.now
        return self._generator_in_use.synthesis(styles, now.phase, now.alpha)

    def decode_mapped_with_noise(self, styles: Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """The same with this noise in the layers; none: with none."""
        now = self.now
        return self._generator_in_use.synthesis(styles, now.phase, now.alpha, noise or silence(styles.device))

    @property
    def mapped_average(self) -> Float[Tensor, "D"]:
        """The running mean of w over the generator's latest steps."""
        return self._generator_in_use.w_average

    @property
    def _generator_in_use(self) -> StyleGANGenerator:
        return self.generator if self.training else cast("StyleGANGenerator", self.generator_average.network)

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
            The step's statistics, without gradient.
        """
        now = self.now
        self.set_learning_rate(now)
        self._reset_optimizers_at_a_turn(now)
        real = self._layout(images.fade_images(batch.images, now.alpha))
        statistics = self.update_discriminator(real, now) | self.update_generator(real, now)
        count = self.count_images(real)
        self.generator_average.update(self.generator, count, self.images_seen)
        self.advance(count)
        return statistics

    def update_discriminator(self, real: Images, now: GrowthState) -> dict[str, Tensor]:
        """Tell real from as many generated images, with a slope that is bounded where real images are."""
        optimizer = self._optimizer("discriminator")
        with self.toggled_optimizer(optimizer):
            with torch.no_grad():
                _, styles = self._styles(real, "discriminator", now)
                fake = self._synthesise(styles, real, "discriminator", now)
            real = real.detach().requires_grad_()
            on_fake = self.discriminator(fake, now.phase, now.alpha)
            on_real = self.discriminator(real, now.phase, now.alpha)
            if self.loss == "wasserstein":
                loss = stylegan.wasserstein_discriminator_loss(on_fake, on_real, self.weights.drift)
                penalty = self._penalty_between(real.detach(), fake, now)
                loss = loss + self.weights.gradient_penalty * penalty
            else:
                loss = stylegan.discriminator_loss(on_fake, on_real)
                penalty = self._penalty_at(real, on_real)
                loss = loss + 0.5 * self._r1_gamma(now) * penalty
            self.descend(loss, optimizer)
        return {
            "train/discriminator/loss": loss.detach(),
            "train/discriminator/penalty": penalty.detach(),
            "train/discriminator/score_real": on_real.detach().mean(),
            "train/discriminator/score_fake": on_fake.detach().mean(),
        }

    def update_generator(self, real: Images, now: GrowthState) -> dict[str, Tensor]:
        """Make images that the discriminator takes for real."""
        optimizer = self._optimizer("generator")
        with self.toggled_optimizer(optimizer):
            w, styles = self._styles(real, "generator", now)
            fake = self._synthesise(styles, real, "generator", now)
            loss = self._generator_loss(self.discriminator(fake, now.phase, now.alpha))
            self.descend(loss, optimizer)
        self.generator.track_average(distributed.mean_over_ranks(w.mean(0)), self.w_average_decay)
        fake_deviation, real_deviation = deviation_over_batch(fake), deviation_over_batch(real)
        return {
            "train/generator/loss": loss.detach(),
            "train/images/fake_deviation": fake_deviation,
            "train/images/real_deviation": real_deviation,
            "train/images/diversity": fake_deviation / real_deviation.clamp_min(1e-6),
        }

    # ----------------------------------------------------------------------------------------- terms of the losses

    def _generator_loss(self, fake_scores: Scores) -> Scalar:
        if self.loss == "wasserstein":
            return stylegan.wasserstein_generator_loss(fake_scores)
        if self.loss == "logistic_saturating":
            return stylegan.saturating_generator_loss(fake_scores)
        return gan.generator_loss(fake_scores)

    def _penalty_at(self, real: Images, scores: Scores) -> Scalar:
        if self.weights.r1 == 0:
            return scores.new_zeros(())
        return stylegan.r1_penalty(scores, real).mean()

    def _penalty_between(self, real: Images, fake: Images, now: GrowthState) -> Scalar:
        share = self.training_uniforms(real, "gradient_penalty", 1)[:, 0]
        mixed = self._layout(stylegan.between(real, fake, share)).requires_grad_()
        return stylegan.gradient_penalty(self.discriminator(mixed, now.phase, now.alpha), mixed).mean()

    def _r1_gamma(self, now: GrowthState) -> float:
        return stylegan.r1_gamma(
            self.weights.r1, now.resolution, self.full_resolution, as_published=self.r1_as_published
        )

    # ------------------------------------------------------------------------------------------------- pieces

    def _optimizer(self, name: Literal["discriminator", "generator"]) -> Any:
        discriminator_optimizer, generator_optimizer = cast("list[Any]", self.optimizers())
        return discriminator_optimizer if name == "discriminator" else generator_optimizer

    def _latents(self, like: Images, stream: str) -> Latents:
        return self._space.from_normal(self.training_normals(like, stream, self._space.dim))

    def _styles(self, like: Images, stream: str, now: GrowthState) -> tuple[Latents, Styles]:
        """Points of W of fresh latents, and the same for every layer, mixed with others from the cut on."""
        w = self.generator.mapping(self._latents(like, stream))
        layers = self.generator.synthesis.active_layers(now.phase)
        cut = self._cut(layers, stream)
        if cut == layers:
            return w, repeat(w, layers)
        other = self.generator.mapping(self._latents(like, f"{stream}/mixed"))
        return w, torch.cat([repeat(w, cut), repeat(other, layers - cut)], dim=1)

    def _cut(self, layers: int, stream: str) -> int:
        """First layer of the second latent, the same in the whole batch of all devices; `layers`: none is mixed."""
        random = distributed.IndexedRandom(self.seed, f"train/{stream}/cut")
        mixes, place = random.uniform(range(self.images_seen, self.images_seen + 1), 2)[0].tolist()
        if layers == 1 or mixes >= self.mixing_probability:
            return layers
        return 1 + int(place * (layers - 1))

    def _synthesise(self, styles: Styles, like: Images, stream: str, now: GrowthState) -> Images:
        """Images with fresh noise, as the discriminator takes them."""
        noise = None
        if self.layer_noise:
            noise = IndexedNoise(self.seed, f"train/{stream}/noise", self._positions(like), like.device)
        return self._layout(self.generator.synthesis(styles, now.phase, now.alpha, noise))

    def _layout(self, images: Images) -> Images:
        return images.contiguous(memory_format=self.memory_format)

    def _reset_optimizers_at_a_turn(self, now: GrowthState) -> None:
        """Forgets Adam's moments where a resolution begins or has faded in since the step before."""
        growth = (now.phase, now.alpha >= 1.0)
        if self.resets_optimizers and self._growth not in (None, growth):
            for optimizer in cast("list[Any]", self.optimizers()):
                optimizer.state.clear()
        self._growth = growth

    # -------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the state of growth that the optimisers' moments belong to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["growth"] = self._growth and list(self._growth)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back."""
        super().on_load_checkpoint(checkpoint)
        growth = checkpoint[CHECKPOINT_KEY]["growth"]
        self._growth = growth and (int(growth[0]), bool(growth[1]))
