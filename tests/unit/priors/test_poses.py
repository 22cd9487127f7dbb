"""Poses: what is checked, how frames are taken out, how a module keeps them."""

from __future__ import annotations

import pytest
import torch

from latent_lab.priors.poses import Poses, PoseTable
from tests.unit.priors.runs import camera_run, normal, random_rotations


def test_checked_poses_are_exact_rotations_in_double_precision() -> None:
    poses = Poses.of(random_rotations(5).float(), normal(5, 3).float())
    assert poses.rotations.dtype == poses.translations.dtype == torch.float64
    identity = torch.eye(3, dtype=torch.float64).expand(5, 3, 3)
    torch.testing.assert_close(poses.rotations.mT @ poses.rotations, identity, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rows", [3, 4])
def test_camera_matrices_give_rotations_and_translations(rows: int) -> None:
    matrices = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    matrices[:, :3, :3], matrices[:, :3, 3] = random_rotations(6), normal(6, 3)
    poses = Poses.from_matrices(matrices[:, :rows])
    assert torch.equal(poses.rotations, matrices[:, :3, :3])
    assert torch.equal(poses.translations, matrices[:, :3, 3])


def test_frames_are_taken_out_by_slices_places_and_truth_values() -> None:
    poses = Poses(random_rotations(6), objects=torch.arange(6))
    for rows in (slice(1, 6, 2), [1, 3, 5], torch.tensor([1, 3, 5]), torch.arange(6) % 2 == 1):
        part = poses[rows]
        assert part.objects.tolist() == [1, 3, 5]
        assert part.translations is None
        assert len(part) == 3


def test_bad_poses_are_refused() -> None:
    r = random_rotations(3)
    with pytest.raises(ValueError, match="3 rotations need as many translations, got 2"):
        Poses(r, normal(2, 3))
    with pytest.raises(ValueError, match="3 rotations need as many objects, got 4"):
        Poses.of(r, objects=torch.arange(4))
    with pytest.raises(ValueError, match="translation 1 of 3 is not finite"):
        Poses.of(r, torch.tensor([[0.0] * 3, [torch.nan] * 3, [0.0] * 3]))
    with pytest.raises(ValueError, match="is no rotation"):
        Poses.of(2.0 * r)
    with pytest.raises(ValueError, match=r"poses are matrices \(N, 3, 4\) or \(N, 4, 4\)"):
        Poses.from_matrices(torch.zeros(2, 5, 4))


@pytest.mark.parametrize("learn", [False, True])
def test_a_table_starts_at_its_poses_and_is_saved(learn: bool) -> None:
    poses = camera_run(4)
    table = PoseTable(poses, learn=learn)
    torch.testing.assert_close(table().rotations, poses.rotations)
    assert torch.equal(table().translations, poses.translations)
    assert bool(list(table.parameters())) == learn
    if learn:
        with torch.no_grad():
            table.turn += 0.3
            table.translations += 1.0
    other = PoseTable(camera_run(5)[:4], learn=learn)
    other.load_state_dict(table.state_dict())
    assert torch.equal(other().rotations, table().rotations)
    assert torch.equal(other().translations, table().translations)


def test_learned_poses_stay_rotations() -> None:
    table = PoseTable(Poses(random_rotations(4)), learn=True)
    with torch.no_grad():
        table.turn += normal(4, 3)
    turned = table()
    Poses.of(turned.rotations, tolerance=1e-12)
    torch.autograd.grad(turned.rotations[:, 0, 1].sum(), table.turn)
