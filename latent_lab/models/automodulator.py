"""Deep Automodulator: a generator-encoder whose decoder is modulated by the code, scale by scale.

Heljakka, Hou, Kannala, Solin: "Deep Automodulators" (NeurIPS 2020). The encoder E is Pioneer's; the generator G starts
from a constant and takes the code through adaptive instance normalisation after every convolution, so that codes of
several images can be mixed by resolution. With the moment-KL of `objectives.age`, theta_<j the generator's blocks below
a random cut j, and z' the code that takes over at j in half of the rows:

    E: min  w_x d(x, G(E(x))) + w_e KL(E(x)) + clamp(w_r KL(E(x)) - w_f KL(E(G(z, z'))), -m, m/2)
    G: min  w_g KL(E(G(z, z'))) + w_z (2 - cos(E(G(z)), z) / D) + w_j mean (theta_<j(E(G(z, z'))) - theta_<j(z))^2

d is the adaptive robust loss of Barron (2019) or a plain mean. The image term trains the encoder alone, unless flip
invariance is asked for. Follows AaltoVision/automodulator; its defects are named options here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule, GrowthState
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractNoisyDecoder
from latent_lab.latent.layer_noise import FixedNoise, IndexedNoise
from latent_lab.latent.spaces import Hypersphere
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, deviation_over_batch
from latent_lab.models.sample_buffer import SampleRecall
from latent_lab.networks.adaptive_robust import AdaptiveRobustLoss
from latent_lab.networks.automodulator import AutomodulatorDecoder
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.pioneer import PioneerEncoder
from latent_lab.objectives import age
from latent_lab.objectives.robust import adaptive_nll
from latent_lab.types import Images, Latents, Scalar, Styles


@dataclasses.dataclass(frozen=True)
class AutomodulatorWeights:
    """Weights of the loss terms in code units (paper units are ten times as large)."""

    kl_real: float = 0.1
    """w_r: real images' codes towards the prior, within the margin's reach."""
    kl_fake: float = 0.1
    """w_f: generated images' codes away from it, in the encoder's step."""
    kl_real_outside_margin: float = 0.1
    """w_e: real images' codes towards the prior once more, where the margin does not reach."""
    kl_generator: float = 0.1
    """w_g: generated images' codes towards it, in the generator's step."""
    image: float = 1.0
    """w_x while a resolution fades in."""
    image_stable: float = 1.5
    """w_x once it has."""
    robust: float = 0.2
    """Of the robust loss, beside w_x."""
    latent: float = 100.0
    """w_z; the cosine is averaged over D dimensions, so one unit of cosine weighs latent / D."""
    mixing: float = 1.0
    """w_j; 0 switches the layer-mixing loss off."""


class _Mixture(NamedTuple):
    """Codes for every block of a batch, some of whose rows change over to another code at a cut."""

    styles: Styles
    cut: int
    """Number of blocks before the change; 0: no row changes."""
    rows: Tensor
    """(n,) bool, on the CPU: which rows change."""


