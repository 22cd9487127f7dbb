"""The package's vocabulary of tensors: one name for each shape that crosses a module boundary.

The letters are N (samples), C (channels), H and W (pixels), D (latent coordinates), L (layers). Shapes are checked under
pytest (jaxtyping with beartype) and cost nothing in production.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images: TypeAlias = Float[Tensor, "N C H W"]
"""Float images in [-1, 1]. Other ranges exist only inside `latent_lab.images` and behind extractors."""

ByteImages: TypeAlias = UInt8[Tensor, "N C H W"]
"""8-bit images in 0 ... 255, as stored on disk."""

Latents: TypeAlias = Float[Tensor, "N D"]
"""Points of a latent space, one in each row."""

Styles: TypeAlias = Float[Tensor, "N L D"]
"""One latent for every layer of a layered decoder."""

Features: TypeAlias = Float[Tensor, "N F"]
"""Outputs of a feature extractor, one row for each image."""

Scores: TypeAlias = Float[Tensor, "N"]
"""One number for each sample."""

Scalar: TypeAlias = Float[Tensor, ""]
"""A loss or statistic of a whole batch."""

Indices: TypeAlias = Int[Tensor, "N"]
"""Global sample indices."""

__all__ = ["ByteImages", "Features", "Images", "Indices", "Latents", "Scalar", "Scores", "Styles"]
