"""Matrices that are to be rotations: whether they are, and the rotations that are nearest to them."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

ROTATION_TOLERANCE = 0.01
"""How much an entry of R^T R may differ from the identity's: poses written with three digits pass."""
_EXACT = 1e-14
"""As much as in rotations that are only rounded to float64."""
_NOT_UNIQUE = 1e-9

Matrices: TypeAlias = Float[Tensor, "N 3 3"]
"""One 3x3 matrix for each frame."""


def orthogonality_errors(matrices: Matrices) -> Float[Tensor, "N"]:
    """Largest entry of R^T R - I, (N,) float64."""
    matrices = matrices.double()
    identity = torch.eye(3, dtype=torch.float64, device=matrices.device)
    return (matrices.mT @ matrices - identity).abs().amax((1, 2))


def check_rotations(matrices: Matrices, tolerance: float = ROTATION_TOLERANCE) -> None:
    """Passes if all matrices are rotations.

    Args:
        matrices: (N, 3, 3).
        tolerance: largest difference allowed between an entry of R^T R and of the identity.

    Raises:
        ValueError: names the first matrix that is none, and why.
    """
    matrices = matrices.detach().double()
    count = len(matrices)
    broken = ~matrices.isfinite().all(2).all(1)
    if broken.any():
        raise ValueError(
            f"rotation {_first(broken)} of {count} has entries that are not finite: leave out frames whose pose is "
            "not known"
        )
    error = orthogonality_errors(matrices)
    if (error > tolerance).any():
        place = _first(error > tolerance)
        raise ValueError(
            f"matrix {place} of {count} is no rotation: R^T R differs from the identity by {error[place].item():.2g}, "
            f"more than {tolerance:g}; give matrices without scale and shear, or make them rotations with "
            "project_rotations"
        )
    mirrored = torch.linalg.det(matrices) < 0
    if mirrored.any():
        raise ValueError(
            f"matrix {_first(mirrored)} of {count} is a reflection (determinant -1), not a rotation: its coordinates "
            "are of the other handedness, so turn one camera axis round"
        )


def project_rotations(matrices: Matrices) -> Matrices:
    """The nearest rotations in the Frobenius norm, (N, 3, 3) float64: U diag(1, 1, det U V^T) V^T of M = U S V^T.

    The sign keeps reflections out. Rotations of full precision stay as they are, since small angles between them would
    be lost in the rounding of the decomposition. Scale and shear go, unlike in the published program, which corrects
    the scale alone by sqrt(tr(R^T R) / 3).

    Args:
        matrices: (N, 3, 3).

    Raises:
        ValueError: if a matrix is not finite, or has several nearest rotations (0, or a reflection of a rotation).
    """
    matrices = matrices.double()
    broken = ~matrices.isfinite().all(2).all(1)
    if broken.any():
        raise ValueError(f"matrix {_first(broken)} of {len(matrices)} is not finite: it has no nearest rotation")
    left, singular, right = torch.linalg.svd(matrices)
    sign = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0).double()
    unclear = singular[:, 1] + sign * singular[:, 2] <= _NOT_UNIQUE * singular[:, 0]
    if unclear.any():
        raise ValueError(
            f"matrix {_first(unclear)} of {len(matrices)} has no single nearest rotation (singular values "
            f"{', '.join(f'{value:.2g}' for value in singular[unclear][0].tolist())}): its pose is not known"
        )
    # Scaling the last column of U by the sign is the product with diag(1, 1, sign).
    ones = torch.ones_like(sign)
    nearest = (left * torch.stack([ones, ones, sign], dim=1).unsqueeze(1)) @ right
    exact = (orthogonality_errors(matrices) <= _EXACT) & (sign > 0)
    return torch.where(exact[:, None, None], matrices, nearest)


def _first(where: Tensor) -> int:
    return int(where.nonzero()[0, 0])


__all__ = ["ROTATION_TOLERANCE", "Matrices", "check_rotations", "orthogonality_errors", "project_rotations"]
