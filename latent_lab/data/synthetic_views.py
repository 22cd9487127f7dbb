"""Drawn faces from known views: a grid of persons and views, and runs of a camera past one person each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float64

from latent_lab.data.base import AbstractImageData
from latent_lab.data.multi_view import VIEW_LABELS
from latent_lab.data.plans import PackingPlan
from latent_lab.data.synthetic_faces import drawn_plan
from latent_lab.data.synthetic_renderer import FaceFactors, sample_factors, vary
from latent_lab.data.view_splits import hold_out_views
from latent_lab.distributed import IndexedRandom

LARGEST_YAW = 65.0
"""Degrees to which the renderer draws a turned head well."""
LARGEST_PITCH = 30.0
"""Degrees to which it draws a raised or lowered one well."""

Motion: TypeAlias = Literal["uniform", "standstill", "back_and_forth", "mixed"]

MOTIONS: Mapping[Motion, tuple[tuple[float, float], ...]] = {
    "uniform": ((0.0, 0.0), (1.0, 1.0)),
    "standstill": ((0.0, 0.0), (0.35, 0.5), (0.65, 0.5), (1.0, 1.0)),
    "back_and_forth": ((0.0, 0.0), (0.4, 0.8), (0.65, 0.2), (1.0, 1.0)),
    "mixed": ((0.0, 0.0), (0.25, 0.7), (0.45, 0.7), (0.65, 0.2), (0.8, 0.2), (1.0, 1.0)),
}
"""Corners (time, place) of how a camera moves from the first pose (0, 0) to the last (1, 1); straight in between."""


class SyntheticViews(AbstractImageData):
    """Drawn persons, each from the same grid of views, for models of what an object is and where it is seen from.

    Only the head's yaw and pitch vary between the images of a person; light and background stay with the camera. Poses
    are camera-to-object. Labels are `object` and `view`, numbers from 0, then the factors of `SyntheticFaces`. Images
    are never mirrored. Besides train, val and test (pairs of person and view that training lacks), the split
    "unseen_views" has the views that no person shows in training.

    Args:
        num_objects: persons.
        num_views: views of each, ascending in yaw.
        resolution: of the largest level, 4 * 2^k pixels; smaller ones are its repeated 2x2 means.
        framing: portrait (head and shoulders before a background) or face (the middle half of each side).
        yaw: largest turn to either side in degrees, up to 65; views are evenly spaced in it.
        pitch: largest turn upwards and downwards in degrees, up to 30; every view has its own, evenly spread over the
            range (van der Corput's sequence). 0: all views turn about the vertical axis alone, as on a turntable.
        unseen_share: share of the views that are held out of all persons, evenly spread over the views.
        heldout_share: share of the other (person, view) pairs that are held out at random, half val, half test; every
            person and every other view remain in training.
        persons_seed: of the persons. The default is not that of `SyntheticFaces`, so a model that was trained on these
            has seen none of the persons.
        split_seed: of the choice of pairs.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        num_objects: int = 64,
        num_views: int = 32,
        resolution: int = 32,
        framing: Literal["portrait", "face"] = "portrait",
        yaw: float = 50.0,
        pitch: float = 12.0,
        unseen_share: float = 0.1,
        heldout_share: float = 0.2,
        persons_seed: int = 1,
        split_seed: int = 0,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
    ) -> None:
        self.record_recipe(locals())
        super().__init__(
            root=None,
            resolution=resolution,
            mirror=False,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )
        if num_objects < 1 or num_views < 2:
            raise ValueError(
                f"num_objects must be at least 1 and num_views at least 2, got {num_objects} and {num_views}"
            )
        _check_angles(yaw, pitch)
        self.num_objects = num_objects
        self.num_views = num_views
        self.framing = framing
        self.yaw = yaw
        self.pitch = pitch
        self.unseen_share = unseen_share
        self.heldout_share = heldout_share
        self.persons_seed = persons_seed
        self.split_seed = split_seed

    def plan(self) -> PackingPlan:
        """All pairs, by person, then by view."""
        places = range(self.num_objects * self.num_views)
        objects, views = [place // self.num_views for place in places], [place % self.num_views for place in places]
        angles = view_angles(self.num_views, self.yaw, self.pitch)

        def factors_at(chosen: Sequence[int]) -> FaceFactors:
            return turned_faces(
                self.persons_seed, [objects[one] for one in chosen], angles[[views[one] for one in chosen]]
            )

        return drawn_plan(
            factors_at,
            names=[f"face {one} view {view}" for one, view in zip(objects, views, strict=True)],
            split=hold_out_views(
                objects,
                views,
                unseen_share=self.unseen_share,
                heldout_share=self.heldout_share,
                seed=self.split_seed,
            ),
            resolution=self.resolution,
            framing=self.framing,
            settings={
                "source": "synthetic views",
                "persons_seed": self.persons_seed,
                "split_seed": self.split_seed,
                "objects": self.num_objects,
                "views": self.num_views,
                "yaw": self.yaw,
                "pitch": self.pitch,
            },
            more_labels=dict(zip(VIEW_LABELS, (objects, views), strict=True)),
        )


class SyntheticCameraRun(AbstractImageData):
    """Runs of a camera past a drawn person each, frame by frame, with moving, standing still and going back and forth.

    A run goes straight in yaw and pitch from one drawn pose to another, far on the other side, paced as `motion` says.
    Only the head's yaw and pitch vary within a run; light and background stay with the camera. Poses are
    camera-to-object. Labels are `object` (the run) and `view` (the frame), numbers from 0, then the factors of
    `SyntheticFaces`. Images are never mirrored. Every run is of one split, its frames in order.

    Args:
        num_frames: frames of each run.
        motion: "uniform" (at one speed), "standstill" (stops halfway for a third of the time), "back_and_forth" (far,
            almost back, then to the end) or "mixed" (both).
        num_runs: training runs.
        num_val_runs: validation runs.
        num_test_runs: test runs.
        resolution: of the largest level, 4 * 2^k pixels; smaller ones are its repeated 2x2 means.
        framing: portrait (head and shoulders before a background) or face (the middle half of each side).
        yaw: largest turn to either side in degrees, up to 65; a run goes from 0.8 to 1 times that on one side to as
            much on the other.
        pitch: largest turn upwards and downwards in degrees, up to 30, of both ends of a run.
        persons_seed: of the persons and their runs. The default is not that of `SyntheticFaces`, so a model that was
            trained on these has seen none of the persons.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        num_frames: int = 60,
        motion: Motion = "mixed",
        num_runs: int = 8,
        num_val_runs: int = 1,
        num_test_runs: int = 4,
        resolution: int = 32,
        framing: Literal["portrait", "face"] = "portrait",
        yaw: float = 40.0,
        pitch: float = 8.0,
        persons_seed: int = 1,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
    ) -> None:
        self.record_recipe(locals())
        super().__init__(
            root=None,
            resolution=resolution,
            mirror=False,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )
        if num_frames < 2:
            raise ValueError(f"num_frames must be at least 2, got {num_frames}: a single frame is no run")
        if motion not in MOTIONS:
            raise ValueError(f"motion must be one of {', '.join(get_args(Motion))}, got {motion!r}")
        if min(num_runs, num_val_runs, num_test_runs) < 1:
            raise ValueError(
                f"num_runs, num_val_runs and num_test_runs must be at least 1, got {num_runs}, {num_val_runs} and "
                f"{num_test_runs}"
            )
        _check_angles(yaw, pitch)
        self.num_frames = num_frames
        self.motion = motion
        self.runs = {"train": num_runs, "val": num_val_runs, "test": num_test_runs}
        self.framing = framing
        self.yaw = yaw
        self.pitch = pitch
        self.persons_seed = persons_seed

    def plan(self) -> PackingPlan:
        """All frames: first the training runs, then val, then test."""
        count = self.num_frames
        places = range(sum(self.runs.values()) * count)
        runs, frames = [place // count for place in places], [place % count for place in places]
        starts = np.cumsum([0, *self.runs.values()]) * count
        path = camera_path(self.motion, count)

        def factors_at(chosen: Sequence[int]) -> FaceFactors:
            ends = {run: _ends(self.persons_seed, run, self.yaw, self.pitch) for run in {runs[one] for one in chosen}}
            angles = [
                (1 - path[frames[one]]) * ends[runs[one]][0] + path[frames[one]] * ends[runs[one]][1] for one in chosen
            ]
            return turned_faces(self.persons_seed, [runs[one] for one in chosen], np.stack(angles))

        return drawn_plan(
            factors_at,
            names=[f"run {run} frame {frame}" for run, frame in zip(runs, frames, strict=True)],
            split={
                part: range(int(first), int(last))
                for part, first, last in zip(self.runs, starts, starts[1:], strict=False)
            },
            resolution=self.resolution,
            framing=self.framing,
            settings={
                "source": "synthetic camera runs",
                "persons_seed": self.persons_seed,
                "motion": self.motion,
                "frames": count,
                "yaw": self.yaw,
                "pitch": self.pitch,
            },
            more_labels=dict(zip(VIEW_LABELS, (runs, frames), strict=True)),
        )


def camera_path(motion: Motion, num_frames: int) -> Float64[np.ndarray, "T"]:
    """How far the camera is from its first (0) to its last pose (1) in each frame; standing still is exact."""
    times, stops = zip(*MOTIONS[motion], strict=True)
    return np.interp(np.linspace(0.0, 1.0, num_frames), times, stops)


def view_angles(num_views: int, yaw: float, pitch: float) -> Float64[np.ndarray, "Q 2"]:
    """Yaw and pitch of each view in degrees: yaw evenly spaced over [-yaw, yaw], pitch spread over [-pitch, pitch].

    The pitches are van der Corput's sequence in base 2 (the number's bits behind the point, reversed), so that any
    stretch of neighbouring views covers the range evenly (Hammersley's set).
    """
    width = max(1, (num_views - 1).bit_length())
    reversed_bits = [int(f"{number:0{width}b}"[::-1], 2) for number in range(num_views)]
    spread = (np.array(reversed_bits) + 0.5) / 2**width
    return np.stack([np.linspace(-yaw, yaw, num_views), pitch * (2 * spread - 1)], axis=1)


def turned_faces(persons_seed: int, persons: Sequence[int], angles: Float64[np.ndarray, "N 2"]) -> FaceFactors:
    """Factors of faces with the heads turned as said and never tilted; all else belongs to the person.

    Args:
        persons_seed: of the persons.
        persons: a number for each face; a person depends on the seed and this number alone.
        angles: yaw and pitch in degrees for each face.
    """
    different = sorted(set(persons))
    place = {person: row for row, person in enumerate(different)}
    faces = sample_factors(persons_seed, different).select([place[person] for person in persons])
    turns = torch.from_numpy(angles).float()
    return vary(faces, yaw=turns[:, 0].contiguous(), pitch=turns[:, 1].contiguous(), roll=0.0)


def _ends(persons_seed: int, run: int, yaw: float, pitch: float) -> Float64[np.ndarray, "2 2"]:
    """Yaw and pitch at the first and at the last pose of a run."""
    drawn = (
        IndexedRandom(persons_seed, "synthetic_faces/camera_run").uniform(range(run, run + 1), 5)[0].double().numpy()
    )
    side = 1.0 if drawn[0] < 0.5 else -1.0
    yaws = side * yaw * (0.8 + 0.2 * drawn[1:3]) * np.array([-1.0, 1.0])
    return np.stack([yaws, pitch * (2 * drawn[3:5] - 1)], axis=1)


def _check_angles(yaw: float, pitch: float) -> None:
    for name, angle, largest in (("yaw", yaw, LARGEST_YAW), ("pitch", pitch, LARGEST_PITCH)):
        if not 0 <= angle <= largest:
            raise ValueError(f"{name} must be 0 to {largest:g} degrees, got {angle:g}")


__all__ = [
    "LARGEST_PITCH",
    "LARGEST_YAW",
    "MOTIONS",
    "Motion",
    "SyntheticCameraRun",
    "SyntheticViews",
    "camera_path",
    "turned_faces",
    "view_angles",
]
