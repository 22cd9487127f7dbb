"""Autoencoders whose codes are linear in the same six numbers of an image, so that what maps explain is known."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_lab.analyses import Participant
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.types import ImageSource
from tests.unit.analyses.labelled import DIM, Painted, paint, read


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(DIM, DIM, seed=seed))[0]


class Reader(torch.nn.Module, AbstractAutoencoder):
    """encode(x) = read(x) M + b, decode(z) = paint((z - b) M⁺)."""

    def __init__(self, matrix: Tensor, bias: float = 0.0, resolution: int = 8) -> None:
        super().__init__()
        self.matrix, self.bias, self.pixels = matrix, bias, resolution

    @property
    def latent_space(self) -> Gaussian:
        return Gaussian(self.matrix.shape[1])

    @property
    def resolution(self) -> int:
        return self.pixels

    def encode(self, images: Tensor) -> Tensor:
        return read(images) @ self.matrix + self.bias

    def decode(self, latents: Tensor) -> Tensor:
        return paint((latents - self.bias) @ torch.linalg.pinv(self.matrix), self.pixels)


class Squarer(Reader):
    """Every code is the sum of a number of the image and a multiple of the square of the next one."""

    def encode(self, images: Tensor) -> Tensor:
        numbers = read(images)
        return numbers + 4.0 * numbers.roll(1, 1).square()


def pictures(count: int, seed: int) -> Painted:
    """Images of independent numbers, half of them labelled."""
    return Painted(0.2 * normal(count, DIM, seed=seed), {"hat": (torch.arange(count) % 2).float()}, f"pictures{seed}")


HELD_OUT, REFERENCE = pictures(200, 1), pictures(400, 2)


def participant(
    name: str,
    model: AbstractAutoencoder,
    kind: str = "",
    held_out: ImageSource = HELD_OUT,
    reference: ImageSource = REFERENCE,
) -> Participant:
    return Participant(name, model, held_out, reference, kind)


def plain(name: str = "plain") -> Participant:
    """Codes are the six numbers."""
    return participant(name, Reader(torch.eye(DIM)))


def turned(name: str = "turned", seed: int = 0) -> Participant:
    """A rotated copy, twice as large and shifted, at another resolution."""
    return participant(name, Reader(2.0 * rotation(seed), bias=1.0, resolution=16))


def first_half(name: str = "first") -> Participant:
    """Sees the first three numbers alone."""
    return participant(name, Reader(torch.eye(DIM)[:, :3]), kind="half")


def second_half(name: str = "second") -> Participant:
    """Sees the other three."""
    return participant(name, Reader(torch.eye(DIM)[:, 3:]), kind="half")
