"""Sliced Wasserstein distance between sets of images, as progressive GANs report it (Karras et al. 2018, section 5).

Images become Laplacian pyramids; from each level 128 patches of 7x7 pixels are cut from each image; patches of one
level are normalised by the mean and deviation of each colour; the two clouds of patches are compared by the mean
distance of their sorted projections onto random directions. Values are times 1000, as published. Low values at 16 px
mean a similar global structure, at the finest level similar detail and noise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent_lab.images import from_bytes
from latent_lab.metrics.functional.bootstrap import LEVEL, LOOP, Interval, interval_of, resample
from latent_lab.progress import one_by_one
from latent_lab.types import Images, Indices

FEW_RESAMPLES = 20
"""Of the interval, each of which costs as much as the distance itself; ends are rough with so few."""
PATCH = 7
COARSEST = 16
_BATCH = 256


def _filter(images: Tensor, gain: float) -> Tensor:
    """5x5 binomial filter, edges mirrored."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=images.dtype, device=images.device) / 16.0
    kernel = (gain * torch.outer(taps, taps)).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


def _down(images: Tensor) -> Tensor:
    return _filter(images, 1.0)[:, :, ::2, ::2]


def _up(images: Tensor) -> Tensor:
    spread = images.new_zeros(*images.shape[:2], 2 * images.shape[2], 2 * images.shape[3])
    spread[:, :, ::2, ::2] = images
    return _filter(spread, 4.0)


def pyramid_resolutions(resolution: int) -> list[int]:
    """Sizes of the levels: the resolution, halved down to 16.

    Raises:
        ValueError: if there is no level, because the resolution is not 16 times a power of two.
    """
    levels = []
    size = resolution
    while size >= COARSEST:
        levels.append(size)
        size //= 2
    if not levels or levels[-1] * 2 ** (len(levels) - 1) != resolution or levels[-1] != COARSEST:
        raise ValueError(
            f"the sliced Wasserstein distance needs square images of 16, 32, 64 ... pixels, got {resolution}"
        )
    return levels


def laplacian_pyramid(images: Images) -> list[Tensor]:
    """Details of each size, finest first, and the image at 16 px as the last level (Burt & Adelson 1983)."""
    levels = [images]
    for _ in pyramid_resolutions(images.shape[-1])[1:]:
        smaller = _down(levels[-1])
        levels[-1] = levels[-1] - _up(smaller)
        levels.append(smaller)
    return levels


