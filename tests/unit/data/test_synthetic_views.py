from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data import SyntheticCameraRun, SyntheticFaces, SyntheticViews
from latent_lab.data.synthetic_renderer import LABEL_NAMES, render, sample_factors, vary
from latent_lab.data.synthetic_views import MOTIONS, camera_path, turned_faces, view_angles
from latent_lab.latent.trajectory import LatentTrajectory

GRID = {"num_objects": 4, "num_views": 9, "resolution": 8}
RUN = {"num_frames": 20, "num_runs": 2, "num_val_runs": 1, "num_test_runs": 2, "resolution": 8}
POSE_LABELS = [LABEL_NAMES.index(name) for name in ("yaw", "pitch", "roll")]


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> SyntheticViews:
    return SyntheticViews(**GRID, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> SyntheticCameraRun:
    return SyntheticCameraRun(**RUN, cache_dir=tmp_path_factory.mktemp("cache"))


def everything(source):
    return source.batch(range(len(source)), 8)


# ----------------------------------------------------------------------------------------------------- pairs


def test_every_person_is_seen_from_every_view_exactly_once(grid):
    pairs = [
        tuple(pair)
        for part in ("train", "val", "test", "unseen_views")
        for pair in everything(grid.source(part)).labels[:, :2].tolist()
    ]
    assert sorted(pairs) == [(float(one), float(view)) for one in range(4) for view in range(9)]


def test_equal_views_have_equal_poses_and_different_ones_do_not(grid):
    batch = everything(grid.source("train"))
    for view in batch.labels[:, 1].unique():
        poses = batch.pose[batch.labels[:, 1] == view]
        assert (poses == poses[0]).all()
    assert len(batch.pose.flatten(1).unique(dim=0)) == len(batch.labels[:, 1].unique())


def test_only_the_pose_varies_between_the_images_of_a_person(grid):
    labels = everything(grid.source("train")).labels
    assert grid.label_names == ("object", "view", *LABEL_NAMES)
    factors = labels[:, 2:].clone()
    factors[:, POSE_LABELS] = 0
    for one in range(4):
        assert len(factors[labels[:, 0] == one].unique(dim=0)) == 1
    assert len(factors.unique(dim=0)) == 4


def test_an_image_is_the_person_turned_as_the_view_says(grid):
    source = grid.source("test")
    batch = source.batch([0], 8)
    person, view = (int(number) for number in batch.labels[0, :2])
    yaw, pitch = view_angles(9, 50.0, 12.0)[view]
    face = vary(sample_factors(1, [person]), yaw=float(yaw), pitch=float(pitch), roll=0.0)
    torch.testing.assert_close(batch.images, images.quantise(render(face, 8)), rtol=0, atol=2 / 255 + 1e-6)
    assert source.names[0] == f"face {person} view {view}"


def test_a_face_depends_on_its_own_person_and_angles_alone():
    angles = view_angles(3, 50.0, 12.0)
    together = turned_faces(1, [5, 2, 5], angles)
    alone = turned_faces(1, [5], angles[2:])
    torch.testing.assert_close(together.labels()[2:], alone.labels(), rtol=0, atol=0)
    assert torch.equal(render(together, 8)[2:], render(alone, 8))


def test_views_spread_evenly_over_yaw_and_pitch():
    angles = view_angles(32, 50.0, 12.0)
    np.testing.assert_allclose(np.diff(angles[:, 0]), 100 / 31)
    # Each of 32 equal slices of the range of pitches holds one view, each half of the views covers all eighths.
    assert sorted(np.floor((angles[:, 1] + 12) / 24 * 32)) == list(range(32))
    assert set(np.floor((angles[:16, 1] + 12) / 24 * 8)) == set(range(8))


def test_views_without_pitch_turn_about_the_vertical_axis_alone(tmp_path):
    data = SyntheticViews(**GRID, pitch=0.0, cache_dir=tmp_path)
    vertical = torch.tensor([0.0, 1.0, 0.0])
    pose = everything(data.source("train")).pose
    torch.testing.assert_close(pose[:, :3, 1], vertical.expand(len(pose), 3))


def test_the_persons_are_not_those_of_synthetic_faces_by_default(grid):
    here = everything(grid.source("train")).labels[:, 2:]
    there = SyntheticFaces(num_images=4, num_val=1, num_test=1, resolution=8).plan().labels
    tone = LABEL_NAMES.index("skin_tone")
    assert not set(here[:, tone].tolist()) & set(there[:, tone].tolist())


def test_neither_is_ever_mirrored(grid, runs):
    assert not grid.mirror
    assert not runs.mirror


# ------------------------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_path_leads_from_the_first_to_the_last_pose(motion):
    path = camera_path(motion, 41)
    assert (path[0], path[-1]) == (0.0, 1.0)
    assert ((path >= 0) & (path <= 1)).all()


def test_uniform_motion_has_equal_steps():
    np.testing.assert_allclose(np.diff(camera_path("uniform", 30)), 1 / 29)


def test_a_standstill_is_exact_and_back_and_forth_turns_around():
    still = np.diff(camera_path("standstill", 41))
    assert (still == 0).sum() == 12
    assert (still >= 0).all()
    steps = np.diff(camera_path("back_and_forth", 41))
    assert (steps < 0).any()
    assert (steps != 0).all()
    mixed = np.diff(camera_path("mixed", 41))
    assert (mixed == 0).any()
    assert (mixed < 0).any()


def test_runs_belong_to_one_split_with_all_their_frames_in_order(runs):
    for part, numbers in (("train", [0, 1]), ("val", [2]), ("test", [3, 4])):
        labels = everything(runs.source(part)).labels
        assert labels[:, :2].tolist() == [[float(run), float(frame)] for run in numbers for frame in range(20)]


def test_a_run_is_a_trajectory_with_repeated_poses(runs):
    batch = everything(runs.source("val"))
    run = LatentTrajectory.from_matrices(batch.pose, batch.labels[:, 1])
    assert run.frames.tolist() == list(range(20))
    assert run.repeated.any()
    assert "repeat an earlier pose" in run.describe()


def test_frames_of_equal_poses_are_equal_images(runs):
    batch = everything(runs.source("val"))
    still = (batch.pose[1:] == batch.pose[:-1]).flatten(1).all(1)
    assert still.any()
    assert torch.equal(batch.images[1:][still], batch.images[:-1][still])
    assert not torch.equal(batch.images[1:][~still], batch.images[:-1][~still])


def test_a_run_crosses_from_one_side_to_the_other(runs):
    yaw = 2 + LABEL_NAMES.index("yaw")
    for part in ("train", "val", "test"):
        labels = everything(runs.source(part)).labels
        for run in labels[:, 0].unique():
            ends = labels[labels[:, 0] == run][[0, -1], yaw]
            assert (ends.abs() >= 0.8 * 40 - 1e-4).all()
            assert (ends.abs() <= 40).all()
            assert ends[0] * ends[1] < 0


def test_a_run_does_not_depend_on_how_many_there_are(runs, tmp_path):
    fewer = SyntheticCameraRun(**{**RUN, "num_runs": 1, "num_test_runs": 1}, cache_dir=tmp_path)
    first, same = everything(runs.source("train")), everything(fewer.source("train"))
    assert torch.equal(first.images[:20], same.images)
    assert torch.equal(first.pose[:20], same.pose)


def test_another_faces_seed_gives_other_persons_and_poses():
    one, other = (SyntheticCameraRun(**RUN, persons_seed=seed).plan() for seed in (1, 2))
    assert not np.array_equal(one.pose, other.pose)
    assert not np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (SyntheticViews, {"num_views": 1}, "num_objects must be at least 1 and num_views at least 2, got 64 and 1"),
        (SyntheticViews, {"yaw": 90.0}, "yaw must be 0 to 65 degrees, got 90"),
        (SyntheticCameraRun, {"pitch": -1.0}, "pitch must be 0 to 30 degrees, got -1"),
        (SyntheticCameraRun, {"num_frames": 1}, "num_frames must be at least 2, got 1: a single frame is no run"),
        (
            SyntheticCameraRun,
            {"num_val_runs": 0},
            "num_runs, num_val_runs and num_test_runs must be at least 1, got 8, 0 and 4",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(data, options, message):
    with pytest.raises(ValueError, match=message):
        data(**options)
