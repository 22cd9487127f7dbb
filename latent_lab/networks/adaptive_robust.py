"""Shapes and scales of the adaptive robust loss for every value of an image, learned with the networks.

Barron (CVPR 2019), section 3.1, with one shape and one scale per channel and pixel; the Deep Automodulator keeps a set
of them for every resolution that it grows through.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.growth import FIRST_RESOLUTION, phase_of
from latent_lab.types import Images

SMALLEST_SHAPE, LARGEST_SHAPE = 0.001, 1.999
SMALLEST_SCALE = 1e-5
_RAW_OF_ONE = math.log(math.e - 1)
"""softplus of it is 1."""


class AdaptiveRobustLoss(nn.Module):
    """Negative log-likelihood of residual images, with a density of its own for every value.

    shape = 0.001 + 1.998 sigmoid(raw), scale = 1e-5 + (1 - 1e-5) softplus(raw + ln(e - 1)); raw maps begin at 0, shapes
    and scales therefore at 1. Each resolution has maps of its own, shared over the batch.

    Args:
        resolution: pixels per side of the largest residuals, 4 * 2^k.
        negative_log_likelihood: of residuals (N, C, R, R), shapes (C, R, R) and scales (C, R, R):
            `objectives.robust.adaptive_nll`.
        channels: of the images.
    """

    def __init__(
        self, resolution: int, negative_log_likelihood: Callable[[Tensor, Tensor, Tensor], Tensor], channels: int = 3
    ) -> None:
        super().__init__()
        self.negative_log_likelihood = negative_log_likelihood
        sizes = [FIRST_RESOLUTION * 2**phase for phase in range(phase_of(resolution) + 1)]
        self.raw_shapes = nn.ParameterList(torch.zeros(channels, size, size) for size in sizes)
        """One map (C, R, R) for each resolution, from 4 pixels on."""
        self.raw_scales = nn.ParameterList(torch.zeros(channels, size, size) for size in sizes)
        """The same for the scales."""

    def shapes(self, phase: int) -> Tensor:
        """Shapes (C, R, R) at 4 * 2^phase pixels, strictly between 0 and 2."""
        return SMALLEST_SHAPE + (LARGEST_SHAPE - SMALLEST_SHAPE) * torch.sigmoid(self.raw_shapes[phase])

    def scales(self, phase: int) -> Tensor:
        """Scales (C, R, R) at 4 * 2^phase pixels, above 0, in units of the residuals."""
        return SMALLEST_SCALE + (1 - SMALLEST_SCALE) * F.softplus(self.raw_scales[phase] + _RAW_OF_ONE)

    def forward(self, residual: Images) -> Images:
        """Nats (N, C, R, R) of differences of images (N, C, R, R), not reduced, float32 or wider.

        Raises:
            ValueError: if the residuals are larger than the loss is made for, or have other channels.
        """
        channels, largest = self.raw_shapes[0].shape[0], self.raw_shapes[-1].shape[-1]
        phase = phase_of(residual.shape[-1])
        if residual.shape[1] != channels or residual.shape[-1] > largest:
            raise ValueError(
                f"the robust loss is made for {channels} channels of at most {largest} pixels per side, got residuals "
                f"of shape {tuple(residual.shape)}: build it with the images' channels and largest resolution"
            )
        return self.negative_log_likelihood(residual, self.shapes(phase), self.scales(phase))

    @torch.no_grad()
    def grow(self, phase: int, scrambled: bool = False) -> None:
        """Hands the maps of the resolution below to that of this phase.

        Args:
            phase: of the larger resolution, at least 1.
            scrambled: False gives each value to the 2 x 2 ones in its place. True repeats it for four neighbours in the
                flattened map, as the Automodulator program does: the channel stays, the place does not.
        """
        for maps in (self.raw_shapes, self.raw_scales):
            maps[phase].copy_(double_map(maps[phase - 1], scrambled))


def double_map(coarse: Float[Tensor, "C R R"], scrambled: bool = False) -> Float[Tensor, "C S S"]:
    """The map at twice the resolution, S = 2 R; for `scrambled` see `AdaptiveRobustLoss.grow`."""
    if scrambled:
        channels, size, _ = coarse.shape
        return coarse.flatten().repeat_interleave(4).view(channels, 2 * size, 2 * size)
    return coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
