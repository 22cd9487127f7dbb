"""Checkpoints of the Automodulator as its program writes them, and what its decoder computes from them.

Written from the published names, shapes and formulas, in double precision and apart from the package's networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.importers.pioneer_by_hand import (
    PioneerByHand,
    State,
    adam_state,
    drawn,
    encoder_shapes,
    in_parallel,
    unit_vectors,
)

LATENT_DIM = 16
ENCODER_WIDTHS = (16, 16, 16, 16, 8, 4, 2, 1, 1)
DECODER_WIDTHS = {"small": ENCODER_WIDTHS, "large": (16, 16, 16, 16, 16, 8, 4, 2, 1)}


def decoder_shapes(latent_dim: int, widths: Sequence[int], first_adain: int = 3) -> dict[str, tuple[int, ...]]:
    """Published name -> shape, second names of the AdaIN layers left out."""

    def convolution(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.bias": (outputs,), f"{name}.weight_orig": (outputs, inputs, 3, 3), f"{name}.weight_gain": (1,)}

    def adain(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.mod.weight": (2 * width, latent_dim), f"{name}.mod.bias": (2 * width,)}

    shapes: dict[str, tuple[int, ...]] = {"label_embed.weight": (1, 1)}
    shapes |= convolution("progression.0.conv.1.conv", widths[0], widths[0]) | adain("progression.0.conv.3", widths[0])
    for number, (below, width) in enumerate(pairwise(widths), start=1):
        block = f"progression.{number}.conv"
        shapes |= convolution(f"{block}.0.0.conv", width, below) | adain(f"{block}.0.{first_adain}", width)
        shapes |= convolution(f"{block}.1.conv", width, width) | adain(f"{block}.3", width)
    for number, width in enumerate(widths):
        shapes |= {f"to_rgb.{number}.weight": (3, width, 1, 1), f"to_rgb.{number}.bias": (3,)}
        shapes |= {f"noise.{number}.{place}.noise_scale": (width,) for place in (0, 1)}
    for number in (0, 1):
        name = f"z_preprocess.{number}.0"
        shapes |= {f"{name}.bias": (latent_dim,), f"{name}.weight_orig": (latent_dim,) * 2, f"{name}.weight_gain": (1,)}
    return shapes


def decoder_state(widths: Sequence[int], seed: int, first_adain: int = 3) -> State:
    """Random weights, gains as the program sets them."""
    state = drawn(decoder_shapes(LATENT_DIM, widths, first_adain), seed, deviation=0.5)
    for name in state:
        if name.endswith("weight_gain"):
            state[name] = torch.full((1,), 0.01 if name.startswith("z_preprocess") else 1.0)
        if name.startswith("z_preprocess") and name.endswith("weight_orig"):
            state[name] = 100 * state[name]
    return state


def second_names(state: Mapping[str, Tensor], first_adain: int = 3) -> State:
    """The list of all AdaIN layers, which the program registers once more."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("progression"))
    places = ["progression.0.conv.3"]
    for number in range(1, blocks):
        places += [f"progression.{number}.conv.0.{first_adain}", f"progression.{number}.conv.3"]
    return {
        f"adanorm_blocks.{number}.mod.{parameter}": state[f"{place}.mod.{parameter}"]
        for number, place in enumerate(places)
        for parameter in ("weight", "bias")
    }


