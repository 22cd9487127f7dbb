"""The only place where image ranges and sizes are converted.

Everywhere else images are float32, (N, C, H, W), in [-1, 1], with 3 channels of colour or 1 of grey. Bytes are
0 ... 255; "unit" means [0, 1].
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, PngImagePlugin
from torch import Tensor

from latent_lab.types import ByteImages, Images, OtherImages

_PLAIN_LIMIT = 16.0
"""Magnitude beyond which a value is none of an image in [-1, 1], however badly it was drawn."""
_PLAIN_SHARE = 1e-3
"""Share of values beyond it from which on all of them are taken to be of another range."""


def check_range(images: Tensor, what: str = "images") -> None:
    """Refuses images that cannot be meant to lie in [-1, 1].

    These are: bytes, values that are not finite, and sets with more than 0.1 % of their values beyond +-16, as bytes
    stored as floats have unless they are black. What lies closer is clamped where it is measured and says nothing:
    generators without a bounded output leave [-1, 1], untrained ones by far (+-3), and single wild values do not make
    another range. Images in [0, 1] cannot be told from bright ones in [-1, 1] and pass. It costs one pass over the
    values.

    Args:
        images: of any shape, also empty.
        what: what they are, for the message: "reconstructions".

    Raises:
        TypeError: if they are not of a floating-point type.
        ValueError: if values are not finite or plainly of another range.
    """
    if not images.is_floating_point():
        raise TypeError(
            f"{what} must be float images in [-1, 1], got {images.dtype}: latent_lab.images.from_bytes converts bytes"
        )
    if images.numel() == 0:
        return
    low, high = (bound.item() for bound in images.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{what} contain NaN or infinite values: the model has diverged, or what it was given is broken"
        )
    if max(-low, high) <= _PLAIN_LIMIT:
        return
    share = (images.detach().abs() > _PLAIN_LIMIT).double().mean().item()
    if share > _PLAIN_SHARE:
        raise ValueError(
            f"{what} must lie in [-1, 1], got values from {low:.4g} to {high:.4g}, {share:.0%} of them beyond "
            f"+-{_PLAIN_LIMIT:.0f}: divide bytes by 127.5 and subtract 1, or the model has diverged"
        )


def from_bytes(images: ByteImages) -> Images:
    """Bytes 0 ... 255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_bytes(images: Images) -> ByteImages:
    """[-1, 1] to bytes: clamped, then rounded to the nearest level (not truncated, never wrapped)."""
    return images.float().clamp(-1.0, 1.0).add(1.0).mul_(127.5).round_().to(torch.uint8)


def to_unit(images: Images) -> Images:
    """[-1, 1] to [0, 1], not clamped."""
    return (images + 1.0) / 2.0


def from_unit(images: Images) -> Images:
    """[0, 1] to [-1, 1], not clamped."""
    return images * 2.0 - 1.0


def quantise(images: Images) -> Images:
    """What a viewer of the saved file would see: clamped and rounded to 8 bits, still in [-1, 1]."""
    return from_bytes(to_bytes(images))


def halve(images: Images) -> OtherImages:
    """Half the resolution by 2x2 means, in float."""
    return F.avg_pool2d(images, 2)


def double(images: Images) -> OtherImages:
    """Twice the resolution by pixel repetition."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def resize(images: Images, resolution: int, mode: Literal["bicubic", "bilinear"] = "bicubic") -> OtherImages:
    """Square images of another size; Pillow's antialiased filter of this name in float, clamped to [-1, 1]."""
    if images.shape[-2:] == (resolution, resolution):
        return images
    resized = F.interpolate(images, (resolution, resolution), mode=mode, align_corners=False, antialias=True)
    return resized.clamp(-1.0, 1.0)


def crop_face(images: Images) -> OtherImages:
    """The middle of aligned faces, half as high and wide: with c = H/8, rows 3c ... 7c, columns 2c ... 6c.

    StyleGAN's path length and the Automodulator's LPIPS of reconstructions (from 64 pixels on) compare this part of
    CelebA-HQ and FFHQ images alone (Karras et al. 2019; Heljakka et al. 2020).

    Raises:
        ValueError: if the images are not square, or their height is not a multiple of 8.
    """
    height, width = images.shape[-2:]
    if height % 8 != 0:
        raise ValueError(f"the face crop needs a height that is a multiple of 8 pixels, got {height}")
    if height != width:
        raise ValueError(f"the face crop needs square images, got {height}x{width} pixels")
    c = height // 8
    return images[..., 3 * c : 7 * c, 2 * c : 6 * c]


def fade_images(images: Images, alpha: float) -> Images:
    """Real images of a fading phase: alpha x + (1 - alpha) double(halve(x)), in float, quantised nowhere.

    Progressive growing shows the networks images whose finest details fade in together with the newest layers (Karras
    et al. 2018, section 2; Pioneer follows).

    Args:
        images: (N, C, R, R) in [-1, 1].
        alpha: weight of the finest details, in [0, 1].
    """
    if alpha >= 1.0 or images.shape[-1] <= 4:
        return images
    return torch.lerp(double(halve(images)), images, alpha)


