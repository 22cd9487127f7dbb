from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from latent_lab.latent.trajectory import LatentTrajectory, nearest_rotations


def turned(*degrees: float) -> torch.Tensor:
    """Rotations about the vertical axis, (T, 3, 3)."""
    return torch.from_numpy(Rotation.from_euler("y", [[angle] for angle in degrees], degrees=True).as_matrix()).reshape(
        -1, 3, 3
    )


def trajectory(*frames: int, **more) -> LatentTrajectory:
    """A camera that turns by as many degrees as its frames' numbers say."""
    translations = torch.tensor([[float(frame), 0.0, 1.0] for frame in frames])
    return LatentTrajectory(turned(*frames), translations, torch.tensor(frames), **more)


def test_the_step_is_that_of_the_frames_that_are_there():
    assert trajectory(1, 6, 16, 26).step == 5
    assert trajectory(3, 4, 9).step == 1


def test_missing_frames_are_those_that_the_step_leads_to_expect():
    assert trajectory(1, 6, 16, 26).missing_frames.tolist() == [11, 21]
    assert trajectory(0, 1, 2).missing_frames.tolist() == []


def test_poses_that_were_there_before_are_known():
    rotations = turned(0, 10, 10, 20, 0)
    run = LatentTrajectory(rotations, torch.zeros(5, 3), torch.arange(5))
    assert run.repeated.tolist() == [False, False, True, False, True]
    moved = LatentTrajectory(rotations, torch.arange(15.0).view(5, 3), torch.arange(5))
    assert not moved.repeated.any()


def test_matrices_and_back_are_the_same_trajectory():
    run = trajectory(2, 4, 6)
    again = LatentTrajectory.from_matrices(run.matrices, run.frames)
    assert torch.equal(again.rotations, run.rotations)
    assert torch.equal(again.translations, run.translations)
    assert LatentTrajectory.from_matrices(run.matrices.float()).frames.tolist() == [0, 1, 2]


def test_rounded_rotations_are_brought_onto_the_group():
    exact = torch.from_numpy(Rotation.random(20, random_state=0).as_matrix())
    rounded = (exact * 1000).round() / 1000
    run = LatentTrajectory(rounded, torch.zeros(20, 3), torch.arange(20))
    identity = torch.eye(3, dtype=torch.float64).expand(20, 3, 3)
    torch.testing.assert_close(run.rotations.transpose(1, 2) @ run.rotations, identity, rtol=0, atol=1e-14)
    assert (run.rotations - exact).abs().max() < 1e-3  # no farther away than the rounding, 5e-4, on either side


def test_rotations_of_full_precision_stay_as_they_are_down_to_the_smallest_angles():
    rotations = turned(0.0, math.degrees(1e-8))
    assert torch.equal(LatentTrajectory(rotations, torch.zeros(2, 3), torch.arange(2)).rotations, rotations)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (2 * torch.eye(3).double(), "R^T R differs from the identity by 3"),
        (torch.zeros(3, 3).double(), "R^T R differs from the identity by 1"),
        (torch.diag(torch.tensor([1.0, 1.0, -1.0]).double()), "its determinant is -1, so it also mirrors"),
    ],
)
def test_a_matrix_that_is_no_rotation_is_named_by_its_frame(broken: torch.Tensor, found: str):
    rotations = turned(0, 10, 20)
    rotations[1] = broken
    with pytest.raises(ValueError, match="the 3 x 3 of frame 7 is no rotation") as error:
        LatentTrajectory(rotations, torch.zeros(3, 3), torch.tensor([5, 7, 9]))
    assert found in str(error.value)


def test_the_tolerance_is_an_option():
    with pytest.raises(ValueError, match="the 3 x 3 of a is no rotation"):
        nearest_rotations(1.001 * torch.eye(3).double()[None], ["a"], tolerance=1e-3)
    assert nearest_rotations(1.001 * torch.eye(3).double()[None], ["a"]).allclose(torch.eye(3).double())


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([1], "at least two frames with a pose, got 1"),
        ([1, 1], "frame numbers must ascend, got 1 after 1"),
        ([4, 2], "frame numbers must ascend, got 2 after 4"),
    ],
)
def test_too_few_or_unordered_frames_are_refused(frames: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        LatentTrajectory(turned(*frames), torch.zeros(len(frames), 3), torch.tensor(frames))


def test_a_pose_that_is_not_finite_is_refused():
    translations = torch.zeros(3, 3)
    translations[2, 0] = torch.nan
    with pytest.raises(ValueError, match="the pose of frame 2 is not finite"):
        LatentTrajectory(turned(0, 1, 2), translations, torch.arange(3))


def test_shapes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"3 frames need rotations of shape \(3, 3, 3\)"):
        LatentTrajectory(turned(0, 1), torch.zeros(2, 3), torch.arange(3))
    with pytest.raises(ValueError, match="2 frames need as many names, got 1"):
        trajectory(1, 2, names=("a",))


def test_latents_belong_to_their_frames_and_the_others_have_none():
    run = trajectory(1, 6, 11).with_latents(torch.tensor([[3.0, 4.0], [1.0, 2.0]]), [11, 1])
    assert run.observed.tolist() == [True, False, True]
    assert run.latents is not None
    assert run.latents[run.observed].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert trajectory(1, 6).observed.tolist() == [False, False]
    assert trajectory(1, 6).with_latents(torch.zeros(2, 4)).observed.all()


def test_frames_without_a_pose_are_named():
    with pytest.raises(
        ValueError, match=r"frame 12 has no pose .in all 2 of 3 frames have none.; there are 3 from 1 to 11"
    ):
        trajectory(1, 6, 11).rows_of([1, 12, 2])
    with pytest.raises(ValueError, match="2 frames need as many latents, got 3"):
        trajectory(1, 6).with_latents(torch.zeros(3, 4))


def test_a_part_of_a_trajectory_keeps_everything_of_its_frames():
    run = trajectory(1, 6, 11, 16, times=torch.arange(4.0), names=("a", "b", "c", "d")).with_latents(torch.eye(4))
    for part in (run.select(slice(0, None, 2)), run.select([0, 2]), run.select(run.rows_of([1, 11]))):
        assert part.frames.tolist() == [1, 11]
        assert part.names == ("a", "c")
        assert part.times is not None
        assert part.times.tolist() == [0.0, 2.0]
        assert part.latents is not None
        assert torch.equal(part.latents, torch.eye(4)[[0, 2]])
        assert torch.equal(part.rotations, run.rotations[[0, 2]])


def test_the_description_tells_of_gaps_and_repeats():
    rotations = turned(0, 0, 3)
    run = LatentTrajectory(rotations, torch.zeros(3, 3), torch.tensor([1, 3, 4]))
    assert run.describe() == "3 frames with a pose, 1 to 4 by 1, 1 missing (2), 1 repeat an earlier pose."
    assert trajectory(1, 6).with_latents(torch.ones(1, 2), [6]).describe() == (
        "2 frames with a pose, 1 to 6 by 5, 1 with a latent."
    )
