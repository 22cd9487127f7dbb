"""The recoder: a network that finds the latents of generated images (Tonelli 2022, section 3.1.2).

As in the published program it mirrors the discriminator (the thesis's text describes it as the generator turned round).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.same_padding import glorot_uniform_
from latent_lab.networks.strided import (
    PUBLISHED_WIDTHS,
    Activation,
    at_least_float,
    check_share,
    check_widths,
    drop,
    pixels_after,
    strided_convolutions,
)
from latent_lab.types import Images, Latents


class LatentRecoder(nn.Module):
    """Strided convolutions, dropout, a linear layer to L numbers, not projected.

    The published recoder of StyleGAN at 256 pixels has kernel 3, widths 32, 64 ... 1024 and the extra dense layer.

    Args:
        latent_dim: L.
        resolution: pixels per side.
        widths: channels after each strided convolution.
        kernel_size: of the convolutions.
        stride: of the convolutions.
        activation: see `networks.strided.activation_layer`.
        dropout: share of the features before the dense layers. Published: 0.2, but never active, so what ran is 0.
        extra_dense: a dense layer to 4 L and a LeakyReLU(0.2) before the last one.
        channels: of the image.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        kernel_size: int = 4,
        stride: int = 2,
        activation: Activation = "relu",
        dropout: float = 0.0,
        extra_dense: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        for name, value in (("kernel_size", kernel_size), ("stride", stride)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        widths = check_widths("widths", widths)
        self.dropout = check_share(dropout)
        self.layers = strided_convolutions(channels, widths, kernel_size, stride, activation)
        self.num_features = widths[-1] * pixels_after(resolution, stride, len(widths)) ** 2
        self.dense: nn.Module
        if extra_dense:
            self.dense = nn.Sequential(
                nn.Linear(self.num_features, 4 * latent_dim), nn.LeakyReLU(0.2), nn.Linear(4 * latent_dim, latent_dim)
            )
        else:
            self.dense = nn.Linear(self.num_features, latent_dim)
        glorot_uniform_(self)

    def forward(self, images: Images, uniform: Float[Tensor, "N F"] | None = None) -> Latents:
        """Latents (N, L), float32 or wider.

        Args:
            images: (N, C, R, R) in [-1, 1]; like the published network, this one sees them in [0, 1].
            uniform: (N, num_features) decisions of dropout, see `networks.strided.drop`; None: no dropout.
        """
        features = self.layers(conversions.to_unit(images)).flatten(1)
        return at_least_float(self.dense(drop(features, uniform, self.dropout)))
