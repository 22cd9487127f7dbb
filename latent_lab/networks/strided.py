"""Strided convolutions, activation and dropout of the networks that the study of latent spaces trains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.networks.same_padding import SameConv2d
from latent_lab.types import Features

Activation = Literal["relu", "leaky_relu"]

PUBLISHED_WIDTHS = (128, 256, 512)
"""Channels of the published networks for 64 pixels: of encoder, discriminator and recoder from the image on, of the
generator towards it."""


def activation_layer(name: Activation) -> nn.Module:
    """The nonlinearity after each convolution.

    The published networks have ReLU inside the convolution and LeakyReLU after it, which is then the identity, so
    `relu` is what was trained.
    """
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(0.2)


def drop(features: Features, uniform: Float[Tensor, "N F"] | None, share: float) -> Features:
    """Dropout whose decisions are passed in: kept features are divided by 1 - share, the others are 0.

    Args:
        features: (N, F).
        uniform: (N, F) numbers uniform on [0, 1); a feature is dropped where its number is below `share`. None: nothing
            is dropped.
        share: of the features, in [0, 1).
    """
    return features if uniform is None or share == 0 else features * (uniform >= share) / (1.0 - share)


def strided_convolutions(
    channels: int, widths: Sequence[int], kernel_size: int, stride: int, activation: Activation
) -> nn.Sequential:
    """Convolutions with Keras's padding, each followed by the activation: `channels` to the last of `widths`."""
    layers: list[nn.Module] = []
    for below, width in pairwise((channels, *widths)):
        layers += [SameConv2d(below, width, kernel_size, stride), activation_layer(activation)]
    return nn.Sequential(*layers)


def pixels_after(resolution: int, stride: int, layers: int) -> int:
    """Pixels per side after some strided convolutions with Keras's padding: ceil(n / stride) after each."""
    for _ in range(layers):
        resolution = -(-resolution // stride)
    return resolution


def check_widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    """The widths, once there is one at least and all are positive.

    Raises:
        ValueError: otherwise.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be one or more positive channel counts, got {list(widths)}")
    return tuple(widths)


def check_share(dropout: float) -> float:
    """The share of dropped features, once it is in [0, 1).

    Raises:
        ValueError: otherwise.
    """
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be a share in [0, 1), got {dropout}: 0 drops nothing")
    return dropout


def at_least_float(values: Tensor) -> Tensor:
    """Half precision widened to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()
