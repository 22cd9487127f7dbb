"""The second stage of a two-stage VAE: a small VAE whose data are the codes of the first (Dai and Wipf 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latent_lab.networks.same_padding import glorot_uniform_
from latent_lab.types import Latents


class SecondStageVAE(nn.Module):
    """Dense networks; each one's input is joined to what its last layer sees.

    Args:
        dim: D, of codes and of second latents.
        width: of the hidden layers. Asperti and Trentin: 4096 for CelebA, 2048 for CIFAR-10.
        num_layers: hidden layers with ReLU.
        gamma: deviation of the observation model at the start. The published 1 is that of the codes themselves, so that
            directions in which they vary less are given up at once, some of them for good.
    """

    def __init__(self, dim: int, *, width: int = 1024, num_layers: int = 3, gamma: float = 0.3) -> None:
        super().__init__()
        self.encoder = _hidden(dim, width, num_layers)
        self.mean = nn.Linear(width + dim, dim)
        self.log_variance = nn.Linear(width + dim, dim)
        self.decoder = _hidden(dim, width, num_layers)
        self.to_codes = nn.Linear(width + dim, dim)
        glorot_uniform_(self)
        self.log_gamma = nn.Parameter(torch.tensor(math.log(gamma)))

    def forward(self, codes: Latents) -> tuple[Latents, Latents]:
        """Mean and log-variance (N, D) of the second latents of codes (N, D)."""
        joined = torch.cat([self.encoder(codes), codes], 1)
        return self.mean(joined), self.log_variance(joined)

    def decode(self, latents: Latents) -> Latents:
        """Codes (N, D) of second latents (N, D)."""
        return self.to_codes(torch.cat([self.decoder(latents), latents], 1))

    @property
    def variance(self) -> Tensor:
        """gamma^2 of the observation model, which is learnt."""
        return torch.exp(2.0 * self.log_gamma)


def _hidden(dim: int, width: int, num_layers: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(num_layers):
        layers += [nn.Linear(width if number else dim, width), nn.ReLU()]
    return nn.Sequential(*layers)
