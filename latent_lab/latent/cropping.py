"""A decoder whose images are cropped and reduced, so that they become comparable with those of smaller models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab.images import resize
from latent_lab.latent.interfaces import (
    AbstractDecoder,
    AbstractLayeredDecoder,
    AbstractMappedDecoder,
    AbstractMappedNoisyDecoder,
    AbstractNoisyDecoder,
    require,
)
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.types import Images, Latents, OtherImages, Styles

FACE_BOX = (60, 20, 940, 900)
"""Left, top, right, bottom of the face in StyleGAN's and CelebA-HQ's images of 1024 pixels, as in Tonelli's thesis."""


class Cropped(nn.Module, AbstractDecoder):
    """A decoder whose images are a part of the given one's, at another resolution.

    The reduction is antialiased and bilinear, as `ImageFolder` with the same box reads image files; `cropped` makes one
    with layers, and with a mapping, of a decoder that has them. Views come first: `cropped(WSpaceView(model))` has
    latents of W.

    Args:
        decoder: any decoder; at least as large as the box when it decodes.
        box: left, top, right, bottom in its pixels; what is no square is stretched.
        resolution: pixels per side of the result.

    Raises:
        TypeError: if the model does not decode.
        ValueError: if this is no box, or it is empty, or no pixel is left.
    """

    def __init__(self, decoder: Any, box: Sequence[int] = FACE_BOX, resolution: int = 64) -> None:
        super().__init__()
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise ValueError(
                "box must be left, top, right, bottom with 0 <= left < right and 0 <= top < bottom, got "
                f"{', '.join(map(str, box))}"
            )
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1 pixel, got {resolution}")
        self.decoder: Any = require(decoder, AbstractDecoder, by="cropping")  # type: ignore[type-abstract]
        self.training = getattr(decoder, "training", False)
        self.box = tuple(box)
        self._resolution = resolution

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The decoder's."""
        space: AbstractLatentSpace = self.decoder.latent_space
        return space

    @property
    def resolution(self) -> int:
        """Of the cropped images."""
        return self._resolution

    def decode(self, latents: Latents) -> Images:
        """Cropped images of latents (N, D), clamped."""
        return self.crop(self.decoder.decode(latents))

    def crop(self, images: Images) -> OtherImages:
        """The part of images (N, C, H, W) in the box, at the resolution of the result, clamped.

        Raises:
            ValueError: if the box reaches out of the images.
        """
        left, top, right, bottom = self.box
        height, width = images.shape[2:]
        if right > width or bottom > height:
            raise ValueError(
                f"the box {left}, {top}, {right}, {bottom} reaches out of images of {width}x{height} pixels: give one "
                "within them"
            )
        return resize(images[:, :, top:bottom, left:right].float(), self.resolution, "bilinear").clamp(-1.0, 1.0)


class CroppedLayers(Cropped, AbstractNoisyDecoder):
    """The same of a decoder that takes one latent for every layer, and noise wherever the decoder does."""

    def __init__(self, decoder: Any, box: Sequence[int] = FACE_BOX, resolution: int = 64) -> None:
        super().__init__(decoder, box, resolution)
        self.layer_noise = bool(getattr(decoder, "layer_noise", False))

    @property
    def num_layers(self) -> int:
        """The decoder's."""
        layers: int = self.decoder.num_layers
        return layers

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """The decoder's; layers of more pixels than the result count as layers of as many, where they are seen."""
        return tuple(min(pixels, self.resolution) for pixels in self.decoder.layer_resolutions)

    def decode_layers(self, styles: Styles) -> Images:
        """Cropped images of one latent for every layer (N, L, D), clamped."""
        return self.crop(self.decoder.decode_layers(styles))

    def decode_with_noise(self, latents: Latents | Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """Cropped images with this noise in the layers, clamped; it is as large as the decoder's layers."""
        if isinstance(self.decoder, AbstractNoisyDecoder):
            return self.crop(self.decoder.decode_with_noise(latents, noise))
        return self.decode(latents) if latents.ndim == 2 else self.decode_layers(latents)


class CroppedMapped(CroppedLayers, AbstractMappedNoisyDecoder):
    """The same of a decoder that maps its latents first."""

    @property
    def mapped_average(self) -> Float[Tensor, "D"]:
        """The decoder's."""
        average: Tensor = self.decoder.mapped_average
        return average

    def map(self, latents: Latents) -> Latents:
        """Points of W (N, D) of latents (N, D)."""
        mapped: Latents = self.decoder.map(latents)
        return mapped

    def decode_mapped(self, styles: Styles) -> Images:
        """Cropped images of one point of W for every layer (N, L, D), clamped."""
        return self.crop(self.decoder.decode_mapped(styles))

    def decode_mapped_with_noise(self, styles: Styles, noise: Callable[[torch.Size], Tensor] | None) -> Images:
        """The same with this noise in the layers."""
        if isinstance(self.decoder, AbstractMappedNoisyDecoder):
            return self.crop(self.decoder.decode_mapped_with_noise(styles, noise))
        return self.decode_mapped(styles)


def cropped(decoder: Any, box: Sequence[int] = FACE_BOX, resolution: int = 64) -> Cropped:
    """`Cropped` or, of a decoder with layers, `CroppedLayers` or, if it maps its latents, too, `CroppedMapped`."""
    if isinstance(decoder, AbstractMappedDecoder):
        return CroppedMapped(decoder, box, resolution)
    kind = CroppedLayers if isinstance(decoder, AbstractLayeredDecoder) else Cropped
    return kind(decoder, box, resolution)
