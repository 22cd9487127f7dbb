"""A linear autoencoder whose latents can be read off its images, and labelled images made of given latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian
from latent_lab.types import ImageBatch

DIM = 6


def paint(latents: Tensor, resolution: int) -> Tensor:
    """Each coordinate fills its own sixth of the image's numbers."""
    return latents.repeat_interleave(3 * resolution**2 // DIM, dim=1).view(-1, 3, resolution, resolution)


def read(images: Tensor) -> Tensor:
    """The latents of painted images."""
    return images.reshape(len(images), DIM, -1).mean(2)


class Painter(AbstractAutoencoder):
    """decode paints, encode reads; what was decoded is remembered."""

    def __init__(self, space: AbstractLatentSpace | None = None, resolution: int = 8) -> None:
        self.space = space or Gaussian(DIM)
        self.pixels = resolution
        self.decoded: list[Tensor] = []

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    @property
    def resolution(self) -> int:
        return self.pixels

    def encode(self, images: Tensor) -> Tensor:
        return self.space.project(read(images))

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded.append(latents)
        return paint(latents, self.pixels)


class LayeredPainter(Painter, AbstractLayeredDecoder):
    """Of three layers, each paints two coordinates of its own latent."""

    num_layers = 3
    layer_resolutions = (4, 8, 16)

    def __init__(self) -> None:
        super().__init__(resolution=16)
        self.layered: list[Tensor] = []

    def decode_layers(self, styles: Tensor) -> Tensor:
        self.layered.append(styles)
        return paint(torch.cat([styles[:, layer, 2 * layer : 2 * layer + 2] for layer in range(3)], 1), self.pixels)


class Painted:
    """Images of given latents with labels."""

    def __init__(self, latents: Tensor, labels: dict[str, Tensor], name: str = "painted") -> None:
        self.latents = latents
        self.labels = labels
        self.label_names = tuple(labels)
        self.recipe: dict[str, Any] = {"source": name, "hash": name}

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        rows = torch.tensor(list(indices))
        labels = torch.stack([column[rows] for column in self.labels.values()], 1) if self.labels else None
        # Four pixels suffice for labels alone.
        return ImageBatch(paint(self.latents[rows], resolution), rows, labels)


def factorial() -> Painted:
    """`tone` (coordinate 0: -0.2, -0.1, 0.1, 0.2) and `lit` (coordinate 1: -0.25 for no, 0.25 for yes) combined."""
    tone = torch.tensor([-0.2, -0.1, 0.1, 0.2]).repeat_interleave(2)
    lit = torch.tensor([0.0, 1.0]).repeat(4)
    latents = torch.zeros(8, DIM)
    latents[:, 0], latents[:, 1] = tone, lit / 2 - 0.25
    return Painted(latents, {"tone": tone, "lit": lit})
