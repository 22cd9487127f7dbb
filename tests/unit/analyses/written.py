"""Images that are their latents written out, of any number of coordinates, and an autoencoder that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian
from latent_lab.types import ImageBatch

PIXELS = 8
NUMBERS = 3 * PIXELS**2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write(latents: Tensor) -> Tensor:
    """Each of D coordinates, a divisor of 192, fills as many numbers of an image of 8 px."""
    return latents.repeat_interleave(NUMBERS // latents.shape[1], dim=1).view(-1, 3, PIXELS, PIXELS)


class Writer(AbstractAutoencoder):
    """decode writes, encode reads."""

    resolution = PIXELS

    def __init__(self, space: AbstractLatentSpace) -> None:
        self.space = space

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    def encode(self, images: Tensor) -> Tensor:
        return self.space.project(images.reshape(len(images), self.space.dim, -1).mean(2))

    def decode(self, latents: Tensor) -> Tensor:
        return write(latents)


class Turner(Writer):
    """Its codes are turned by a fixed rotation."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        super().__init__(Gaussian(dim))
        self.rotation = torch.linalg.qr(normal(dim, dim, seed=seed))[0]

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) @ self.rotation

    def decode(self, latents: Tensor) -> Tensor:
        return write(latents @ self.rotation.T)


class Scrambler(Writer):
    """Neighbouring images get unrelated codes."""

    def encode(self, images: Tensor) -> Tensor:
        return (1e4 * super().encode(images)).remainder(1.0)


class Written:
    """Images of given latents, perhaps with labels."""

    def __init__(self, latents: Tensor, labels: dict[str, Tensor] | None = None, name: str = "written") -> None:
        self.latents = latents
        self.labels = labels or {}
        self.label_names = tuple(self.labels)
        self.recipe: dict[str, Any] = {"source": name, "hash": name}

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        rows = torch.tensor(list(indices))
        labels = torch.stack([column[rows] for column in self.labels.values()], 1) if self.labels else None
        return ImageBatch(F.adaptive_avg_pool2d(write(self.latents[rows]), resolution), rows, labels)
