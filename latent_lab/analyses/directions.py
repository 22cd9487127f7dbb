"""Attribute directions: the mean code of images with an attribute minus that of images without it.

    delta = mean(encode(with)) - mean(encode(without))

(Heljakka et al., ACCV 2018, and the Automodulator, NeurIPS 2020). The two sets are exemplars: a few dozen images,
chosen by a label, or two folders. A direction may also come from a file (`latent.directions`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from latent_lab.analyses.feeding import batches, real_images
from latent_lab.analyses.label_regression import all_labels, are_binary
from latent_lab.distributed import IndexedRandom
from latent_lab.latent.directions import Direction, mean_difference, read_direction
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.types import ImageBatch, ImageSource, Latents, Scores


@dataclass(frozen=True)
class Exemplars:
    """Images to be edited together with two sets of others, with and without an attribute; itself an image source."""

    images: ImageSource
    present: ImageSource
    """With the attribute."""
    absent: ImageSource
    """Without it."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the images to be edited."""
        return self.images.label_names

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Of the images to be edited."""
        return self.images.recipe

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """Images to be edited."""
        return self.images.batch(indices, resolution)


@dataclass(frozen=True)
class Chosen:
    """Places of exemplars in a labelled source."""

    present: list[int]
    absent: list[int]
    rule: str
    """What was called with and without, in words."""
    differences: Mapping[str, float]
    """Mean of each known label over those with minus that over those without: what the sets differ in besides."""


@dataclass(frozen=True)
class Division:
    """A rule by which a label divides images into those with and those without an attribute; others are neither."""

    low: float
    """Labels up to it are without."""
    high: float
    """Labels from it on are with, or above it, where both are equal."""
    rule: str
    """In words."""

    def sides(self, values: Scores) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
        """Which of the images with these labels (N,) have the attribute, and which have it not; unknown is neither."""
        # Where most values are equal, both bounds may be that value, which then counts as low.
        return (values >= self.high if self.high > self.low else values > self.high), values <= self.low


def division_by(values: Scores, label: str, quantile: float = 0.25) -> Division:
    """How a label divides: a yes or no by itself, other numbers by their highest and lowest share.

    Args:
        values: (N,) of the images, NaN where unknown.
        label: its name.
        quantile: share of the known images that counts as high, and as low, in (0, 0.5].

    Raises:
        ValueError: if the label is unknown for all images.
    """
    known = values[~values.isnan()]
    if len(known) == 0:
        raise ValueError(f"label {label} is unknown for all {len(values)} images: choose another")
    if are_binary(values[:, None]).item():
        return Division(0.0, 1.0, f"{label} = 1 against 0")
    low, high = (known.double().quantile(share).item() for share in (quantile, 1.0 - quantile))
    return Division(low, high, f"{label} {'from' if high > low else 'above'} {high:.6g} on against up to {low:.6g}")


def choose_exemplars(source: ImageSource, label: str, num: int, seed: int, quantile: float = 0.25) -> Chosen:
    """Exemplars by a label, drawn without replacement from the images to which each side of the rule applies.

    A yes or no divides by itself; of other numbers the highest and the lowest share are taken.

    Args:
        source: labelled images.
        label: name.
        num: how many of each; fewer if there are not so many.
        seed: of the draw, which depends on the label and the side, too.
        quantile: share of the known images that counts as high, and as low, in (0, 0.5].

    Raises:
        ValueError: if there is no such label or one side is empty.
    """
    labels = all_labels(source)
    if label not in source.label_names:
        raise ValueError(f"these images have no label {label}: there are {', '.join(source.label_names)}")
    values = labels[:, source.label_names.index(label)]
    division = division_by(values, label, quantile)
    drawn: dict[str, list[int]] = {}
    for side, applies in zip(("with", "without"), division.sides(values), strict=True):
        places = applies.nonzero()[:, 0]
        if len(places) == 0:
            raise ValueError(f"label {label} is the same for all images, so none is {side} it: choose another")
        rng = IndexedRandom(seed, f"edit/exemplars/{label}/{side}").generator(0)
        drawn[side] = places[torch.randperm(len(places), generator=rng)[:num]].tolist()
    gaps = labels[drawn["with"]].nanmean(0) - labels[drawn["without"]].nanmean(0)
    differences = {
        name: gap for name, gap in zip(source.label_names, gaps.tolist(), strict=True) if not math.isnan(gap)
    }
    return Chosen(drawn["with"], drawn["without"], division.rule, differences)


def difference_of_means(
    model: AbstractAutoencoder,
    present: tuple[ImageSource, Sequence[int]],
    absent: tuple[ImageSource, Sequence[int]],
    batch_size: int = 64,
) -> Direction:
    """Delta = mean(encode(with)) - mean(encode(without)), (1, D), as printed: not of unit length, not projected.

    Args:
        model: on its device.
        present: images with the attribute: a source and places in it.
        absent: images without it.
        batch_size: images at a time.
    """
    return mean_difference(_codes(model, *present, batch_size), _codes(model, *absent, batch_size))


def _codes(model: AbstractAutoencoder, source: ImageSource, places: Sequence[int], batch_size: int) -> Latents:
    codes = [
        model.encode(real_images(model, source, [places[i] for i in piece]))
        for piece in batches(range(len(places)), batch_size)
    ]
    return torch.cat(codes)


__all__ = [
    "Chosen",
    "Direction",
    "Division",
    "Exemplars",
    "choose_exemplars",
    "difference_of_means",
    "division_by",
    "read_direction",
]
