"""Other ways to look at a decoder: the second space W as a latent space, truncation, and one latent for every layer.

`WSpaceView(model)` offers W instead of Z to every analysis; `Truncated(model, psi=0.7)` keeps Z and draws styles
towards the mean of W; `WSpaceView(Truncated(model, psi=0.7))` does both; `LayersView(WSpaceView(model))` is W+.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.latent.interfaces import (
    AbstractLayeredDecoder,
    AbstractMappedDecoder,
    AbstractMappedNoisyDecoder,
    AbstractNoisyDecoder,
    require,
)
from latent_lab.latent.spaces import AbstractLatentSpace, PerLayer, Pushforward
from latent_lab.latent.styles import repeat
from latent_lab.types import Images, Latents, Styles

Noise = Callable[[torch.Size], Tensor]


class _View(nn.Module, AbstractNoisyDecoder):
    """What a view leaves as it is; as a module it moves and switches modes together with the decoder.

    It takes noise wherever the decoder does; of any other it says that there is no layer noise.

    Args:
        decoder: what is looked at.
        interface: what it must offer.

    Raises:
        TypeError: if it does not.
    """

    def __init__(self, decoder: Any, interface: type) -> None:
        super().__init__()
        self.decoder: Any = require(decoder, interface, by=type(self).__name__)
        self.training = getattr(decoder, "training", False)
        self.layer_noise = bool(getattr(decoder, "layer_noise", False))

    @property
    def resolution(self) -> int:
        """The decoder's."""
        resolution: int = self.decoder.resolution
        return resolution

    @property
    def now(self) -> Any:
        """Where the decoder's growth stands; None if it does not grow."""
        return getattr(self.decoder, "now", None)

    @property
    def num_layers(self) -> int:
        """The decoder's."""
        layers: int = self.decoder.num_layers
        return layers

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """The decoder's."""
        resolutions: tuple[int, ...] = self.decoder.layer_resolutions
        return resolutions


class _MappedView(_View):
    """A view of a decoder that maps its latents."""

    def __init__(self, decoder: Any) -> None:
        super().__init__(decoder, AbstractMappedDecoder)

    def map(self, latents: Latents) -> Latents:
        """Points of W (N, D) of the decoder's own latents (N, D)."""
        mapped: Latents = self.decoder.map(latents)
        return mapped

    def _decode_mapped(self, styles: Styles, noise: Noise | None) -> Images:
        """The decoder's images with this noise, which has no effect where there is no layer noise."""
        if isinstance(self.decoder, AbstractMappedNoisyDecoder):
            return self.decoder.decode_mapped_with_noise(styles, noise)
        images: Images = self.decoder.decode_mapped(styles)
        return images


class WSpaceView(_MappedView):
    """A decoder whose latents are points of W.

    The prior is that of mapped latents: a sample of W is `map` of the sample of Z that has the same random numbers.

    Args:
        decoder: a StyleGAN, perhaps `Truncated`.
        count: number of points from which mean and covariance of W are estimated, where a prior's energy or the start
            of an inversion asks for them; a view of a model that is trained on keeps its first estimate.
        seed: of their latents.
        double_activation: points pass through one more leaky ReLU (slope 0.2) before they are decoded. In the program
            of Tonelli's thesis, points of W were read behind the mapping's last activation and fed in before it, so
            that negative coordinates were five times too small and decode(map(z)) was not the image of z. (It also
            truncates: `WSpaceView(Truncated(model, 0.7, 8), double_activation=True)`.)

    Raises:
        TypeError: if the decoder does not map its latents.
        ValueError: if there is to be no point.
    """

    def __init__(self, decoder: Any, *, count: int = 10_000, seed: int = 0, double_activation: bool = False) -> None:
        super().__init__(decoder)
        self.double_activation = double_activation
        source, dim = self.decoder.latent_space, len(self.decoder.mapped_average)
        self._space = Pushforward(source, self._mapped, dim, count=count, seed=seed)

    @property
    def latent_space(self) -> Pushforward:
        """Straight lines and Euclidean distances between points of W; samples are mapped ones of Z."""
        return self._space

    def decode(self, latents: Latents) -> Images:
        """Images of points of W (N, D)."""
        return self.decode_layers(repeat(latents, self.num_layers))

    def decode_layers(self, styles: Styles) -> Images:
        """Images of points of W, one for every layer (N, L, D)."""
        images: Images = self.decoder.decode_mapped(self._activated(styles))
        return images

    def decode_with_noise(self, latents: Latents | Styles, noise: Noise | None) -> Images:
        """Images of points of W, or of one for every layer, with this noise in the layers."""
        styles = repeat(latents, self.num_layers) if latents.ndim == 2 else latents
        return self._decode_mapped(self._activated(styles), noise)

    def _mapped(self, latents: Latents) -> Latents:
        return self.map(latents.to(self.decoder.mapped_average)).float()

    def _activated(self, styles: Styles) -> Styles:
        return F.leaky_relu(styles, 0.2) if self.double_activation else styles