class Automodulator(LatentModel, AbstractAutoencoder, AbstractNoisyDecoder):
    """Deep Automodulator.

    Args:
        schedule: growth, batch sizes, learning rates and margins.
        latent_dim: D of the unit sphere in R^D.
        widths: channels of both networks at 4, 8, ... pixels; null: as published.
        small: the published smaller generator (CelebA-HQ), where `widths` are null.
        max_resolution: networks are built up to this number of pixels; null: the schedule's last.
        mapping_layers: dense layers between a code and its modulations; published: none.
        layer_noise: noise after convolutions, with a learned scale for each channel.
        evaluation_noise: whether decoding in evaluation mode adds it, too (the same maps for every image).
        upsampling: nearest with blur; bilinear reproduces the published form without blur.
        flip_block: position of a supporting block in the generator; blocks before it alone may carry what changes when
            an image is mirrored. Published experiment: 2; null: no such block.
        weights: of the loss terms.
        adam: of all optimisers.
        generator_steps: per encoder step.
        margin_upper: upper end of the clamp, as a share of the margin; null: no upper end.
        kl_direction: of the moment-KL.
        kl_form: exact, or a published wrong form.
        image_metric: of the reconstruction term.
        latent_metric: between codes of samples and their latents.
        mixing_metric: of the layer-mixing loss; the program has l2, the paper prints l1.
        mixing_noise: of the layer-mixing loss's second pass: shared with the first, or fresh (as published; the loss
            then has a floor).
        encoder_mixing_share: share of the samples in the encoder's step whose code changes at a cut.
        generator_mixing_share: the same in the generator's step.
        robust_gradients: `accumulated` reproduces the published program, which never sets the gradients of the robust
            loss's own parameters to zero.
        robust_growth: how these parameters are handed to the next resolution; `scrambled` as published.
        affine_learning_rate: of the modulations' own optimiser, which flip invariance and `affine_follows_encoder` use.
        affine_follows_encoder: the reconstruction trains the modulations, too.
        train_coarse_rgb: whether the generator's step trains the to-RGB layer that fades out.
        sample_buffer: capacity of the buffer of earlier samples below 256 pixels; 0: none.
        sample_buffer_large: the same from 256 pixels on.
        average_half_life_kimg: of the averaged generator.
        average_decay_per_step: a fixed decay per step instead (published: 0.999).
        gradient_through_power_iteration: of the encoder's spectral norm, as in the published program.
        published_fade: real images of a fade quantised to 8 bits twice, as the published folder loader does.
        full_precision_below: under bf16, resolutions below this stay in float32.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights, latents, cuts, noise, buffer draws and everything else random.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 512,
        widths: Sequence[int] | None = None,
        small: bool = False,
        max_resolution: int | None = None,
        mapping_layers: int = 0,
        layer_noise: bool = True,
        evaluation_noise: bool = True,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        flip_block: int | None = None,
        weights: AutomodulatorWeights = AutomodulatorWeights(),
        adam: AdamSettings = AdamSettings(),  # noqa: B008 (frozen)
        generator_steps: int = 1,
        margin_upper: float | None = 0.5,
        kl_direction: age.KlDirection = "qp",
        kl_form: age.KlForm = "exact",
        image_metric: Literal["robust", "l1", "l2"] = "robust",
        latent_metric: Literal["cos", "l1", "l2"] = "cos",
        mixing_metric: Literal["l1", "l2"] = "l2",
        mixing_noise: Literal["shared", "fresh"] = "shared",
        encoder_mixing_share: float = 0.25,
        generator_mixing_share: float = 0.5,
        robust_gradients: Literal["zeroed", "accumulated"] = "zeroed",
        robust_growth: Literal["nearest", "scrambled"] = "nearest",
        affine_learning_rate: float = 1e-3,
        affine_follows_encoder: bool = False,
        train_coarse_rgb: bool = False,
        sample_buffer: int = 200,
        sample_buffer_large: int = 100,
        average_half_life_kimg: float = 20.0,
        average_decay_per_step: float | None = None,
        gradient_through_power_iteration: bool = False,
        published_fade: bool = False,
        full_precision_below: int = 0,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        if generator_steps < 1:
            raise ValueError(f"generator_steps must be at least 1, got {generator_steps}")
        for name, share in (("encoder", encoder_mixing_share), ("generator", generator_mixing_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}_mixing_share must be in [0, 1], got {share}")
        if generator_mixing_share == 1 and weights.latent:
            raise ValueError(
                "generator_mixing_share must be below 1 where weights.latent is not 0: the latent term needs rows that "
                "are not mixed"
            )
        if max_resolution is not None and max_resolution < schedule.resolution:
            raise ValueError(
                f"max_resolution {max_resolution} is below the schedule's {schedule.resolution} pixels: raise it or "
                "leave it null"
            )
        if flip_block is not None and any(stage.batch_size % 2 for stage in schedule.stages):
            raise ValueError("flip invariance compares pairs of images: with flip_block, batch sizes must be even")
        resolution = max_resolution or schedule.resolution
        self.weights = weights
        self.adam = adam
        self.generator_steps = generator_steps
        self.margin_upper = margin_upper
        self.kl_direction: age.KlDirection = kl_direction
        self.kl_form: age.KlForm = kl_form
        self.image_metric: Literal["robust", "l1", "l2"] = image_metric
        self.latent_metric: Literal["cos", "l1", "l2"] = latent_metric
        self.mixing_metric: Literal["l1", "l2"] = mixing_metric
        self.mixing_noise = mixing_noise
        self.encoder_mixing_share = encoder_mixing_share
        self.generator_mixing_share = generator_mixing_share
        self.accumulates_robust_gradients = robust_gradients == "accumulated"
        self.scrambles_robust_growth = robust_growth == "scrambled"
        self.affine_learning_rate = affine_learning_rate
        self.affine_follows_encoder = affine_follows_encoder
        self.train_coarse_rgb = train_coarse_rgb
        self.flip_block = flip_block
        self.fade = images.fade_images_as_published if published_fade else images.fade_images
        self.full_precision_below = full_precision_below
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

        self._space = Hypersphere(latent_dim)
        with self.seeded():
            self.encoder = PioneerEncoder(
                latent_dim,
                resolution,
                widths=widths,
                gradient_through_power_iteration=gradient_through_power_iteration,
            )
            self.generator = AutomodulatorDecoder(
                latent_dim,
                resolution,
                widths=widths,
                small=small,
                layer_noise=layer_noise,
                upsampling=upsampling,
                mapping_layers=mapping_layers,
                support_block=flip_block,
            )
        self.generator_average = AveragedNetwork(
            self.generator, half_life_kimg=average_half_life_kimg, decay_per_step=average_decay_per_step
        )
        self.robust = AdaptiveRobustLoss(resolution, adaptive_nll)
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.generator.compile()
        self.layer_noise = layer_noise and flip_block is None
        self._evaluation_noise = FixedNoise(seed) if self.layer_noise and evaluation_noise else None
        self.recall = SampleRecall(seed, sample_buffer, sample_buffer_large)
        self._robust_phase = 0
        self._kept_robust_gradients: list[Tensor] = []

    progress_names = ("train/encoder/image", "train/encoder/kl_real", "train/encoder/kl_fake", "train/generator/cosine")
    training_only = ("generator", "robust")
    curve_panels = MappingProxyType(
        {
            "moment KL (nats per dimension)": (
                "train/encoder/kl_real",
                "train/encoder/kl_fake",
                "train/generator/kl",
            ),
            "image error (mean |x - G(E(x))|)": ("train/encoder/image",),
            "cosine of z and E(G(z))": ("train/generator/cosine",),
            "layer mixing": ("train/generator/mixing",),
            "deviation over a batch": ("train/images/fake_deviation", "train/images/real_deviation"),
            "level of detail": ("growth/level_of_detail",),
        }
    )

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Hypersphere:
        """The unit sphere."""
        return self._space

    @property
    def num_layers(self) -> int:
        """Blocks of the generator; while it grows, codes for blocks that do not take part yet have no effect."""
        return len(self.generator.blocks)

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """Pixels per side at which each block works."""
        return self.generator.block_resolutions

    def encode(self, images: Images) -> Latents:
        """Unit codes (N, D) of images at the model's current resolution."""
        now = self.now
        return self._space.project(self.encoder(self._layout(images), now.phase, now.alpha))

    def decode(self, latents: Latents) -> Images:
        """Images of unit latents: by the averaged generator in evaluation mode, by the current one in training mode."""
        return self._decode(latents)

    def decode_layers(self, styles: Styles) -> Images:
        """Images of one code for every block."""
        return self._decode(styles)

    def decode_with_noise(self, latents: Latents | Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """Images of unit latents, or of one code for every block, with this noise in the layers; none: with none."""
        now = self.now
        generator = self.generator if self.training else self.generator_average
        images: Images = generator(latents, now.phase, now.alpha, noise)
        return images

    def _decode(self, codes: Tensor) -> Images:
        return self.decode_with_noise(
            codes, self._evaluation_noise.on(codes.device) if self._evaluation_noise else None
        )

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the encoder and the robust loss, one for the generator, one for its modulations if need be."""
        rate = self.now.learning_rate
        optimizers: list[torch.optim.Optimizer] = [
            self.adam.build([*self.encoder.parameters(), *self.robust.parameters()], rate),
            self.adam.build(self.generator.parameters(), rate),
        ]
        if self.flip_block is not None or self.affine_follows_encoder:
            optimizers.append(self.adam.build(self.generator.affine_parameters(), self.affine_learning_rate))
        return optimizers

    def set_learning_rate(self, now: GrowthState) -> None:
        """Gives the optimisers the schedule's rate, but the modulations' own keeps its."""
        super().set_learning_rate(now)
        for optimizer in self._all_optimizers[2:]:
            optimizer.param_groups[0]["lr"] = self.affine_learning_rate

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One step of the encoder, `generator_steps` of the generator, one of its average.

        Returns:
            The step's statistics, without gradient; code units where weights are included.
        """
        now = self.now
        self.set_learning_rate(now)
        self._grow_robust_loss(now)
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
        flips = self._flips(now)
        modulates = flips or self.affine_follows_encoder
        affine = self.generator.affine_parameters() if modulates else ()
        with self._training_only([*self.encoder.parameters(), *self.robust.parameters(), *affine]):
            if flips:
                real = _with_mirrored_neighbours(real)
            codes = self._space.project(self.encoder(real, now.phase, now.alpha))
            kl_real = self._kl_of_halves(codes) if flips else self._kl(codes)
            styles = self._exchanged_between_neighbours(codes) if flips else codes
            rebuilt = self.generator(styles, now.phase, now.alpha, self._noise(real, "encoder/reconstruction"))
            image_error, image_loss = self._image_terms(rebuilt, real, now)
            if flips:
                # The two directions of a pair add up, as published; the mean over rows halves their sum.
                image_loss = 2 * image_loss

            with torch.no_grad():
                mixture = self._mixture(real, "encoder", self.encoder_mixing_share, now)
                noise = self._noise(real, "encoder/samples")
                fake = self._layout(self.recall(self.generator(mixture.styles, now.phase, now.alpha, noise), now))
            fake_codes = self._space.project(self.encoder(fake, now.phase, now.alpha))
            kl_fake = self._kl(fake_codes)

            gap = self.weights.kl_real * kl_real - self.weights.kl_fake * kl_fake
            upper = None if now.margin is None or self.margin_upper is None else self.margin_upper * now.margin
            adversarial = age.clamp_gap(gap, now.margin, upper=upper)
            loss = self.weights.kl_real_outside_margin * kl_real + image_loss + adversarial
            self._descend_encoder(loss, with_affine=modulates)
        return {
            "train/encoder/loss": loss.detach(),
            "train/encoder/image": image_error.detach(),
            "train/encoder/image_loss": image_loss.detach(),
            "train/encoder/kl_real": kl_real.detach(),
            "train/encoder/kl_fake": kl_fake.detach(),
            "train/encoder/kl_gap": gap.detach(),
            "train/encoder/clamped": (adversarial != gap).float().detach(),
            "train/codes/real_mean": codes.detach().mean(),
            "train/codes/real_variance": distributed.gather(codes.detach()).var(0, correction=0).mean(),
            "train/codes/fake_variance": distributed.gather(fake_codes.detach()).var(0, correction=0).mean(),
        }

    def update_generator(self, real: Images, now: GrowthState, repetition: int) -> dict[str, Tensor]:
        """Pull samples' codes to the prior, plain ones back to their latents, mixed ones to their lower blocks'."""
        phase, stream = now.phase, f"generator/{repetition}"
        with self._training_only(self._trained_in_the_generators_step(now)):
            mixture = self._mixture(real, stream, self.generator_mixing_share, now)
            plain = ~mixture.rows
            noise = self._noise(real, stream)
            below = self.generator.modulate(mixture.styles, noise, end=mixture.cut, phase=phase)
            fake = self._layout(
                self.generator(mixture.styles, phase, now.alpha, noise, begin=mixture.cut, content=below)
            )
            codes = self._space.project(self.encoder(fake, phase, now.alpha))
            kl = self._kl(codes)

            # A device may hold more of the mixed rows than another; its means count accordingly.
            num_mixed, num_plain = self._count_mixed(real, self.generator_mixing_share, now)
            latents = mixture.styles[plain, 0]
            latent_error = self._part_of_mean(
                lambda: age.latent_distance(codes[plain], latents, self.latent_metric), plain, num_plain
            )
            mixing_error = self._part_of_mean(
                lambda: self._mixing_error(codes[mixture.rows], below, mixture, stream, now), mixture.rows, num_mixed
            )
            loss = self.weights.kl_generator * kl + self.weights.latent * latent_error
            loss = loss + self.weights.mixing * mixing_error
            self.descend(loss, self._all_optimizers[1])
        cosine = self._part_of_mean(lambda: age.mean_cosine(codes[plain].detach(), latents), plain, num_plain)
        return {
            "train/generator/loss": loss.detach(),
            "train/generator/kl": kl.detach(),
            "train/generator/cosine": cosine,
            "train/generator/mixing": mixing_error.detach(),
            "train/images/fake_deviation": deviation_over_batch(fake),
            "train/images/real_deviation": deviation_over_batch(real),
        }

    # ----------------------------------------------------------------------------------------- terms of the losses

    def _kl(self, codes: Latents) -> Scalar:
        whole_batch = distributed.gather(codes)
        return age.moment_kl(whole_batch, direction=self.kl_direction, form=self.kl_form)

    def _kl_of_halves(self, codes: Latents) -> Scalar:
        """Images and their mirror images as two distributions."""
        return (self._kl(codes[0::2]) + self._kl(codes[1::2])) / 2

    def _image_terms(self, rebuilt: Images, real: Images, now: GrowthState) -> tuple[Scalar, Scalar]:
        """The mean absolute error, to be watched, and the weighted term of the loss."""
        weight = self.weights.image if now.alpha < 1 else self.weights.image_stable
        absolute = age.image_distance(rebuilt, real, "l1")
        if self.image_metric == "robust":
            return absolute, self.weights.robust * weight * self.robust(rebuilt - real).mean()
        return absolute, weight * age.image_distance(rebuilt, real, self.image_metric)

    def _mixing_error(
        self, codes: Latents, below: Tensor | None, mixture: _Mixture, stream: str, now: GrowthState
    ) -> Scalar:
        """How far the lower blocks' features under the mixed images' codes are from those they were made of."""
        assert below is not None
        noise = self._noise(below, stream if self.mixing_noise == "shared" else f"{stream}/again", mixture.rows)
        again = self.generator.modulate(codes, noise, end=mixture.cut, phase=now.phase)
        assert again is not None
        difference = (again - below[mixture.rows]).float()
        return difference.square().mean() if self.mixing_metric == "l2" else difference.abs().mean()

    # ------------------------------------------------------------------------------------------------- mixing

    def _mixture(self, like: Images, stream: str, share: float, now: GrowthState) -> _Mixture:
        """Latents for every block; in some rows another latent takes over from a cut that the whole batch shares."""
        styles = self._latents(like, stream).unsqueeze(1).repeat(1, self.num_layers, 1)
        places = torch.tensor(list(self._positions(like)), dtype=torch.float64) - now.images_seen
        last_cut = self._last_cut(now)
        if last_cut == 0:
            return _Mixture(styles, 0, torch.zeros(len(like), dtype=torch.bool))
        # Every 1/share-th row, counted over all devices, so that the devices hold equally many as far as may be.
        rows = ((places + 1) * share).floor() > (places * share).floor()
        draw = distributed.IndexedRandom(self.seed, f"train/{stream}/cut").uniform(
            range(now.images_seen, now.images_seen + 1)
        )
        cut = 1 + int(draw.item() * last_cut)
        others = self._latents(like, f"{stream}/other")
        styles[rows, cut:] = others[rows].unsqueeze(1)
        return _Mixture(styles, cut, rows)

    def _count_mixed(self, like: Images, share: float, now: GrowthState) -> tuple[int, int]:
        """Mixed and other rows of all devices."""
        total = self.count_images(like)
        mixed = int(total * share) if self._last_cut(now) > 0 else 0
        return mixed, total - mixed

    def _newest(self, now: GrowthState) -> int:
        """The first block of the newest resolution."""
        return self.layer_resolutions.index(now.resolution)

    def _last_cut(self, now: GrowthState) -> int:
        """A fade needs what enters the newest resolution, so no cut may lie within that."""
        return self._newest(now) if now.alpha < 1 else self.generator.active_blocks(now.phase) - 1

    def _flips(self, now: GrowthState) -> bool:
        return self.flip_block is not None and self.generator.active_blocks(now.phase) > self.flip_block

    def _exchanged_between_neighbours(self, codes: Latents) -> Styles:
        """Each row's own code before the supporting block, its mirrored neighbour's from there on."""
        neighbours = codes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        styles = codes.unsqueeze(1).repeat(1, self.num_layers, 1)
        styles[:, self.flip_block :] = neighbours.unsqueeze(1)
        return styles

    # ------------------------------------------------------------------------------------------------- pieces

    @property
    def _all_optimizers(self) -> list[Any]:
        return cast("list[Any]", self.optimizers())

    @contextmanager
    def _training_only(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Within, these parameters alone take a gradient; the averaged generator's never do."""
        chosen = {id(parameter) for parameter in parameters}
        trained = [*self.encoder.parameters(), *self.generator.parameters(), *self.robust.parameters()]
        for parameter in trained:
            parameter.requires_grad_(id(parameter) in chosen)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _trained_in_the_generators_step(self, now: GrowthState) -> list[nn.Parameter]:
        parameters = list(self.generator.parameters())
        if self.train_coarse_rgb or now.phase == 0:
            return parameters
        coarse = {id(parameter) for parameter in self.generator.to_rgb[self._newest(now) - 1].parameters()}
        return [parameter for parameter in parameters if id(parameter) not in coarse]

    def _descend_encoder(self, loss: Tensor, *, with_affine: bool) -> None:
        """Steps of the encoder's optimiser and, after it, of the modulations'."""
        optimizers = [self._all_optimizers[0], *(self._all_optimizers[2:] if with_affine else [])]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        if self.accumulates_robust_gradients:
            self._accumulate_robust_gradients()
        for optimizer in optimizers:
            optimizer.step()

    def _accumulate_robust_gradients(self) -> None:
        """Adds to each gradient of the robust loss's parameters all earlier ones, as the published program does."""
        parameters = list(self.robust.parameters())
        if not self._kept_robust_gradients:
            self._kept_robust_gradients = [torch.zeros_like(parameter) for parameter in parameters]
        for parameter, kept in zip(parameters, self._kept_robust_gradients, strict=True):
            if parameter.grad is not None:
                kept += parameter.grad
            if kept.any():
                parameter.grad = kept.clone()

    def _grow_robust_loss(self, now: GrowthState) -> None:
        """Hands its parameters to a resolution that begins."""
        while self._robust_phase < now.phase:
            self._robust_phase += 1
            self.robust.grow(self._robust_phase, scrambled=self.scrambles_robust_growth)

    def _latents(self, like: Images, stream: str) -> Latents:
        return self._space.from_normal(self.training_normals(like, stream, self._space.dim))

    def _noise(self, like: Tensor, stream: str, rows: Tensor | None = None) -> IndexedNoise | None:
        """Noise of the layers for all rows of the batch or some of them; the same stream gives the same again."""
        if not self.layer_noise:
            return None
        places = list(self._positions(like))
        if rows is not None:
            places = [place for place, chosen in zip(places, rows.tolist(), strict=True) if chosen]
        return IndexedNoise(self.seed, f"train/{stream}/noise", places, like.device)

    def _part_of_mean(self, mean: Callable[[], Scalar], rows: Tensor, num_rows: int) -> Scalar:
        """What this device adds to a mean over some rows of the whole batch, for the mean over devices.

        Args:
            mean: returns the mean over this device's rows; not called where there are none.
            rows: (n,) bool, on the CPU: which rows of this device count.
            num_rows: how many there are on all devices.
        """
        here = int(rows.sum())
        if here == 0:
            return torch.zeros((), device=self.device)
        return mean() * (here * distributed.world_size() / num_rows)

    def _layout(self, images: Images) -> Images:
        return images.contiguous(memory_format=self.memory_format)

    # -------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sample buffer and what the robust loss remembers."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["sample_buffer"] = self.recall.state()
        checkpoint[CHECKPOINT_KEY]["robust"] = {
            "phase": self._robust_phase,
            "kept_gradients": [kept.clone() for kept in self._kept_robust_gradients],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back."""
        super().on_load_checkpoint(checkpoint)
        self.recall.restore(checkpoint[CHECKPOINT_KEY]["sample_buffer"])
        self._robust_phase = checkpoint[CHECKPOINT_KEY]["robust"]["phase"]
        self._kept_robust_gradients = list(checkpoint[CHECKPOINT_KEY]["robust"]["kept_gradients"])


def _with_mirrored_neighbours(real: Images) -> Images:
    """Every second image replaced by the mirror image of the one before it."""
    pairs = real.clone()
    pairs[1::2] = real[0::2].flip(3)
    return pairs
