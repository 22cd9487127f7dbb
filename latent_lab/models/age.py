"""AGE: an adversarial game between a generator and an encoder, without a discriminator.

Ulyanov, Vedaldi, Lempitsky: "It Takes (Only) Two: Adversarial Generator-Encoder Networks" (AAAI 2018). The encoder E
pulls the codes of real images to the prior and pushes those of generated images away from it; the generator G pulls the
latter back. Two matching terms make E and G each other's inverse:

    E: min  w_r KL(E(x)) - w_f KL(E(G(z))) + w_x |x - G(E(x))|_1
    G: min  w_g KL(E(G(z))) + w_z (2 - cos(E(G(z)), z) / D)

with the moment-KL of `objectives.age`. The image term trains the encoder alone, the latent term the generator alone,
unless a plan gives them to the other, too. Follows DmitryUlyanov/AGE; its defects are named options here.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, Literal, cast

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab.growth import GrowthSchedule, GrowthState, images_of
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian, Hypersphere
from latent_lab.models.base import AdamSettings, LatentModel, deviation_over_batch, single_resolution
from latent_lab.networks.age import AGEEncoder, AGEGenerator
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.objectives import age
from latent_lab.types import Images, Latents

Metric = Literal["l1", "l2", "cos", "none"]


@dataclasses.dataclass(frozen=True)
class EncoderPlan:
    """How often the encoder steps for each batch, and down which terms; a term of weight 0 is not computed."""

    steps: int = 1
    """Steps for each batch of real images, each with fresh latents."""
    kl_real: float = 1.0
    """w_r: real images' codes towards the prior."""
    kl_fake: float = 1.0
    """w_f: generated images' codes away from it."""
    match_x: float = 10.0
    """w_x: real images and their reconstructions."""
    match_z: float = 0.0
    """Latents and the codes of what is generated from them."""
    match_x_final: float | None = None
    """w_x from `final_from_kimg` on; null: it stays. The published fine-tuning of CelebA takes 15."""
    final_from_kimg: float = 0.0
    """Where `match_x_final` begins, in thousands of images seen."""

    def __post_init__(self) -> None:
        _check_plan("encoder_plan", self.steps, dataclasses.asdict(self))
        if self.match_x_final is not None and self.match_x_final <= 0:
            raise ValueError(f"encoder_plan: match_x_final must be positive or null, got {self.match_x_final}")

    def match_x_at(self, images_seen: int) -> float:
        """w_x after a number of images."""
        final = self.match_x_final
        return self.match_x if final is None or images_seen < images_of(self.final_from_kimg) else final


@dataclasses.dataclass(frozen=True)
class GeneratorPlan:
    """How often the generator steps for each batch, and down which terms; a term of weight 0 is not computed."""

    steps: int = 3
    """Steps for each batch of real images, each with fresh latents. Published: 3 for CelebA, 2 for CIFAR-10 and
    Tiny-ImageNet."""
    kl_fake: float = 1.0
    """w_g: generated images' codes towards the prior."""
    match_x: float = 0.0
    """Real images and their reconstructions."""
    match_z: float = 1000.0
    """w_z: latents and the codes of what is generated from them. The cosine is averaged over D dimensions, so one unit
    of cosine weighs match_z / D. Published: 2000 for Tiny-ImageNet."""

    def __post_init__(self) -> None:
        _check_plan("generator_plan", self.steps, dataclasses.asdict(self))


def _check_plan(name: str, steps: int, values: dict[str, float | None]) -> None:
    if steps < 1:
        raise ValueError(f"{name} must have at least 1 step, got {steps}")
    weights = {key: value for key, value in values.items() if key.startswith(("kl_", "match_")) and value is not None}
    negative = next((key for key, value in weights.items() if value < 0), None)
    if negative:
        raise ValueError(
            f"{name}: {negative} must not be negative, got {weights[negative]}: its sign is part of its term"
        )
    if not any(weight for key, weight in weights.items() if key != "match_x_final"):
        raise ValueError(f"{name} has no term to step down: give one of its terms a weight, and that term a metric")


