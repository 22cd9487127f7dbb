"""Networks of image-to-image translation: residual generators and patch discriminators (CycleGAN).

Zhu et al.: "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks" (ICCV 2017), in the form
of Heljakka et al.: "Recursive Chaining of Reversible Image-to-Image Translators for Face Aging" (ACIVS 2018), whose
TensorFlow program pads otherwise than PyTorch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.networks.batch_norm import BatchStatisticsNorm
from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d, glorot_uniform_
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images

Padding = Literal["symmetric", "same"]
"""Of strided and of the discriminator's convolutions: symmetric, as in the PyTorch program of CycleGAN; or same,
TensorFlow's rule, as in the published program of the chain, where maps are shifted by up to a pixel."""
Norm = Literal["instance", "batch"]
"""instance; or batch, always with the statistics of the batch at hand, as published (equal for batches of one)."""
InitialWeights = Literal["normal", "glorot"]
"""normal: N(0, 0.02), as in CycleGAN; glorot: Glorot's uniform distribution, as published for the chain."""
Direction = Literal["onward", "back"]
"""onward: towards the next domain (older faces); back: towards the one before."""

SMALLEST_RESOLUTION = 8
"""Pixels per side that reflection around the innermost maps needs."""


class ResidualBlock(nn.Module):
    """x + f(x) with two reflected 3x3 convolutions; nothing is rectified after the sum.

    Args:
        channels: of input and output.
        norm: see `Norm`.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            _norm(norm, channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            _norm(norm, channels),
        )

    def forward(self, features: Images) -> Images:
        """Features of the same shape."""
        return features + self.layers(features)


class TranslationGenerator(nn.Module):
    """Images to images of the same size: two halvings, residual blocks, two doublings, tanh.

    Args:
        channels: of the images.
        width: channels of the first maps; twice and four times as many after the halvings. Published: 64.
        blocks: number of residual blocks. Published: 9.
        padding: see `Padding`.
        norm: see `Norm`.
        initial_weights: see `InitialWeights`.

    Raises:
        ValueError: for a number that is not positive or an unknown name.
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        width: int = 64,
        blocks: int = 9,
        padding: Padding = "symmetric",
        norm: Norm = "instance",
        initial_weights: InitialWeights = "normal",
    ) -> None:
        super().__init__()
        _check_positive(width=width, blocks=blocks)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), _norm(norm, width), nn.ReLU()]
        for inputs in (width, 2 * width):
            layers += [_halving(inputs, 2 * inputs, padding), _norm(norm, 2 * inputs), nn.ReLU()]
        layers += [ResidualBlock(4 * width, norm) for _ in range(blocks)]
        for inputs in (4 * width, 2 * width):
            layers += [_doubling(inputs, inputs // 2, padding), _norm(norm, inputs // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7)]
        self.layers = nn.Sequential(*layers)
        _initialise(self, initial_weights)

    def forward(self, images: Images) -> Images:
        """Images (N, C, R, R) in [-1, 1], float32 or wider; R is a multiple of 4 and at least 8."""
        return torch.tanh(at_least_float(self.layers(images)))


class PatchDiscriminator(nn.Module):
    """A map of scores, each of which judges a patch: 70 pixels per side with the published three halvings.

    Args:
        channels: of the images.
        width: channels of the first maps; doubled up to three times. Published: 64.
        halvings: convolutions with stride 2; two more follow with stride 1. Published: 3.
        padding: see `Padding`; with "same" the map has R / 2^halvings pixels per side, with "symmetric" two fewer.
        norm: see `Norm`; there is none after the first and the last convolution.
        initial_weights: see `InitialWeights`.

    Raises:
        ValueError: for a number that is not positive or an unknown name.
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        width: int = 64,
        halvings: int = 3,
        padding: Padding = "symmetric",
        norm: Norm = "instance",
        initial_weights: InitialWeights = "normal",
    ) -> None:
        super().__init__()
        _check_positive(width=width, halvings=halvings)
        self.halvings = halvings
        self.padding: Padding = padding
        widths = [width * min(2**number, 8) for number in range(halvings + 1)]
        layers: list[nn.Module] = [_judging(channels, widths[0], 2, padding), nn.LeakyReLU(0.2)]
        for number in range(1, halvings + 1):
            stride = 2 if number < halvings else 1
            layers += [
                _judging(widths[number - 1], widths[number], stride, padding),
                _norm(norm, widths[number]),
                nn.LeakyReLU(0.2),
            ]
        layers.append(_judging(widths[-1], 1, 1, padding))
        self.layers = nn.Sequential(*layers)
        _initialise(self, initial_weights)

    def map_size(self, resolution: int) -> int:
        """Pixels per side of the map of scores for images of this resolution; below 1: they are too small."""
        return resolution // 2**self.halvings - (2 if self.padding == "symmetric" else 0)

    def forward(self, images: Images) -> Float[Tensor, "N 1 h w"]:
        """Scores without bounds, float32 or wider: 1 stands for real, 0 for generated."""
        return at_least_float(self.layers(images))


class TranslationGenerators(nn.Module):
    """Both generators of a translator, alike and with weights of their own.

    Args:
        options: of `TranslationGenerator`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.onward = TranslationGenerator(**options)
        self.back = TranslationGenerator(**options)

    def forward(self, images: Images, direction: Direction) -> Images:
        """Images (N, C, R, R) one domain further in this direction."""
        return self.onward(images) if direction == "onward" else self.back(images)


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "instance":
        return nn.InstanceNorm2d(channels, eps=1e-5, affine=True)
    if norm == "batch":
        return BatchStatisticsNorm(channels, eps=1e-5)
    raise ValueError(f"norm must be instance or batch, got {norm!r}")


def _halving(inputs: int, outputs: int, padding: Padding) -> nn.Module:
    _check_padding(padding)
    if padding == "same":
        return SameConv2d(inputs, outputs, 3, stride=2)
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def _doubling(inputs: int, outputs: int, padding: Padding) -> nn.Module:
    if padding == "same":
        return SameConvTranspose2d(inputs, outputs, 3, stride=2)
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)


def _judging(inputs: int, outputs: int, stride: int, padding: Padding) -> nn.Module:
    _check_padding(padding)
    if padding == "same":
        return SameConv2d(inputs, outputs, 4, stride=stride)
    return nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1)


def _initialise(network: nn.Module, initial_weights: InitialWeights) -> None:
    if initial_weights == "glorot":
        glorot_uniform_(network)
        return
    if initial_weights != "normal":
        raise ValueError(f"initial_weights must be normal or glorot, got {initial_weights!r}")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} of a translator's network must be at least 1, got {number}")


def _check_padding(padding: Padding) -> None:
    if padding not in ("symmetric", "same"):
        raise ValueError(f"padding must be symmetric or same, got {padding!r}")


__all__ = [
    "SMALLEST_RESOLUTION",
    "Direction",
    "InitialWeights",
    "Norm",
    "Padding",
    "PatchDiscriminator",
    "ResidualBlock",
    "TranslationGenerator",
    "TranslationGenerators",
]
