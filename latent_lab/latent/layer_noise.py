"""Where the noise of a decoder's layers comes from: indexed by image in training, fixed in evaluation, or left out.

Decoders with layer noise call an object of this module once for each noisy layer, in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence

import torch
from torch import Tensor

from latent_lab.distributed import IndexedRandom


class IndexedNoise:
    """Standard normal maps that depend on (seed, stream, place of the image, number of the layer) alone.

    They are drawn on the device itself, since they are as large as the features: on one kind of device they do not
    depend on the number of devices.

    Args:
        seed: of the model.
        stream: what the noise is for; two streams are independent.
        places: of the batch's images in the endless stream of training images.
        device: where the features are.
    """

    def __init__(self, seed: int, stream: str, places: Sequence[int], device: torch.device) -> None:
        self.seed = seed
        self.stream = stream
        self.places = places
        self.device = device
        self._layer = 0

    def __call__(self, shape: torch.Size) -> Tensor:
        """The next layer's noise, (N, C, H, W) float32, N being the number of places."""
        random = IndexedRandom(self.seed, f"{self.stream}/{self._layer}")
        self._layer += 1
        noise = torch.empty(shape, device=self.device)
        for row, place in zip(noise, self.places, strict=True):
            row.normal_(generator=random.generator(place, self.device))
        return noise


class FixedNoise:
    """The same standard normal maps for every image and every call: decoding stays a function of the latents.

    Args:
        seed: of the model.
    """

    def __init__(self, seed: int) -> None:
        self.random = IndexedRandom(seed, "evaluation/layer noise")
        self._maps: dict[tuple[int, torch.Size, torch.device], Tensor] = {}

    def on(self, device: torch.device) -> Callable[[torch.Size], Tensor]:
        """What one pass through a decoder on a device asks for noise of a shape (N, C, H, W), layer after layer."""
        layers = itertools.count()
        return lambda shape: self._of_layer(next(layers), shape, device)

    def _of_layer(self, layer: int, shape: torch.Size, device: torch.device) -> Tensor:
        key = (layer, shape[1:], device)
        if key not in self._maps:
            # Drawn on the CPU, so that every machine decodes alike.
            self._maps[key] = torch.randn(shape[1:], generator=self.random.generator(layer)).to(device)
        return self._maps[key].expand(shape)


def only_at(resolutions: Container[int], noise: Callable[[torch.Size], Tensor]) -> Callable[[torch.Size], Tensor]:
    """The noise in layers of these pixels per side, zeros in all others.

    What is drawn for a layer does not depend on which others are left out.
    """

    def draw(shape: torch.Size) -> Tensor:
        plane = noise(shape)
        return plane if shape[-1] in resolutions else torch.zeros_like(plane)

    return draw


def silence(device: torch.device) -> Callable[[torch.Size], Tensor]:
    """Zeros in every layer."""
    return lambda shape: torch.zeros(shape, device=device)
