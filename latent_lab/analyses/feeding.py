"""What analyses feed to a model: each rank's share of indices, prior latents, real images as the model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from latent_lab import distributed
from latent_lab.growth import GrowthState
from latent_lab.images import fade_images
from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.progress import tracked
from latent_lab.types import ImageBatch, Images, ImageSource, Indices, Latents


@dataclass(frozen=True)
class HeldOut:
    """Held-out images together with the training images that samples are compared with; itself an image source.

    An analysis takes one source. Given this one, it reads the held-out images, and `Evaluate` compares samples with
    `reference`.
    """

    images: ImageSource
    reference: ImageSource

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the held-out images."""
        return self.images.label_names

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Of the held-out images."""
        return self.images.recipe

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """Held-out images."""
        return self.images.batch(indices, resolution)


def share(count: int) -> range:
    """This rank's part of the indices 0 ... count - 1: every index belongs to exactly one rank."""
    return range(distributed.rank(), count, distributed.world_size())


def batches(indices: range, size: int, what: str | None = None) -> Iterator[range]:
    """Consecutive pieces of at most `size` indices; the console shows how far long loops are.

    Args:
        indices: what is to be done.
        size: at a time.
        what: name of the loop for people; none: that of the `progress.phase` around it.
    """
    pieces = (indices[start : start + size] for start in range(0, len(indices), size))
    return tracked(pieces, len(indices), what)


def as_tensor(indices: range) -> Indices:
    """The indices as int64."""
    return torch.tensor(list(indices), dtype=torch.int64)


def spread(available: int, wanted: int | None) -> list[int]:
    """Evenly spaced places of a source, all of them if none or too many are wanted; sorted files are covered evenly."""
    count = available if wanted is None else min(wanted, available)
    return [place * available // count for place in range(count)]


def device_of(model: Any) -> torch.device:
    """Where a model or wrapper computes."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device(getattr(model, "device", "cpu"))


def alpha_of(model: Any) -> float:
    """How far the newest layers of a growing model (one with a `now: GrowthState`) have faded in; 1 for any other."""
    now = getattr(model, "now", None)
    return now.alpha if isinstance(now, GrowthState) else 1.0


def prior_latents(model: AbstractDecoder, seed: int, stream: str, indices: range) -> Latents:
    """Samples of the model's prior, one for each global index, on the model's device."""
    normal = distributed.IndexedRandom(seed, stream).normal(indices, model.latent_space.num_normals)
    return model.latent_space.from_normal(normal.to(device_of(model)))


def chosen_latents(model: AbstractDecoder, num: int, seed: int, stream: str, numpy_seeds: Sequence[int]) -> Latents:
    """Latents for a figure: the first of a stream, or those that the programs of StyleGAN draw for their figures.

    Args:
        model: whose prior it is.
        num: how many, unless there are `numpy_seeds`.
        seed: of the stream.
        stream: name of the random stream.
        numpy_seeds: one for each latent, which is then numpy's RandomState(seed).randn(D), in W mapped.
    """
    if not numpy_seeds:
        return prior_latents(model, seed, stream, range(num))
    dim = model.latent_space.num_normals
    normal = np.stack([np.random.RandomState(one).randn(dim) for one in numpy_seeds])
    return model.latent_space.from_normal(torch.from_numpy(normal).float().to(device_of(model)))


def check_numpy_seeds(analysis: str, option: str, seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds as they are.

    Raises:
        ValueError: if numpy takes no such seeds.
    """
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"{analysis} needs {option} from 0 to 2^32 - 1, got {', '.join(map(str, seeds))}")
    return tuple(seeds)


def real_images(model: AbstractDecoder, source: ImageSource, places: Sequence[int]) -> Images:
    """Real images at the model's resolution and fade, on its device."""
    images = source.batch(places, model.resolution).images.to(device_of(model))
    return fade_images(images, alpha_of(model))


def situation(model: AbstractDecoder) -> dict[str, Any]:
    """What a protocol says about a model: its class and how far it has grown."""
    return {"model": type(model).__name__, "resolution": model.resolution, "alpha": alpha_of(model)}
