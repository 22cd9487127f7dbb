"""Generator and discriminator of the vanilla GAN of the study of latent spaces (Tonelli 2022, section 3.1.2).

The generator's channels grow with the resolution (16, 128, 256, 512), unlike DCGAN's; that is how it was published.
Initial weights are Keras's defaults: Glorot's uniform kernels, zero biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d, glorot_uniform_
from latent_lab.networks.strided import (
    PUBLISHED_WIDTHS,
    Activation,
    activation_layer,
    at_least_float,
    check_share,
    check_widths,
    drop,
    pixels_after,
    strided_convolutions,
)
from latent_lab.types import Images, Latents, Scores


class GANGenerator(nn.Module):
    """Dense layer onto a small square, one transposed convolution (kernel 4, stride 2) for each doubling, a convolution
    (kernel 5) to RGB, sigmoid.

    Args:
        latent_dim: L.
        resolution: pixels per side R; the dense layer's square has R / 2^len(widths) (published: 64, 3, so 8).
        widths: channels after each doubling.
        start_channels: of the dense layer's square.
        activation: see `activation_layer`.
        channels: of the image.

    Raises:
        ValueError: if the resolution cannot be halved that often.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        start_channels: int = 16,
        activation: Activation = "relu",
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths("generator widths", widths)
        start, rest = divmod(resolution, 2 ** len(widths))
        if rest or start < 1:
            raise ValueError(
                f"{len(widths)} doublings cannot end at {resolution} pixels: give fewer generator widths than "
                f"{list(widths)}, or another resolution"
            )
        self.start_shape = (start_channels, start, start)
        self.dense = nn.Linear(latent_dim, start_channels * start**2)
        layers: list[nn.Module] = [activation_layer(activation)]
        for below, width in pairwise((start_channels, *widths)):
            layers += [SameConvTranspose2d(below, width, 4, 2), activation_layer(activation)]
        self.layers = nn.Sequential(*layers, SameConv2d(widths[-1], channels, 5))
        glorot_uniform_(self)

    def forward(self, latents: Latents) -> Images:
        """Images (N, C, R, R) in [-1, 1], float32 or wider, of latents (N, L)."""
        small = self.dense(latents).view(-1, *self.start_shape)
        return conversions.from_unit(torch.sigmoid(at_least_float(self.layers(small))))


class GANDiscriminator(nn.Module):
    """Strided convolutions (kernel 4, stride 2), dropout, one number.

    Args:
        resolution: pixels per side.
        widths: channels after each halving.
        activation: see `activation_layer`.
        dropout: share of the features before the last layer. Published: 0.2, but the training step called the network
            in inference mode, where dropout does nothing; what ran is 0.
        channels: of the image.
    """

    def __init__(
        self,
        resolution: int,
        *,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        activation: Activation = "relu",
        dropout: float = 0.0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths("discriminator widths", widths)
        self.dropout = check_share(dropout)
        self.layers = strided_convolutions(channels, widths, 4, 2, activation)
        self.num_features = widths[-1] * pixels_after(resolution, 2, len(widths)) ** 2
        self.dense = nn.Linear(self.num_features, 1)
        glorot_uniform_(self)

    def forward(self, images: Images, uniform: Float[Tensor, "N F"] | None = None) -> Scores:
        """Logits (N,), float32 or wider; which class they speak for is the loss's convention.

        Args:
            images: (N, C, R, R) in [-1, 1]; like the published network, this one sees them in [0, 1].
            uniform: (N, num_features) decisions of dropout, see `drop`; None: no dropout.
        """
        features = self.layers(conversions.to_unit(images)).flatten(1)
        return at_least_float(self.dense(drop(features, uniform, self.dropout))).squeeze(1)
