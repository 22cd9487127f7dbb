"""Pools of earlier translations that discriminators see among the new ones (Shrivastava et al. 2017; CycleGAN)."""

from __future__ import annotations

from torch import Tensor

from latent_lab import distributed
from latent_lab.models.sample_buffer import SampleBuffer
from latent_lab.types import Images

POOL_SIZE = 50
"""Images in each published pool."""


class ImagePools:
    """A pool for each kind of translation, by name; all ranks hold the same images.

    While a pool has room, every image is stored and returned. Then, with probability 1/2, an earlier image is returned
    and the new one takes its place; else the new one is returned and not stored.

    Args:
        seed: of the model; draws depend on it, on a pool's stream and on the position in training alone.
        capacity: images in each pool; 0: none.

    Raises:
        ValueError: if the capacity is negative.
    """

    def __init__(self, seed: int, capacity: int = POOL_SIZE) -> None:
        if capacity < 0:
            raise ValueError(f"pool_size must not be negative, got {capacity}: 0 keeps no earlier translations")
        self.seed = seed
        self.capacity = capacity
        self.buffers: dict[str, SampleBuffer] = {}

    def exchange(self, fake: Images, position: int, *, pool: str, stream: str) -> Images:
        """Some of this rank's new translations exchanged for earlier ones of any rank.

        Args:
            fake: (n, C, R, R) of this rank, without gradient.
            position: of the whole batch's first image in the stream of training images.
            pool: name of the pool.
            stream: name of the random stream; two that use one pool within a step need two streams.
        """
        if self.capacity == 0:
            return fake
        buffer = self.buffers.setdefault(pool, SampleBuffer(self.capacity))
        whole_batch = distributed.gather(fake)
        random = distributed.IndexedRandom(self.seed, f"train/pool/{stream}")
        draws = random.uniform(range(position, position + len(whole_batch)), 2)
        mixed = buffer.exchange(whole_batch, draws[:, 0] < 0.5, (draws[:, 1] * self.capacity).long())
        first = distributed.rank() * len(fake)
        return mixed[first : first + len(fake)]

    def clear(self) -> None:
        """Forgets everything."""
        self.buffers = {}

    def state(self) -> dict[str, Tensor | None]:
        """Images of each pool, for the checkpoint."""
        return {pool: buffer.state() for pool, buffer in self.buffers.items()}

    def restore(self, state: dict[str, Tensor | None]) -> None:
        """Takes over what `state` returned; of larger pools, as much as there is room for."""
        self.clear()
        for pool, images in state.items():
            self.buffers[pool] = SampleBuffer(self.capacity)
            self.buffers[pool].restore(None if images is None else images[: self.capacity])


__all__ = ["POOL_SIZE", "ImagePools"]
