"""Perceptual path length: how fast pictures change along paths in latent space (Karras et al. 2019, section 4.1).

For two latents a, b and a share t: d(G(p(t)), G(p(t + eps))) / eps², where p is the space's own path from a to b and
d a perceptual distance. `full` draws t from [0, 1), `end` takes t = 0. The reported number is the mean of what lies
between the 1st and the 99th percentile over pairs. Units: perceptual distance per squared share of the path.

StyleGAN's program takes great circles in Z and straight lines in W, reduces pictures above 256 pixels, and draws the
layers' noise anew for every batch, the same for all its pictures; decoders here have one noise for all pictures.

The published step of 1e-4 divides differences near float32's resolution by 1e-8: other batch sizes or devices round
differently and move single numbers by about 1e-4 of their value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.types import Images, Latents, OtherImages, Scores

LARGEST_COMPARED = 256
"""Pixels per side above which StyleGAN's program reduces what is compared."""


def crop_face(images: Images) -> Float[Tensor, "N C H//2 W//2"]:
    """The middle of an aligned face as StyleGAN's path length crops it: with c = H/8, rows 3c ... 7c, columns 2c ...
    6c.

    Raises:
        ValueError: if the height is not a multiple of 8.
    """
    height = images.shape[-2]
    if height % 8 != 0:
        raise ValueError(f"the face crop needs a height that is a multiple of 8 pixels, got {height}")
    c = height // 8
    return images[:, :, 3 * c : 7 * c, 2 * c : 6 * c]


def reduce_for_comparison(images: Images) -> OtherImages:
    """Images of 512, 1024 ... pixels as 256 by means of blocks, as StyleGAN's program does after the crop; smaller ones
    as they are.
    """
    factor = images.shape[-1] // LARGEST_COMPARED
    return F.avg_pool2d(images, factor) if factor > 1 else images


def path_distances(
    decoder: AbstractDecoder,
    distance: Callable[[Images, Images], Scores],
    a: Latents,
    b: Latents,
    t: Scores,
    *,
    epsilon: float = 1e-4,
    crop: bool = False,
) -> Scores:
    """d(G(p(t)), G(p(t + epsilon))) / epsilon² for each pair, (N,) float64; nothing is rounded to 8 bits.

    Args:
        decoder: G and its latent space, whose `interpolate` is p. It runs in float32 with autocast off: the two
            pictures differ by less than half precision resolves.
        distance: perceptual distance of image batches.
        a: (N, D) starts.
        b: (N, D) ends.
        t: (N,) shares in [0, 1].
        epsilon: length of a step, published: 1e-4.
        crop: whether only the middle of the face is compared, as published for all images, also where there is no face.
    """
    space = decoder.latent_space
    with torch.autocast(a.device.type, enabled=False):
        # One call for both ends of each step, so that both see the same arithmetic.
        steps = torch.cat([space.interpolate(a, b, t), space.interpolate(a, b, t + epsilon)])
        pictures = decoder.decode(steps).float()
        if crop:
            pictures = crop_face(pictures)
        here, there = reduce_for_comparison(pictures).chunk(2)
        return distance(here, there).double() / epsilon**2


def trimmed_mean(values: Scores, lowest: float = 0.01, highest: float = 0.99) -> float:
    """Mean of the values between two quantiles, both included; the quantiles are values that occur.

    The lower quantile is rounded down to the next value that occurs and the upper one up, as StyleGAN's program does.

    Args:
        values: (N,), N at least 1.
        lowest: share below which values are dropped.
        highest: share above which values are dropped.

    Raises:
        ValueError: if there is no value.
    """
    if len(values) == 0:
        raise ValueError("a path length needs at least one pair of latents, got none")
    ordered = values.double().sort().values
    last = len(ordered) - 1
    low = ordered[math.floor(lowest * last)]
    high = ordered[math.ceil(highest * last)]
    return ordered[(ordered >= low) & (ordered <= high)].mean().item()
