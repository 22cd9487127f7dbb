"""Videos of images: animated GIF and WebP, and MP4 where the package av (FFmpeg's libraries) is installed."""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from latent_lab.images import to_bytes
from latent_lab.types import Film, Images

WITHOUT_MP4 = "the video is GIF and WebP alone: MP4 needs the package av, pip install 'latent-lab[video]'"
"""Note of a protocol whose MP4 could not be written."""


def can_write_mp4() -> bool:
    """Whether the package av is installed: `pip install '.[video]'`."""
    return importlib.util.find_spec("av") is not None


LARGEST_SIDE = 1024
"""Pixels that a frame has per side at most: more fits no screen, and a hundred of them no memory."""


def film_frame(sheet: Images) -> Film:
    """A picture (1, C, H, W) in [-1, 1] as a frame of a video: bytes, at most `LARGEST_SIDE` pixels per side."""
    share = LARGEST_SIDE / max(sheet.shape[-2:])
    if share < 1.0:
        size = [max(1, int(share * side)) for side in sheet.shape[-2:]]
        return to_bytes(F.interpolate(sheet.float(), size, mode="bilinear", antialias=True)).cpu()
    return to_bytes(sheet).cpu()


def video_files(stem: str, frames: Film, *, frames_per_second: float) -> dict[str, Callable[[Path], None]]:
    """The same video in every format that can be written here, as files of a `Result`.

    Args:
        stem: of the files' names.
        frames: (T, C, H, W), each by `film_frame`.
        frames_per_second: how fast they follow each other.

    Returns:
        File name -> writer of that path: GIF for whatever shows pictures, WebP for browsers in all colours, MP4 if the
        package av is installed.
    """
    writers = {".gif": save_gif, ".webp": save_webp} | ({".mp4": save_mp4} if can_write_mp4() else {})
    return {
        stem + ending: functools.partial(writer, frames=frames, frames_per_second=frames_per_second)
        for ending, writer in writers.items()
    }


def there_and_back(count: int) -> list[float]:
    """Places in [0, 1] of the frames of a video that goes from 0 to 1 and back, and repeats without a jump.

    Args:
        count: of frames, at least 2; the way back of an odd number takes one frame more.
    """
    there = count // 2
    back = count - there
    return [frame / there for frame in range(there)] + [1.0 - frame / back for frame in range(back)]


def check_video(analysis: str, frames: int, frames_per_second: float) -> None:
    """Refuses what makes no video, before anything is computed.

    Raises:
        ValueError: if there is one frame or fewer than none, or the speed is none that GIF can keep.
    """
    if frames < 0 or frames == 1:
        raise ValueError(f"{analysis} needs video_frames of at least 2, or 0 for no video, got {frames}")
    if not 1.0 <= frames_per_second <= 50.0:
        raise ValueError(f"{analysis} needs frames_per_second from 1 to 50, got {frames_per_second:g}")


def save_gif(path: Path, frames: Film, *, frames_per_second: float = 10.0) -> None:
    """Writes frames (T, C, H, W) as a GIF that repeats; the file appears whole or not at all.

    Args:
        path: of the file.
        frames: colours are reduced to 256 in each frame, as the format demands.
        frames_per_second: rounded to hundredths of a second for each frame.
    """
    pictures = [_picture(frame) for frame in frames]
    buffer = io.BytesIO()
    duration = round(100.0 / frames_per_second) * 10
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    _write(path, buffer)


def save_webp(path: Path, frames: Film, *, frames_per_second: float = 10.0) -> None:
    """Writes frames (T, C, H, W) as a WebP that repeats; the file appears whole or not at all.

    Args:
        path: of the file.
        frames: nearly as they are, in all colours.
        frames_per_second: rounded to milliseconds for each frame.
    """
    pictures = [_picture(frame).convert("RGB") for frame in frames]
    buffer = io.BytesIO()
    duration = round(1000.0 / frames_per_second)
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=90, method=4
    )
    _write(path, buffer)


def save_mp4(path: Path, frames: Film, *, frames_per_second: float = 10.0) -> None:
    """Writes frames (T, C, H, W) as an H.264 video; the file appears whole or not at all.

    Args:
        path: of the file.
        frames: odd sides are padded by a pixel, since the coding halves colours.
        frames_per_second: rounded to hundredths.

    Raises:
        ValueError: if the package av is not installed.
    """
    if not can_write_mp4():
        raise ValueError("MP4 needs the package av: pip install 'latent-lab[video]'")
    import av

    height, width = frames.shape[-2:]
    frames = F.pad(frames, (0, width % 2, 0, height % 2), value=255)
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(round(100 * frames_per_second), 100))
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(_picture(frame).convert("RGB"))))
        container.mux(stream.encode())
    _write(path, buffer)


def _picture(frame: UInt8[Tensor, "C H W"]) -> Image.Image:
    pixels: Any = frame.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _write(path: Path, buffer: io.BytesIO) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = [
    "WITHOUT_MP4",
    "can_write_mp4",
    "check_video",
    "film_frame",
    "save_gif",
    "save_mp4",
    "save_webp",
    "there_and_back",
    "video_files",
]
