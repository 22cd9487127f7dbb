"""Modulation of feature maps by latents: AdaIN, layer noise, blur, and the convolution that joins them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.networks.layers import EqualizedConv2d, EqualizedLinear
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents

Noise: TypeAlias = Callable[[torch.Size], Tensor]
"""Draws independent standard normal values of a shape; where randomness comes from is the caller's choice."""

Upsampling: TypeAlias = Literal["nearest", "bilinear"]


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang and Belongie 2017): y = a (x - mean) / deviation + b.

    Mean and deviation are those of each sample's feature map over its pixels; (a, b) is an affine function of the
    latent, whose first C outputs are a and last C are b.

    Args:
        latent_dim: D.
        channels: C of the feature maps.
        epsilon: added to the variance, so that a constant map, which becomes b, is no division by zero.
        unbiased: variance with H W - 1 in the denominator, as in the Automodulator's program, instead of H W.
        initial_shift: of b; 1 in the Automodulator's program. The initial a is 1, both up to what the random initial
            weight makes of the latent.
        equalized: the affine function has equalised learning rate and weights from N(0, 1), as in StyleGAN, where a is
            1 + its output; otherwise Xavier's.
    """

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        epsilon: float = 1e-8,
        *,
        unbiased: bool = False,
        initial_shift: float = 0.0,
        equalized: bool = False,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.unbiased = unbiased
        self.style: nn.Linear
        if equalized:
            self.style = EqualizedLinear(latent_dim, 2 * channels, variance=1.0)
        else:
            self.style = nn.Linear(latent_dim, 2 * channels)
            nn.init.xavier_normal_(self.style.weight)
        with torch.no_grad():
            self.style.bias[:channels] = 1.0
            self.style.bias[channels:] = initial_shift

    def forward(self, features: Images, latents: Latents) -> Images:
        """Features (N, C, H, W) with the statistics that the latents (N, D) ask for; float32 or wider."""
        # The mean of a whole map, and the small deviation of a smooth one, are lost in half precision.
        features = at_least_float(features)
        variance, mean = torch.var_mean(features, (2, 3), correction=int(self.unbiased), keepdim=True)
        scale, shift = self.style(latents)[:, :, None, None].chunk(2, dim=1)
        return (features - mean) * (scale * (variance + self.epsilon).rsqrt()) + shift


class StyledConvolution(nn.Module):
    """Upsampling, 3x3 convolution, blur, layer noise, leaky ReLU (slope 0.2) and AdaIN, in this order.

    Args:
        inputs: channels.
        outputs: channels.
        latent_dim: D.
        adain: makes the AdaIN of a latent dimension and a number of channels.
        upsampling: before the convolution; none: the resolution stays.
        blur: after the convolution.
        layer_noise: there is a learned scale for each channel, at first 0, of noise that is added to every value.
        noise_after_activation: noise is added behind the leaky ReLU instead of before it.
    """

    noise_scale: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        latent_dim: int,
        *,
        adain: Callable[[int, int], AdaIN] = AdaIN,
        upsampling: Upsampling | None = None,
        blur: bool = False,
        layer_noise: bool = False,
        noise_after_activation: bool = False,
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.blur = blur
        self.noise_after_activation = noise_after_activation
        self.convolution = EqualizedConv2d(inputs, outputs, 3, padding=1)
        self.adain = adain(latent_dim, outputs)
        self.register_parameter("noise_scale", nn.Parameter(torch.zeros(outputs)) if layer_noise else None)

    def forward(self, features: Images, latents: Latents, noise: Noise | None = None) -> Tensor:
        """Features (N, C', H', W'), float32 or wider.

        Args:
            features: (N, C, H, W); H' = 2 H with upsampling.
            latents: (N, D).
            noise: none: no noise is added.
        """
        if self.upsampling is not None:
            features = upsample(features, self.upsampling)
        features = self.convolution(features)
        if self.blur:
            features = blur(features)
        if not self.noise_after_activation:
            features = self._noisy(features, noise)
        features = F.leaky_relu(features, 0.2)
        if self.noise_after_activation:
            features = self._noisy(features, noise)
        return self.adain(features, latents)

    def _noisy(self, features: Tensor, noise: Noise | None) -> Tensor:
        if noise is None or self.noise_scale is None:
            return features
        return add_noise(features, self.noise_scale, noise)


def add_noise(features: Images, scale: Float[Tensor, "C"], noise: Noise) -> Tensor:
    """Noise is added, with one scale for each channel and a value of its own for every sample, channel and pixel."""
    return features + scale[:, None, None] * noise(features.shape)


def upsample(features: Images, mode: Upsampling) -> Tensor:
    """(N, C, H, W) -> (N, C, 2 H, 2 W); bilinear means pixel centres (corners not aligned)."""
    if mode == "nearest":
        return F.interpolate(features, scale_factor=2, mode="nearest")
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def blur(features: Images) -> Images:
    """Each map convolved with [1, 2, 1] / 4 along both axes; zeros around the map."""
    # [1, 2, 1] is [1, 1] convolved with itself. Made here, where the features are: nothing to store, nothing to copy.
    square = features.new_full((1, 1, 2, 2), 0.25)
    kernel = F.conv2d(square, square, padding=1)
    channels = features.shape[1]
    return F.conv2d(features, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
