"""Encoder and generator of Pioneer and Balanced Pioneer (Heljakka et al. 2018, 2019).

All blocks exist from the start; `phase` and `alpha` say which take part. Block p of either network belongs to
resolution 4 * 2^p, so the encoder's blocks are counted from the code outwards, like the generator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.growth import FIRST_RESOLUTION, phase_of
from latent_lab.networks.layers import EqualizedConv2d, PixelNorm, SpectralConv2d
from latent_lab.types import Images, Latents

Normalisation = Literal["none", "pixel_norm", "equalized", "pixel_norm_equalized", "spectral"]
Upsampling = Literal["nearest", "bilinear", "bilinear_newest"]


def published_widths(latent_dim: int, resolution: int) -> list[int]:
    """Channels at 4, 8, ... `resolution` pixels: D up to 32 pixels, then halved with every doubling."""
    return [latent_dim if phase < 4 else max(1, latent_dim >> (phase - 3)) for phase in range(phase_of(resolution) + 1)]


def check_widths(widths: Sequence[int], resolution: int) -> list[int]:
    """The widths as a list, once there is one positive number for each resolution from 4 to `resolution`.

    Raises:
        ValueError: otherwise.
    """
    needed = phase_of(resolution) + 1
    if len(widths) != needed or min(widths, default=0) < 1:
        raise ValueError(
            f"widths must give {needed} positive channel counts, for 4 to {resolution} pixels, got {list(widths)}"
        )
    return list(widths)


def _block(first: nn.Module, second: nn.Module, *, pixel_norm: bool, last_activation: bool = True) -> nn.Sequential:
    # The pixel norm sits before the activation, as in the published programs (Karras et al. put it after).
    layers: list[nn.Module] = []
    for convolution, activated in ((first, True), (second, last_activation)):
        layers.append(convolution)
        if pixel_norm:
            layers.append(PixelNorm())
        if activated:
            layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


class PioneerGenerator(nn.Module):
    """Decoder: a unit code to an image, linear output.

    Args:
        latent_dim: D.
        resolution: largest number of pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default `published_widths`.
        normalisation: of every convolution but to-RGB. Pioneer: `pixel_norm_equalized`; Balanced Pioneer: `spectral`;
            the others are the arms of the ablation.
        upsampling: before each block; `bilinear_newest` is bilinear for the newest block and nearest below it.
        gradient_through_power_iteration: see `SpectralConv2d`.
        channels: of the image.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] | None = None,
        normalisation: Normalisation = "spectral",
        upsampling: Upsampling = "nearest",
        gradient_through_power_iteration: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths(widths or published_widths(latent_dim, resolution), resolution)
        self.upsampling = upsampling

        def convolution(inputs: int, outputs: int, kernel_size: int, padding: int) -> nn.Module:
            if normalisation == "spectral":
                return SpectralConv2d(
                    inputs,
                    outputs,
                    kernel_size,
                    padding,
                    gradient_through_power_iteration=gradient_through_power_iteration,
                )
            if "equalized" in normalisation:
                return EqualizedConv2d(inputs, outputs, kernel_size, padding)
            return nn.Conv2d(inputs, outputs, kernel_size, padding=padding)

        pixel_norm = "pixel_norm" in normalisation
        # On a 1x1 input, 4x4 with padding 3 is a dense layer onto 4x4 pixels.
        first = _block(
            convolution(latent_dim, widths[0], 4, 3), convolution(widths[0], widths[0], 3, 1), pixel_norm=pixel_norm
        )
        grown = [
            _block(convolution(below, width, 3, 1), convolution(width, width, 3, 1), pixel_norm=pixel_norm)
            for below, width in pairwise(widths)
        ]
        self.blocks = nn.ModuleList([first, *grown])
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, latents: Latents, phase: int, alpha: float | Tensor = 1.0) -> Images:
        """Images (N, C, R, R) with R = 4 * 2^phase, float32 or wider.

        Args:
            latents: (N, D) unit rows.
            phase: number of blocks beyond the first.
            alpha: weight of the newest block against the block below it, in [0, 1].

        Raises:
            ValueError: if there are no blocks for this phase.
        """
        check_phase(phase, len(self.blocks))
        features = self.blocks[0](latents[:, :, None, None])
        for number in range(1, phase):
            features = self.blocks[number](self._upsample(features, newest=False))
        if phase == 0:
            return _at_least_float(self.to_rgb[0](features))
        fine = self.to_rgb[phase](self.blocks[phase](self._upsample(features, newest=True)))
        if not isinstance(alpha, Tensor) and alpha >= 1.0:
            return _at_least_float(fine)
        # A 1x1 convolution commutes with upsampling, and the small image is cheaper to convolve.
        coarse = self._upsample(self.to_rgb[phase - 1](features), newest=True)
        return torch.lerp(_at_least_float(coarse), _at_least_float(fine), alpha)

    def _upsample(self, features: Tensor, *, newest: bool) -> Tensor:
        if self.upsampling == "bilinear" or (self.upsampling == "bilinear_newest" and newest):
            return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        return F.interpolate(features, scale_factor=2, mode="nearest")


