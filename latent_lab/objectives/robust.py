"""The general and adaptive robust loss (Barron, "A General and Adaptive Robust Loss Function", CVPR 2019).

One family from squares (shape 2) over smoothed absolute values (1) to Cauchy's loss (0) and beyond. As the negative
logarithm of a density, it lets shape and scale be learned: what they save by ignoring a residual they pay in the
normalising constant.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

_LARGEST_EXPONENT = 87.5
"""Keeps exponentials within float32; larger arguments have no gradient, as in the published program."""
_NUM_KNOTS = 1025


def general_rho(residual: Tensor, shape: Tensor | float, scale: Tensor | float) -> Tensor:
    """The general robust loss of every residual x, with s = (x / scale)^2 and b = |shape - 2|.

    (b / shape) ((s / b + 1)^(shape / 2) - 1), Barron's equation 1, and its limits (equation 8):
        shape = 2: s / 2
        shape = 0: ln(1 + s / 2)
        shape = -inf: 1 - exp(-s / 2), Welsch's loss
        shape = +inf: exp(s / 2) - 1

    Args:
        residual: (...), of any size.
        shape: real or infinite, broadcast with the residual. In the limits it has no gradient.
        scale: above 0, in the residual's units: where squares go over to the shape's own growth; broadcast, too.

    Returns:
        (...), at least 0, not reduced; float32, or float64 if the residual is.
    """
    residual = residual if residual.dtype == torch.float64 else residual.float()
    shape = torch.as_tensor(shape, dtype=residual.dtype, device=residual.device)
    scale = torch.as_tensor(scale, dtype=residual.dtype, device=residual.device)
    squares = (residual / scale).square()
    half = squares / 2
    # An unselected branch of `where` must be finite, or its gradient is NaN.
    is_limit = (shape == 0) | (shape == 2) | shape.isinf()
    regular = torch.where(is_limit, torch.ones_like(shape), shape)
    beside = (regular - 2).abs()
    exponent = (regular / 2 * torch.log1p(squares / beside)).clamp_max(_LARGEST_EXPONENT)
    rho = beside / regular * torch.expm1(exponent)
    rho = torch.where(shape == 2, half, rho)
    rho = torch.where(shape == 0, torch.log1p(half), rho)
    rho = torch.where(shape == -math.inf, -torch.expm1(-half), rho)
    return torch.where(shape == math.inf, torch.expm1(half.clamp_max(_LARGEST_EXPONENT)), rho)


def log_partition(shape: Tensor) -> Tensor:
    """The logarithm of Z(shape), the integral of exp(-general_rho(x, shape, 1)) over all x.

    A cubic spline through values by quadrature, off by less than 1e-6, and differentiable.

    Args:
        shape: (...) in [0, 2]; elsewhere the result is NaN (below 0 the integral is infinite).

    Returns:
        (...) between ln sqrt(2 pi) = 0.9189 (shape 2) and ln(pi sqrt(2)) = 1.4913 (shape 0); float32, or float64 if the
        shape is.
    """
    shape = shape if shape.dtype == torch.float64 else shape.float()
    knots, coefficients = _spline(shape.dtype, shape.device)
    piece = torch.bucketize(shape.detach().contiguous(), knots[1:-1])
    cubic, square, linear, constant = coefficients[:, piece]
    distance = shape - knots[piece]
    value = ((cubic * distance + square) * distance + linear) * distance + constant
    return torch.where((shape >= 0) & (shape <= 2), value, torch.full_like(value, torch.nan))


def adaptive_nll(residual: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    """-ln p(x) of every residual, with the density p(x) = exp(-general_rho(x, shape, scale)) / (scale Z(shape)).

    Barron's equations 16 and 17. It may be negative, as densities may be above 1.

    Args:
        residual: (N, ...).
        shape: (...) in [0, 2], broadcast with the residual.
        scale: (...) above 0.

    Returns:
        (N, ...) in nats, not reduced; float32, or float64 if the residual is.
    """
    rho = general_rho(residual, shape, scale)
    return rho + (scale.to(rho.dtype).log() + log_partition(shape.to(rho.dtype)))


@functools.cache
def _spline(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Knots (K,) in [0, 2] and coefficients (4, K - 1), cubic ones first, of powers of the distance from the left knot.

    Knots are dense at both ends: ln Z bends like b ln b at shape 2 - b, and its derivatives are large at 0. They are
    float32 numbers, so that distances from them are exact in either precision.
    """
    knots = 1.0 - np.cos(np.linspace(0.0, math.pi, _NUM_KNOTS))
    knots = knots.astype(np.float32).astype(np.float64)
    spline = CubicSpline(knots, _log_partition_by_quadrature(knots))
    # What is built in inference mode could not be used in training later.
    with torch.inference_mode(False):
        return torch.from_numpy(spline.x).to(device, dtype), torch.from_numpy(spline.c).to(device, dtype)


def _log_partition_by_quadrature(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithms of Z for shapes (K,) in [0, 2], to about 1e-14.

    With x = sqrt(b) sinh t, x^2 / b + 1 is cosh(t)^2, and so Z is the integral of exp(-(b / shape) (cosh(t)^shape - 1))
    sqrt(b) cosh t over all t. The integrand is analytic for |Im t| < pi / 4, where the trapezoidal rule's error falls
    exponentially with the inverse of its step.
    """
    step = 1 / 8
    t = np.arange(0.0, 45.0, step)
    log_cosh = t + np.log1p(np.exp(-2 * t)) - math.log(2)
    shape = shapes[:, None]
    beside = 2.0 - shape
    growth = np.where(shape == 0, log_cosh, np.expm1(shape * log_cosh) / np.where(shape == 0, 1.0, shape))
    integrand = np.exp(log_cosh - beside * growth)
    # The integrand is even: twice the half line, where t = 0 counts half.
    integral = 2 * step * (integrand.sum(1) - integrand[:, 0] / 2)
    with np.errstate(divide="ignore"):
        return np.where(shapes == 2, 0.5 * math.log(2 * math.pi), 0.5 * np.log(2.0 - shapes) + np.log(integral))
