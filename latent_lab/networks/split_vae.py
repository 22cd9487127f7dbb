"""Networks of SplitVAE (Asperti, Bugo, Filippini: "Enhancing Variational Generation Through Self-Decomposition", 2022).

Residual blocks with batch normalisation and SiLU, all paddings as Keras has them, an embedding between convolutions and
latent on either side, and a decoder that emits two images and a map that mixes them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latent_lab.growth import FIRST_RESOLUTION, phase_of
from latent_lab.networks.batch_norm import GlobalBatchNorm
from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d, glorot_uniform_
from latent_lab.types import Features, Images, Latents

PUBLISHED_MOMENTUM = 0.001
"""Of the batch normalisations: running moments then need thousands of steps to arrive."""


class SplitImages(NamedTuple):
    """Two images and how they are mixed."""

    first: Tensor
    """(N, C, R, R)."""
    second: Tensor
    """(N, C, R, R)."""
    map: Tensor
    """(N, 1, R, R) in [0, 1]: the share of the first image at each pixel, the same for all its channels."""

    @property
    def mixed(self) -> Tensor:
        """Map * first + (1 - map) * second, (N, C, R, R)."""
        return self.map * self.first + (1.0 - self.map) * self.second


class ResidualBlock(nn.Module):
    """Main branch plus shortcut; the shortcut is a layer of its own, also where the widths are equal.

    The main branch repeats [batch normalisation, SiLU, layer]; nothing follows the sum.

    Args:
        layer: makes a layer of so many inputs and outputs.
        inputs: features of the input.
        outputs: of the output.
        depth: layers of the main branch.
        momentum: of the batch normalisations.
    """

    def __init__(
        self, layer: Callable[[int, int], nn.Module], inputs: int, outputs: int, *, depth: int = 2, momentum: float
    ) -> None:
        super().__init__()
        main: list[nn.Module] = []
        for width in (inputs, *[outputs] * (depth - 1)):
            main += [GlobalBatchNorm(width, momentum=momentum), nn.SiLU(), layer(width, outputs)]
        self.main = nn.Sequential(*main)
        self.shortcut = layer(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same size with the block's number of channels."""
        return self.main(features) + self.shortcut(features)


def convolutional_block(inputs: int, outputs: int, *, depth: int = 2, momentum: float) -> ResidualBlock:
    """A residual block of convolutions with kernel 3."""

    def convolution(fan_in: int, fan_out: int) -> nn.Module:
        return SameConv2d(fan_in, fan_out, 3)

    return ResidualBlock(convolution, inputs, outputs, depth=depth, momentum=momentum)


def dense_block(inputs: int, outputs: int, *, depth: int = 2, momentum: float) -> ResidualBlock:
    """A residual block of dense layers."""
    return ResidualBlock(nn.Linear, inputs, outputs, depth=depth, momentum=momentum)


def scale_block(width: int, *, blocks: int = 1, depth: int = 2, momentum: float) -> nn.Sequential:
    """The residual blocks of one resolution."""
    return nn.Sequential(*[convolutional_block(width, width, depth=depth, momentum=momentum) for _ in range(blocks)])


def published_widths(base_dim: int, count: int, max_width: int) -> list[int]:
    """Channels from the image inwards: doubled at every scale, capped."""
    return [min(base_dim * 2**scale, max_width) for scale in range(count)]


