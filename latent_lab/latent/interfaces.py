"""The latent protocol: what a model, or a wrapper around one, offers to every analysis.

Interfaces are abstract and hold no state. LightningModules and wrappers implement them side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Normal

from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.latent.styles import LayerKey, assemble, repeat
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


class AbstractViewDecoder(AbstractAutoencoder):
    """Predicts what the objects that it was trained on look like from other views."""

    @abstractmethod
    def view_latents(self, objects: Int[Tensor, "N"], poses: Float[Tensor, "N 4 4"]) -> Normal:
        """Latents of objects seen from poses: independent normals of batch shape (N, D), without noise of images.

        Args:
            objects: (N,) their numbers, as in the labels of the training images.
            poses: (N, 4, 4) camera-to-object matrices, as in `ImageBatch.pose`.

        Raises:
            ValueError: if there is no such object, or a matrix is no pose.
        """

    def predict_views(self, objects: Int[Tensor, "N"], poses: Float[Tensor, "N 4 4"]) -> Images:
        """Images (N, C, R, R) of objects seen from poses: the means of `view_latents`, decoded."""
        return self.decode(self.view_latents(objects, poses).mean)


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

    @property
    @abstractmethod
    def layer_resolutions(self) -> tuple[int, ...]:
        """Pixels per side at which each of the L layers works, ascending.

        All layers of the grown network count; in a growing one, those above `resolution` have no effect yet.
        """

    @abstractmethod
    def decode_layers(self, styles: Styles) -> Images:
        """Images of styles (N, L, D)."""

    def styles(
        self,
        *,
        coarse: Tensor | None = None,
        middle: Tensor | None = None,
        fine: Tensor | None = None,
        hi: Tensor | None = None,
        mid: Tensor | None = None,
        lo: Tensor | None = None,
        layers: Mapping[LayerKey, Tensor] | None = None,
        rest: Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> Styles:
        """Styles (N, L, D) from codes for scales or ranges of layers, such as `model.styles(hi=z1, mid=z2, lo=z3)`.

        Layers without a code share one random code in each row, as in the published Automodulator program, so that what
        is left to chance is coherent: `model.styles(coarse=z, rng=rng)` draws images that have z's coarse layers.

        Args:
            coarse: code (N, D), or (1, D) for all rows, of the layers that `latent.styles.scales` calls so.
            middle: the same of the middle layers.
            fine: the same of the fine layers.
            hi: the published program's name of coarse.
            mid: of middle.
            lo: of fine.
            layers: codes by ranges of layers, half open: {"0-2": z}, {(0, 2): z}, {"2-end": z}, {(2, None): z}, {3: z}.
            rest: code of all layers that are not named, instead of a random one.
            rng: draws the random code, one row for each of the N.

        Raises:
            ValueError: if a layer has two codes, or none and there is neither `rest` nor `rng`; if a range does not
                exist; if shapes do not fit together.
        """
        if rest is not None and rng is not None:
            raise ValueError("styles takes rest or rng for the layers without a code, got both: leave one out")
        named = {"coarse": coarse, "middle": middle, "fine": fine, "hi": hi, "mid": mid, "lo": lo}
        codes: dict[LayerKey, Tensor] = {name: code for name, code in named.items() if code is not None}

        def draw(rows: int) -> Tensor:
            if rng is None:
                raise ValueError(
                    "styles needs a code for every layer, got some without: name them, or give their code as rest, or "
                    "a torch.Generator as rng that draws one"
                )
            return self.latent_space.sample(rows, rng)

        given = [*codes.items(), *(layers or {}).items()]
        return assemble(given, self.layer_resolutions, draw if rest is None else rest)


class AbstractMappedDecoder(AbstractLayeredDecoder):
    """Maps latents into a second space W first, whose points its layers take (StyleGAN).

    decode_layers of styles is decode_mapped of each one's `map`.
    """

    @abstractmethod
    def map(self, latents: Latents) -> Latents:
        """Points of W (N, D) of latents (N, D)."""

    @abstractmethod
    def decode_mapped(self, styles: Styles) -> Images:
        """Images of points of W, one for every layer (N, L, D)."""

    @property
    @abstractmethod
    def mapped_average(self) -> Float[Tensor, "D"]:
        """The mean of W, around which styles may be truncated."""


class AbstractNoisyDecoder(AbstractLayeredDecoder):
    """Adds noise in its layers, on which details depend (Automodulator, StyleGAN).

    `decode` uses noise of its own, the same for all images; here the caller says what is added.
    """

    layer_noise: bool
    """Whether this decoder was built with layer noise; without, what is given as noise has no effect."""

    @abstractmethod
    def decode_with_noise(self, latents: Latents | Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """Images of latents (N, D), or of one for every layer (N, L, D), whose layers add this noise.

        Args:
            latents: as `decode` or `decode_layers` take them.
            noise: draws standard normal values of a shape (N, C, H, W), or what is to stand for them; called once for
                each noisy layer, in order. None: no layer adds anything.
        """


class AbstractMappedNoisyDecoder(AbstractMappedDecoder, AbstractNoisyDecoder):
    """Does both (StyleGAN)."""

    @abstractmethod
    def decode_mapped_with_noise(self, styles: Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """Images of points of W, one for every layer (N, L, D), whose layers add this noise.

        Args:
            styles: as `decode_mapped` takes them.
            noise: as for `decode_with_noise`.
        """

    def decode_with_noise(self, latents: Latents | Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """decode_mapped_with_noise of mapped latents."""
        if latents.ndim == 2:
            return self.decode_mapped_with_noise(repeat(self.map(latents), self.num_layers), noise)
        mapped = self.map(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        return self.decode_mapped_with_noise(mapped, noise)


class AbstractTranslator(ABC):
    """Moves images between named domains."""

    @property
    @abstractmethod
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in their order."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Pixels per side of the images that it was trained on."""

    @abstractmethod
    def translate(self, images: Images, source: str, target: str) -> Images:
        """Images of the source domain as they would look in the target domain, (N, C, R, R) in [-1, 1]."""


Interface = TypeVar("Interface")

_WHO_QUALIFIES: dict[type, str] = {
    AbstractDecoder: "every generator and autoencoder qualifies",
    AbstractAutoencoder: "an autoencoder (such as Pioneer) or a decoder wrapped in Recoded or Inverted qualifies",
    AbstractStochasticEncoder: "a variational autoencoder qualifies",
    AbstractViewDecoder: "a GPVAE qualifies",
    AbstractSplitDecoder: "a SplitVAE qualifies",
    AbstractLayeredDecoder: "a decoder with one latent per layer (such as Automodulator) qualifies",
    AbstractMappedDecoder: "a StyleGAN, or one wrapped in Truncated, qualifies",
    AbstractNoisyDecoder: "an Automodulator or a StyleGAN qualifies",
    AbstractMappedNoisyDecoder: "a StyleGAN, or one wrapped in Truncated, qualifies",
    AbstractTranslator: "a Translator or a chain of them qualifies",
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
