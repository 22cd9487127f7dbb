"""Which images make the next batch: an endless shuffled stream that grows with training, and evaluation in order.

Training walks along positions 0, 1, 2, ... of an endless stream, the number of images seen. What stands at a position
is a function of (seed, position) alone, so neither the number of processes and workers nor an interruption changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch.utils.data import Dataset, Sampler

from latent_lab.distributed import IndexedRandom
from latent_lab.growth import GrowthSchedule
from latent_lab.types import ImageBatch, Images, ImageSource


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """One process's part of one training batch."""

    positions: range
    """In the endless stream."""
    indices: Int64[np.ndarray, "n"]
    """Places of the images in the training split."""
    mirrored: Bool[np.ndarray, "n"]
    """Which images are mirrored left to right."""
    resolution: int


class ShuffledStream:
    """An endless stream of a data set: epoch after epoch, each in a new random order.

    Args:
        num_images: size of the data set.
        seed: of the order.
        mirror: whether each image is mirrored with probability 1/2, anew in every epoch.
        name: two streams of different names are independent.
    """

    def __init__(self, num_images: int, seed: int, *, mirror: bool, name: str = "data") -> None:
        if num_images < 1:
            raise ValueError(f"a stream needs at least one image, got {num_images}")
        self.num_images = num_images
        self.mirror = mirror
        self._order_random = IndexedRandom(seed, f"{name}/order")
        self._mirror_random = IndexedRandom(seed, f"{name}/mirror")
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, positions: range) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """Places of the images at these positions, and whether each is mirrored; the range may cross epochs."""
        indices, mirrored = [], []
        for epoch in range(positions.start // self.num_images, (positions.stop - 1) // self.num_images + 1):
            order, flips = self._epoch(epoch)
            first = epoch * self.num_images
            part = slice(max(positions.start - first, 0), positions.stop - first)
            indices.append(order[part])
            mirrored.append(flips[part])
        return np.concatenate(indices), np.concatenate(mirrored)

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if epoch not in self._epochs:
            order = torch.randperm(self.num_images, generator=self._order_random.generator(epoch)).numpy()
            uniform = torch.rand(self.num_images, generator=self._mirror_random.generator(epoch)).numpy()
            # This epoch and the one before are all that a batch can touch again.
            self._epochs = {key: value for key, value in self._epochs.items() if key == epoch - 1}
            self._epochs[epoch] = (order, (uniform < 0.5) & self.mirror)
        return self._epochs[epoch]


class TrainingWalk:
    """This process's part of each batch's positions, from where training stands to the end of the current epoch.

    Resolution and size of each batch are the schedule's at its first position. An epoch in Lightning's sense ends when
    the images seen cross a multiple of `epoch_images`, counted from the start of training, so that it ends at the same
    place after an interruption. Batches are never cut: the last one may reach beyond the end.

    Args:
        schedule: batch size (over all processes) and resolution.
        start: images seen, or a function that returns them, asked whenever an iteration begins.
        epoch_images: length of an epoch.
        max_images: where training ends; none: never.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: if a batch size of the schedule cannot be shared equally by the processes, or `epoch_images` is not
            positive.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        start: int | Callable[[], int] = 0,
        *,
        epoch_images: int = 10_000,
        max_images: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for stage in schedule.stages:
            if stage.batch_size % world_size:
                below = stage.batch_size - stage.batch_size % world_size
                raise ValueError(
                    f"batch_size counts images on all devices and must be a multiple of their number {world_size}, got "
                    f"{stage.batch_size} at {stage.resolution} px: use {below or world_size} or {below + world_size}"
                )
        if epoch_images < 1:
            raise ValueError(f"epoch_images must be at least 1, got {epoch_images}")
        self.schedule = schedule
        self.start = start
        self.epoch_images = epoch_images
        self.max_images = max_images
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[range, int]]:
        seen = self.start() if callable(self.start) else self.start
        end = (seen // self.epoch_images + 1) * self.epoch_images
        if self.max_images is not None:
            end = min(end, self.max_images)
        while seen < end:
            now = self.schedule.at(seen)
            share = now.batch_size // self.world_size
            first = seen + self.rank * share
            yield range(first, first + share), now.resolution
            seen += now.batch_size


class GrowthSampler(Sampler[BatchRequest]):
    """This process's batches from where training stands to the end of the current epoch; see `TrainingWalk`.

    There is no length: epochs differ in their number of batches. Each iteration asks anew where training stands, so it
    is the model's counter that decides, and batches which workers prefetched in vain do no harm.

    Args:
        schedule: batch size (over all processes) and resolution.
        num_images: size of the training split.
        start: images seen, or a function that returns them, asked whenever an iteration begins.
        seed: of the order.
        mirror: whether each image is mirrored with probability 1/2.
        epoch_images: length of an epoch.
        max_images: where training ends; none: never.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: if a batch size of the schedule cannot be shared equally by the processes, or `epoch_images` is not
            positive.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        num_images: int,
        start: int | Callable[[], int] = 0,
        *,
        seed: int = 0,
        mirror: bool = False,
        epoch_images: int = 10_000,
        max_images: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.walk = TrainingWalk(
            schedule, start, epoch_images=epoch_images, max_images=max_images, rank=rank, world_size=world_size
        )
        self.stream = ShuffledStream(num_images, seed, mirror=mirror)

    def __iter__(self) -> Iterator[BatchRequest]:
        for positions, resolution in self.walk:
            yield BatchRequest(positions, *self.stream.at(positions), resolution)


class GrowingImages(Dataset[ImageBatch]):
    """Training batches as the sampler requests them.

    The `index` of a batch is the position in the stream. Mirroring also mirrors the pose; labels stay as they are, so a
    data set with labels that change sides (a head's yaw) is not to be mirrored.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, request: BatchRequest) -> ImageBatch:
        batch = self.source.batch(request.indices.tolist(), request.resolution)
        images, pose, mirrored = batch.images, batch.pose, request.mirrored
        mirror_some(images, mirrored)
        if pose is not None and mirrored.any():
            pose[torch.from_numpy(mirrored)] = _mirror_pose(pose[torch.from_numpy(mirrored)])
        return ImageBatch(images, torch.arange(request.positions.start, request.positions.stop), batch.labels, pose)


def mirror_some(images: Images, mirrored: Bool[np.ndarray, "N"]) -> None:
    """Mirrors the images of this mask left to right, in place."""
    if mirrored.any():
        # numpy works on one thread; torch would wait for all of its threads, on a busy machine for milliseconds.
        pixels = images.numpy()
        pixels[mirrored] = pixels[mirrored, ..., ::-1]


def _mirror_pose(pose: torch.Tensor) -> torch.Tensor:
    """The pose in a world seen in a mirror: x changes its sign for the camera and for the object."""
    reflection = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    return reflection @ pose @ reflection


@dataclass(frozen=True, eq=False)
class EvaluationRequest:
    """One process's part of one evaluation batch."""

    indices: Int64[np.ndarray, "n"]
    """Places of the images in the split, ascending; -1 marks padding."""
    resolution: int


class EvaluationSampler(Sampler[EvaluationRequest]):
    """Every image exactly once over all processes, in order, with equally many batches of equal size on each.

    Only the last batch can need padding, at most one image for each process but one; a single process never pads.

    Args:
        num_images: size of the split.
        batch_size: images per step over all processes.
        resolution: pixels per side, or a function that returns them, asked whenever an iteration begins.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        resolution: int | Callable[[], int],
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"eval_batch_size must be at least 1, got {batch_size}")
        self.num_images = num_images
        self.share = -(-batch_size // world_size)
        self.resolution = resolution
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-self.num_images // (self.share * self.world_size))

    def __iter__(self) -> Iterator[EvaluationRequest]:
        resolution = self.resolution() if callable(self.resolution) else self.resolution
        step = self.share * self.world_size
        for start in range(0, self.num_images, step):
            share = -(-min(step, self.num_images - start) // self.world_size)
            first = start + self.rank * share
            indices = np.arange(first, first + share, dtype=np.int64)
            yield EvaluationRequest(np.where(indices < self.num_images, indices, -1), resolution)


class EvaluationImages(Dataset[ImageBatch]):
    """Evaluation batches as the sampler requests them; padding has index -1, images 0 (grey), labels NaN."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, request: EvaluationRequest) -> ImageBatch:
        is_padding = torch.from_numpy(request.indices < 0)
        batch = self.source.batch(np.maximum(request.indices, 0).tolist(), request.resolution)
        if is_padding.any():
            batch.images[is_padding] = 0.0
            if batch.labels is not None:
                batch.labels[is_padding] = float("nan")
            if batch.pose is not None:
                batch.pose[is_padding] = torch.eye(4)
        return batch._replace(index=torch.from_numpy(request.indices))


__all__ = [
    "BatchRequest",
    "EvaluationImages",
    "EvaluationRequest",
    "EvaluationSampler",
    "GrowingImages",
    "GrowthSampler",
    "ShuffledStream",
    "TrainingWalk",
    "mirror_some",
]
