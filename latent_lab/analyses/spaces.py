"""Analyses of latent spaces: one or several autoencoders, and their codes of the same images.

Each model reads every image at its own resolution and, where it was trained on another crop, through a source of its
own; the rows of two models' codes always belong to the same images.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import (
    HeldOut,
    as_tensor,
    batches,
    device_of,
    prior_latents,
    real_images,
    share,
    spread,
)
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.latent.spaces import PerLayer, Pushforward
from latent_lab.progress import phase
from latent_lab.types import Images, ImageSource, Indices, Latents

Which = Literal["held_out", "reference"]
_COLLAPSED = 1e-6


@dataclass
class Participant:
    """A model whose latent space is looked at, with the images as it was trained to see them."""

    name: str
    model: Any
    """An `AbstractAutoencoder` in evaluation mode."""
    held_out: ImageSource
    """Images that nothing was fitted to."""
    reference: ImageSource
    """Training images, to which maps, axes and support sets are fitted; `held_out` itself where there are no others."""
    kind: str = ""
    """Models of one kind are instances of each other, over which tables average; empty: see `kind_of`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the protocol: checkpoint, recipe."""
    _codes: dict[tuple[str, int], Latents] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.kind = self.kind or kind_of(self.model)

    @property
    def dim(self) -> int:
        """D, coordinates of a code."""
        dim: int = self.model.latent_space.dim
        return dim

    def source(self, which: Which) -> ImageSource:
        """The images of that name."""
        return self.held_out if which == "held_out" else self.reference

    def places(self, which: Which, num: int | None) -> list[int]:
        """Evenly spaced places of a source, the same for all participants."""
        return spread(len(self.source(which)), num)

    def images(self, which: Which, places: Sequence[int]) -> Images:
        """Real images as the model sees them, on its device."""
        return real_images(self.model, self.source(which), places)

    def codes(self, which: Which, num: int | None, batch_size: int = 64) -> Latents:
        """Codes (N, D) of evenly spaced images, in their order, on the CPU; equal on all ranks, which share the work.

        They are kept, so that several analyses encode once.

        Raises:
            ValueError: if codes are not finite, or all equal.
        """
        places = self.places(which, num)
        key = (which, len(places))
        if key not in self._codes:
            self._codes[key] = self.encode(which, places, batch_size)
        return self._codes[key]

    @torch.no_grad()
    def encode(
        self,
        which: Which,
        places: Sequence[int],
        batch_size: int = 64,
        change: Callable[[Images, Indices], Images] | None = None,
    ) -> Latents:
        """Codes (N, D) of any images, in their order, on the CPU; equal on all ranks, which share the work.

        Args:
            which: the source.
            places: of the images.
            batch_size: images at a time on each device.
            change: what becomes of images (B, C, R, R), as the model sees them, of places (B,) before they are encoded.

        Raises:
            ValueError: if codes are not finite, or all equal.
        """
        mine = share(len(places))
        rows = [torch.empty(0, self.dim)]
        with phase(f"encoding with {self.name}"):
            for indices in batches(mine, batch_size):
                chosen = [places[index] for index in indices]
                images = self.images(which, chosen)
                if change is not None:
                    images = change(images, torch.tensor(chosen))
                rows.append(self.model.encode(images).float().cpu())
        codes = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))[0]
        return checked_codes(codes, self.name)

    @torch.no_grad()
    def cycled(self, num: int, seed: int, stream: str, batch_size: int = 64) -> Latents:
        """encode(decode(z)) (num, D) of the samples z that `prior` gives, on the CPU; equal on all ranks, which share
        the work. They are kept, as those of `codes` are; images in between are not rounded.

        Raises:
            ValueError: if codes are not finite, or all equal.
        """
        key = (f"cycle {seed} {stream}", num)
        if key not in self._codes:
            mine = share(num)
            rows = [torch.empty(0, self.dim)]
            with phase(f"decoding and encoding with {self.name}"):
                for indices in batches(mine, batch_size):
                    images = self.model.decode(prior_latents(self.model, seed, stream, indices))
                    rows.append(self.model.encode(images.float()).float().cpu())
            codes = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))[0]
            self._codes[key] = checked_codes(codes, f"{self.name} (of decoded samples)")
        return self._codes[key]

    @torch.no_grad()
    def codes_of(self, which: Which, num: int | None, indices: Sequence[int]) -> Latents:
        """Rows of what `codes` gives, on the CPU: kept ones where there are some, else encoded now and not kept."""
        places = self.places(which, num)
        if (kept := self._codes.get((which, len(places)))) is not None:
            return kept[list(indices)]
        codes: Latents = self.model.encode(self.images(which, [places[index] for index in indices]))
        return codes.float().cpu()

    def labels(self, which: Which, num: int | None) -> tuple[tuple[str, ...], Tensor] | None:
        """Names (K,) and values (N, K) of the labels of the images whose codes `codes` gives; none without labels."""
        source = self.source(which)
        if not source.label_names:
            return None
        rows = []
        places = self.places(which, num)
        for start in range(0, len(places), 256):
            batch = source.batch(places[start : start + 256], 4)
            assert batch.labels is not None
            rows.append(batch.labels.float())
        return source.label_names, torch.cat(rows)

    @torch.no_grad()
    def decode(self, latents: Latents, batch_size: int = 64) -> Images:
        """Images (N, C, R, R) of latents, on the CPU; every rank decodes all of them, so keep to few."""
        device = device_of(self.model)
        parts = [self.model.decode(part.to(device)).float().cpu() for part in latents.split(batch_size)]
        return torch.cat(parts)

    def prior(self, num: int, seed: int, stream: str) -> Latents:
        """Samples (num, D) of the prior, by index, on the CPU."""
        return prior_latents(self.model, seed, stream, range(num)).cpu()


def kind_of(model: Any) -> str:
    """What people call a model: its class; of a recoder the class of its decoder, with the space if that is W or W+."""
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, AbstractDecoder):
        return type(model).__name__
    space = model.latent_space
    suffix = " W" if isinstance(space, Pushforward) else " W+" if isinstance(space, PerLayer) else ""
    return f"{type(decoder).__name__}{suffix}"


def checked_codes(codes: Latents, name: str) -> Latents:
    """The codes as they are.

    Raises:
        ValueError: if some are not finite, or all are equal.
    """
    broken = int((~codes.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {len(codes)} codes of {name} are not finite: the model is damaged")
    spread_of_codes = codes.double().var(0, correction=0).sum()
    if len(codes) > 1 and spread_of_codes <= _COLLAPSED**2 * codes.double().square().mean(0).sum():
        raise ValueError(f"all {len(codes)} codes of {name} are equal: its latent space has collapsed")
    return codes


def participants_of(models: Any, source: ImageSource | None) -> list[Participant]:
    """Participants of one or several models, or those that are given.

    Args:
        models: an autoencoder or participant, or a sequence of them.
        source: images for those that are no participants yet; a `HeldOut` where there are training images, too.

    Raises:
        TypeError: if a model does not encode.
        ValueError: if there are no images for it.
    """
    given = list(models) if isinstance(models, Sequence) else [models]
    kinds = [one.kind if isinstance(one, Participant) else kind_of(one) for one in given]
    seen: Counter[str] = Counter()
    found = []
    for one, kind in zip(given, kinds, strict=True):
        seen[kind] += 1
        if isinstance(one, Participant):
            found.append(one)
            continue
        require(one, AbstractAutoencoder, by="a comparison of latent spaces")  # type: ignore[type-abstract]
        if source is None:
            raise ValueError("latent spaces are compared by codes of real images, got none: name a data set or folder")
        images, reference = (source.images, source.reference) if isinstance(source, HeldOut) else (source, source)
        name = kind if kinds.count(kind) == 1 else f"{kind} {seen[kind]}"
        found.append(Participant(name, one, images, reference, kind))
    return found


@dataclass(frozen=True)
class AbstractSpacesAnalysis(AbstractAnalysis):
    """An analysis of one or several latent spaces.

    It is called with a model, with several, or with `Participant`s. A callback or a command, which has one model,
    loads the checkpoints in `others` beside it.
    """

    requires = AbstractAutoencoder
    needs_images = True
    needs_reference = True
    reference_beside_own_images = True
    least: ClassVar[int] = 1
    """Models that it takes at least."""
    most: ClassVar[int | None] = None
    """Models that it takes at most; none: any number."""

    others: tuple[str, ...] = ()
    """Checkpoints of further models."""

    def __call__(self, model: Any, source: ImageSource | None = None) -> Result:
        """Checks the inputs, runs, and adds options and models to the protocol.

        Args:
            model: autoencoders or participants, one or a sequence; used in evaluation mode, each on its own device,
                and left as they were found.
            source: real images for models that are no participants.

        Raises:
            TypeError: if a model does not encode.
            ValueError: if there are too few or too many models, or no images.
        """
        participants = participants_of(model, source)
        count = len(participants)
        if count < self.least or (self.most is not None and count > self.most):
            wanted = str(self.least) if self.most == self.least else f"at least {self.least}"
            raise ValueError(f"{self.name} takes {wanted} models, got {count}: name their checkpoints one by one")
        names = [one.name for one in participants]
        if len(set(names)) < count:
            raise ValueError(f"{self.name} needs a name of its own for each model, got {', '.join(names)}")
        training = [one.model for one in participants if getattr(one.model, "training", False)]
        for one in training:
            one.eval()
        try:
            with phase(self.name):
                result = self.compare(participants)
        finally:
            for one in training:
                one.train()
        protocol: dict[str, Any] = {"options": dataclasses.asdict(self), **result.protocol}
        protocol["models"] = {
            one.name: {"kind": one.kind, "dim": one.dim, "resolution": one.model.resolution, **one.facts}
            for one in participants
        }
        protocol["data"] = dict(participants[0].held_out.recipe)
        own = {one.name: dict(one.held_out.recipe) for one in participants[1:]}
        own = {name: recipe for name, recipe in own.items() if recipe != protocol["data"]}
        if own:
            protocol["data_of"] = own
        return dataclasses.replace(result, protocol=protocol)

    def run(self, model: Any, source: ImageSource | None) -> Result:
        """The same for one model."""
        return self.compare(participants_of(model, source))

    @abstractmethod
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Does the work; called on every process, each of which does its share."""


def number_name(participants: Sequence[Participant], participant: Participant, number: str) -> str:
    """The number's name, behind that of its model where there are several."""
    return number if len(participants) == 1 else f"{participant.name}/{number}"
