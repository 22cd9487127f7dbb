"""Checkpoints of the Pioneer family as their programs write them, and what their networks compute from them.

Written from the published names, shapes and formulas, in double precision and apart from the package's networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
WIDTHS = (8, 8, 6, 4, 4, 3, 3, 2, 2)
"""At 4, 8, ... 1024 pixels, all nine of which every file holds."""
LATENT_DIM = 8
KINDS = {
    "spectral": (2, True),
    "equalized": (2, True),
    "pixel_norm_equalized": (3, True),
    "none": (2, False),
    "pixel_norm": (3, False),
}
"""Generator -> place of a block's second convolution, and whether weights are re-parametrised."""


def _convolution(name: str, shape: Sequence[int], wrapped: bool) -> dict[str, tuple[int, ...]]:
    bias, weight = (f"{name}.conv.bias", f"{name}.conv.weight_orig") if wrapped else (f"{name}.bias", f"{name}.weight")
    return {bias: (shape[0],), weight: tuple(shape)}


def decoder_shapes(latent_dim: int, widths: Sequence[int], kind: str) -> dict[str, tuple[int, ...]]:
    """Published name -> shape."""
    second, wrapped = KINDS[kind]
    shapes: dict[str, tuple[int, ...]] = {"label_embed.weight": (1, 1)}
    for number, (below, width) in enumerate(zip([latent_dim, *widths], widths, strict=False)):
        size = 3 if number else 4
        shapes |= _convolution(f"progression.{number}.conv.0", (width, below, size, size), wrapped)
        shapes |= _convolution(f"progression.{number}.conv.{second}", (width, width, 3, 3), wrapped)
    for number, width in enumerate(widths):
        shapes |= {f"to_rgb.{number}.weight": (3, width, 1, 1), f"to_rgb.{number}.bias": (3,)}
    return shapes


