"""One model's latents decoded by another: `mapped(source, map, target)`, itself a model for every analysis."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.images import resize
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.latent.maps import Map
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.types import Images, Latents


class Mapped(nn.Module, AbstractDecoder):
    """A decoder of the source's latents into the target's images: decode(z) = target.decode(project(map(z))).

    `mapped` makes an autoencoder of a source that encodes. As a module it moves together with both models.

    Args:
        source: whose latents are decoded.
        map: from the source's latent space to the target's.
        target: whose images come out.

    Raises:
        TypeError: if a model does not decode.
        ValueError: if the map is of other spaces.
    """

    def __init__(self, source: Any, map: Map, target: Any) -> None:
        super().__init__()
        self.source: Any = require(source, AbstractDecoder, by="mapping")  # type: ignore[type-abstract]
        self.target: Any = require(target, AbstractDecoder, by="mapping")  # type: ignore[type-abstract]
        widths = source.latent_space.dim, target.latent_space.dim
        if (map.source_dim, map.target_dim) != widths:
            raise ValueError(
                f"the map is from {map.source_dim} to {map.target_dim} coordinates, but the models have {widths[0]} "
                f"and {widths[1]}: fit one to these models"
            )
        self.map = map
        self.training = getattr(target, "training", False)

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The source's."""
        space: AbstractLatentSpace = self.source.latent_space
        return space

    @property
    def resolution(self) -> int:
        """The target's."""
        resolution: int = self.target.resolution
        return resolution

    @property
    def now(self) -> Any:
        """Where the target's growth stands; None if it does not grow."""
        return getattr(self.target, "now", None)

    def translate_latents(self, latents: Latents) -> Float[Tensor, "N E"]:
        """Points of the target's space (N, E) for points of the source's (N, D)."""
        translated: Tensor = self.target.latent_space.project(self.map(latents))
        return translated

    def decode(self, latents: Latents) -> Images:
        """The target's images of the source's latents (N, D)."""
        images: Images = self.target.decode(self.translate_latents(latents))
        return images


class MappedAutoencoder(Mapped, AbstractAutoencoder):
    """The same of a source that encodes: reconstruct(x) is the target's image of the source's code of x."""

    def encode(self, images: Images) -> Latents:
        """The source's codes of images; those of another size are resized for it (antialiased, bilinear)."""
        if images.shape[-1] != self.source.resolution:
            images = resize(images, self.source.resolution, "bilinear")
        latents: Latents = self.source.encode(images)
        return latents


def mapped(source: Any, map: Map, target: Any) -> Mapped:
    """`Mapped` or, of a source that encodes, `MappedAutoencoder`."""
    kind = MappedAutoencoder if isinstance(source, AbstractAutoencoder) else Mapped
    return kind(source, map, target)
