"""Any image file as 8-bit RGB pixels; what cannot be read is named, with the reason.

Every mode becomes RGB: grey and 1-bit are repeated, palettes are looked up, CMYK is converted, 16-bit grey is scaled
to 8 bits, transparency is composited on white. The EXIF orientation is applied. Of an animation the first frame is
taken.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels: TypeAlias = UInt8[np.ndarray, "H W 3"]
"""RGB, 0 ... 255, as Pillow has them."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_MODES_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_LARGEST_16_BIT = 65535


class UnreadableImage(ValueError):
    """A file has no usable image; the message is the reason alone, without the file's name."""


class TooManyPixels(UnreadableImage):
    """An image claims so many pixels that opening it may fill the memory."""


@dataclass(frozen=True)
class OddFile:
    """A file that was skipped."""

    path: str
    """Relative to the data set's folder."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path} ({self.reason})"


def list_images(root: Path) -> list[str]:
    """Names of all image files below a folder, relative to it with forward slashes, in sorted order.

    Suffixes count in any case; hidden files (also the "._name" twins that macOS leaves) do not count. Linked folders
    are followed, each once.

    Raises:
        ValueError: if the folder is missing, is a file, or holds no image file.
    """
    if not root.exists():
        raise ValueError(f"image folder {str(root)!r} does not exist: name a folder with images (--data.root DIR)")
    if not root.is_dir():
        raise ValueError(f"image folder {str(root)!r} is a file, not a folder: give the folder that contains it")
    names = sorted(_walk(root))
    if not names:
        others = sum(1 for path in root.rglob("*") if path.is_file())
        raise ValueError(
            f"image folder {str(root)!r} holds no image file ({others} other files found): put JPEG, PNG, WebP, BMP, "
            "TIFF, GIF or PPM files into it or below it"
        )
    return names


def _walk(root: Path) -> Iterator[str]:
    entered = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield (Path(folder) / name).relative_to(root).as_posix()


def read_image(file: Path | io.BytesIO) -> tuple[Pixels, str]:
    """Pixels of an image file (or of its content), and the name of its codec ("JPEG", "PNG", ...).

    Raises:
        UnreadableImage: if it is no image, is cut off, or has pixels without a known range.
    """
    if isinstance(file, Path) and file.is_file() and file.stat().st_size == 0:
        raise UnreadableImage("the file is empty")
    with _reasons(), Image.open(file) as image:
        codec = image.format or "unknown"
        return _to_rgb(ImageOps.exif_transpose(image)), codec


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of an image file, of which only the header is read.

    Raises:
        UnreadableImage: if it is no image; `TooManyPixels` if Pillow takes it for a decompression bomb.
    """
    with _reasons(), Image.open(file) as header:
        return header.size


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """What is wrong with a file, as `UnreadableImage`."""
    try:
        yield
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("the content is not an image") from None
    except Image.DecompressionBombError as error:
        raise TooManyPixels(str(error)) from error
    except Exception as error:  # Pillow's decoders raise whatever their parsers trip over: OSError, SyntaxError, ...
        raise UnreadableImage(str(error) or type(error).__name__) from error


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise UnreadableImage("pixels are floating-point numbers without a known range")
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _from_16_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _LARGEST_16_BIT:
        raise UnreadableImage(f"integer pixels reach from {values.min()} to {values.max()}, beyond 16 bits")
    # 65535 / 255 = 257: white stays white, which dropping the low byte would do too, but this rounds to nearest.
    grey = np.rint(values / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


__all__ = [
    "IMAGE_SUFFIXES",
    "OddFile",
    "Pixels",
    "TooManyPixels",
    "UnreadableImage",
    "image_size",
    "list_images",
    "read_image",
]
