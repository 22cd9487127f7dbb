"""Rotations: digits of small and large angles, invariance, SciPy's conventions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from latent_lab.priors.rotations import (
    euler_angles,
    geodesic_angle,
    pairwise_distance,
    quaternions,
    rotation_angles,
    rotations_of,
    trace_distance,
)
from tests.unit.priors.runs import about_y, random_rotations


def about(axis: tuple[float, float, float], angle: float) -> torch.Tensor:
    direction = torch.tensor(axis, dtype=torch.float64)
    return rotations_of((angle * direction / direction.norm()).unsqueeze(0))


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-8, 1e-4, 1.0, 3.0, math.pi - 1e-6])
def test_distances_keep_their_digits_at_every_angle(angle: float) -> None:
    a, b = torch.eye(3, dtype=torch.float64).unsqueeze(0), about((1.0, 2.0, 3.0), angle)
    # Entries are rounded to 10^-16: that, relative to the angle, is all that is lost.
    assert geodesic_angle(a, b).item() == pytest.approx(angle, rel=1e-14, abs=4e-16)
    assert trace_distance(a, b).item() == pytest.approx(4.0 * math.sin(angle / 2.0) ** 2, rel=1e-3, abs=1e-24)


def test_the_distance_of_a_rotation_to_itself_is_zero_in_any_precision() -> None:
    r = random_rotations(20).float()
    assert not trace_distance(r, r).diagonal().any()


def test_distances_do_not_change_when_camera_or_world_is_turned() -> None:
    a, b = random_rotations(8), random_rotations(6, seed=1)
    turn = random_rotations(1, seed=2)[0]
    for distance in (trace_distance, geodesic_angle):
        torch.testing.assert_close(distance(turn @ a, turn @ b), distance(a, b), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(distance(a @ turn, b @ turn), distance(a, b), rtol=1e-12, atol=1e-13)


def test_the_trace_distance_is_four_times_the_squared_sine_of_half_the_angle() -> None:
    a, b = random_rotations(10), random_rotations(10, seed=1)
    expected = 4.0 * (geodesic_angle(a, b) / 2.0).sin().square()
    torch.testing.assert_close(trace_distance(a, b), expected, rtol=1e-12, atol=1e-13)


def test_distances_of_equal_rotations_have_gradient_zero_instead_of_none() -> None:
    r = random_rotations(4).requires_grad_()
    total = geodesic_angle(r, r.detach()).diagonal().sum() + pairwise_distance(r.flatten(1), r.flatten(1)).sum()
    assert torch.autograd.grad(total, r)[0].isfinite().all()


def test_angles_of_relative_rotations_are_those_between_rotations() -> None:
    a, b = random_rotations(5), random_rotations(5, seed=1)
    torch.testing.assert_close(rotation_angles(a.mT @ b), geodesic_angle(a, b).diagonal())


def test_euler_angles_quaternions_and_rotation_vectors_are_scipys() -> None:
    r = random_rotations(300)
    reference = Rotation.from_matrix(r.numpy())
    exact = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(euler_angles(r), torch.from_numpy(reference.as_euler("xyz").copy()), **exact)
    torch.testing.assert_close(quaternions(r), torch.from_numpy(reference.as_quat().copy()), **exact)
    vectors = torch.from_numpy(reference.as_rotvec().copy())
    torch.testing.assert_close(rotations_of(vectors), r, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degrees", [90.0, -90.0])
def test_euler_angles_at_gimbal_lock_give_the_rotation_back(degrees: float) -> None:
    r = about_y([degrees]) @ about((1.0, 0.0, 0.0), 0.7)
    angles = euler_angles(r)
    assert angles[0, 2] == 0.0
    again = torch.from_numpy(Rotation.from_euler("xyz", angles.numpy()).as_matrix())
    torch.testing.assert_close(again, r, rtol=0, atol=1e-7)


def test_quaternions_of_half_turns_are_exact() -> None:
    half_turns = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])])
    torch.testing.assert_close(quaternions(half_turns), torch.eye(3, 4, dtype=torch.float64))


def test_rotation_vectors_have_gradients_at_zero() -> None:
    assert torch.autograd.gradcheck(lambda v: rotations_of(v), torch.zeros(2, 3, dtype=torch.float64).requires_grad_())