class Truncated(_MappedView, AbstractMappedNoisyDecoder):
    """A decoder whose styles are drawn towards the mean of W: mean + psi (w - mean) (Karras et al. 2019, appendix B).

    Args:
        decoder: a StyleGAN.
        psi: share of the deviation that is kept: 1 all, 0 none (every image is the average one), below 0 the opposite.
            Published: 0.7.
        cutoff: number of layers, from the coarsest, that are truncated; null: all. Published: 8.

    Raises:
        TypeError: if the decoder does not map its latents.
        ValueError: if the cutoff is negative.
    """

    def __init__(self, decoder: Any, psi: float = 0.7, cutoff: int | None = 8) -> None:
        super().__init__(decoder)
        if cutoff is not None and cutoff < 0:
            raise ValueError(f"cutoff must be a number of layers from 0 on, or null (all), got {cutoff}")
        self.psi = psi
        self.cutoff = cutoff

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The decoder's."""
        space: AbstractLatentSpace = self.decoder.latent_space
        return space

    @property
    def mapped_average(self) -> Float[Tensor, "D"]:
        """The decoder's."""
        average: Tensor = self.decoder.mapped_average
        return average

    def decode(self, latents: Latents) -> Images:
        """Truncated images of latents (N, D)."""
        return self.decode_mapped(repeat(self.map(latents), self.num_layers))

    def decode_layers(self, styles: Styles) -> Images:
        """Truncated images of one latent for every layer (N, L, D)."""
        return self.decode_mapped(self.map(styles.flatten(0, 1)).unflatten(0, styles.shape[:2]))

    def decode_mapped(self, styles: Styles) -> Images:
        """Truncated images of points of W, one for every layer (N, L, D)."""
        images: Images = self.decoder.decode_mapped(self.truncate(styles))
        return images

    def decode_mapped_with_noise(self, styles: Styles, noise: Noise | None) -> Images:
        """The same with this noise in the layers."""
        return self._decode_mapped(self.truncate(styles), noise)

    def truncate(self, styles: Styles) -> Styles:
        """Points of W (N, L, D), of which those of the first layers are drawn towards the mean."""
        layers = torch.arange(styles.shape[1], device=styles.device)[:, None]
        drawn = torch.lerp(self.mapped_average.to(styles).expand_as(styles), styles, self.psi)
        return drawn if self.cutoff is None else torch.where(layers < self.cutoff, drawn, styles)


class LayersView(_View):
    """A decoder whose latents are one of the given decoder's for every layer, L * D numbers: W+ of a `WSpaceView`.

    Images that no single point of W has can be found there (Abdal, Qin, Wonka: "Image2StyleGAN", 2019).

    Args:
        decoder: one with layers.

    Raises:
        TypeError: if it has none.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__(decoder, AbstractLayeredDecoder)

    @property
    def latent_space(self) -> PerLayer:
        """The decoder's, once for every layer."""
        return PerLayer(self.decoder.latent_space, self.num_layers)

    def decode(self, latents: Latents) -> Images:
        """Images of rows (N, L * D)."""
        images: Images = self.decoder.decode_layers(self.unflatten(latents))
        return images

    def decode_layers(self, styles: Styles) -> Images:
        """Images of one row for every layer (N, L, L * D), of which each layer takes its own part."""
        images: Images = self.decoder.decode_layers(self._own_parts(styles))
        return images

    def decode_with_noise(self, latents: Latents | Styles, noise: Noise | None) -> Images:
        """Images of rows, or of one for every layer, with this noise in the layers."""
        styles = self.unflatten(latents) if latents.ndim == 2 else self._own_parts(latents)
        if isinstance(self.decoder, AbstractNoisyDecoder):
            return self.decoder.decode_with_noise(styles, noise)
        images: Images = self.decoder.decode_layers(styles)
        return images

    def unflatten(self, latents: Latents) -> Float[Tensor, "N L E"]:
        """Rows (N, L * D) as styles (N, L, D)."""
        return latents.unflatten(1, (self.num_layers, -1))

    def _own_parts(self, styles: Styles) -> Float[Tensor, "N L E"]:
        parts = styles.unflatten(2, (self.num_layers, -1))  # (N, L, L, D)
        return parts.diagonal(dim1=1, dim2=2).transpose(1, 2)
