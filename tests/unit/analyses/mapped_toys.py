"""A linear decoder with a second space W and noise in its layers: what each of them moves is known exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.latent.interfaces import AbstractMappedDecoder, AbstractNoisyDecoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.latent.styles import repeat

NOISE_GAINS = (0.0, 0.02, 0.05)
"""Of the layers of 4, 8 and 16 pixels: the deviation of an image over draws of a layer's noise."""


class ToyMappedDecoder(nn.Module, AbstractMappedDecoder, AbstractNoisyDecoder):
    """W = 2 z + 1, an image is the mean over three layers of w M, plus each layer's noise enlarged to 16 pixels.

    Amplitudes are small, so that nothing is clamped.
    """

    num_layers = 3
    layer_resolutions = (4, 8, 16)
    resolution = 16

    def __init__(self, dim: int = 5, layer_noise: bool = True) -> None:
        super().__init__()
        self.space = Gaussian(dim)
        self.layer_noise = layer_noise
        rng = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(0.02 * torch.randn(dim, 3 * 16**2, generator=rng, dtype=torch.float64))

    @property
    def latent_space(self) -> Gaussian:
        return self.space

    @property
    def mapped_average(self) -> Tensor:
        return torch.ones(self.space.dim)

    def map(self, latents: Tensor) -> Tensor:
        return 2 * latents + 1

    def decode_mapped(self, styles: Tensor) -> Tensor:
        return (styles.double().mean(1) @ self.matrix).float().view(-1, 3, 16, 16)

    def decode_layers(self, styles: Tensor) -> Tensor:
        return self.decode_mapped(self.map(styles))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_layers(repeat(latents, 3))

    def decode_with_noise(self, latents: Tensor, noise: Callable[[torch.Size], Tensor] | None) -> Tensor:
        images = self.decode(latents) if latents.ndim == 2 else self.decode_layers(latents)
        if noise is None:
            return images
        for gain, pixels in zip(NOISE_GAINS, self.layer_resolutions, strict=True):
            plane = noise(torch.Size((len(latents), 1, pixels, pixels)))
            images = images + gain * F.interpolate(plane, 16)
        return images
