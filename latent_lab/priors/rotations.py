"""Between rotations: distances that keep their digits, angles, quaternions, rotation vectors.

All numbers are float64. Between nearly equal rotations 3 - tr(R^T R') and its arc cosine lose every digit below an
angle of 10^-8 (in float32 below 10^-3, where the frames of a still camera are), so distances here are made of
differences instead.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.latent.rotations import Matrices

_GIMBAL_LOCK = 1e-7

OtherMatrices: TypeAlias = Float[Tensor, "M 3 3"]
"""Those of a second set of frames."""

Pairwise: TypeAlias = Float[Tensor, "N M"]
"""One number for each pair of frames of two sets."""

Vectors: TypeAlias = Float[Tensor, "N 3"]
"""One vector of three coordinates for each frame."""

Quaternions: TypeAlias = Float[Tensor, "N 4"]
"""x, y, z, w of unit length for each frame; q and -q are one rotation."""


def trace_distance(a: Matrices, b: OtherMatrices) -> Pairwise:
    """tr(I - R^T R') of all pairs, (N, M) float64 in [0, 4]; 4 sin^2(theta / 2) at the angle theta between them.

    Computed as |R - R'|^2 / 2, exact to the last digits of a small angle.
    """
    return 0.5 * pairwise_distance(a.flatten(1), b.flatten(1)).square()


def pairwise_distance(a: Float[Tensor, "N K"], b: Float[Tensor, "M K"]) -> Pairwise:
    """Euclidean distances of all pairs, (N, M) float64, from differences; its gradient at distance 0 is 0."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def rotation_angles(rotations: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N"]:
    """Angle by which each rotation turns, (...) float64 radians in [0, pi].

    atan2(sin, cos) with the sine from the skew part and the cosine from the trace: unlike the arc cosine, it resolves
    10^-16 near 0 and near pi, and needs no clipping. Its gradient at 0 is 0.

    Args:
        rotations: (..., 3, 3); R^T R' for the angle between two rotations.
    """
    r = rotations.double()
    skew = torch.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]],
        dim=-1,
    )
    cosine = (r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0) / 2.0
    return torch.atan2(torch.linalg.vector_norm(skew, dim=-1) / 2.0, cosine)


def geodesic_angle(a: Matrices, b: OtherMatrices) -> Pairwise:
    """Angle between the rotations of all pairs, (N, M) float64 radians in [0, pi]; see `rotation_angles`."""
    return rotation_angles(torch.einsum("nji,mjk->nmik", a.double(), b.double()))


def euler_angles(rotations: Matrices) -> Vectors:
    """Angles (N, 3) float64 radians about the fixed axes x, y, z in this order, R = Rz Ry Rx; SciPy's "xyz".

    Where y turns by 90 degrees, only the sum or difference of the others is known: the one about z is then 0.
    """
    r = rotations.double()
    cosine = torch.hypot(r[:, 0, 0], r[:, 1, 0])
    locked = cosine < _GIMBAL_LOCK
    x = torch.where(locked, torch.atan2(-r[:, 1, 2], r[:, 1, 1]), torch.atan2(r[:, 2, 1], r[:, 2, 2]))
    y = torch.atan2(-r[:, 2, 0], cosine)
    z = torch.where(locked, torch.zeros_like(x), torch.atan2(r[:, 1, 0], r[:, 0, 0]))
    return torch.stack([x, y, z], dim=1)


def quaternions(rotations: Matrices) -> Quaternions:
    """Unit quaternions (N, 4) float64 in the order x, y, z, w; of the two signs, the largest entry is positive.

    All four of Shepperd's forms (1978) are written down; the one that divides by the largest entry is taken.
    """
    r = rotations.double()
    trace = r.diagonal(dim1=1, dim2=2).sum(1)
    xy, xz, yz = (r[:, i, j] + r[:, j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    wx, wy, wz = r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]
    x, y, z = (1.0 - trace + 2.0 * r[:, axis, axis] for axis in range(3))
    forms = torch.stack(
        [
            torch.stack([x, xy, xz, wx], dim=1),
            torch.stack([xy, y, yz, wy], dim=1),
            torch.stack([xz, yz, z, wz], dim=1),
            torch.stack([wx, wy, wz, 1.0 + trace], dim=1),
        ],
        dim=1,
    )
    best = torch.stack([r[:, 0, 0], r[:, 1, 1], r[:, 2, 2], trace], dim=1).argmax(1)
    return torch.nn.functional.normalize(forms[torch.arange(len(r), device=r.device), best], dim=1)


def rotations_of(vectors: Vectors) -> Matrices:
    """Rotations (N, 3, 3) float64 about the directions of vectors, by their lengths in radians (the exponential map).

    Differentiable everywhere, at 0 too: optimisers move poses by rotation vectors.

    Args:
        vectors: (N, 3).
    """
    x, y, z = vectors.double().unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).unflatten(1, (3, 3))
    return torch.linalg.matrix_exp(skew)