class SplitVAEEncoder(nn.Module):
    """An image to its embedding.

    A strided convolution (kernel 3) to each scale, a scale block after all but the last, the mean over pixels, a dense
    residual block.

    Args:
        resolution: pixels per side, at least 2^num_scales.
        channels: of the image.
        base_dim: channels of the first scale; doubled at every further one.
        num_scales: strided convolutions.
        embedding_dim: width of the embedding.
        max_width: cap on channels.
        batch_norm_momentum: see `GlobalBatchNorm`.
    """

    def __init__(
        self,
        resolution: int,
        *,
        channels: int = 3,
        base_dim: int = 64,
        num_scales: int = 4,
        embedding_dim: int = 512,
        max_width: int = 1024,
        batch_norm_momentum: float = PUBLISHED_MOMENTUM,
    ) -> None:
        super().__init__()
        if resolution < 2**num_scales:
            raise ValueError(
                f"{num_scales} scales need images of at least {2**num_scales} pixels, got {resolution}: give fewer "
                "num_scales"
            )
        widths = published_widths(base_dim, num_scales, max_width)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([channels, *widths]):
            if layers:
                layers.append(scale_block(inputs, momentum=batch_norm_momentum))
            layers.append(SameConv2d(inputs, outputs, 3, stride=2))
        self.convolutions = nn.Sequential(*layers)
        self.dense = dense_block(widths[-1], embedding_dim, momentum=batch_norm_momentum)
        glorot_uniform_(self)

    def forward(self, images: Images) -> Features:
        """Embeddings (N, E) of images (N, C, R, R) in [0, 1]."""
        return self.dense(self.convolutions(images).mean((2, 3)))


class SplitVAEBottleneck(nn.Module):
    """Between embedding and latent: one linear layer for each of mean, log-variance and the way back.

    Args:
        embedding_dim: E.
        latent_dim: D.
    """

    def __init__(self, embedding_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Linear(embedding_dim, latent_dim)
        self.log_variance = nn.Linear(embedding_dim, latent_dim)
        self.to_embedding = nn.Linear(latent_dim, embedding_dim)
        glorot_uniform_(self)

    def forward(self, embedding: Features) -> tuple[Latents, Latents]:
        """Mean and log-variance (N, D), float32 or wider, of embeddings (N, E)."""
        # The variance is an exponential and the KL a difference of such: half precision would be felt.
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding if embedding.dtype == torch.float64 else embedding.float()
            return self.mean(embedding), self.log_variance(embedding)


class SplitVAEDecoder(nn.Module):
    """An embedding to two images and their map, by one network.

    A dense layer to 4x4 pixels, then for every doubling a transposed convolution (kernel 3) and a scale block, and one
    convolution to 2 C + 1 channels behind one sigmoid.

    Args:
        resolution: pixels per side, 4 * 2^k.
        channels: C, of the image.
        base_dim: channels at `resolution`; doubled at every halving of it.
        embedding_dim: E.
        max_width: cap on channels.
        batch_norm_momentum: see `GlobalBatchNorm`.
    """

    def __init__(
        self,
        resolution: int,
        *,
        channels: int = 3,
        base_dim: int = 64,
        embedding_dim: int = 512,
        max_width: int = 1024,
        batch_norm_momentum: float = PUBLISHED_MOMENTUM,
    ) -> None:
        super().__init__()
        self.channels = channels
        widths = published_widths(base_dim, phase_of(resolution) + 1, max_width)[::-1]
        self.dense = nn.Linear(embedding_dim, widths[0] * FIRST_RESOLUTION**2)
        self.unflatten = nn.Unflatten(1, (widths[0], FIRST_RESOLUTION, FIRST_RESOLUTION))
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [SameConvTranspose2d(inputs, outputs, 3), scale_block(outputs, momentum=batch_norm_momentum)]
        self.convolutions = nn.Sequential(*layers)
        self.to_images = SameConv2d(widths[-1], 2 * channels + 1, 3)
        glorot_uniform_(self)

    def forward(self, embedding: Features) -> SplitImages:
        """Images and map in [0, 1], float32 or wider, of embeddings (N, E).

        Channel 0 of the last layer is the map, then come the first image and the second.
        """
        logits = self.to_images(self.convolutions(self.unflatten(self.dense(embedding))))
        values = torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float())
        mixing, first, second = values.split([1, self.channels, self.channels], dim=1)
        return SplitImages(first, second, mixing)
