"""Encoder and two decoders of the VAE and WAE baselines (Automodulator paper, comparison of encoder-decoders).

The paper compares a VAE and a WAE "with the same AdaIN architecture" and with a classical decoder of similar size, and
publishes neither code nor numbers of layers. What is here is our choice: the Pioneer family's encoder and Balanced
Pioneer's generator at a fixed size, and the Automodulator's decoder without its layer noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from latent_lab.growth import phase_of
from latent_lab.networks.modulation import StyledConvolution
from latent_lab.networks.pioneer import PioneerEncoder, PioneerGenerator, check_widths, published_widths
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents

DecoderKind = Literal["classical", "adain"]


class HeadedEncoder(nn.Module):
    """Pioneer's encoder at one resolution, followed by linear heads on its last features.

    Pioneer projects its codes to the sphere, so their scale does not matter there and every convolution may be
    spectrally normalised. Here codes have to spread like the prior, which such bounded features (a newborn network's
    are about 1e-3) could not reach: they are brought to unit mean square, and the heads are plain linear layers.

    Args:
        latent_dim: D.
        resolution: pixels per side.
        num_heads: 2 for mean and log-variance of a posterior, 1 for a code.
        widths: channels at 4, 8, ... `resolution` pixels; by default Pioneer's `published_widths`.
        channels: of the image.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        num_heads: int,
        widths: Sequence[int] | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.phase = phase_of(resolution)
        widths = check_widths(widths or published_widths(latent_dim, resolution), resolution)
        features = widths[0]
        self.trunk = PioneerEncoder(features, resolution, widths=widths, last_activation=True, channels=channels)
        _freeze_unused(self.trunk.from_rgb)
        self.heads = nn.ModuleList(nn.Linear(features, latent_dim) for _ in range(num_heads))

    def forward(self, images: Images) -> tuple[Latents, ...]:
        """One tensor (N, D) for each head, float32 or wider."""
        features = self.trunk(images, self.phase)
        with torch.autocast(images.device.type, enabled=False):
            normalised = F.normalize(features, dim=1) * features.shape[1] ** 0.5
            return tuple(head(normalised) for head in self.heads)


class ClassicalDecoder(nn.Module):
    """Balanced Pioneer's generator (spectral norm, nearest upsampling) at one resolution; latents of any length.

    Args:
        latent_dim: D.
        resolution: pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default Pioneer's `published_widths`.
        channels: of the image.
    """

    def __init__(
        self, latent_dim: int, resolution: int, *, widths: Sequence[int] | None = None, channels: int = 3
    ) -> None:
        super().__init__()
        self.phase = phase_of(resolution)
        self.generator = PioneerGenerator(latent_dim, resolution, widths=widths, channels=channels)
        _freeze_unused(self.generator.to_rgb)

    def forward(self, latents: Latents) -> Images:
        """Images (N, C, R, R), float32 or wider, of latents (N, D)."""
        return self.generator(latents, self.phase)


class AdaINDecoder(nn.Module):
    """Decoder whose only input is style: latents scale and shift every feature map of a network fed with ones.

    Block 0 works at 4 x 4 pixels: ones -> 3x3 convolution -> leaky ReLU -> AdaIN; the zeros around the ones are the
    only source of spatial variation. Every further block doubles the resolution: nearest upsampling -> convolution ->
    blur [1, 2, 1] -> leaky ReLU -> AdaIN -> convolution -> leaky ReLU -> AdaIN. A 1x1 convolution makes the image, with
    linear output. It is the Automodulator's decoder at a fixed size without layer noise, for latents of the standard
    normal prior; its AdaIN has the biased deviation and starts without shift.

    Args:
        latent_dim: D.
        resolution: pixels per side, 4 * 2^k.
        widths: channels at 4, 8, ... `resolution` pixels; by default Pioneer's `published_widths`.
        channels: of the image.
    """

    def __init__(
        self, latent_dim: int, resolution: int, *, widths: Sequence[int] | None = None, channels: int = 3
    ) -> None:
        super().__init__()
        widths = check_widths(widths or published_widths(latent_dim, resolution), resolution)
        self.first_width = widths[0]
        self.blocks = nn.ModuleList([StyledConvolution(widths[0], widths[0], latent_dim)])
        for below, width in pairwise(widths):
            self.blocks.append(StyledConvolution(below, width, latent_dim, upsampling="nearest", blur=True))
            self.blocks.append(StyledConvolution(width, width, latent_dim))
        self.to_rgb = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, latents: Latents) -> Images:
        """Images (N, C, R, R), float32 or wider, of latents (N, D)."""
        features = latents.new_ones(len(latents), self.first_width, 4, 4)
        for block in self.blocks:
            features = block(features, latents)
        return at_least_float(self.to_rgb(features))


DECODERS: dict[DecoderKind, type[ClassicalDecoder | AdaINDecoder]] = {
    "classical": ClassicalDecoder,
    "adain": AdaINDecoder,
}
"""By the name that the models' option `decoder` takes."""


def _freeze_unused(layers_of_resolutions: nn.ModuleList) -> None:
    """Only the last resolution's colour layer is ever reached: distributed training waits for every other one."""
    layers_of_resolutions[:-1].requires_grad_(False)
