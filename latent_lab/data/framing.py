"""How an image of any size becomes square levels of 4, 8, 16, ... pixels: resize, crop, reduce.

The filters are Pillow's, which are antialiased: the filter's support grows with the reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from latent_lab.data.readers import UnreadableImage

Level: TypeAlias = UInt8[np.ndarray, "C _ _"]
"""One image at one resolution, channels first."""
Source: TypeAlias = UInt8[np.ndarray, "H W *C"]
"""An image as Pillow has it: (H, W, 3) in colour or (H, W) in grey."""
Downscale: TypeAlias = Literal["bilinear", "box", "lanczos"]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}


def resolutions_up_to(resolution: int) -> tuple[int, ...]:
    """4, 8, 16, ..., resolution."""
    return tuple(4 * 2**k for k in range(int(np.log2(resolution // 4)) + 1))


@dataclass(frozen=True)
class Framing:
    """The steps in order: `resize_to` or `shorter_side`, `crop`, one reduction for each level.

    Every level is made from the cropped image, not from the next larger level, except with "box".
    """

    crop: str | Sequence[int] = "center"
    """What is cut out: "center", the largest centred square or the one of `shorter_side` pixels; "none", the whole
    image, stretched if it is not square; or a box [left, top, right, bottom] in pixels of the resized image."""
    shorter_side: int | Literal["resolution"] | None = None
    """The shorter side is brought to this many pixels before the crop; "resolution" does so for every level anew."""
    resize_to: tuple[int, int] | None = None
    """Width and height that the whole image is stretched to before the crop."""
    downscale: str = "bilinear"
    """One of "bilinear" (triangle filter, as the published programs), "lanczos", and "box": repeated 2x2 means in float
    of the largest level, each level rounded on its own (the rule of CelebA-HQ's H5 file)."""

    def __post_init__(self) -> None:
        if isinstance(self.crop, str):
            if self.crop not in ("center", "none"):
                raise ValueError(
                    f'crop must be "center", "none" or a box [left, top, right, bottom] in pixels, got {self.crop!r}'
                )
        elif len(self.crop) != 4 or not (0 <= self.crop[0] < self.crop[2] and 0 <= self.crop[1] < self.crop[3]):
            raise ValueError(
                "a crop box must be [left, top, right, bottom] with 0 <= left < right and 0 <= top < bottom, got "
                f"{list(self.crop)}"
            )
        if self.downscale not in get_args(Downscale):
            raise ValueError(f"downscale must be one of {', '.join(get_args(Downscale))}, got {self.downscale!r}")
        if isinstance(self.shorter_side, int) and self.shorter_side < 1:
            raise ValueError(f"shorter_side must be a positive number of pixels or null, got {self.shorter_side}")
        if self.shorter_side is not None and self.resize_to is not None:
            raise ValueError("give shorter_side or resize_to, not both: both set the size before the crop")

    @property
    def settings(self) -> dict[str, Any]:
        """Plain data for a recipe."""
        return {
            "crop": self.crop if isinstance(self.crop, str) else list(self.crop),
            "shorter_side": self.shorter_side,
            "resize_to": None if self.resize_to is None else list(self.resize_to),
            "downscale": self.downscale,
        }

    def levels(self, pixels: Source, resolutions: Sequence[int]) -> dict[int, Level]:
        """The image at each resolution.

        Raises:
            UnreadableImage: if the crop box reaches out of the image.
        """
        image = Image.fromarray(pixels)
        if self.shorter_side == "resolution":
            return {size: self._reduce(self._crop(self._scale(image, size), size), size) for size in resolutions}
        side = self.shorter_side
        framed = self._crop(image if side is None else self._scale(image, side), side)
        if self.downscale == "box":
            return halvings(self._reduce(framed, max(resolutions)), resolutions)
        return {size: self._reduce(framed, size) for size in resolutions}

    def enlarges(self, pixels: Source, resolution: int) -> bool:
        """Whether the image has fewer pixels than this resolution asks for."""
        height, width = pixels.shape[:2]
        if not isinstance(self.crop, str):
            width, height = self.crop[2] - self.crop[0], self.crop[3] - self.crop[1]
        return min(height, width) < resolution

    def _scale(self, image: Image.Image, side: int) -> Image.Image:
        short, long = sorted(image.size)
        # The longer side is cut to an integer, not rounded: torchvision's rule, which the published programs inherit.
        other = int(side * long / short)
        size = (side, other) if image.width <= image.height else (other, side)
        return image.resize(size, _FILTERS[self.downscale])

    def _crop(self, image: Image.Image, side: int | None) -> Image.Image:
        if self.resize_to is not None:
            image = image.resize(self.resize_to, _FILTERS[self.downscale])
        if self.crop == "none":
            return image
        if self.crop == "center":
            side = side or min(image.size)
            # Python's round-half-to-even, as torchvision's centre crop.
            left, top = round((image.width - side) / 2), round((image.height - side) / 2)
            return image.crop((left, top, left + side, top + side))
        left, top, right, bottom = (int(edge) for edge in self.crop)
        if right > image.width or bottom > image.height:
            raise UnreadableImage(
                f"crop box {list(self.crop)} reaches out of the {image.width}x{image.height} pixels of the image"
            )
        return image.crop((left, top, right, bottom))

    def _reduce(self, image: Image.Image, size: int) -> Level:
        reduced = np.asarray(image.resize((size, size), _FILTERS[self.downscale]))
        return reduced[None] if reduced.ndim == 2 else reduced.transpose(2, 0, 1)


def halvings(largest: Level, resolutions: Sequence[int]) -> dict[int, Level]:
    """Levels by repeated 2x2 means in float of the largest one, each rounded on its own to the nearest (even) level."""
    current, levels = largest.astype(np.float32), {}
    while True:
        size = current.shape[-1]
        if size in resolutions:
            levels[size] = np.rint(current).astype(np.uint8)
        if size <= min(resolutions):
            return levels
        current = current.reshape(-1, size // 2, 2, size // 2, 2).mean(axis=(2, 4))


__all__ = ["Downscale", "Framing", "Level", "Source", "halvings", "resolutions_up_to"]
