"""Averaged weights: an exponential moving average of a network, with a half-life in images."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class AveragedNetwork(nn.Module):
    """A frozen copy of a network whose parameters follow it: average <- decay * average + (1 - decay) * current.

    The decay is 0.5 ** (images / half_life), so it does not depend on the batch size. Buffers (spectral vectors,
    running statistics) are copied as they are. Other libraries average integers and flags as well; here they are
    copied, too.

    Args:
        network: to be followed; the copy starts equal to it.
        half_life_kimg: thousands of images after which a weight's old value counts half.
        decay_per_step: a fixed decay for each update instead, whatever the batch size (0.999 in the published
            programs).
    """

    def __init__(
        self, network: nn.Module, *, half_life_kimg: float = 20.0, decay_per_step: float | None = None
    ) -> None:
        super().__init__()
        if half_life_kimg <= 0:
            raise ValueError(f"half_life_kimg must be positive, got {half_life_kimg}")
        if decay_per_step is not None and not 0 <= decay_per_step < 1:
            raise ValueError(f"decay_per_step must be in [0, 1) or null, got {decay_per_step}")
        self.half_life_kimg = half_life_kimg
        self.decay_per_step = decay_per_step
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, images_seen: int) -> None:
        """One step towards the network.

        Args:
            network: the one that is followed.
            images: real images that this step used, over all devices.
            images_seen: before this step; the half-life grows with it at first, so that the random start is forgotten.
        """
        decay = self.decay_per_step
        if decay is None:
            half_life = min(1000 * self.half_life_kimg, max(images, images_seen) / 4)
            decay = 0.5 ** (images / half_life)
        for average, current in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(current, 1.0 - decay)
        for copied, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            copied.copy_(buffer)

    def train(self, mode: bool = True) -> AveragedNetwork:
        """The average is never trained: it stays in evaluation mode."""
        del mode
        return super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged network returns."""
        return self.network(*args, **kwargs)
