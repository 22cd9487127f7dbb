"""A small linear autoencoder and a source of coloured noise, for tests of analyses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latent_lab.images import from_bytes
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.spaces import Hypersphere
from latent_lab.types import ImageBatch


class Noise:
    """Images that depend on their index alone, some of them brighter than others."""

    label_names: tuple[str, ...] = ()

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self.seed = seed
        self.recipe: dict[str, Any] = {"kind": "noise", "seed": seed, "count": count, "hash": f"noise-{seed}-{count}"}
        self.reads = 0

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        self.reads += len(indices)
        made = []
        for index in indices:
            rng = torch.Generator().manual_seed(self.seed * 100_003 + index)
            high = int(torch.randint(60, 256, (), generator=rng))
            made.append(torch.randint(0, high, (3, resolution, resolution), dtype=torch.uint8, generator=rng))
        return ImageBatch(from_bytes(torch.stack(made)), torch.tensor(list(indices)))


class ToyDecoder(nn.Module, AbstractDecoder):
    """tanh of a fixed matrix times the latent."""

    def __init__(self, resolution: int = 16, dim: int = 6) -> None:
        super().__init__()
        self.pixels = resolution
        self.space = Hypersphere(dim)
        rng = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(dim, 3 * resolution**2, generator=rng))
        self.batch_sizes: list[int] = []

    @property
    def latent_space(self) -> Hypersphere:
        return self.space

    @property
    def resolution(self) -> int:
        return self.pixels

    def decode(self, latents: Tensor) -> Tensor:
        self.batch_sizes.append(len(latents))
        # In float64, so that a batch's size cannot change the last digits that short steps depend on.
        flat = torch.tanh(latents.double() @ self.matrix.double())
        return (1.2 * flat).float().view(-1, 3, self.pixels, self.pixels)


class ToyAutoencoder(ToyDecoder, AbstractAutoencoder):
    """Encodes by the transposed matrix."""

    def encode(self, images: Tensor) -> Tensor:
        return self.space.project((images.flatten(1).double() @ self.matrix.double().T).float())
