"""Encoder and decoder of the gamma-balanced VAE that the comparison of latent spaces trains (Asperti and Tonelli 2022).

Layers are those of the published Keras program: convolutions with "same" padding, a dense layer between them and the
latent, the decoder's last one with a kernel of 5. Its thesis describes another decoder, that of the GAN; both are
presets.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d, glorot_uniform_
from latent_lab.networks.strided import (
    PUBLISHED_WIDTHS,
    Activation,
    activation_layer,
    at_least_float,
    check_share,
    drop,
    strided_convolutions,
)
from latent_lab.types import Images, Latents

DecoderPreset = Literal["code", "thesis"]

DECODER_WIDTHS: dict[DecoderPreset, tuple[int, ...]] = {"code": (512, 256, 128, 64), "thesis": (16, 128, 256, 512)}
"""Channels of the dense layer's map, then of each transposed convolution, at 64 pixels: the program's decoder narrows
with resolution, the thesis's (the GAN's generator) widens."""


def smallest_map(resolution: int, halvings: int) -> int:
    """Pixels per side after so many strided convolutions.

    Raises:
        ValueError: if nothing would be left.
    """
    if resolution % 2**halvings or resolution // 2**halvings < 2:
        raise ValueError(
            f"{halvings} widths halve {resolution} pixels below 2: give fewer widths or a larger resolution"
        )
    return resolution // 2**halvings


class GammaVAEEncoder(nn.Module):
    """An image to mean and log-variance of its posterior.

    Args:
        resolution: pixels per side.
        latent_dim: D.
        channels: of the image.
        widths: output channels of the strided convolutions (kernel 4), one for each halving.
        activation: see `activation_layer`.
        dropout: of the flattened features. Published as 0.2, but never switched on while training: 0 is what ran.
    """

    def __init__(
        self,
        resolution: int,
        latent_dim: int,
        *,
        channels: int = 3,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = check_share(dropout)
        self.convolutions = strided_convolutions(channels, widths, 4, 2, activation)
        self.num_features = widths[-1] * smallest_map(resolution, len(widths)) ** 2
        self.mean = nn.Linear(self.num_features, latent_dim)
        self.log_variance = nn.Linear(self.num_features, latent_dim)
        glorot_uniform_(self)

    def forward(self, images: Images, uniform: Float[Tensor, "N F"] | None = None) -> tuple[Latents, Latents]:
        """Mean and log-variance (N, D), float32 or wider.

        Args:
            images: (N, C, R, R) in [0, 1].
            uniform: (N, num_features) decisions of dropout, see `networks.strided.drop`; None: no dropout.
        """
        features = drop(self.convolutions(images).flatten(1), uniform, self.dropout)
        # The variance is an exponential and the KL a difference of such: half precision would be felt.
        with torch.autocast(images.device.type, enabled=False):
            features = at_least_float(features)
            return self.mean(features), self.log_variance(features)


class GammaVAEDecoder(nn.Module):
    """A latent to the logits of an image.

    Args:
        resolution: pixels per side.
        latent_dim: D.
        channels: of the image.
        widths: channels of the dense layer's map, then of each transposed convolution (kernel 4), one for each
            doubling.
        activation: see `activation_layer`.
    """

    def __init__(
        self,
        resolution: int,
        latent_dim: int,
        *,
        channels: int = 3,
        widths: Sequence[int] = DECODER_WIDTHS["code"],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        pixels = smallest_map(resolution, len(widths) - 1)
        self.dense = nn.Sequential(
            nn.Linear(latent_dim, widths[0] * pixels**2),
            nn.Unflatten(1, (widths[0], pixels, pixels)),
            activation_layer(activation),
        )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [SameConvTranspose2d(inputs, outputs, 4, stride=2), activation_layer(activation)]
        self.convolutions = nn.Sequential(*layers)
        self.to_image = SameConv2d(widths[-1], channels, 5)
        glorot_uniform_(self)

    def forward(self, latents: Latents) -> Tensor:
        """Logits (N, C, R, R), float32 or wider: the image in [0, 1] is their sigmoid."""
        return at_least_float(self.to_image(self.convolutions(self.dense(latents))))
