"""What every data module yields."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from latent_lab.types import Images, Indices


class ImageBatch(NamedTuple):
    """Images with what is known about them; a tuple, so that Lightning and pinned memory carry it as it is."""

    images: Images
    """(N, C, R, R) float32 in [-1, 1]."""
    index: Indices
    """(N,) place of each image in its split; in training, the global position in the endless stream of images."""
    labels: Tensor | None = None
    """(N, K) float32 in the order of the data module's `label_names`, NaN where unknown."""
    pose: Tensor | None = None
    """(N, 4, 4) float32 camera-to-object matrices."""
