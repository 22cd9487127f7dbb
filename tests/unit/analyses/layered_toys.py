"""A linear layered decoder: how far each layer moves each colour channel is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.networks.label_regressor import LabelRegressor

# Shares of the layers (rows: 4, 8, 16 px) in each channel; they add up to 1.
SHARES = ((0.7, 0.2, 0.1), (0.2, 0.5, 0.2), (0.1, 0.3, 0.7))


class ToyLayeredDecoder(nn.Module, AbstractLayeredDecoder):
    """Channel c is sum_l shares[l, c] z_l M_c: the share of layer l in channel c moves with its latent.

    Amplitudes are small, so that nothing is clamped.
    """

    def __init__(self, shares: Sequence[Sequence[float]] = SHARES, resolution: int = 16, dim: int = 5) -> None:
        super().__init__()
        self.pixels = resolution
        self.space = Gaussian(dim)
        rng = torch.Generator().manual_seed(0)
        self.shares = nn.Parameter(torch.tensor(shares, dtype=torch.float64))
        self.matrix = nn.Parameter(0.05 * torch.randn(dim, 3, resolution**2, generator=rng, dtype=torch.float64))

    @property
    def latent_space(self) -> Gaussian:
        return self.space

    @property
    def resolution(self) -> int:
        return self.pixels

    @property
    def num_layers(self) -> int:
        return len(self.shares)

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        return tuple(4 * 2**layer for layer in range(self.num_layers))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_layers(latents.unsqueeze(1).expand(-1, self.num_layers, -1))

    def decode_layers(self, styles: Tensor) -> Tensor:
        flat = torch.einsum("nld,lc,dcp->ncp", styles.double(), self.shares, self.matrix)
        return flat.unflatten(2, (self.pixels, self.pixels)).float()


class ToyLayeredAutoencoder(ToyLayeredDecoder, AbstractAutoencoder):
    """Encodes exactly what it can decode, by the pseudo-inverse."""

    def encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1).double() @ torch.linalg.pinv(self.matrix.flatten(1))).float()


class ChannelMeans(LabelRegressor):
    """Labels are the means of the three channels over the upper half, linear in the latents of `ToyLayeredDecoder`."""

    def __init__(self, names: Sequence[str] = ("yaw", "skin_tone", "smiling")) -> None:
        super().__init__(names, [False] * 3, 16, widths=[1])
        self.facts = {"quality": {names[0]: {"r2": 0.9}}}

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, : images.shape[2] // 2].mean((2, 3))
