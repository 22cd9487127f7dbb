"""Images as points: vectors of pixels, and their coordinates along the principal axes of a set of images.

They stand beside latent spaces as the space in which images are alike or not before any model has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from latent_lab import distributed
from latent_lab.analyses.feeding import as_tensor, batches, share
from latent_lab.analyses.spaces import Participant
from latent_lab.images import from_unit, to_unit
from latent_lab.metrics.functional import PrincipalAxes, principal_axes
from latent_lab.types import Features, Images, ImageSource, Indices

_ROWS = 512


def pixel_resolution(participants: Sequence[Participant], most: int) -> int:
    """Pixels per side at which image space is looked at: those of the first model, but at most so many."""
    return min(most, participants[0].model.resolution)


def pixel_vectors(
    source: ImageSource,
    places: Sequence[int],
    resolution: int,
    batch_size: int = 64,
    change: Callable[[Images, Indices], Images] | None = None,
) -> Features:
    """Vectors (N, C * R * R) of images in [0, 1], on the CPU; equal on all ranks, which share in reading.

    Args:
        source: of the images.
        places: of the N images, at least one.
        resolution: R, pixels per side.
        batch_size: images read at a time.
        change: what becomes of images (B, C, R, R) in [-1, 1] of places (B,).
    """
    mine = share(len(places))
    rows = [torch.empty(0, source.batch(places[:1], resolution).images[0].numel())]
    for indices in batches(mine, batch_size, "reading images"):
        chosen = [places[index] for index in indices]
        images = source.batch(chosen, resolution).images
        if change is not None:
            images = change(images, torch.tensor(chosen))
        rows.append(to_unit(images).flatten(1))
    return distributed.gather_ragged(torch.cat(rows), as_tensor(mine))[0]


def as_images(vectors: Features, resolution: int) -> Images:
    """Images (N, C, R, R) in [-1, 1] of vectors (N, C * R * R) in [0, 1]."""
    return from_unit(vectors.view(len(vectors), -1, resolution, resolution))


def image_axes(vectors: Features, dims: Sequence[int]) -> PrincipalAxes | None:
    """Principal axes of images, fitted once: the first D of them are those for D dimensions.

    Args:
        vectors: (N, F) of `pixel_vectors`.
        dims: the dimensions D that are asked for; those beyond the number of axes that there are do not count.

    Returns:
        Axes for the largest of them, or none if all are too large.
    """
    possible = [dim for dim in dims if dim <= min(len(vectors) - 1, vectors.shape[1])]
    return principal_axes(vectors.split(_ROWS), max(possible)) if possible else None
