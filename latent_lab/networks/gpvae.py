"""Encoder and decoder of the view-conditioned VAE (Casale et al. 2018; Hou, Heljakka and Solin 2021).

Both work in cells of two 3x3 convolutions with ELU: in the encoder the second one halves the map, in the decoder
nearest neighbours double it before the first. All cells have one width, and 4 x 4 pixels are the smallest map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.growth import phase_of
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents

PUBLISHED_WIDTH = 32
"""Channels of the published networks for 128 pixels."""

_SMALLEST_DEVIATION = 1e-6


def _num_cells(resolution: int) -> int:
    """Halvings down to 4 pixels.

    Raises:
        ValueError: if there is none.
    """
    cells = phase_of(resolution)
    if cells == 0:
        raise ValueError(f"the networks of GPVAE need a resolution of at least 8 pixels, got {resolution}")
    return cells


class GPVAEEncoder(nn.Module):
    """An image to mean and deviation of its posterior.

    Args:
        resolution: pixels per side, 4 * 2^k.
        latent_dim: D.
        channels: of the image.
        width: channels of every convolution.
    """

    def __init__(self, resolution: int, latent_dim: int, *, channels: int = 3, width: int = PUBLISHED_WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for cell in range(_num_cells(resolution)):
            layers += [nn.Conv2d(width if cell else channels, width, 3, padding=1), nn.ELU()]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ELU()]
        self.convolutions = nn.Sequential(*layers)
        self.mean = nn.Linear(width * 4 * 4, latent_dim)
        self.deviation = nn.Linear(width * 4 * 4, latent_dim)

    def forward(self, images: Images) -> tuple[Latents, Latents]:
        """Mean and deviation (a softplus, positive), (N, D) each, float32 or wider.

        Args:
            images: (N, C, R, R) in [0, 1].
        """
        features = self.convolutions(images).flatten(1)
        # The entropy is a logarithm of the deviation: half precision would be felt.
        with torch.autocast(images.device.type, enabled=False):
            features = at_least_float(features)
            return self.mean(features), F.softplus(self.deviation(features)) + _SMALLEST_DEVIATION


class GPVAEDecoder(nn.Module):
    """A latent to the mean of an image's observation model.

    Args:
        resolution: pixels per side, 4 * 2^k.
        latent_dim: D.
        channels: of the image.
        width: channels of every convolution but the last two, which have the image's.
    """

    def __init__(self, resolution: int, latent_dim: int, *, channels: int = 3, width: int = PUBLISHED_WIDTH) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(latent_dim, width * 4 * 4), nn.Unflatten(1, (width, 4, 4)))
        cells = _num_cells(resolution)
        layers: list[nn.Module] = []
        for cell in range(1, cells + 1):
            outputs = channels if cell == cells else width
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(width, outputs, 3, padding=1), nn.ELU()]
            layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ELU()]
        # The last layer is linear.
        self.convolutions = nn.Sequential(*layers[:-1])

    def forward(self, latents: Latents) -> Tensor:
        """Images (N, C, R, R) nominally in [0, 1], not clamped, float32 or wider."""
        return at_least_float(self.convolutions(self.dense(latents)))
