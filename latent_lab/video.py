"""Videos of images: animated GIF, and MP4 where the package av (FFmpeg's libraries) is installed."""

from __future__ import annotations

import importlib.util
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image

from latent_lab.images import to_bytes
from latent_lab.types import Images


def can_write_mp4() -> bool:
    """Whether the package av is installed: `pip install latent-lab[video]`."""
    return importlib.util.find_spec("av") is not None


def save_gif(path: Path, frames: Images, *, frames_per_second: float = 10.0) -> None:
    """Writes frames (T, C, H, W) in [-1, 1] as a GIF that repeats; the file appears whole or not at all.

    Args:
        path: of the file.
        frames: colours are reduced to 256 in each frame, as the format demands.
        frames_per_second: rounded to hundredths of a second for each frame.
    """
    pictures = [_picture(frame) for frame in _bytes(frames)]
    buffer = io.BytesIO()
    duration = round(100.0 / frames_per_second) * 10
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    _write(path, buffer)


def save_mp4(path: Path, frames: Images, *, frames_per_second: float = 10.0) -> None:
    """Writes frames (T, C, H, W) in [-1, 1] as an H.264 video; the file appears whole or not at all.

    Args:
        path: of the file.
        frames: odd sides are padded by a pixel, since the coding halves colours.
        frames_per_second: rounded to hundredths.

    Raises:
        ValueError: if the package av is not installed.
    """
    if not can_write_mp4():
        raise ValueError("MP4 needs the package av: pip install latent-lab[video]")
    import av

    height, width = frames.shape[-2:]
    pixels = _bytes(F.pad(frames, (0, width % 2, 0, height % 2), value=1.0))
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(round(100 * frames_per_second), 100))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16"}
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_image(_picture(frame).convert("RGB"))))
        container.mux(stream.encode())
    _write(path, buffer)


def _bytes(frames: Images) -> Any:
    return to_bytes(frames).permute(0, 2, 3, 1).cpu().numpy()


def _picture(pixels: Any) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _write(path: Path, buffer: io.BytesIO) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["can_write_mp4", "save_gif", "save_mp4"]