class PioneerEncoder(nn.Module):
    """An image to a code, not yet projected to the sphere; spectral norm throughout.

    Args:
        latent_dim: D.
        resolution: largest number of pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default `published_widths`.
        last_activation: LeakyReLU after the last convolution. Published weights have it, by mistake: it squeezes
            negative code values five-fold (errata of the thesis). Off by default.
        gradient_through_power_iteration: see `SpectralConv2d`.
        channels: of the image.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] | None = None,
        last_activation: bool = False,
        gradient_through_power_iteration: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths(widths or published_widths(latent_dim, resolution), resolution)

        def convolution(inputs: int, outputs: int, kernel_size: int, padding: int) -> nn.Module:
            return SpectralConv2d(
                inputs, outputs, kernel_size, padding, gradient_through_power_iteration=gradient_through_power_iteration
            )

        last = _block(
            convolution(widths[0], widths[0], 3, 1),
            convolution(widths[0], latent_dim, 4, 0),
            pixel_norm=False,
            last_activation=last_activation,
        )
        grown = [
            _block(convolution(width, below, 3, 1), convolution(below, below, 3, 1), pixel_norm=False)
            for below, width in pairwise(widths)
        ]
        self.blocks = nn.ModuleList([last, *grown])
        self.from_rgb = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths)

    def forward(self, images: Images, phase: int, alpha: float | Tensor = 1.0) -> Latents:
        """Codes (N, D), float32 or wider, not normalised.

        Args:
            images: (N, C, R, R) with R = 4 * 2^phase.
            phase: as for the generator.
            alpha: as for the generator.

        Raises:
            ValueError: if there are no blocks for this phase, or the images are of another size.
        """
        check_phase(phase, len(self.blocks))
        side = FIRST_RESOLUTION * 2**phase
        if images.shape[-2:] != (side, side):
            raise ValueError(
                f"images must be {side} x {side} pixels, as the network has grown so far, got "
                f"{tuple(images.shape[-2:])}"
            )
        features = self.from_rgb[phase](images)
        if phase > 0:
            features = F.avg_pool2d(self.blocks[phase](features), 2)
            if isinstance(alpha, Tensor) or alpha < 1.0:
                coarse = self.from_rgb[phase - 1](F.avg_pool2d(images, 2))
                share = alpha.to(features) if isinstance(alpha, Tensor) else alpha
                features = torch.lerp(coarse, features, share)
        for number in range(phase - 1, 0, -1):
            features = F.avg_pool2d(self.blocks[number](features), 2)
        # The last block makes the code, whose batch moments need full precision.
        with torch.autocast(images.device.type, enabled=False):
            return self.blocks[0](_at_least_float(features)).flatten(1)


def check_phase(phase: int, blocks: int) -> None:
    """Nothing, once a network with blocks for this many resolutions reaches the phase.

    Raises:
        ValueError: otherwise.
    """
    if not 0 <= phase < blocks:
        raise ValueError(
            f"the network ends at {FIRST_RESOLUTION * 2 ** (blocks - 1)} pixels, got phase {phase}, which would be "
            f"{FIRST_RESOLUTION * 2**phase}: there are no such blocks, or they were never trained"
        )


def _at_least_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
