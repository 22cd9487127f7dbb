"""Convolutions, dense layers and normalisations of the progressive family."""

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
    """Convolution with equalised learning rate: weights drawn from N(0, 1) and scaled by sqrt(variance / fan_in) at
    run time.

    Karras et al. 2018, section 4.1. The bias starts at zero and is not scaled.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: pixels per side.
        padding: zeros around the input.
        variance: of an output at the start, for unit inputs: 2 (He) where a rectifier follows, 1 for linear outputs.
        bias: whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: int = 0,
        *,
        variance: float = 2.0,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=bias)
        self.scale = math.sqrt(variance / (in_channels * kernel_size**2))
        nn.init.normal_(self.weight)
        _zero(self.bias)

    def forward(self, features: Images) -> Tensor:
        """The convolution with the scaled weight."""
        return self._conv_forward(features, self.weight * self.scale, self.bias)


class EqualizedLinear(nn.Linear):
    """Dense layer with equalised learning rate.

    The weight, drawn from N(0, 1) / multiplier, is scaled by multiplier * sqrt(variance / fan_in) at run time (Karras
    et al. 2019, appendix C), so a multiplier below 1 slows learning and changes nothing else. The bias starts at zero.
    The Automodulator's program has multiplier 0.01 and draws from Xavier's normal distribution over 0.01, which shrinks
    every output by about sqrt(fan_in).

    Args:
        in_features: of the input.
        out_features: of the output.
        multiplier: positive.
        variance: of an output at the start, for unit inputs: 2 (He) where a rectifier follows, 1 for linear outputs.
        bias: whether there is one.
        scaled_bias: whether the multiplier slows the bias, too, as in StyleGAN's mapping.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        multiplier: float = 1.0,
        *,
        variance: float = 2.0,
        bias: bool = True,
        scaled_bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.scale = multiplier * math.sqrt(variance / in_features)
        self.bias_scale = multiplier if scaled_bias else 1.0
        nn.init.normal_(self.weight, std=1.0 / multiplier)
        _zero(self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), with the scaled weight."""
        bias = self.bias if self.bias is None or self.bias_scale == 1.0 else self.bias * self.bias_scale
        return F.linear(inputs, self.weight * self.scale, bias)


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
    def converge(self, iterations: int | None = None) -> None:
        """Makes u the leading left singular vector; for weights that came without u.

        Args:
            iterations: so many power iterations; null: by decomposition, exactly.
        """
        matrix = self.weight.flatten(1)
        if iterations is None:
            # Ascending eigenvalues; doubled precision makes up for the square.
            self.u.copy_(torch.linalg.eigh(matrix.double() @ matrix.double().mT).eigenvectors[:, -1])
            return
        for _ in range(iterations):
            self.u.copy_(F.normalize(matrix @ (matrix.mT @ self.u), dim=0))


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
