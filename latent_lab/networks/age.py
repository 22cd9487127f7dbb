"""Encoder and generator of AGE (Ulyanov, Vedaldi, Lempitsky 2018): strided convolutions with batch normalisation.

There are two published forms. That of 64 pixels brings the image to 4 x 4 by convolutions of stride 2 and to one pixel
by one of kernel 4; 16 and 128 pixels are made here in the same way, with fewer or more doublings. That of 32 pixels
ends the encoder with a convolution of stride 2 and a mean over 2 x 2, the generator with a convolution of kernel 1.

Layers are called as in the published files: `main.N`, with activations counted.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from latent_lab.networks.batch_norm import GlobalBatchNorm
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents

RESOLUTIONS = (16, 32, 64, 128)
"""Pixels per side for which there is a network; 32 and 64 are published."""

_SHORT_FORM = 32


class AGEEncoder(nn.Module):
    """Codes of images, not yet projected to the sphere.

    Real and generated images are passed on their own: in training mode each batch is normalised with its own moments.

    Args:
        latent_dim: D.
        resolution: pixels per side R, one of `RESOLUTIONS`.
        base_width: channels after the first convolution; they double with every halving.
        channels: of the image.

    Raises:
        ValueError: if there is no network for the resolution.
    """

    def __init__(self, latent_dim: int, resolution: int, *, base_width: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.resolution = resolution
        widths = [base_width * 2**level for level in range(_doublings(resolution))]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for below, width in pairwise(widths):
            layers += [nn.Conv2d(below, width, 4, 2, 1, bias=False), GlobalBatchNorm(width), nn.LeakyReLU(0.2)]
        if resolution == _SHORT_FORM:
            layers += [nn.Conv2d(widths[-1], latent_dim, 4, 2, 1), nn.AvgPool2d(2)]
        else:
            layers += [nn.Conv2d(widths[-1], latent_dim, 4)]
        self.main = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, images: Images) -> Latents:
        """Codes (N, D), float32 or wider, of images (N, C, R, R) in [-1, 1].

        Raises:
            ValueError: if the images have another size; the codes would be maps, and losses would mix their places.
        """
        height, width = images.shape[-2:]
        if (height, width) != (self.resolution, self.resolution):
            raise ValueError(
                f"this encoder of AGE sees {self.resolution} x {self.resolution} pixels, got {height} x {width}: "
                "resize the images first"
            )
        return at_least_float(self.main(images)).flatten(1)


class AGEGenerator(nn.Module):
    """Images of latents.

    Args:
        latent_dim: D.
        resolution: pixels per side R, one of `RESOLUTIONS`.
        base_width: the first layer has base_width * R / 8 channels (32 pixels: base_width * 8) at 4 x 4, and they halve
            with every doubling.
        channels: of the image.

    Raises:
        ValueError: if there is no network for the resolution.
    """

    def __init__(self, latent_dim: int, resolution: int, *, base_width: int = 64, channels: int = 3) -> None:
        super().__init__()
        doublings = _doublings(resolution)
        if resolution == _SHORT_FORM:
            widths = [8 * base_width, 4 * base_width, 2 * base_width, 2 * base_width]
            last: nn.Module = nn.Conv2d(widths[-1], channels, 1)
        else:
            widths = [base_width * 2**level for level in reversed(range(doublings))]
            last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False)
        layers = [nn.ConvTranspose2d(latent_dim, widths[0], 4, bias=False), GlobalBatchNorm(widths[0]), nn.ReLU()]
        for below, width in pairwise(widths):
            layers += [nn.ConvTranspose2d(below, width, 4, 2, 1, bias=False), GlobalBatchNorm(width), nn.ReLU()]
        self.main = nn.Sequential(*layers, last, nn.Tanh())
        _initialise(self)

    def forward(self, latents: Latents) -> Images:
        """Images (N, C, R, R) in [-1, 1], float32 or wider, of latents (N, D)."""
        return at_least_float(self.main(latents[:, :, None, None]))


def _doublings(resolution: int) -> int:
    """From 4 pixels to the resolution."""
    if resolution not in RESOLUTIONS:
        sizes = ", ".join(map(str, RESOLUTIONS))
        raise ValueError(
            f"AGE has networks for {sizes} px, got {resolution}: give all rows of the schedule one of them"
        )
    return int(math.log2(resolution // 4))


def _initialise(network: nn.Module) -> None:
    """As published: kernels N(0, 0.02), scales N(1, 0.02), shifts 0; biases of convolutions stay torch's."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, GlobalBatchNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