@dataclass
class AutomodulatorByHand:
    """A run of the Automodulator at the end."""

    size: str = "large"
    images_seen: int = 8_000_000
    phase: int = 2
    alpha: float = 1
    first_adain: int = 3
    """2 with bilinear upsampling."""
    states: dict[str, State] = field(default_factory=dict)
    vectors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        widths = DECODER_WIDTHS[self.size]
        self.states = self.states or {
            "G_state_dict": decoder_state(widths, 0, self.first_adain),
            "D_state_dict": drawn(encoder_shapes(LATENT_DIM, ENCODER_WIDTHS), 1),
            "G_running_state_dict": decoder_state(widths, 2, self.first_adain),
        }
        self.vectors = self.vectors or unit_vectors(self.states["D_state_dict"], 3)

    def content(self) -> dict[str, Any]:
        """What is in the `.pth` file."""
        rng = torch.Generator().manual_seed(4)
        states = {
            name: state if name == "D_state_dict" else state | second_names(state, self.first_adain)
            for name, state in self.states.items()
        }
        return {
            **{name: in_parallel(state) for name, state in states.items()},
            "optimizerD": adam_state(self.states["D_state_dict"]),
            "optimizerG": adam_state(self.states["G_state_dict"]),
            "optimizerA": adam_state(self.states["G_state_dict"]),
            "iteration": self.images_seen,
            "phase": self.phase,
            "alpha": self.alpha,
            "SNU": self.vectors,
            **{
                f"adaptive_loss_{phase}": (
                    {
                        name: torch.randn(1, 3 * 4 ** (2 + phase), generator=rng)
                        for name in ("latent_alpha", "latent_scale")
                    },
                )
                # Three resolutions are enough to be tested, and spare megabytes.
                for phase in range(3)
            },
        }

    def save(self, folder: Path) -> Path:
        """Writes it as the program does."""
        path = folder / f"{self.images_seen}_state.pth"
        torch.save(self.content(), path)
        return path

    # ------------------------------------------------------------------------------------------ what they compute

    def generate(
        self,
        latents: Tensor,
        phase: int,
        alpha: float = 1.0,
        name: str = "G_running_state_dict",
        *,
        mapped: bool = False,
    ) -> Tensor:
        """Images of unit latents (N, D), without layer noise."""
        state = {key: value.double() for key, value in self.states[name].items()}
        z = latents.double()
        if mapped:
            weight = state["z_preprocess.0.0.weight_orig"] * math.sqrt(2 / LATENT_DIM) * 0.01
            z = F.leaky_relu(F.linear(z, weight, state["z_preprocess.0.0.bias"]), 0.2)

        def layer(convolution: str, modulation: str, x: Tensor, *, blur: bool = False) -> Tensor:
            weight = state[f"{convolution}.weight_orig"]
            weight = weight * math.sqrt(2 / weight[0].numel()) * state[f"{convolution}.weight_gain"]
            x = F.conv2d(x, weight, state[f"{convolution}.bias"], padding=1)
            if blur:
                line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
                kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
                x = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
            x = F.leaky_relu(x, 0.2)
            affine = F.linear(z, state[f"{modulation}.mod.weight"], state[f"{modulation}.mod.bias"])
            scale, shift = affine[:, :, None, None].chunk(2, dim=1)
            return scale * (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True) + shift

        def upsampled(x: Tensor) -> Tensor:
            if self.first_adain == 2:
                return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            return F.interpolate(x, scale_factor=2, mode="nearest")

        def colours(number: int, x: Tensor) -> Tensor:
            return F.conv2d(x, state[f"to_rgb.{number}.weight"], state[f"to_rgb.{number}.bias"])

        width = state["to_rgb.0.weight"].shape[1]
        ones = torch.ones(len(z), width, 4, 4, dtype=torch.float64)
        features = layer("progression.0.conv.1.conv", "progression.0.conv.3", ones)
        below = features
        for number in range(1, phase + 1):
            block = f"progression.{number}.conv"
            below = upsampled(features)
            features = layer(f"{block}.0.0.conv", f"{block}.0.{self.first_adain}", below, blur=self.first_adain == 3)
            features = layer(f"{block}.1.conv", f"{block}.3", features)
        fine = colours(phase, features)
        return fine if alpha >= 1 or phase == 0 else (1 - alpha) * colours(phase - 1, below) + alpha * fine

    def encode(self, images: Tensor, phase: int, alpha: float = 1.0) -> Tensor:
        """Unit codes (N, D): Pioneer's encoder without its last activation."""
        encoder = PioneerByHand(
            widths=ENCODER_WIDTHS,
            latent_dim=LATENT_DIM,
            states={"D_state_dict": self.states["D_state_dict"]},
            vectors={"D_state_dict": self.vectors},
        )
        return encoder.encode(images, phase, alpha, last_activation=False)
