"""Runs of a camera: which images of a source belong to one run, in which order, and from where they were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from latent_lab.analyses.feeding import HeldOut
from latent_lab.latent.trajectory import LatentTrajectory
from latent_lab.priors.poses import Poses
from latent_lab.types import ImageBatch, ImageSource

ENDS, ALL, EVERY = "ends", "all", "every:"
"""Words that say which frames of a run are observed; else their numbers are listed."""

_OBJECT, _VIEW = "object", "view"
_SMALLEST = 4


@dataclass(frozen=True, eq=False)
class CameraRun:
    """The frames of one run whose poses are known, and the images of some of them."""

    name: str
    trajectory: LatentTrajectory
    """Of the T frames with a pose."""
    places: tuple[int | None, ...]
    """(T,) of each frame's image in the source; none, if there is no image."""

    @property
    def poses(self) -> Poses:
        """As kernels take them."""
        return Poses.of(self.trajectory.rotations, self.trajectory.translations)

    @property
    def pictured(self) -> Int64[Tensor, "P"]:
        """Rows of the frames with an image."""
        return torch.tensor([row for row, place in enumerate(self.places) if place is not None], dtype=torch.int64)

    def observed(self, which: str) -> Int64[Tensor, "n"]:
        """Rows of the frames whose codes are given.

        Args:
            which: ends (the first and the last frame with an image), all, every:N (each N-th image, and the last one),
                or frame numbers separated by commas.

        Raises:
            ValueError: if the words are none of these, a frame has no pose or no image, or there are fewer than two.
        """
        pictured = self.pictured
        if len(pictured) < 2:
            raise ValueError(f"{self.name} has {len(pictured)} frames with image and pose, and two are needed at least")
        if which == ALL:
            return pictured
        if which == ENDS:
            return pictured[[0, -1]]
        if which.startswith(EVERY):
            step = _whole(which.removeprefix(EVERY), which)
            if step < 1:
                raise ValueError(f"every:N needs N of at least 1, got {which}")
            return torch.unique(torch.cat([pictured[::step], pictured[-1:]]))
        numbers = sorted({_whole(word, which) for word in which.replace(",", " ").split()})
        rows = self.trajectory.rows_of(numbers)
        if (without := ~torch.isin(rows, pictured)).any():
            raise ValueError(
                f"frame {int(self.trajectory.frames[rows[without][0]])} of {self.name} has no image: observe others"
            )
        if len(rows) < 2:
            raise ValueError(f"at least two frames of a run must be observed, got {which!r}")
        return rows


@dataclass(frozen=True, eq=False)
class RunImages:
    """Images of one run with the poses of its frames; itself an image source."""

    images: ImageSource
    run: CameraRun

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the images."""
        return self.images.label_names

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Of the images, with what is known of the run."""
        return {**self.images.recipe, "poses": self.run.trajectory.describe()}

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """The images at the given places."""
        return self.images.batch(indices, resolution)


def camera_runs(source: ImageSource, limit: int | None = None) -> list[CameraRun]:
    """The runs of a source, in their order.

    Images belong to one run if they have one label `object`. Their frame numbers are the labels `view` where these
    ascend; else, as where equal poses count as one view, they are numbered as they come. Images without a finite pose
    are left out.

    Args:
        source: with poses and these labels, or a `RunImages`.
        limit: how many runs at most; none: all.

    Raises:
        ValueError: if it has no poses or labels, an object has fewer than two images, or a pose is no rotation.
    """
    if isinstance(source, HeldOut):
        source = source.images
    if isinstance(source, RunImages):
        return [source.run]
    batches = [
        source.batch(range(start, min(start + 256, len(source))), _SMALLEST) for start in range(0, len(source), 256)
    ]
    if not batches or batches[0].pose is None or not {_OBJECT, _VIEW} <= set(source.label_names):
        raise ValueError(
            "views are synthesised along runs of a camera, for which images need poses and the labels object and view, "
            "and these have neither or only one of the two: name data of views (--data SyntheticCameraRun or "
            "MultiViewImages), or give --frames DIR --poses FILE"
        )
    pose = torch.cat([batch.pose for batch in batches if batch.pose is not None]).double()
    labels = torch.cat([batch.labels for batch in batches if batch.labels is not None])
    objects, views = (labels[:, source.label_names.index(name)] for name in (_OBJECT, _VIEW))
    runs = []
    known = pose.isfinite().all(2).all(1)
    for one in objects.unique().tolist()[:limit]:
        places = ((objects == one) & known).nonzero()[:, 0]
        frames = views[places].long()
        if not (frames.diff() > 0).all():
            frames = torch.arange(len(places))
        name = f"run {one:g}"
        try:
            trajectory = LatentTrajectory.from_matrices(pose[places], frames)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        runs.append(CameraRun(name, trajectory, tuple(places.tolist())))
    return runs


def _whole(word: str, which: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(
            f"observed frames are ends, all, every:N or numbers separated by commas, got {which!r}"
        ) from None


__all__ = ["ALL", "ENDS", "EVERY", "CameraRun", "RunImages", "camera_runs"]
