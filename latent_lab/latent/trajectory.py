"""Camera poses of an image sequence, and the latents of those frames whose images are known.

One convention holds in the whole package. A pose is camera-to-world: R (3, 3) and t (3,) take a point of the camera's
frame to the world, p_world = R p_camera + t, so that the columns of R are the camera's axes and t is its place. Frames
are right-handed (det R = 1), and the camera's axes are OpenGL's and ARKit's: x to the right of the image, y up, z
towards the viewer, so that the camera looks along -z. The world is that of whoever measured the poses; where the
camera is known relative to an object, the object's own frame is the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_lab.latent.rotations import ROTATION_TOLERANCE, orthogonality_errors, project_rotations
from latent_lab.types import Latents

SAME_POSE = 1e-9
"""Poses whose entries differ by less are the same."""


@dataclass(frozen=True, eq=False)
class LatentTrajectory:
    """Where the camera was in each of T frames of one scene or object; see the module for the convention.

    Poses may repeat (a camera that stands still) and frame numbers may have gaps; both are reported, not repaired.
    Rotations are brought onto SO(3), which takes away what printing and float32 have rounded. All but the latents are
    kept on the CPU.

    Raises:
        ValueError: if there are fewer than two frames, a 3 x 3 is no rotation, a number is not finite, frame numbers do
            not ascend, or shapes do not fit together.
    """

    rotations: Tensor
    """Camera-to-world, (T, 3, 3) float64."""
    translations: Tensor
    """The camera's places in the unit of the source, (T, 3) float64."""
    frames: Tensor
    """Frame numbers, ascending, (T,) int64."""
    times: Tensor | None = None
    """Seconds, (T,) float64, if known."""
    names: tuple[str, ...] = ()
    """Of the frames' images as the source of the poses writes them, (T,), if it does."""
    latents: Tensor | None = None
    """Of the frames' images, (T, D), NaN where there is no image; see `with_latents`."""

    def __post_init__(self) -> None:
        rotations, translations = _exact(self.rotations), _exact(self.translations)
        count = len(self.frames)
        if rotations.shape != (count, 3, 3) or translations.shape != (count, 3):
            raise ValueError(
                f"{count} frames need rotations of shape ({count}, 3, 3) and translations of shape ({count}, 3), got "
                f"{tuple(rotations.shape)} and {tuple(translations.shape)}"
            )
        if count < 2:
            raise ValueError(f"a trajectory needs at least two frames with a pose, got {count}: give a longer sequence")
        for what, rows in (("times", self.times), ("names", self.names or None), ("latents", self.latents)):
            if rows is not None and len(rows) != count:
                raise ValueError(f"{count} frames need as many {what}, got {len(rows)}")
        frames = self.frames.to("cpu", torch.int64)
        if (unordered := (frames.diff() <= 0).nonzero()).numel():
            place = int(unordered[0])
            raise ValueError(
                f"frame numbers must ascend, got {int(frames[place + 1])} after {int(frames[place])}: sort the frames "
                "and leave each number once"
            )
        if not (rotations.isfinite().all() and translations.isfinite().all()):
            bad = ~(rotations.flatten(1).isfinite().all(1) & translations.isfinite().all(1))
            raise ValueError(f"the pose of frame {int(frames[bad][0])} is not finite: leave the frame out")
        values: dict[str, Any] = {
            "rotations": nearest_rotations(rotations, [f"frame {number}" for number in frames.tolist()]),
            "translations": translations,
            "frames": frames,
            "times": None if self.times is None else _exact(self.times),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_matrices(
        cls, matrices: Float[Tensor, "T 4 4"], frames: Sequence[int] | Tensor | None = None, **more: Any
    ) -> LatentTrajectory:
        """The trajectory of homogeneous camera-to-world matrices, such as `ImageBatch.pose`.

        Args:
            matrices: (T, 4, 4).
            frames: their numbers; none: 0 ... T - 1.
            more: other fields.
        """
        numbers = range(len(matrices)) if frames is None else frames
        return cls(matrices[:, :3, :3], matrices[:, :3, 3], torch.as_tensor(numbers, dtype=torch.int64), **more)

    def __len__(self) -> int:
        """Number of frames with a pose."""
        return len(self.frames)

    @property
    def matrices(self) -> Float64[Tensor, "T 4 4"]:
        """Homogeneous camera-to-world matrices."""
        last = self.rotations.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(self), 1, 4)
        return torch.cat([torch.cat([self.rotations, self.translations.unsqueeze(2)], dim=2), last], dim=1)

    @property
    def step(self) -> int:
        """The frame numbers' common difference, as if none were missing: 5 for 1, 6, 16, 21."""
        return math.gcd(*self.frames.diff().tolist())

    @property
    def missing_frames(self) -> Int64[Tensor, "M"]:
        """Numbers between the first and the last frame that `step` leads one to expect and that have no pose."""
        expected = torch.arange(int(self.frames[0]), int(self.frames[-1]) + 1, self.step)
        return expected[~torch.isin(expected, self.frames)]

    @property
    def repeated(self) -> Bool[Tensor, "T"]:
        """Whether an earlier frame has the same pose; kernel matrices of such poses are singular without noise."""
        poses = (self.matrices[:, :3].flatten(1) / SAME_POSE).round()
        _, group = torch.unique(poses, dim=0, return_inverse=True)
        first: dict[int, int] = {}
        return torch.tensor([first.setdefault(one, place) < place for place, one in enumerate(group.tolist())])

    @property
    def observed(self) -> Bool[Tensor, "T"]:
        """Which frames have a latent."""
        if self.latents is None:
            return torch.zeros(len(self), dtype=torch.bool)
        return self.latents.isfinite().all(dim=1).cpu()

    def rows_of(self, frames: Sequence[int] | Tensor) -> Int64[Tensor, "n"]:
        """Rows of the given frame numbers, in their order.

        Raises:
            ValueError: if one of them has no pose.
        """
        wanted = torch.as_tensor(frames, dtype=torch.int64)
        rows = torch.searchsorted(self.frames, wanted).clamp(max=len(self) - 1)
        if (absent := wanted[self.frames[rows] != wanted]).numel():
            first, last = int(self.frames[0]), int(self.frames[-1])
            raise ValueError(
                f"frame {int(absent[0])} has no pose (in all {len(absent)} of {len(wanted)} frames have none); there "
                f"are {len(self)} from {first} to {last}: name frames among these"
            )
        return rows

    def select(self, rows: Sequence[int] | Tensor | slice) -> LatentTrajectory:
        """The trajectory of some of the frames, in ascending rows."""
        places = torch.arange(len(self))[rows if isinstance(rows, slice) else torch.as_tensor(rows)]
        return replace(
            self,
            rotations=self.rotations[places],
            translations=self.translations[places],
            frames=self.frames[places],
            times=None if self.times is None else self.times[places],
            names=tuple(self.names[place] for place in places.tolist()) if self.names else (),
            latents=None if self.latents is None else self.latents[places.to(self.latents.device)],
        )

    def with_latents(self, latents: Latents, frames: Sequence[int] | Tensor | None = None) -> LatentTrajectory:
        """The same trajectory with the latents of some frames; the others have none.

        Args:
            latents: (n, D); layers or maps of a latent are to be flattened.
            frames: numbers of their n frames; none: they are those of all T frames.

        Raises:
            ValueError: if a frame has no pose, or latents and frames differ in number.
        """
        numbers = self.frames if frames is None else torch.as_tensor(frames, dtype=torch.int64)
        if len(latents) != len(numbers):
            raise ValueError(f"{len(numbers)} frames need as many latents, got {len(latents)}")
        everywhere = latents.new_full((len(self), latents.shape[1]), torch.nan)
        everywhere[self.rows_of(numbers).to(latents.device)] = latents.detach()
        return replace(self, latents=everywhere)

    def describe(self) -> str:
        """One sentence: how many frames, what is missing, what repeats."""
        missing = self.missing_frames.tolist()
        named = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        parts = [f"{len(self)} frames with a pose, {int(self.frames[0])} to {int(self.frames[-1])} by {self.step}"]
        parts += [f"{len(missing)} missing ({named})"] if missing else []
        parts += [f"{repeats} repeat an earlier pose"] if (repeats := int(self.repeated.sum())) else []
        parts += [f"{int(self.observed.sum())} with a latent"] if self.latents is not None else []
        return ", ".join(parts) + "."


def _exact(values: Tensor) -> Tensor:
    # First to the CPU: not every device has float64.
    return values.detach().cpu().double()


def nearest_rotations(
    matrices: Float64[Tensor, "N 3 3"], called: Sequence[str], tolerance: float = ROTATION_TOLERANCE
) -> Float64[Tensor, "N 3 3"]:
    """The rotations that are nearest to measured ones; see `project_rotations`.

    Args:
        matrices: rotations up to rounding.
        called: what each is, for the message: "frame 12".
        tolerance: largest entry of R^T R - I.

    Raises:
        ValueError: if one is no rotation: scaled, sheared, mirrored or none at all.
    """
    errors = orthogonality_errors(matrices)
    if (bad := (errors > tolerance) | (torch.linalg.det(matrices) < 0)).any():
        place = int(bad.nonzero()[0])
        if float(errors[place]) > tolerance:
            found = f"R^T R differs from the identity by {float(errors[place]):.2g}"
        else:
            found = "its determinant is -1, so it also mirrors"
        raise ValueError(
            f"the 3 x 3 of {called[place]} is no rotation ({found}): give orthonormal, right-handed camera axes "
            "without scale"
        )
    return project_rotations(matrices)


__all__ = ["LatentTrajectory", "nearest_rotations"]
