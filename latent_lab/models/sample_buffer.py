"""A buffer of earlier samples that the encoder sees among the new ones (Shrivastava et al. 2017; Pioneer)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab.growth import GrowthState
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
                # After a resume the buffer comes from a file, on the CPU.
                returned.append(self.images[place].to(image))
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


class SampleRecall:
    """The buffer as a growing model uses it: one for each resolution, in use once that has faded in.

    Args:
        seed: of the model.
        capacity: images below 256 pixels; 0: none.
        capacity_large: the same from 256 pixels on.
        restarts_with_stage: whether every row of the schedule begins with an empty buffer, not only a new resolution.
    """

    def __init__(self, seed: int, capacity: int, capacity_large: int, *, restarts_with_stage: bool = False) -> None:
        self.random = distributed.IndexedRandom(seed, "train/buffer")
        self.capacities = (capacity, capacity_large)
        self.restarts_with_stage = restarts_with_stage
        self.buffer = SampleBuffer(capacity)
        self._belongs_to = -1

    def __call__(self, fake: Images, now: GrowthState) -> Images:
        """Some of this rank's new samples exchanged for earlier ones of any rank.

        Args:
            fake: (n, C, R, R) of this rank, without gradient.
            now: where training stands; draws depend on the images seen alone.
        """
        belongs_to = now.stage if self.restarts_with_stage else now.phase
        if belongs_to != self._belongs_to:
            self.buffer = SampleBuffer(self.capacities[now.resolution >= 256])
            self._belongs_to = belongs_to
        if now.alpha < 1 or self.buffer.capacity == 0:
            return fake
        whole_batch = distributed.gather(fake)
        draws = self.random.uniform(range(now.images_seen, now.images_seen + len(whole_batch)), 2)
        swap, slot = draws[:, 0] < 0.5, (draws[:, 1] * self.buffer.capacity).long()
        mixed = self.buffer.exchange(whole_batch, swap, slot)
        first = distributed.rank() * len(fake)
        return mixed[first : first + len(fake)]

    def state(self) -> dict[str, Any]:
        """Plain data for the checkpoint."""
        return {"images": self.buffer.state(), "belongs_to": self._belongs_to}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self._belongs_to = state["belongs_to"]
        large = state["images"] is not None and state["images"].shape[-1] >= 256
        self.buffer = SampleBuffer(self.capacities[large])
        self.buffer.restore(state["images"])
