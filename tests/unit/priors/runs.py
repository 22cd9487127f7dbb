"""Camera runs and latents that tests of priors share."""

from __future__ import annotations

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from latent_lab.priors.poses import Poses
from latent_lab.priors.rotations import rotations_of


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_rotations(count: int, seed: int = 0) -> Tensor:
    """Uniform on SO(3)."""
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


def about_y(degrees: Tensor | list[float]) -> Tensor:
    angles = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    zero = torch.zeros_like(angles)
    return rotations_of(torch.stack([zero, angles, zero], dim=1))


def camera_run(count: int = 24) -> Poses:
    """Swings about two axes and moves, never at the same place twice."""
    time = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    vectors = torch.stack([0.3 * (4.0 * time).sin(), 1.2 * time, 0.1 * time.square()], dim=1)
    places = torch.stack([time.sin(), 0.2 * (5.0 * time).cos(), -time], dim=1)
    return Poses.of(rotations_of(vectors), places)


def prior_sample(covariance: Tensor, dim: int, seed: int = 0) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0.0).sqrt()) @ normal(len(covariance), dim, seed=seed)
