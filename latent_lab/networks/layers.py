"""Convolutions and normalisations of the progressive family."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.types import Images


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + 1e-8), at every pixel (Karras et al. 2018, section 4.2)."""

    def forward(self, features: Images) -> Images:
        """Features of the same shape with unit mean square over channels."""
        return features * torch.rsqrt(features.square().mean(1, keepdim=True) + 1e-8)


class EqualizedConv2d(nn.Conv2d):
    """Convolution with equalised learning rate: weights drawn from N(0, 1) and scaled by sqrt(2 / fan_in) at run time.

    Karras et al. 2018, section 4.1. The bias starts at zero and is not scaled.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        self.scale = math.sqrt(2.0 / (in_channels * kernel_size**2))
        nn.init.normal_(self.weight)
        _zero(self.bias)

    def forward(self, features: Images) -> Tensor:
        """The convolution with the scaled weight."""
        return self._conv_forward(features, self.weight * self.scale, self.bias)


class SpectralConv2d(nn.Conv2d):
    """Convolution whose weight is divided by its largest singular value (Miyato et al. 2018).

    The weight is viewed as a matrix W (out, in * k * k). One power iteration per forward pass in training mode refines
    the left singular vector u, a buffer: v = W^T u / |W^T u|, sigma = |W v|, u <- W v / sigma. In evaluation mode sigma
    is computed from the stored u, which stays as it is, so outputs do not depend on what was evaluated before.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: pixels per side.
        padding: zeros around the input.
        gradient_through_power_iteration: whether sigma's gradient also flows through v. The published Pioneer programs
            do so; the usual rule (the default) treats v as a constant. At convergence of u both agree.
    """

    u: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: int = 0,
        *,
        gradient_through_power_iteration: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        self.gradient_through_power_iteration = gradient_through_power_iteration
        nn.init.kaiming_normal_(self.weight)
        _zero(self.bias)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))

    def forward(self, features: Images) -> Tensor:
        """The convolution with the normalised weight."""
        return self._conv_forward(features, self.normalised_weight(), self.bias)

    def normalised_weight(self) -> Tensor:
        """W / sigma, (out, in, k, k); moves u in training mode."""
        # Half precision would spoil sigma, and with it every layer's scale.
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            v = F.normalize(matrix.mT @ self.u.clone(), dim=0)
            if not self.gradient_through_power_iteration:
                v = v.detach()
            image_of_v = matrix @ v
            sigma = torch.linalg.vector_norm(image_of_v)
            if self.training:
                with torch.no_grad():
                    self.u.copy_(image_of_v / sigma)
            return self.weight / sigma

    @torch.no_grad()
    def converge(self, iterations: int = 200) -> None:
        """Power iterations until u is the leading left singular vector; for weights that came without u."""
        matrix = self.weight.flatten(1)
        for _ in range(iterations):
            self.u.copy_(F.normalize(matrix @ (matrix.mT @ self.u), dim=0))


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
