"""Other ways to look at a decoder that maps its latents first: its second space W as a latent space, and truncation.

`WSpaceView(model)` offers W instead of Z to every analysis; `Truncated(model, psi=0.7)` keeps Z and draws styles
towards the mean of W; `WSpaceView(Truncated(model, psi=0.7))` does both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.latent.interfaces import AbstractLayeredDecoder, AbstractMappedDecoder, require
from latent_lab.latent.spaces import AbstractLatentSpace, Empirical
from latent_lab.latent.styles import repeat
from latent_lab.types import Images, Latents, Styles


class _View(nn.Module):
    """What a view leaves as it is; as a module it moves and switches modes together with the decoder.

    Args:
        decoder: what is looked at.

    Raises:
        TypeError: if it does not map its latents.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder: Any = require(decoder, AbstractMappedDecoder, by=type(self).__name__)  # type: ignore[type-abstract]
        self.training = getattr(decoder, "training", False)

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

    def map(self, latents: Latents) -> Latents:
        """Points of W (N, D) of the decoder's own latents (N, D)."""
        mapped: Latents = self.decoder.map(latents)
        return mapped


class WSpaceView(_View, AbstractLayeredDecoder):
    """A decoder whose latents are points of W.

    The prior is empirical: the points of so many latents of the decoder's own prior, mapped when the space is first
    asked for. A view of a model that is trained on, or moved to another device, goes on with these points; make a new
    one.

    Args:
        decoder: a StyleGAN, perhaps `Truncated`.
        count: number of points that stand for W.
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
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}: so many points stand for W")
        self.count = count
        self.seed = seed
        self.double_activation = double_activation
        self._space: Empirical | None = None

    @property
    def latent_space(self) -> Empirical:
        """Straight lines and Euclidean distances between points of W; samples are the view's example points."""
        if self._space is None:
            latents = self.decoder.latent_space.sample(self.count, torch.Generator().manual_seed(self.seed))
            with torch.no_grad():
                self._space = Empirical(self.map(latents.to(self.decoder.mapped_average)))
        return self._space

    def decode(self, latents: Latents) -> Images:
        """Images of points of W (N, D)."""
        return self.decode_layers(repeat(latents, self.num_layers))

    def decode_layers(self, styles: Styles) -> Images:
        """Images of points of W, one for every layer (N, L, D)."""
        images: Images = self.decoder.decode_mapped(F.leaky_relu(styles, 0.2) if self.double_activation else styles)
        return images


class Truncated(_View, AbstractMappedDecoder):
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

    def truncate(self, styles: Styles) -> Styles:
        """Points of W (N, L, D), of which those of the first layers are drawn towards the mean."""
        layers = torch.arange(styles.shape[1], device=styles.device)[:, None]
        drawn = torch.lerp(self.mapped_average.to(styles).expand_as(styles), styles, self.psi)
        return drawn if self.cutoff is None else torch.where(layers < self.cutoff, drawn, styles)
