"""The latent protocol: what a model, or a wrapper around one, offers to every analysis.

Interfaces are abstract and hold no state. LightningModules and wrappers implement them side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor
from torch.distributions import Normal

from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.types import Images, Latents, Styles


class AbstractDecoder(ABC):
    """Turns latents into images."""

    @property
    @abstractmethod
    def latent_space(self) -> AbstractLatentSpace:
        """Where latents live."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Pixels per side of what `decode` returns now; it grows while a progressive model trains."""

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Images (N, C, R, R), float32, nominally in [-1, 1] and not clamped, of latents (N, D)."""


class AbstractAutoencoder(AbstractDecoder):
    """Turns images into latents, too."""

    @abstractmethod
    def encode(self, images: Images) -> Latents:
        """A point of the latent space for each image (N, C, R, R): the posterior's mean where there is one,
        projected.
        """

    def reconstruct(self, images: Images) -> Images:
        """decode(encode(images))."""
        return self.decode(self.encode(images))


class AbstractStochasticEncoder(AbstractAutoencoder):
    """Knows a distribution over latents for each image."""

    @abstractmethod
    def posterior(self, images: Images) -> Normal:
        """Independent normals of batch shape (N, D)."""


class AbstractSplitDecoder(AbstractAutoencoder):
    """Decodes two images and mixes them."""

    @abstractmethod
    def parts(self, latents: Latents) -> tuple[Tensor, Tensor, Tensor]:
        """The two images (N, C, R, R) in [-1, 1] and the share (N, 1, R, R) of the first in [0, 1], the map.

        decode(z) is map * first + (1 - map) * second.
        """


class AbstractLayeredDecoder(AbstractDecoder):
    """Takes one latent for every layer; decode(z) equals decode_layers of z repeated."""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """Number L of latents that `decode_layers` takes."""

    @abstractmethod
    def decode_layers(self, styles: Styles) -> Images:
        """Images of styles (N, L, D)."""


class AbstractTranslator(ABC):
    """Moves images between named domains."""

    @property
    @abstractmethod
    def domains(self) -> tuple[str, ...]:
        """Names of the domains."""

    @abstractmethod
    def translate(self, images: Images, source: str, target: str) -> Images:
        """Images of the source domain as they would look in the target domain."""


Interface = TypeVar("Interface")

_WHO_QUALIFIES: dict[type, str] = {
    AbstractDecoder: "every generator and autoencoder qualifies",
    AbstractAutoencoder: "an autoencoder (such as Pioneer) or a decoder wrapped in Recoded or Inverted qualifies",
    AbstractStochasticEncoder: "a variational autoencoder qualifies",
    AbstractSplitDecoder: "a SplitVAE qualifies",
    AbstractLayeredDecoder: "a decoder with one latent per layer qualifies",
    AbstractTranslator: "a translation chain qualifies",
}


def require(model: object, interface: type[Interface], by: str) -> Interface:
    """The model itself, once it is known to offer what an analysis needs.

    Args:
        model: a model or wrapper.
        interface: one of the classes of this module.
        by: who asks, for the message: "reconstruct".

    Raises:
        TypeError: with one sentence that names what is missing and which models qualify.
    """
    if isinstance(model, interface):
        return model
    missing = sorted(name for name in getattr(interface, "__abstractmethods__", ()) if not hasattr(type(model), name))
    raise TypeError(
        f"{by} needs a model with {', '.join(missing)}, which {type(model).__name__} does not offer: "
        f"{_WHO_QUALIFIES[interface]}"
    )