class AGE(LatentModel, AbstractAutoencoder):
    """Adversarial generator-encoder network (Ulyanov et al. 2018).

    The published program takes a new batch of real images for every step of the encoder and every image term of the
    generator. Here all steps of one training step share its batch, with fresh latents in each, and progress counts it
    once. All published plans have one step of the encoder and no image term for the generator; they mean the same.

    Args:
        schedule: batch sizes and learning rates; one resolution of 16, 32, 64 or 128 pixels (32 and 64 are published).
        latent_dim: D. Published: 64 for CelebA, 128 for CIFAR-10 and Tiny-ImageNet.
        encoder_width: channels after the encoder's first convolution; they double with every halving.
        generator_width: the generator begins with this times R / 8 channels (32 px: times 8), which halve with every
            doubling.
        prior: sphere, the unit sphere in R^D with its uniform distribution, or gaussian, R^D with N(0, I).
        encoder_plan: steps and weights of the encoder.
        generator_plan: steps and weights of the generator.
        match_x: distance of images; cos is that of each pixel's channels; none: no image terms.
        match_z: distance of latents; none: no latent terms.
        kl_direction: of the moment-KL.
        kl_form: exact; age, the published form, which takes the variance for the deviation; or nonparametric, by
            nearest neighbours instead of moments (qp only; in the published program it stops at an assertion).
        adam: of both optimisers.
        average_half_life_kimg: of an averaged generator, which makes all images but those of training; null: the
            current generator makes them, as published.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights and latents.
    """

    progress_names = ("train/encoder/image", "train/encoder/kl_real", "train/encoder/kl_fake", "train/generator/cosine")
    curve_panels = MappingProxyType(
        {
            "KL (nats per dimension)": ("train/encoder/kl_real", "train/encoder/kl_fake", "train/generator/kl"),
            "distance of x and G(E(x))": ("train/encoder/image",),
            "cosine of z and E(G(z))": ("train/generator/cosine",),
            "variance of codes": ("train/codes/real_variance", "train/codes/fake_variance"),
            "deviation over a batch": ("train/images/fake_deviation", "train/images/real_deviation"),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        latent_dim: int = 64,
        encoder_width: int = 64,
        generator_width: int = 64,
        prior: Literal["sphere", "gaussian"] = "sphere",
        encoder_plan: EncoderPlan = EncoderPlan(),
        generator_plan: GeneratorPlan = GeneratorPlan(),
        match_x: Metric = "l1",
        match_z: Metric = "cos",
        kl_direction: age.KlDirection = "qp",
        kl_form: Literal["exact", "age", "nonparametric"] = "exact",
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
        if kl_form == "nonparametric" and kl_direction == "pq":
            raise ValueError(
                "a nonparametric KL has the direction qp only, since the prior's entropy says nothing of codes: write "
                "kl_direction: qp, or kl_form: exact"
            )
        if match_x == "none":
            encoder_plan = dataclasses.replace(encoder_plan, match_x=0.0, match_x_final=None)
            generator_plan = dataclasses.replace(generator_plan, match_x=0.0)
        if match_z == "none":
            encoder_plan = dataclasses.replace(encoder_plan, match_z=0.0)
            generator_plan = dataclasses.replace(generator_plan, match_z=0.0)
        self.encoder_plan = encoder_plan
        self.generator_plan = generator_plan
        self.match_x: Metric = match_x
        self.match_z: Metric = match_z
        self.kl_direction: age.KlDirection = kl_direction
        self.kl_form: Literal["exact", "age", "nonparametric"] = kl_form
        self.adam = adam
        self.channels = image_channels
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

        self._space = Hypersphere(latent_dim) if prior == "sphere" else Gaussian(latent_dim)
        with self.seeded():
            self.encoder = AGEEncoder(latent_dim, resolution, base_width=encoder_width, channels=image_channels)
            self.generator = AGEGenerator(latent_dim, resolution, base_width=generator_width, channels=image_channels)
        self.generator_average = (
            None
            if average_half_life_kimg is None
            else AveragedNetwork(self.generator, half_life_kimg=average_half_life_kimg)
        )
        self.training_only = () if self.generator_average is None else ("generator",)
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.generator.compile()

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The unit sphere, or R^D with the standard normal prior."""
        return self._space

    def encode(self, images: Images) -> Latents:
        """Codes (N, D) in the latent space; in evaluation mode each image's code is its own, whatever the batch."""
        return self._space.project(self.encoder(self._layout(images)))

    def decode(self, latents: Latents) -> Images:
        """Images (N, C, R, R): in evaluation mode by the averaged generator, if there is one."""
        average = None if self.training else self.generator_average
        return (average or self.generator)(latents)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the encoder, one for the generator."""
        rate = self.now.learning_rate
        return [
            self.adam.build(self.encoder.parameters(), rate),
            self.adam.build(self.generator.parameters(), rate),
        ]

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """The steps of the encoder's plan, then those of the generator's.

        Returns:
            The statistics of the last step of each, without gradient; weights are in the losses alone.
        """
        now = self.now
        self.set_learning_rate(now)
        real = self._layout(batch.images)
        statistics: dict[str, Tensor] = {}
        for repetition in range(self.encoder_plan.steps):
            statistics |= self.update_encoder(real, now, repetition)
        for repetition in range(self.generator_plan.steps):
            statistics |= self.update_generator(real, repetition)
        count = self.count_images(real)
        if self.generator_average is not None:
            self.generator_average.update(self.generator, count, self.images_seen)
        self.advance(count)
        return statistics

    def update_encoder(self, real: Images, now: GrowthState, repetition: int = 0) -> dict[str, Tensor]:
        """Pull real codes to the prior, reconstruct through the frozen generator, push samples' codes away."""
        optimizer, plan = self._optimizer("encoder"), self.encoder_plan
        image_weight = plan.match_x_at(now.images_seen)
        terms: list[tuple[float, Tensor]] = []
        statistics: dict[str, Tensor] = {}
        with self.toggled_optimizer(optimizer):
            if plan.kl_real or image_weight:
                codes = self._space.project(self.encoder(real))
                kl_real = self._kl(codes)
                terms.append((plan.kl_real, kl_real))
                statistics |= {
                    "train/encoder/kl_real": kl_real,
                    "train/codes/real_mean": codes.mean(),
                    "train/codes/real_variance": distributed.gather(codes.detach()).var(0, correction=0).mean(),
                }
                if image_weight:
                    image_error = self._image_distance(self.generator(codes), real)
                    terms.append((image_weight, image_error))
                    statistics["train/encoder/image"] = image_error
            if plan.kl_fake or plan.match_z:
                with torch.no_grad():
                    latents = self._latents(real, f"encoder/{repetition}")
                    fake = self._layout(self.generator(latents))
                fake_codes = self._space.project(self.encoder(fake))
                kl_fake = self._kl(fake_codes)
                terms.append((-plan.kl_fake, kl_fake))
                statistics |= {
                    "train/encoder/kl_fake": kl_fake,
                    "train/codes/fake_variance": distributed.gather(fake_codes.detach()).var(0, correction=0).mean(),
                }
                if plan.match_z:
                    latent_error = self._latent_distance(fake_codes, latents)
                    terms.append((plan.match_z, latent_error))
                    statistics["train/encoder/latent"] = latent_error
            statistics["train/encoder/loss"] = loss = _weighted_sum(terms)
            self.descend(loss, optimizer)
        return {name: value.detach() for name, value in statistics.items()}

    def update_generator(self, real: Images, repetition: int = 0) -> dict[str, Tensor]:
        """Pull samples' codes to the prior and each one back to the latent it was made from."""
        optimizer, plan = self._optimizer("generator"), self.generator_plan
        terms: list[tuple[float, Tensor]] = []
        statistics: dict[str, Tensor] = {}
        with self.toggled_optimizer(optimizer):
            if plan.kl_fake or plan.match_z:
                latents = self._latents(real, f"generator/{repetition}")
                fake = self._layout(self.generator(latents))
                codes = self._space.project(self.encoder(fake))
                kl = self._kl(codes)
                terms.append((plan.kl_fake, kl))
                statistics |= {
                    "train/generator/kl": kl,
                    "train/generator/cosine": age.mean_cosine(codes, latents),
                    "train/images/fake_deviation": deviation_over_batch(fake),
                    "train/images/real_deviation": deviation_over_batch(real),
                }
                if plan.match_z:
                    latent_error = self._latent_distance(codes, latents)
                    terms.append((plan.match_z, latent_error))
                    statistics["train/generator/latent"] = latent_error
            if plan.match_x:
                with torch.no_grad():
                    codes = self._space.project(self.encoder(real))
                image_error = self._image_distance(self.generator(codes), real)
                terms.append((plan.match_x, image_error))
                statistics["train/generator/image"] = image_error
            statistics["train/generator/loss"] = loss = _weighted_sum(terms)
            self.descend(loss, optimizer)
        return {name: value.detach() for name, value in statistics.items()}

    # ------------------------------------------------------------------------------------------------- pieces

    def _optimizer(self, name: Literal["encoder", "generator"]) -> Any:
        encoder_optimizer, generator_optimizer = cast("list[Any]", self.optimizers())
        return encoder_optimizer if name == "encoder" else generator_optimizer

    def _latents(self, like: Images, stream: str) -> Latents:
        return self._space.from_normal(self.training_normals(like, stream, self._space.dim))

    def _kl(self, codes: Latents) -> Tensor:
        whole_batch = distributed.gather(codes)
        if self.kl_form == "nonparametric":
            return age.nearest_neighbour_kl(whole_batch)
        return age.moment_kl(whole_batch, direction=self.kl_direction, form=self.kl_form)

    def _image_distance(self, rebuilt: Images, real: Images) -> Tensor:
        # Plans give no weight to a distance that is not there.
        assert self.match_x != "none"
        return age.image_distance(rebuilt, real, self.match_x)

    def _latent_distance(self, codes: Latents, latents: Latents) -> Tensor:
        assert self.match_z != "none"
        return age.latent_distance(codes, latents, self.match_z)

    def _layout(self, images: Images) -> Images:
        return images.contiguous(memory_format=self.memory_format)


def _weighted_sum(terms: list[tuple[float, Tensor]]) -> Tensor:
    """Terms of weight 0 are computed for the records only, and give no gradient."""
    return torch.stack([weight * value for weight, value in terms if weight]).sum()