def fade_images_as_published(images: Images, alpha: float) -> Images:
    """The fade of Pioneer's image-folder loader, which rounds to 8 bits twice.

    The image becomes 8-bit, is reduced by Pillow's bilinear filter, repeated, mixed in [0, 1] and cut to 8 bits again
    by truncation. `fade_images` is the right form; this one reproduces the published program.
    """
    resolution = images.shape[-1]
    if alpha >= 1.0 or resolution <= 4:
        return images
    fine = to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
    size = (resolution // 2, resolution // 2)
    coarse = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in fine])
    coarse = coarse.repeat(2, axis=1).repeat(2, axis=2)
    mixed = (1.0 - alpha) * (coarse.astype(np.float32) / 255) + alpha * (fine.astype(np.float32) / 255)
    mixed_bytes = torch.from_numpy((mixed * 255).astype(np.uint8)).permute(0, 3, 1, 2)
    return from_bytes(mixed_bytes).to(images.device)


def make_grid(images: Images, columns: int, *, padding: int = 2) -> OtherImages:
    """One image (1, C, H', W') of all images row by row, on white, each clamped to [-1, 1]."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    columns = min(columns, count)
    sheet = images.new_ones(1, channels, rows * (height + padding) + padding, columns * (width + padding) + padding)
    for index, image in enumerate(images.float().clamp(-1.0, 1.0)):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        sheet[0, :, top : top + height, left : left + width] = image
    return sheet


def cut_grid(sheet: Images, *, padding: int = 2, smallest: int = 64) -> tuple[OtherImages, int] | None:
    """The images (N, C, R, R) of a sheet (1, C, H', W') that `make_grid` made, enlarged as analyses enlarge it.

    Args:
        sheet: in [-1, 1]; each image was enlarged to at least `smallest` pixels per side.
        padding: white pixels between images, before they were enlarged.
        smallest: pixels per side; R is 4 * 2^k.

    Returns:
        Images row by row, white ones where the last row was not full, and how many stand beside each other; none if
        the picture is no such sheet.
    """
    channels, height, width = sheet.shape[1:]
    for resolution in (2**power for power in range(2, 13)):
        factor = max(1, smallest // resolution)
        pitch = resolution + padding
        if any(
            side % factor or (side // factor - padding) % pitch or side // factor < pitch for side in (height, width)
        ):
            continue
        small = sheet[:, :, ::factor, ::factor]
        rows, columns = (side // factor // pitch for side in (height, width))
        lines = torch.arange(max(rows, columns) + 1)[:, None] * pitch + torch.arange(padding)
        if (small[:, :, lines[: rows + 1].flatten()] < 1).any() or (
            small[..., lines[: columns + 1].flatten()] < 1
        ).any():
            continue
        cells = small[:, :, padding:, padding:].view(channels, rows, pitch, columns, pitch)
        return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)[..., :resolution, :resolution], columns
    return None


def enlarge(images: Images, factor: int) -> OtherImages:
    """Each pixel as a factor x factor block, so that small images can be looked at."""
    return F.interpolate(images, scale_factor=factor, mode="nearest") if factor > 1 else images


def to_picture(images: Images, columns: int = 8, *, smallest: int = 64) -> Image.Image:
    """All images row by row on one picture, to be shown in a notebook or saved.

    Args:
        images: (N, C, H, W), nominally in [-1, 1]; what lies outside is clamped.
        columns: images beside each other.
        smallest: pixels to which smaller images are enlarged, each of their pixels as a block.

    Returns:
        8-bit RGB, or L where images have one channel.
    """
    sheet = enlarge(make_grid(images.detach().cpu(), columns), max(1, smallest // images.shape[-1]))
    return _picture(sheet)


def _picture(image: Images) -> Image.Image:
    """One image (1, C, H, W) as 8-bit pixels."""
    pixels = to_bytes(image)[0].permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def load_png(path: Path) -> Images:
    """One image (1, C, H, W) in [-1, 1] that `save_png` wrote.

    Raises:
        ValueError: if the file is no picture that can be read.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("L" if picture.mode == "L" else "RGB"))
    except OSError as error:
        raise ValueError(f"{path} is damaged and cannot be read as a picture: delete it, or write it anew") from error
    return from_bytes(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None])


def save_png(path: Path, image: Images, *, description: str | None = None) -> None:
    """Writes one image (1, C, H, W) as an 8-bit PNG; the file appears whole or not at all.

    Args:
        path: ends in .png; its folder must exist.
        image: in [-1, 1].
        description: text stored in the file (protocol, seed, checkpoint).
    """
    info = PngImagePlugin.PngInfo()
    if description:
        info.add_text("Description", description)
    buffer = io.BytesIO()
    _picture(image).save(buffer, format="PNG", pnginfo=info)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
