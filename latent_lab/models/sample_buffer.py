"""A buffer of earlier samples that the encoder sees among the new ones (Shrivastava et al. 2017; Pioneer)."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_lab.types import Images


class SampleBuffer:
    """Keeps up to `capacity` generated images; full, it swaps some of the new ones for old ones.

    It holds one set for all devices: `exchange` is given the whole batch and the same random draws on every rank, so
    the contents are equal everywhere.

    Args:
        capacity: number of images; 0 switches the buffer off.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise ValueError(f"the sample buffer's capacity must not be negative, got {capacity}")
        self.capacity = capacity
        self.images: list[Tensor] = []

    def clear(self) -> None:
        """Forgets everything."""
        self.images = []

    def exchange(self, new: Images, swap: Tensor, slot: Tensor) -> Images:
        """Stores some of the new images and returns a batch of the same size, one image after another.

        While there is room, an image is stored and returned. Then, where `swap` says so, the image in `slot` is
        returned and the new one takes its place; elsewhere the new one is returned and not stored.

        Args:
            new: (N, C, R, R), without gradient.
            swap: (N,) bool.
            slot: (N,) integers in [0, capacity).
        """
        if self.capacity == 0:
            return new
        returned = []
        for image, swaps, place in zip(new, swap.tolist(), slot.tolist(), strict=True):
            if len(self.images) < self.capacity:
                self.images.append(image.clone())
                returned.append(image)
            elif swaps:
                returned.append(self.images[place])
                self.images[place] = image.clone()
            else:
                returned.append(image)
        return torch.stack(returned)

    def state(self) -> Tensor | None:
        """All images as one tensor for the checkpoint, or None if there are none."""
        return torch.stack(self.images) if self.images else None

    def restore(self, state: Tensor | None) -> None:
        """Takes over what `state` returned."""
        self.images = [] if state is None else list(state.unbind())
