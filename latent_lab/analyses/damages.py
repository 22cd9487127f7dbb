"""Ways to damage images: parts that are missing, and noise. All of it is random by image alone, never by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from latent_lab import distributed
from latent_lab.images import quantise
from latent_lab.types import Images

_HALVES: Mapping[str, tuple[slice, slice]] = {
    # Rows and columns, counted in halves of the image.
    "left": (slice(0, 2), slice(0, 1)),
    "right": (slice(0, 2), slice(1, 2)),
    "top": (slice(0, 1), slice(0, 2)),
    "bottom": (slice(1, 2), slice(0, 2)),
}
_AMOUNTS: Mapping[str, tuple[float, float]] = {
    # Kind: the usual amount, and what amounts stay below.
    "square": (0.25, 1.0),
    "random_square": (0.25, 1.0),
    "noise": (0.25, math.inf),
    "salt_and_pepper": (0.1, 1.0),
}
KINDS = ("square", "random_square", *_HALVES, "noise", "salt_and_pepper")


@dataclass(frozen=True)
class Damage:
    """One kind of damage of a certain amount."""

    kind: str
    """One of `KINDS`."""
    amount: float | None = None
    """Of squares the share of the area, of noise the deviation in [-1, 1] units, of salt and pepper the share of the
    pixels; halves have none."""
    name: str = ""
    """Under which numbers are reported."""

    @property
    def occludes(self) -> bool:
        """Whether part of the image is missing, and the rest is as it was."""
        return self.kind not in ("noise", "salt_and_pepper")

    def in_words(self) -> str:
        """What is done, for a protocol."""
        words = {
            "square": f"a square of {self.amount} of the area in the middle is missing",
            "random_square": f"a square of {self.amount} of the area at a random place is missing",
            "noise": f"normal noise of deviation {self.amount} in [-1, 1] units on every value",
            "salt_and_pepper": f"{self.amount} of the pixels black or white",
        }
        return words.get(self.kind, f"the {self.kind} half is missing")

    def apply(
        self, images: Images, places: Sequence[int], seed: int, fill: float = 0.0
    ) -> tuple[Images, Bool[Tensor, "N 1 H W"]]:
        """Damaged images, clamped and rounded to 8 bits as a file of them would be, and where they are occluded.

        Args:
            images: (N, C, R, R) in [-1, 1].
            places: the images' places in their source; with the seed they decide everything random.
            seed: of the run.
            fill: value of what is missing.

        Returns:
            Images like the given ones and a mask (N, 1, R, R), true where something is missing.
        """
        random = distributed.IndexedRandom(seed, f"restore/{self.kind}")
        generators = [random.generator(place) for place in places]
        missing = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
        if self.occludes:
            for one, generator in zip(missing, generators, strict=True):
                rows, columns = self._region(images.shape[-1], generator)
                one[0, rows, columns] = True
            missing = missing.to(images.device)
            return quantise(images.masked_fill(missing, fill)), missing
        apart = self._noise if self.kind == "noise" else self._salt_and_pepper
        damaged = torch.stack([apart(image, one) for image, one in zip(images.cpu(), generators, strict=True)])
        return quantise(damaged).to(images.device), missing.to(images.device)

    def _region(self, resolution: int, generator: torch.Generator) -> tuple[slice, slice]:
        """Rows and columns that are missing."""
        if self.kind in _HALVES:
            half = resolution // 2
            rows, columns = _HALVES[self.kind]
            return slice(rows.start * half, rows.stop * half), slice(columns.start * half, columns.stop * half)
        assert self.amount is not None
        side = min(resolution - 1, max(1, round(math.sqrt(self.amount) * resolution)))
        top = left = (resolution - side) // 2
        if self.kind == "random_square":
            top, left = torch.randint(0, resolution - side + 1, (2,), generator=generator).tolist()
        return slice(top, top + side), slice(left, left + side)

    def _noise(self, image: Tensor, generator: torch.Generator) -> Tensor:
        assert self.amount is not None
        return image + self.amount * torch.randn(image.shape, generator=generator)

    def _salt_and_pepper(self, image: Tensor, generator: torch.Generator) -> Tensor:
        assert self.amount is not None
        draw = torch.rand(image.shape[1:], generator=generator)
        image = image.masked_fill(draw < self.amount / 2, -1.0)
        return image.masked_fill((draw >= self.amount / 2) & (draw < self.amount), 1.0)


def parse_damage(text: str) -> Damage:
    """A damage from KIND or KIND:AMOUNT, such as square, noise:0.1.

    Raises:
        ValueError: for an unknown kind or an impossible amount.
    """
    kind, given, number = text.strip().partition(":")
    if kind not in KINDS:
        raise ValueError(f"damages are {', '.join(KINDS)}, some of them with an amount (noise:0.1), got {text!r}")
    if kind in _HALVES:
        if given:
            raise ValueError(f"{kind} is half of the image and takes no amount, got {text!r}: write {kind}")
        return Damage(kind, name=kind)
    usual, bound = _AMOUNTS[kind]
    try:
        amount = float(number) if given else usual
    except ValueError:
        amount = math.nan
    if not 0 < amount < bound:
        limit = "above 0" if math.isinf(bound) else "above 0 and below 1"
        raise ValueError(
            f"the amount of {kind} must be a number {limit}, got {text!r}: write for example {kind}:{usual}"
        )
    return Damage(kind, amount, f"{kind}_{amount:g}" if given else kind)
