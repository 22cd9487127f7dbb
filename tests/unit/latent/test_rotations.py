"""What counts as a rotation, the nearest one, and what is refused."""

from __future__ import annotations

import pytest
import torch

from latent_lab.latent.rotations import check_rotations, project_rotations
from latent_lab.priors.rotations import rotations_of
from tests.unit.priors.runs import normal, random_rotations


def test_the_nearest_rotation_is_nearer_than_others_and_never_a_reflection() -> None:
    matrices = random_rotations(30) * 1.3 + 0.2 * normal(30, 3, 3)
    nearest = project_rotations(matrices)
    check_rotations(nearest, tolerance=1e-13)
    distance = (matrices - nearest).square().sum((1, 2))
    for seed in range(20):
        moved = nearest @ rotations_of(0.3 * normal(30, 3, seed=seed))
        assert (distance <= (matrices - moved).square().sum((1, 2))).all()


def test_scale_and_rounding_are_projected_away_and_exact_rotations_stay_as_they_are() -> None:
    r = random_rotations(10)
    torch.testing.assert_close(project_rotations(2.0 * r), r, rtol=0, atol=1e-14)
    torch.testing.assert_close(project_rotations(r.float()), r, rtol=0, atol=1e-6)
    tiny = rotations_of(torch.tensor([[1e-8, 0.0, 0.0]]))
    assert torch.equal(project_rotations(tiny), tiny)


def test_a_mirrored_matrix_has_a_proper_nearest_rotation() -> None:
    matrix = (random_rotations(1)[0] @ torch.diag(torch.tensor([1.0, 1.0, -0.1], dtype=torch.float64))).unsqueeze(0)
    assert torch.linalg.det(project_rotations(matrix)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (torch.zeros(3, 3), "matrix 2 of 3 has no single nearest rotation"),
        (torch.diag(torch.tensor([1.0, 0.0, 0.0])), "matrix 2 of 3 has no single nearest rotation"),
        (-torch.eye(3), "matrix 2 of 3 has no single nearest rotation"),
        (torch.full((3, 3), torch.nan), "matrix 2 of 3 is not finite"),
    ],
)
def test_matrices_without_a_nearest_rotation_are_refused(matrix: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        project_rotations(torch.stack([torch.eye(3), torch.eye(3), matrix]))


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (1.02 * torch.eye(3), r"matrix 1 of 2 is no rotation: R\^T R differs from the identity by 0.04"),
        (torch.ones(3, 3), "matrix 1 of 2 is no rotation"),
        (torch.diag(torch.tensor([1.0, 1.0, -1.0])), "matrix 1 of 2 is a reflection"),
        (torch.full((3, 3), torch.inf), "rotation 1 of 2 has entries that are not finite"),
    ],
)
def test_what_is_no_rotation_is_refused(matrix: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_rotations(torch.stack([torch.eye(3), matrix]))


def test_rotations_written_with_three_digits_pass() -> None:
    check_rotations((random_rotations(200) * 1000).round() / 1000)
