"""Discs that age by known rules, and the oracle that reads their age off any image, a generated one included.

What a disc shows at an age of t years, in units of half the image's side:

    red dot in the middle     radius DOT clamp((25 - t) / 10, 0, 1.5)
    disc                      radius SMALLEST + GROWTH clamp((t - 25) / 10, 0, 3)
    blue dot in the middle    radius DOT clamp((t - 55) / 10, 0, 1.5)

so that of the steps 15, 25, 35, 45, 55, 65 the three in the middle follow one rule (the edge moves outwards), and the
first and the last have rules of their own. The background's colour and the place of the disc belong to a person. The
disc is white on dark, so the oracle measures areas of what is bright, red and blue and inverts the rules; it was never
fitted to anything.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import images as conversions
from latent_lab.types import Images, Scores

YEARS = 10.0
"""Of each step."""
FULL_GROWN_DOT = 0.16
"""Radius of a dot one step away from its disappearance."""
SMALLEST = 0.28
"""Radius of the disc up to 25 years."""
GROWTH = 0.13
"""By which it grows in a step; three steps."""
YOUNG, MIDDLE, OLD = 15.0, 25.0, 55.0
"""Ages where the rules change: the red dot goes until MIDDLE, the disc grows until OLD, then the blue dot comes."""
_GROWING_STEPS = (OLD - MIDDLE) / YEARS
_LARGEST_DOT = 1.5
_BRIGHT = 0.6
_COLOURED = 0.45
_SOFTNESS = 0.3


def disc_radius(age: Tensor) -> Tensor:
    """Radius of the disc at an age in years, any shape."""
    return SMALLEST + GROWTH * ((age - MIDDLE) / YEARS).clamp(0.0, _GROWING_STEPS)


def red_radius(age: Tensor) -> Tensor:
    """Radius of the red dot, which the young have."""
    return FULL_GROWN_DOT * ((MIDDLE - age) / YEARS).clamp(0.0, _LARGEST_DOT)


def blue_radius(age: Tensor) -> Tensor:
    """Radius of the blue dot, which the old have."""
    return FULL_GROWN_DOT * ((age - OLD) / YEARS).clamp(0.0, _LARGEST_DOT)


@torch.no_grad()
def measured_age(images: Images) -> Scores:
    """The age in years (N,) of discs, by the areas of what is bright, red and blue.

    Args:
        images: (N, 3, R, R) in [-1, 1]. Anything has an age here; that of an image without a disc means nothing.

    Raises:
        ValueError: if the images are not in colour.
    """
    if images.shape[1] != 3:
        raise ValueError(f"ages of drawn discs are told by colours, got images with {images.shape[1]} channel(s)")
    red, green, blue = conversions.to_unit(images.float().clamp(-1.0, 1.0)).unbind(1)
    brightest = torch.maximum(torch.maximum(red, green), blue)
    grown = (_radius(_share(brightest, _BRIGHT)) - SMALLEST) / GROWTH
    young = _radius(_share(red - torch.maximum(green, blue), _COLOURED)) / FULL_GROWN_DOT
    old = _radius(_share(blue - torch.maximum(red, green), _COLOURED)) / FULL_GROWN_DOT
    steps = grown.clamp(0.0, _GROWING_STEPS) + old.clamp(0.0, _LARGEST_DOT) - young.clamp(0.0, _LARGEST_DOT)
    return MIDDLE + YEARS * steps


def _share(values: Float[Tensor, "N H W"], threshold: float) -> Float[Tensor, "N"]:
    """Share of the image's area above a threshold; pixels on an edge count in part."""
    return ((values - threshold) / _SOFTNESS + 0.5).clamp(0.0, 1.0).mean((1, 2))


def _radius(share: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Radius of a disc with this share of the image's area, in units of half its side."""
    return (4.0 * share / math.pi).sqrt()


__all__ = ["MIDDLE", "OLD", "YEARS", "YOUNG", "blue_radius", "disc_radius", "measured_age", "red_radius"]
