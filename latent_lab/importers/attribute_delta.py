"""Directions of attributes as the Balanced Pioneer and Automodulator programs ship them: one tensor in each file.

A direction is the difference of two mean codes, of images with and without the attribute. Adding a multiple of it to a
code moves the attribute. It means something only to the model that the codes came from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from latent_lab.importers.base import AbstractFormat, check_is_there
from latent_lab.importers.torch_files import read_torch
from latent_lab.networks.pretrained import sha256_of

_BALANCED = "balanced_pioneer_celebahq256"


@dataclass(frozen=True)
class _Shipped:
    """What is known of a shipped file."""

    attribute: str
    model: str | None
    """Name in the manifest of the model that it fits; none: not recorded."""
    norm: float


_BY_MD5 = {
    "b7a1564a524b48669fcfd4fe6d66744d": _Shipped("bald", _BALANCED, 0.24223),
    "76e2b2d757b842fff8bee6ecdbcb6550": _Shipped("dark", _BALANCED, 0.24160),
    "4bf4efe0c5ae38ef93775fa1701593ad": _Shipped("glass", _BALANCED, 0.24774),
    "fa233c9e8b0322bea5e285fcc3a83837": _Shipped("left", _BALANCED, 0.35377),
    "f405bd1aa67bf9b18452da4795802ac7": _Shipped("male", _BALANCED, 0.19288),
    "715b2eff581c2df403388a3fa12b4ab9": _Shipped("smile", _BALANCED, 0.15473),
}
_BY_NAME = {
    "dark_delta2": _Shipped("dark", None, 0.360),
    "left_delta2": _Shipped("left", None, 0.487),
    "male_delta2": _Shipped("male", None, 0.523),
    "smile_delta2": _Shipped("smile", None, 0.296),
    "smile_delta512-4": _Shipped("smile", "automodulator_ffhq512", 0.656),
    "smile_delta512-16": _Shipped("smile", "automodulator_ffhq512", 0.334),
}
_NORM_TOLERANCE = 1e-3
"""Norms are known to three decimals."""


@dataclass(frozen=True)
class AttributeDelta(AbstractFormat):
    """A `_delta` file, as .safetensors with the tensor `direction` (1, D) and, as metadata, where it comes from."""

    name: ClassVar[str] = "attribute_delta"
    suffix: ClassVar[str] = ".safetensors"

    attribute: str | None = None
    """What the direction is of; null: known for the shipped files, else the file's name."""

    def run(self, path: Path, out: Path) -> list[str]:
        """See `AbstractFormat`."""
        check_is_there(path)
        direction = _read(path)
        shipped = _shipped(path, direction)
        attribute = self.attribute or (shipped.attribute if shipped else path.stem)
        model = shipped.model if shipped else None
        facts = {
            "format": "latent-lab direction",
            "attribute": attribute,
            "model": model or "not recorded",
            "file": path.name,
            "sha256": sha256_of(path),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.tmp")
        try:
            save_file({"direction": direction}, temporary, metadata=facts)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
        fits = f"for codes of {model}" if model else "of which model's codes is not recorded"
        norm = torch.linalg.vector_norm(direction).item()
        return [f"{out}: direction of {attribute}, {direction.shape[1]} latents, length {norm:.3f}, {fits}"]


def _read(path: Path) -> Tensor:
    """The direction (1, D), float32."""
    content = read_torch(path)
    if not isinstance(content, Tensor):
        raise ValueError(f"{path} holds a {type(content).__name__} where one tensor, a direction, belongs")
    if not content.is_floating_point() or content.ndim not in (1, 2) or content.numel() != content.shape[-1]:
        raise ValueError(
            f"{path} holds a tensor of shape {tuple(content.shape)} ({content.dtype}) where a direction (1, D) of "
            "floating-point numbers belongs"
        )
    if not torch.isfinite(content).all():
        raise ValueError(f"{path} has values that are not finite")
    return content.detach().float().reshape(1, -1).contiguous()


def _shipped(path: Path, direction: Tensor) -> _Shipped | None:
    """What is known of the file, by its digest, or by its name where its length agrees."""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    known = _BY_MD5.get(digest) or _BY_NAME.get(path.name)
    if known is None or abs(torch.linalg.vector_norm(direction).item() - known.norm) > _NORM_TOLERANCE:
        return None
    return known