def encoder_shapes(latent_dim: int, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Published name -> shape; block 0 is that of the largest images."""
    last = len(widths) - 1
    shapes: dict[str, tuple[int, ...]] = {}
    for number, phase in enumerate(range(last, -1, -1)):
        inner, outer, size = (widths[phase - 1], widths[phase - 1], 3) if phase else (widths[0], latent_dim, 4)
        shapes |= _convolution(f"progression.{number}.conv.0", (inner, widths[phase], 3, 3), True)
        shapes |= _convolution(f"progression.{number}.conv.2", (outer, inner, size, size), True)
    for number, width in enumerate(reversed(widths)):
        shapes |= {f"from_rgb.{number}.weight": (width, 3, 1, 1), f"from_rgb.{number}.bias": (width,)}
    return shapes


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int, deviation: float = 0.1) -> State:
    """Random tensors of these shapes."""
    rng = torch.Generator().manual_seed(seed)
    return {name: deviation * torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def unit_vectors(state: State, seed: int) -> list[Tensor]:
    """A spectral vector (cout, 1) for each re-parametrised convolution, in the state's order."""
    rng = torch.Generator().manual_seed(seed)
    shapes = [value.shape[:1] for name, value in state.items() if name.endswith("weight_orig")]
    return [F.normalize(torch.randn(*shape, 1, generator=rng), dim=0) for shape in shapes]


def in_parallel(state: State) -> State:
    """Names as DataParallel gives them."""
    return {f"module.{name}": value for name, value in state.items()}


def adam_state(state: State) -> dict[str, Any]:
    """Of an optimiser, with a moment for the first parameter."""
    first = next(iter(state.values()))
    moments = {"step": 3, "exp_avg": torch.zeros_like(first), "exp_avg_sq": torch.zeros_like(first)}
    groups = [{"lr": 0.001, "betas": (0.0, 0.9), "params": list(range(len(state)))}]
    return {"state": {0: moments}, "param_groups": groups}


@dataclass
class PioneerByHand:
    """A run of Pioneer (`pixel_norm_equalized`) or Balanced Pioneer at the end."""

    kind: str = "spectral"
    images_seen: int = 3_000_000
    phase: int = 2
    alpha: float = 1
    widths: Sequence[int] = WIDTHS
    latent_dim: int = LATENT_DIM
    states: dict[str, State] = field(default_factory=dict)
    vectors: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        deviation = 1.0 if "equalized" in self.kind else 0.1
        decoder, encoder = (
            decoder_shapes(self.latent_dim, self.widths, self.kind),
            encoder_shapes(self.latent_dim, self.widths),
        )
        self.states = self.states or {
            "G_state_dict": drawn(decoder, 0, deviation),
            "D_state_dict": drawn(encoder, 1),
            "G_running_state_dict": drawn(decoder, 2, deviation),
        }
        names = ("G_state_dict", "G_running_state_dict", "D_state_dict")
        with_vectors = names if self.kind == "spectral" else ("D_state_dict",)
        self.vectors = self.vectors or {name: unit_vectors(self.states[name], 3) for name in with_vectors}

    def content(self) -> dict[str, Any]:
        """What is in the `_state` file."""
        return {
            **{name: in_parallel(state) for name, state in self.states.items()},
            "optimizerG": adam_state(self.states["G_state_dict"]),
            "optimizerD": adam_state(self.states["D_state_dict"]),
            "iteration": self.images_seen,
            "phase": self.phase,
            "alpha": self.alpha,
        }

    def snu(self) -> list[Tensor]:
        """What is in the `_SNU` file."""
        return [vector for vectors in self.vectors.values() for vector in vectors]

    def save(self, folder: Path, *, snu: bool = True) -> Path:
        """Writes both as the programs did."""
        path = folder / f"{self.images_seen}_state"
        torch.save(self.content(), path, _use_new_zipfile_serialization=False)
        if snu:
            torch.save(self.snu(), folder / f"{self.images_seen}_SNU", _use_new_zipfile_serialization=False)
        return path

    # ------------------------------------------------------------------------------------------ what they compute

    def generate(self, latents: Tensor, phase: int, alpha: float = 1.0, name: str = "G_running_state_dict") -> Tensor:
        """Images of unit latents (N, D)."""
        state, second = self.states[name], KINDS[self.kind][0]

        def block(number: int, x: Tensor) -> Tensor:
            for place, padding in ((0, 1 if number else 3), (second, 1)):
                x = self._convolve(name, f"progression.{number}.conv.{place}", x, padding, self.kind)
                if "pixel_norm" in self.kind:
                    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
                x = F.leaky_relu(x, 0.2)
            return x

        def colours(number: int, x: Tensor) -> Tensor:
            return F.conv2d(x, state[f"to_rgb.{number}.weight"].double(), state[f"to_rgb.{number}.bias"].double())

        features = block(0, latents.double()[:, :, None, None])
        if phase == 0:
            return colours(0, features)
        for number in range(1, phase + 1):
            below = F.interpolate(features, scale_factor=2, mode="nearest")
            features = block(number, below)
        fine = colours(phase, features)
        return fine if alpha >= 1 else (1 - alpha) * colours(phase - 1, below) + alpha * fine

    def encode(self, images: Tensor, phase: int, alpha: float = 1.0, *, last_activation: bool = True) -> Tensor:
        """Unit codes (N, D)."""
        state, last = self.states["D_state_dict"], len(self.widths) - 1

        def colours(number: int, x: Tensor) -> Tensor:
            return F.conv2d(x, state[f"from_rgb.{number}.weight"].double(), state[f"from_rgb.{number}.bias"].double())

        features = colours(last - phase, images.double())
        for number in range(last - phase, last + 1):
            prefix = f"progression.{number}.conv"
            features = F.leaky_relu(self._convolve("D_state_dict", f"{prefix}.0", features, 1, "spectral"), 0.2)
            features = self._convolve("D_state_dict", f"{prefix}.2", features, 0 if number == last else 1, "spectral")
            if number < last or last_activation:
                features = F.leaky_relu(features, 0.2)
            if number < last:
                features = F.avg_pool2d(features, 2)
                if number == last - phase and alpha < 1:
                    coarse = colours(number + 1, F.avg_pool2d(images.double(), 2))
                    features = (1 - alpha) * coarse + alpha * features
        return F.normalize(features.flatten(1), dim=1)

    def _convolve(self, name: str, place: str, x: Tensor, padding: int, kind: str) -> Tensor:
        state = self.states[name]
        if not KINDS[kind][1]:
            weight, bias = state[f"{place}.weight"].double(), state[f"{place}.bias"].double()
            return F.conv2d(x, weight, bias, padding=padding)
        weight, bias = state[f"{place}.conv.weight_orig"].double(), state[f"{place}.conv.bias"].double()
        if "equalized" in kind:
            weight = weight * math.sqrt(2 / weight[0].numel())
        if kind == "spectral":
            weight = weight / self._sigma(name, place, weight.flatten(1))
        return F.conv2d(x, weight, bias, padding=padding)

    def _sigma(self, name: str, place: str, matrix: Tensor) -> Tensor:
        """One power iteration from the stored vector; the largest singular value where none is stored."""
        if name not in self.vectors:
            return torch.linalg.matrix_norm(matrix, 2)
        names = [one for one in self.states[name] if one.endswith("weight_orig")]
        vector = self.vectors[name][names.index(f"{place}.conv.weight_orig")].double()
        v = F.normalize(matrix.mT @ vector, dim=0)
        left = F.normalize(matrix @ v, dim=0)
        return (left.mT @ matrix @ v).squeeze()
