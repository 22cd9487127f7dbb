"""A reversible translator between neighbouring domains of images, a link of the ageing chain.

Heljakka, Solin, Kannala: "Recursive Chaining of Reversible Image-to-Image Translators for Face Aging" (ACIVS 2018): a
CycleGAN (Zhu et al. 2017) of unpaired domains whose discriminators also reject real images of the wrong domain. The
generator G leads onward (older), F back. Trained on more than two domains in a row, the same four networks learn every
step of them at once (the paper's re-use training), so that a translator can be applied to what it has made.

One step for a pair of domains, with a of the source and b of the target: G and F are updated together, then D_b, then
D_a, which see G(a) and F(b) as they were before that update, some of them exchanged for earlier ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from latent_lab.growth import GrowthSchedule
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, single_resolution
from latent_lab.models.image_pool import POOL_SIZE, ImagePools
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.translator import (
    SMALLEST_RESOLUTION,
    Direction,
    InitialWeights,
    Norm,
    Padding,
    PatchDiscriminator,
    TranslationGenerators,
)
from latent_lab.objectives import translator as objectives
from latent_lab.types import DomainBatch, Images

Judge = Literal["discriminator_target", "discriminator_source"]
WrongDomain = Literal["consistent", "always", "never"]
Pools = Literal["per_pair", "shared"]


class Pair(NamedTuple):
    """Real images of two neighbouring domains."""

    number: int
    """Of the source domain, from 0."""
    source: Images
    target: Images


@dataclasses.dataclass(frozen=True)
class TranslatorWeights:
    """Weights of the generators' loss terms."""

    adversarial: float = 1.0
    """Of each direction."""
    cycle: float = 10.0
    """Of each direction's cycle error, |a - F(G(a))| and |b - G(F(b))|."""
    double_cycle: float = 10.0
    """Of each direction's error over two steps out and two back; only with the option double_cycle."""
    identity: float = 0.0
    """Of |b - G(b)| and |a - F(a)|: what is in a generator's target domain already is to stay as it is. The chain has
    no such term; CycleGAN's program takes 5."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"weights.{field.name} must not be negative, got {getattr(self, field.name)}")


class Translator(LatentModel, AbstractTranslator):
    """Reversible translator of neighbouring image domains (CycleGAN as in Heljakka et al. 2018).

    A step sees one image of each domain for every image that the schedule counts: kimg are thousands of pairs, or of
    triplets. The data is `OrderedDomains` with the same domains.

    Args:
        schedule: batch sizes (images of each domain; published: 1) and learning rates (published: 2e-4, constant; in
            CycleGAN the second half falls to 0); one resolution.
        domains: names of two or more domains in their order, as in the data's train_on. G leads from each to the next.
            With more than two, a step updates every pair of neighbours, the last one first (re-use training).
        generator_width: channels of the generators' first maps. Published: 64.
        residual_blocks: of the generators. Published: 9.
        discriminator_width: channels of the discriminators' first maps. Published: 64.
        discriminator_halvings: convolutions with stride 2. Published: 3, which judge patches of 70 pixels.
        padding: symmetric, as in CycleGAN's PyTorch program, or same, TensorFlow's rule (published).
        norm: instance, or batch: always with the statistics of the batch at hand (published; equal for batches of 1).
        initial_weights: normal, N(0, 0.02), as in CycleGAN, or glorot (published).
        weights: of the loss terms.
        wrong_domain: whether a discriminator also rejects real images of the pair's other domain. always: published,
            which contradicts itself with more than two domains, where the middle one is rejected in one pair and
            accepted in the other; consistent: only domains that nothing is translated into in its direction; never: as
            in CycleGAN.
        discriminator_divisor: terms, or three, as published, where double cycles make four terms.
        double_cycle: also compare after two steps out and two back, and let discriminators see second steps of earlier
            translations (an option of the published program, not of its main results).
        transform_twice: every translation is two applications of a generator (likewise).
        pool_size: earlier translations that are kept for each discriminator. Published: 50; 0: none.
        pools: per_pair, or shared by all pairs of a step (published).
        adam: of all three optimisers.
        average_half_life_kimg: of the averaged generators, which translate in evaluation; null: the current ones do, as
            published.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile the networks with torch.compile.
        seed: of initial weights and of what is exchanged for earlier translations.
    """

    progress_names = (
        "train/generator/adversarial",
        "train/generator/cycle",
        "train/discriminator_target/loss",
        "train/discriminator_source/loss",
        "train/images/change",
    )
    curve_panels = MappingProxyType(
        {
            "cycle error and change (mean |x - y|)": ("train/generator/cycle", "train/images/change"),
            "(D(G(a)) - 1)^2 + (D(F(b)) - 1)^2": ("train/generator/adversarial",),
            "discriminators' losses": ("train/discriminator_target/loss", "train/discriminator_source/loss"),
            "mean score in the target domain": (
                "train/discriminator_target/on_real",
                "train/discriminator_target/on_translated",
            ),
        }
    )
    smallest_batch = 1

    def __init__(
        self,
        schedule: GrowthSchedule,
        domains: Sequence[str] = ("young", "old"),
        generator_width: int = 64,
        residual_blocks: int = 9,
        discriminator_width: int = 64,
        discriminator_halvings: int = 3,
        padding: Padding = "symmetric",
        norm: Norm = "instance",
        initial_weights: InitialWeights = "normal",
        weights: TranslatorWeights = TranslatorWeights(),
        wrong_domain: WrongDomain = "consistent",
        discriminator_divisor: objectives.Divisor = "terms",
        double_cycle: bool = False,
        transform_twice: bool = False,
        pool_size: int = POOL_SIZE,
        pools: Pools = "per_pair",
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
        self._domains = _checked_domains(domains)
        if wrong_domain not in ("consistent", "always", "never"):
            raise ValueError(f"wrong_domain must be consistent, always or never, got {wrong_domain!r}")
        if pools not in ("per_pair", "shared"):
            raise ValueError(f"pools must be per_pair or shared, got {pools!r}")
        self.weights = weights
        self.wrong_domain: WrongDomain = wrong_domain
        self.divisor: objectives.Divisor = discriminator_divisor
        self.double_cycle = double_cycle
        self.applications = 2 if transform_twice else 1
        self.one_pool_for_all = pools == "shared"
        self.channels = image_channels
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        drawn: dict[str, Any] = {"padding": padding, "norm": norm, "initial_weights": initial_weights}
        judge = drawn | {"width": discriminator_width, "halvings": discriminator_halvings}
        with self.seeded():
            self.generator = TranslationGenerators(
                channels=image_channels, width=generator_width, blocks=residual_blocks, **drawn
            )
            self.discriminator_source = PatchDiscriminator(image_channels, **judge)
            self.discriminator_target = PatchDiscriminator(image_channels, **judge)
        self._check_resolution(single_resolution(schedule, type(self)))
        self.generator_average = (
            None
            if average_half_life_kimg is None
            else AveragedNetwork(self.generator, half_life_kimg=average_half_life_kimg)
        )
        judges = ("discriminator_source", "discriminator_target")
        self.training_only = judges if self.generator_average is None else (*judges, "generator")
        self.pools = ImagePools(seed, pool_size)
        self.to(memory_format=self.memory_format)
        if compile:
            for network in (self.generator, self.discriminator_source, self.discriminator_target):
                network.compile()

    # ----------------------------------------------------------------------------------- translator's protocol

    @property
    def domains(self) -> tuple[str, ...]:
        """Names, in their order."""
        return self._domains

    def translate(self, images: Images, source: str, target: str) -> Images:
        """Images (N, C, R, R) moved from domain to domain on the way from source to target, step by step.

        In evaluation mode the averaged generators do it, if there are some. Images of any size that is a multiple of 4
        are taken.

        Raises:
            ValueError: if one of the domains is not this translator's.
        """
        steps = self._place(target) - self._place(source)
        direction: Direction = "onward" if steps > 0 else "back"
        average = None if self.training else self.generator_average
        for _ in range(abs(steps) * self.applications):
            images = (average or self.generator)(self._layout(images), direction)
        return images

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for both generators, one for each discriminator."""
        rate = self.now.learning_rate
        networks = (self.generator, self.discriminator_target, self.discriminator_source)
        return [self.adam.build(network.parameters(), rate) for network in networks]

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """One update of all networks for every pair of neighbouring domains, the last pair first.

        Args:
            batch: a `DomainBatch` of the model's domains.

        Returns:
            The step's statistics, without gradient, averaged over pairs.

        Raises:
            ValueError: if the data has other domains than the model.
        """
        self._check_batch(batch)
        self.set_learning_rate(self.now)
        found = [
            self.update_pair(Pair(number, batch.images[number], batch.images[number + 1]))
            for number in reversed(range(len(self.domains) - 1))
        ]
        count = self.count_images(batch.images[0])
        if self.generator_average is not None:
            self.generator_average.update(self.generator, count, self.images_seen)
        self.advance(count)
        return {name: torch.stack([statistics[name] for statistics in found]).mean() for name in found[0]}

    def update_pair(self, pair: Pair) -> dict[str, Tensor]:
        """The published order: both generators, then D of the target domain, then D of the source domain."""
        pair = pair._replace(source=self._layout(pair.source), target=self._layout(pair.target))
        made_target, made_source, statistics = self.update_generators(pair)
        earlier_target = self._exchange(made_target, pair.number, "onward")
        earlier_source = self._exchange(made_source, pair.number, "back")
        statistics |= self.update_discriminator(pair, earlier_target, "onward")
        statistics |= self.update_discriminator(pair, earlier_source, "back")
        return statistics

    def update_generators(self, pair: Pair) -> tuple[Images, Images, dict[str, Tensor]]:
        """Make what both discriminators take for real, and what leads back to where it came from.

        Returns:
            G(a) and F(b), without gradient, as they were before the update; statistics.
        """
        source, target = pair.source, pair.target
        optimizer = self._optimizer("generator")
        with self.toggled_optimizer(optimizer):
            made_target, made_source = self._move(source, "onward"), self._move(target, "back")
            adversarial = objectives.deceive(self.discriminator_target(made_target))
            adversarial = adversarial + objectives.deceive(self.discriminator_source(made_source))
            returned_source, returned_target = self._move(made_target, "back"), self._move(made_source, "onward")
            cycle = objectives.cycle_error(source, returned_source) + objectives.cycle_error(target, returned_target)
            loss = self.weights.adversarial * adversarial + self.weights.cycle * cycle
            if self.double_cycle:
                loss = loss + self.weights.double_cycle * self._double_cycle_error(made_target, made_source, pair)
            if self.weights.identity > 0:
                kept = objectives.cycle_error(target, self._move(target, "onward"))
                kept = kept + objectives.cycle_error(source, self._move(source, "back"))
                loss = loss + self.weights.identity * kept
            self.descend(loss, optimizer)
        made_target, made_source = made_target.detach(), made_source.detach()
        return (
            made_target,
            made_source,
            {
                "train/generator/loss": loss.detach(),
                "train/generator/adversarial": adversarial.detach(),
                "train/generator/cycle": cycle.detach() / 2,
                "train/images/change": objectives.cycle_error(source, made_target),
            },
        )

    def update_discriminator(self, pair: Pair, translated: Images, direction: Direction) -> dict[str, Tensor]:
        """Tell real images of the domain that a direction leads to from translations, and from the other domain's.

        Args:
            pair: of real images.
            translated: new and earlier translations into that domain, without gradient.
            direction: onward: D of the target domain is updated; back: D of the source domain.
        """
        name: Judge = "discriminator_target" if direction == "onward" else "discriminator_source"
        discriminator = getattr(self, name)
        real, other = (pair.target, pair.source) if direction == "onward" else (pair.source, pair.target)
        optimizer = self._optimizer(name)
        with self.toggled_optimizer(optimizer):
            on_real, on_translated = discriminator(real), discriminator(translated)
            rejected = [on_translated]
            if self._rejects_other_domain(pair.number, direction):
                rejected.append(discriminator(other))
            if self.double_cycle:
                with torch.no_grad():
                    further = self._move(translated, direction)
                rejected.append(discriminator(further))
            loss = objectives.discriminate(on_real, *rejected, divisor=self.divisor)
            self.descend(loss, optimizer)
        return {
            f"train/{name}/loss": loss.detach(),
            f"train/{name}/on_real": on_real.detach().mean(),
            f"train/{name}/on_translated": on_translated.detach().mean(),
        }

    # ------------------------------------------------------------------------------------------------- pieces

    def _move(self, images: Images, direction: Direction) -> Images:
        """One domain further: one application of a generator, or two with `transform_twice`."""
        for _ in range(self.applications):
            images = self._layout(self.generator(images, direction))
        return images

    def _double_cycle_error(self, made_target: Images, made_source: Images, pair: Pair) -> Tensor:
        """|a - F(F(G(G(a))))| + |b - G(G(F(F(b))))|."""
        errors = []
        for made, begin, out, home in (
            (made_target, pair.source, "onward", "back"),
            (made_source, pair.target, "back", "onward"),
        ):
            away, back = cast(Direction, out), cast(Direction, home)
            returned = self._move(self._move(self._move(made, away), back), back)
            errors.append(objectives.cycle_error(begin, returned))
        return errors[0] + errors[1]

    def _rejects_other_domain(self, number: int, direction: Direction) -> bool:
        """Whether D also rejects real images of this pair's other domain.

        With several pairs, D_b accepts all domains but the first, and D_a all but the last; only those may be rejected
        without a contradiction.
        """
        if self.wrong_domain == "consistent":
            return number == (0 if direction == "onward" else len(self.domains) - 2)
        return self.wrong_domain == "always"

    def _exchange(self, made: Images, number: int, direction: Direction) -> Images:
        stream = f"{direction}/{number}"
        pool = direction if self.one_pool_for_all else stream
        return self._layout(self.pools.exchange(made, self.images_seen, pool=pool, stream=stream))

    def _optimizer(self, name: Literal["generator"] | Judge) -> Any:
        order = ("generator", "discriminator_target", "discriminator_source")
        return cast("list[Any]", self.optimizers())[order.index(name)]

    def _layout(self, images: Images) -> Images:
        return images.contiguous(memory_format=self.memory_format)

    def _place(self, domain: str) -> int:
        if domain not in self.domains:
            raise ValueError(f"this translator knows the domains {', '.join(self.domains)}, got {domain!r}")
        return self.domains.index(domain)

    def _check_batch(self, batch: Any) -> None:
        if not isinstance(batch, DomainBatch):
            raise ValueError(
                f"a {type(self).__name__} is trained on images of {len(self.domains)} domains at a time, which this "
                "data set does not give: name it in the option images of the data set OrderedDomains"
            )
        if tuple(batch.domains) != self.domains:
            raise ValueError(
                f"the model translates between the domains {', '.join(self.domains)}, the data gives "
                f"{', '.join(batch.domains)}: make model.domains and data.train_on the same"
            )

    def _check_resolution(self, resolution: int) -> None:
        if resolution < SMALLEST_RESOLUTION:
            raise ValueError(f"a translator needs images of at least {SMALLEST_RESOLUTION} px, got {resolution}")
        # The maps before the last one are normalised over their pixels, so they need more than one.
        if self.discriminator_target.map_size(resolution) < 2:
            halvings = self.discriminator_target.halvings
            raise ValueError(
                f"discriminator_halvings {halvings} leave too small a map of scores of images of {resolution} px: "
                "give fewer"
            )

    # -------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the pools of earlier translations."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["image_pools"] = self.pools.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the pools back; a translator that goes on with other domains begins with empty ones."""
        super().on_load_checkpoint(checkpoint)
        described = checkpoint[CHECKPOINT_KEY]
        self.pools.clear()
        if tuple(described["model"]["init_args"]["domains"]) == self.domains:
            self.pools.restore(described["image_pools"])


def _checked_domains(domains: Sequence[str]) -> tuple[str, ...]:
    names = tuple(str(name) for name in domains)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"a translator needs two or more domains with names of their own, got {', '.join(names)}")
    return names


__all__ = ["Translator", "TranslatorWeights"]
