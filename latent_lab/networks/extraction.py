"""What every feature extractor does: how images are brought to a network, and what is known about what comes out.

An extractor takes float images in [-1, 1] of any size. By default it rounds them to 8 bits as a viewer of the saved
files would see them, resizes by a named protocol, and computes in float32 with autocast off. Extractors are kept in a
cache of the process and must not become submodules of a model: they would enter its parameters and checkpoints.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.pretrained import FrozenNetwork, as_rgb
from latent_lab.networks.resizing import RESIZES
from latent_lab.types import Features, Images

PRECISIONS = ("float32", "bfloat16")
_NEARLY_WHOLE = 1e-3


def truncated(images: Images) -> Images:
    """Bytes as `(x * 255).byte()` makes them of x in [0, 1]: cut off, and wrapped beyond the range.

    torchmetrics does this with `normalize=True`. Levels that differ from a whole number by less than a thousandth are
    that number, so that images of 8 bits stay what they are, whatever range they have been converted to on the way.
    """
    levels = conversions.to_unit(images) * 255.0
    whole = levels.round()
    levels = torch.where((levels - whole).abs() < _NEARLY_WHOLE, whole, levels.trunc())
    return conversions.from_bytes(levels.remainder(256.0).to(torch.uint8))


def unrounded(images: Images) -> Images:
    """Full precision, clamped to [-1, 1]."""
    return images.clamp(-1.0, 1.0)


_QUANTISED: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = MappingProxyType(
    {
        "round": (conversions.quantise, "8 bits"),
        "truncate": (truncated, "8 bits, cut off and wrapped"),
        "none": (unrounded, "full precision, clamped"),
    }
)
QUANTISATIONS = tuple(_QUANTISED)


@dataclass(frozen=True)
class Viewing:
    """How images are brought to a network.

    Raises:
        ValueError: for an unknown name.
    """

    resize: str = "clean"
    """clean, tf1, torch or torchmetrics, see `resizing`."""
    precision: str = "float32"
    """float32, or bfloat16: several times as fast where a processor has it, with features that deviate (Inception:
    by 1 to 3 % of their spread)."""
    quantisation: str = "round"
    """round, truncate (as torchmetrics with normalize=True), or none."""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("resize protocol", self.resize, tuple(RESIZES)),
            ("precision", self.precision, PRECISIONS),
            ("quantisation", self.quantisation, QUANTISATIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}: use {', '.join(known[:-1])} or {known[-1]}")

    @property
    def is_exact(self) -> bool:
        """Whether precision and rounding are those that numbers of the usual names are computed with."""
        return (self.precision, self.quantisation) == ("float32", "round")

    @property
    def suffix(self) -> str:
        """What is not the default, for names of numbers: "_tf1_bf16_truncate", or nothing."""
        parts = [
            self.resize if self.resize != "clean" else "",
            "bf16" if self.precision == "bfloat16" else "",
            {"round": "", "none": "unrounded"}.get(self.quantisation, self.quantisation),
        ]
        return "".join(f"_{part}" for part in parts if part)


class Observation(NamedTuple):
    """What one pass over images gives."""

    features: Features
    """(N, F), float32."""
    logits: Tensor | None
    """(N, K) class scores, float32; none if the network classifies nothing."""


class AbstractExtractor(FrozenNetwork):
    """Images of any size to one row of features each, and class scores if the network has any.

    Args:
        viewing: how images are brought to the network.
    """

    num_features: int
    """Number F of features."""
    num_classes: int | None = None
    """Number K of class scores; none if there are none."""
    input_resolution: int | None
    """Pixels per side that images are resized to; none: they stay as they are."""
    cpu_piece = 16
    """Images at a time on a CPU, which is faster while maps stay in its caches; changes no number beyond rounding."""

    def __init__(self, viewing: Viewing) -> None:
        super().__init__()
        self.viewing = viewing

    @property
    def resize(self) -> str:
        """Name of the resize protocol."""
        return self.viewing.resize

    @property
    def label(self) -> str:
        """How it is called in names of numbers: its name and whatever is not the default, as in "efflite0_tf1"."""
        return self.name + self.viewing.suffix

    def observe(self, images: Images) -> Observation:
        """Features and class scores of one pass. Nothing is differentiated through it.

        Args:
            images: (N, 1 or 3, H, W) in [-1, 1], N may be 0; values outside are clamped, but wrapped by quantisation
                truncate.

        Raises:
            TypeError: if they are not of a floating-point type.
            ValueError: if there are neither one nor three channels, images are not finite or plainly of another range,
                or the features are not finite or not (N, F).
        """
        device = images.device.type
        rows, scores = [], []
        with torch.inference_mode():
            colour = as_rgb(images)
            for piece in colour.split(self.cpu_piece) if device == "cpu" else (colour,):
                with torch.autocast(device, enabled=False):
                    prepared = self._prepare(piece)
                with torch.autocast(device, dtype=torch.bfloat16, enabled=self.viewing.precision == "bfloat16"):
                    features, logits = self.see(prepared)
                rows.append(features.float())
                if logits is not None:
                    scores.append(logits.float())
        # Copied outside of inference mode, so that whoever gets them may do with them what they like.
        found = Observation(torch.cat(rows).clone(), torch.cat(scores).clone() if scores else None)
        self._check(found, len(images))
        return found

    def forward(self, images: Images) -> Features:
        """The features of `observe` alone, (N, F), float32."""
        return self.observe(images).features

    @abstractmethod
    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """Features (N, F) and class scores (N, K) of colour images that are rounded and resized already."""

    def _prepare(self, images: Images) -> Tensor:
        quantise, _ = _QUANTISED[self.viewing.quantisation]
        prepared = quantise(images)
        return prepared if self.input_resolution is None else RESIZES[self.resize](prepared, self.input_resolution)

    def _check(self, found: Observation, count: int) -> None:
        for what, values, width in (
            ("features", found.features, self.num_features),
            ("class scores", found.logits, self.num_classes),
        ):
            if values is None:
                continue
            if tuple(values.shape) != (count, width):
                raise ValueError(f"{self.name} must give {what} ({count}, {width}), got {tuple(values.shape)}")
            if not torch.isfinite(values).all():
                raise ValueError(
                    f"{self.name} gave {what} that are NaN or infinite for finite images: its weights are damaged, or "
                    f"{self.viewing.precision} is too narrow for them"
                )

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        size = self.input_resolution
        return {
            **super().describe(),
            "label": self.label,
            "num_features": self.num_features,
            "resize": f"{self.resize} to {size}x{size}" if size else "none",
            "quantised": _QUANTISED[self.viewing.quantisation][1],
            "precision": self.viewing.precision,
        }


def sha256_of_weights(module: nn.Module) -> str:
    """The sha256 of a module's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


__all__ = [
    "PRECISIONS",
    "QUANTISATIONS",
    "AbstractExtractor",
    "Observation",
    "Viewing",
    "sha256_of_weights",
    "truncated",
    "unrounded",
]
