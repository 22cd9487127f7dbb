"""The package's vocabulary of tensors: one name for each shape that crosses a module boundary.

The letters are N (samples), C (channels), H and W (pixels), D (latent coordinates), L (layers). Shapes are checked
under pytest (jaxtyping with beartype) and cost nothing in production.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images: TypeAlias = Float[Tensor, "N C H W"]
"""Float images in [-1, 1]. Other ranges exist only inside `latent_lab.images` and behind extractors."""

OtherImages: TypeAlias = Float[Tensor, "M C P Q"]
"""Images whose number or size differs from that of `Images` in the same signature."""

ByteImages: TypeAlias = UInt8[Tensor, "N C H W"]
"""8-bit images in 0 ... 255, as stored on disk."""

Film: TypeAlias = UInt8[Tensor, "T K P Q"]
"""Frames of a video: 8-bit, whatever they are made of."""

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


class ImageBatch(NamedTuple):
    """Images with what is known about them; a tuple, so that Lightning and pinned memory carry it as it is."""

    images: Images
    """(N, C, R, R) float32 in [-1, 1]."""
    index: Indices  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    """(N,) place of each image in its split (training: the global position in the endless stream); -1 marks padding."""
    labels: Tensor | None = None
    """(N, K) float32 in the order of the source's `label_names`, NaN where unknown."""
    pose: Tensor | None = None
    """(N, 4, 4) float32 camera-to-object matrices."""


class DomainBatch(NamedTuple):
    """One independent image of each of several ordered domains, at every position of the training stream."""

    images: Float[Tensor, "K N C H W"]
    """A batch for each of the K domains, in their order; float32 in [-1, 1]."""
    index: Indices  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    """(N,) global positions in the endless stream."""
    domains: Sequence[str]
    """The K names."""


@runtime_checkable
class ImageSource(Protocol):
    """A finite, ordered set of images that any part of the package can read by index."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the columns of `ImageBatch.labels`; empty if there are no labels."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Plain data: what was read and how it was processed, the split, and under "hash" a digest of all that."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """The images of the given places at the given number of pixels per side, never mirrored."""


@runtime_checkable
class DomainSource(ImageSource, Protocol):
    """A source whose images belong to ordered domains."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in their order."""

    def domain(self, name: str) -> ImageSource:
        """The images of one domain."""


__all__ = [
    "ByteImages",
    "DomainBatch",
    "DomainSource",
    "Features",
    "Film",
    "ImageBatch",
    "ImageSource",
    "Images",
    "Indices",
    "Latents",
    "OtherImages",
    "Scalar",
    "Scores",
    "Styles",
]