def _patches(level: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """(N * count, C * 49) patches, each at a place of its own within its image."""
    size = level.shape[-1]
    number, channels = level.shape[:2]
    top = torch.randint(0, size - PATCH + 1, (number, count), generator=rng).to(level.device)
    left = torch.randint(0, size - PATCH + 1, (number, count), generator=rng).to(level.device)
    reach = torch.arange(PATCH, device=level.device)
    rows = (top[..., None] + reach)[..., :, None]
    columns = (left[..., None] + reach)[..., None, :]
    of_image = torch.arange(number, device=level.device)[:, None, None, None]
    cut = level.permute(0, 2, 3, 1)[of_image, rows, columns]  # (N, count, 7, 7, C)
    return cut.permute(0, 1, 4, 2, 3).reshape(number * count, channels * PATCH * PATCH)


def _descriptors(images: Tensor, level: int, count: int, seed: int) -> Tensor:
    """Normalised patches of one level of all images; the places depend on the seed and the image's number alone."""
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for batch in images.split(_BATCH):
        values = from_bytes(batch) if batch.dtype == torch.uint8 else batch.float()
        parts.append(_patches(laplacian_pyramid(values)[level], count, rng))
    patches = torch.cat(parts)
    by_channel = patches.view(len(patches), images.shape[1], PATCH * PATCH)
    deviation, mean = torch.std_mean(by_channel, dim=(0, 2), keepdim=True, correction=0)
    by_channel.sub_(mean).div_(deviation.clamp_min(1e-12))
    return patches


def _sorted_rows(values: Tensor) -> Tensor:
    # numpy sorts floats with vector instructions, about ten times as fast as torch on a CPU.
    return (
        torch.from_numpy(np.sort(values.numpy(), axis=1)) if values.device.type == "cpu" else values.sort(dim=1).values
    )


def sliced_wasserstein_of_points(
    a: Float[Tensor, "N F"], b: Float[Tensor, "N F"], *, repeats: int = 4, directions: int = 128, seed: int = 0
) -> float:
    """Mean over random unit directions of the mean absolute difference of the sorted projections.

    Args:
        a: (N, F) points.
        b: (N, F), equally many.
        repeats: how often a set of directions is drawn.
        directions: how many at a time.
        seed: of the directions.

    Raises:
        ValueError: if the numbers of points differ.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"the sliced Wasserstein distance compares equally many points, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    rng = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(repeats):
        lines = F.normalize(torch.randn(directions, a.shape[1], generator=rng), dim=1).to(a)
        difference = _sorted_rows(lines @ a.T) - _sorted_rows(lines @ b.T)
        total += difference.abs().mean(dtype=torch.float64).item()
    return total / repeats


def sliced_wasserstein(
    real: Tensor,
    fake: Tensor,
    *,
    patches_per_image: int = 128,
    repeats: int = 4,
    directions: int = 128,
    seed: int = 0,
) -> Mapping[int, float]:
    """Distance times 1000 at each level: resolution in pixels -> value. The published summary is the mean over levels.

    Args:
        real: (N, C, R, R) images in [-1, 1] or bytes; R is 16, 32, 64 ...
        fake: as many images of the same size.
        patches_per_image: at each level; the i-th images of both sets are cut at the same places, so equal sets give 0.
        repeats: how often a set of directions is drawn.
        directions: how many at a time.
        seed: of places and directions.

    Raises:
        ValueError: if the shapes differ or the resolution does not fit.
    """
    if real.shape != fake.shape or real.shape[-1] != real.shape[-2]:
        raise ValueError(
            "the sliced Wasserstein distance compares equally many square images of one size, "
            f"got {tuple(real.shape)} and {tuple(fake.shape)}: use the same number of both"
        )
    result = {}
    for level, size in enumerate(pyramid_resolutions(real.shape[-1])):
        places = seed * 1009 + level
        result[size] = 1e3 * sliced_wasserstein_of_points(
            _descriptors(real, level, patches_per_image, places),
            _descriptors(fake, level, patches_per_image, places),
            repeats=repeats,
            directions=directions,
            seed=places,
        )
    return result


class SlicedWassersteinIntervals(NamedTuple):
    """Where the distances would lie with other images of the same kind."""

    mean: Interval
    """Of the mean over levels."""
    levels: Mapping[int, Interval]
    """Of each level, by its resolution in pixels."""


def sliced_wasserstein_interval(
    real: Tensor,
    fake: Tensor,
    *,
    patches_per_image: int = 128,
    repeats: int = 4,
    directions: int = 128,
    paired: bool = False,
    level: float = LEVEL,
    num_resamples: int = FEW_RESAMPLES,
    seed: int = 0,
) -> SlicedWassersteinIntervals:
    """Intervals of every level and of their mean, around their values: images are drawn anew, with all of their
    patches.

    It takes `num_resamples` + 1 times as long as the distance itself.

    Args:
        real: (N, C, R, R), as `sliced_wasserstein` takes them.
        fake: the same shape.
        patches_per_image: at each level.
        repeats: how often a set of directions is drawn.
        directions: how many at a time.
        paired: whether the i-th images of both sets belong together (reconstructions) and are drawn together; otherwise
            the sets are drawn independently.
        level: share of the resampled values inside.
        num_resamples: number of resampled values.
        seed: of places, directions and resamples.

    Raises:
        ValueError: if the shapes differ or the resolution does not fit, or as of `interval_of`.
    """

    def distances(real_rows: Indices, fake_rows: Indices) -> Mapping[int, float]:
        return sliced_wasserstein(
            real[real_rows.to(real.device)],
            fake[fake_rows.to(fake.device)],
            patches_per_image=patches_per_image,
            repeats=repeats,
            directions=directions,
            seed=seed,
        )

    everything = torch.arange(len(real))
    estimate = distances(everything, everything)
    drawn = []
    for number in one_by_one(range(num_resamples), LOOP):
        rows = resample(len(real), number, seed)
        drawn.append(distances(rows, rows if paired else resample(len(fake), number, seed, stream=1)))

    def interval(sizes: Collection[int]) -> Interval:
        means = [sum(found[size] for size in sizes) / len(sizes) for found in (estimate, *drawn)]
        values = torch.tensor(means[1:], dtype=torch.float64)
        return interval_of(values, estimate=means[0], level=level, lowest=0.0)

    return SlicedWassersteinIntervals(interval(estimate), {size: interval([size]) for size in estimate})
