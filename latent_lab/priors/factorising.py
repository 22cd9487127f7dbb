"""Cholesky factors of covariances that may be singular: a camera that stands still repeats poses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)
"""Shares of the mean of the diagonal that are added to it, in the order in which they are tried.

Where the matrix has a factor as it is, nothing is added, so that numbers are exact. Rounding makes eigenvalues of
repeated poses about -10^-15 of the largest, which the first of the others repairs; the last is the usual one of
single-precision programs. A matrix that needs more has negative eigenvalues of its own and is refused.
"""


def cholesky(matrix: Float[Tensor, "*L N N"], what: str) -> Float[Tensor, "*L N N"]:
    """The lower factor L of a covariance L L^T, with the least jitter that gives one; differentiable.

    Args:
        matrix: (..., N, N) float64, symmetric; one jitter serves all.
        what: as in "the covariance of the observed frames".

    Raises:
        ValueError: if entries are not finite, or no jitter gives a factor, since the matrix is no covariance.
    """
    if not matrix.isfinite().all():
        raise ValueError(f"{what} is not finite: check poses and hyper-parameters")
    scale = matrix.detach().diagonal(dim1=-2, dim2=-1).mean()
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for jitter in JITTERS:
        factor, failed = torch.linalg.cholesky_ex(matrix + jitter * scale * identity if jitter else matrix)
        if not failed.any():
            return factor
    lowest = torch.linalg.eigvalsh(matrix.detach()).min().item()
    raise ValueError(
        f"{what} is no covariance: its lowest eigenvalue is {lowest:.3g}; take a kernel that is positive "
        "semi-definite, such as view, or more noise"
    )
