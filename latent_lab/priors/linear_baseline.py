"""The baseline of the pose-aware prior: latents on straight lines, or a space's own paths, uniform in the frame number.

The published program of the face videos (Hou, Heljakka and Solin, AAAI 2021) puts every fifth frame on the line between
the codes of the first and the last, but advances by six frames' share of the line: it ends 20 per cent of the way
beyond the last code. That is `released_fractions`; comparisons with it flatter what they compare.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.types import Latents, Scores

FRAME_STEP = 5
"""Frames from one decoded frame to the next, in the published runs."""

FrameNumbers: TypeAlias = Int[Tensor, "T"]
"""Numbers of frames in the video, ascending."""


def linear_fractions(first: int, last: int, step: int = FRAME_STEP) -> Scores:
    """How far along the line each decoded frame is: (number - first) / (last - first), 0 for the first, 1 for the last.

    Args:
        first: number of the first frame.
        last: of the last.
        step: frames from one decoded frame to the next.

    Raises:
        ValueError: if there are fewer than two frames or the step is not positive.
    """
    return (_decoded(first, last, step) - first).double() / (last - first)


def released_fractions(first: int, last: int, step: int = FRAME_STEP) -> Scores:
    """What the published program takes instead: k (step + 1) / (last - first + 1) for the k-th decoded frame, from 0.

    Args:
        first: number of the first frame.
        last: of the last.
        step: frames from one decoded frame to the next.

    Raises:
        ValueError: as `linear_fractions`.
    """
    count = len(_decoded(first, last, step))
    return torch.arange(count, dtype=torch.float64) * (step + 1) / (last - first + 1)


def between(
    space: AbstractLatentSpace, first: Float[Tensor, "1 D"], last: Float[Tensor, "1 D"], fractions: Scores
) -> Latents:
    """Latents (T, D) float64 at fractions of the way between two codes, on the space's own path.

    Args:
        space: of the codes.
        first: (1, D) code at 0.
        last: (1, D) code at 1.
        fractions: (T,); beyond 1, the path is continued.
    """
    shape = (len(fractions), first.shape[1])
    return space.interpolate(first.double().expand(shape), last.double().expand(shape), fractions.double())


def linear_path(
    space: AbstractLatentSpace, observed: FrameNumbers, latents: Latents, frames: Int[Tensor, "M"]
) -> Float[Tensor, "M D"]:
    """Latents of frames between the codes of the nearest observed frames before and after, (M, D) float64.

    With two observed frames, this is the baseline of the published comparison, done right. Frames before the first
    observed one have its code, those after the last one that one's.

    Args:
        space: of the codes.
        observed: (n,) numbers of the observed frames.
        latents: (n, D) their codes.
        frames: (M,) numbers of the frames asked for, in any order.

    Raises:
        ValueError: if numbers do not ascend, are not as many as codes, or fewer than two.
    """
    if len(observed) != len(latents):
        raise ValueError(f"{len(observed)} observed frames need as many codes, got {len(latents)}")
    if len(observed) < 2:
        raise ValueError(f"a line needs at least 2 observed frames, got {len(observed)}")
    gaps = observed.diff()
    if not (gaps > 0).all():
        place = int((gaps <= 0).nonzero()[0, 0])
        raise ValueError(
            f"numbers of observed frames must ascend, got {int(observed[place + 1])} after {int(observed[place])}"
        )
    after = torch.searchsorted(observed, frames).clamp(1, len(observed) - 1)
    before = after - 1
    start = observed[before].double()
    fractions = ((frames.double() - start) / (observed[after].double() - start)).clamp(0.0, 1.0)
    codes = latents.double()
    return space.interpolate(codes[before], codes[after], fractions)


def _decoded(first: int, last: int, step: int) -> FrameNumbers:
    if last <= first:
        raise ValueError(f"a line needs a last frame after the first, got first {first} and last {last}")
    if step < 1:
        raise ValueError(f"step must be at least 1, got {step}")
    return torch.arange(first, last + 1, step)
