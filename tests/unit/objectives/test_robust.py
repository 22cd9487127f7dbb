"""The general and adaptive robust loss: closed forms, limits, and that it is the logarithm of a density."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from latent_lab.objectives.robust import adaptive_nll, general_rho, log_partition

SHAPES = [0.001, 0.1, 0.5, 1.0, 1.5, 1.9, 1.999]


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


RESIDUALS = double(-30.0, -2.0, -0.3, 0.0, 1e-6, 0.7, 5.0)

# The general loss


@pytest.mark.parametrize(
    ("shape", "closed_form"),
    [
        (2.0, lambda x: x**2 / 2),
        (1.0, lambda x: (x**2 + 1).sqrt() - 1),
        (0.0, lambda x: torch.log(1 + x**2 / 2)),
        (-2.0, lambda x: 2 * x**2 / (x**2 + 4)),
        (-math.inf, lambda x: 1 - torch.exp(-(x**2) / 2)),
        (4.0, lambda x: ((x**2 / 2 + 1) ** 2 - 1) / 2),
    ],
)
def test_well_known_losses_are_members_of_the_family(shape: float, closed_form) -> None:
    # Closed forms subtract from 1, which leaves 1e-16 where the loss itself is 5e-13.
    torch.testing.assert_close(general_rho(RESIDUALS, shape, 1.0), closed_form(RESIDUALS), rtol=1e-12, atol=1e-15)


def test_at_infinite_shape_it_is_the_exponential_of_a_square() -> None:
    residual = double(0.1, 1.0, 3.0)
    torch.testing.assert_close(general_rho(residual, math.inf, 1.0), torch.exp(residual**2 / 2) - 1)


@pytest.mark.parametrize("limit", [0.0, 2.0])
@pytest.mark.parametrize("side", [-1e-7, 1e-7])
def test_shapes_beside_a_limit_agree_with_it(limit: float, side: float) -> None:
    # The difference relative to the loss is ln(s / 1e-7) 1e-7 / 2 beside shape 2, about 1e-6 here, and less beside 0.
    beside, at = (general_rho(RESIDUALS, shape, 1.0) for shape in (limit + side, limit))
    torch.testing.assert_close(beside, at, rtol=5e-6, atol=1e-15)


def test_large_negative_shapes_approach_welsch() -> None:
    beside, at = (general_rho(RESIDUALS, shape, 1.0) for shape in (-1e9, -math.inf))
    torch.testing.assert_close(beside, at, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("shape", [-math.inf, -2.0, 0.0, 1e-6, 1.0, 1.999999, 2.0, 3.0, math.inf])
def test_gradients_in_residuals_are_finite_and_those_of_the_loss(shape: float) -> None:
    residual = double(-2.0, -0.3, 0.0, 0.7, 3.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: general_rho(x, shape, 0.8), residual, atol=1e-6)


@pytest.mark.parametrize("shape", [-math.inf, 0.0, 0.001, 1.0, 1.999, 2.0, 4.0, math.inf])
def test_float32_losses_and_gradients_are_finite_for_huge_residuals(shape: float) -> None:
    residual = torch.tensor([0.0, 1e-20, 1.0, 1e4, 1e15], requires_grad=True)
    loss = general_rho(residual, shape, 1.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert residual.grad.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_small_residuals_cost_half_their_square_whatever_the_shape(shape: float) -> None:
    residual = double(1e-4)
    torch.testing.assert_close(general_rho(residual, shape, 1.0), residual**2 / 2, rtol=1e-4, atol=0)


def test_residuals_count_in_units_of_the_scale() -> None:
    torch.testing.assert_close(general_rho(3 * RESIDUALS, 0.7, 3.0), general_rho(RESIDUALS, 0.7, 1.0))


def test_shapes_and_scales_are_broadcast() -> None:
    residual = RESIDUALS[:6].view(2, 3)
    shapes, scales = double(0.0, 1.3, 2.0), double(0.5, 1.0, 2.0)
    together = general_rho(residual, shapes, scales)
    for column in range(3):
        alone = general_rho(residual[:, column], shapes[column].item(), scales[column].item())
        torch.testing.assert_close(together[:, column], alone)


def test_shapes_learn_beside_one_that_is_a_limit() -> None:
    shapes = torch.tensor([0.0, 1.0, 2.0, math.inf], requires_grad=True)
    general_rho(torch.ones(4), shapes, 1.0).sum().backward()
    assert shapes.grad.isfinite().all()
    assert shapes.grad.nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_residuals_are_judged_in_float32(dtype: torch.dtype) -> None:
    residual = RESIDUALS.to(dtype)
    ones = torch.ones(7)
    assert torch.equal(adaptive_nll(residual, ones, ones), adaptive_nll(residual.float(), ones, ones))
    assert adaptive_nll(residual, ones, ones).dtype == torch.float32


# The normalising constant


def log_integral(shape: float) -> float:
    """ln Z by scipy's adaptive quadrature, with x = sinh t."""

    def integrand(t: float) -> float:
        return math.exp(-general_rho(double(math.sinh(t)), shape, 1.0).item()) * math.cosh(t)

    value, _ = quad(integrand, 0, 40, limit=200, epsabs=1e-11, epsrel=1e-10, points=[1, 3, 6, 12])
    return math.log(2 * value)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_table_agrees_with_adaptive_quadrature(shape: float) -> None:
    assert log_partition(double(shape)).item() == pytest.approx(log_integral(shape), abs=1e-8)


def test_its_ends_and_middle_are_known() -> None:
    # The Gaussian, Cauchy's density with scale sqrt(2), and between them 2 e K_1(1), the Laplace-like one.
    known = double(
        math.log(2 * math.pi) / 2, math.log(math.pi * math.sqrt(2)), math.log(2 * math.e * 0.6019072301972346)
    )
    torch.testing.assert_close(log_partition(double(2.0, 0.0, 1.0)), known, rtol=0, atol=1e-10)


def test_float32_keeps_six_digits() -> None:
    shapes = torch.linspace(0, 2, 4001)
    torch.testing.assert_close(log_partition(shapes).double(), log_partition(shapes.double()), rtol=0, atol=5e-7)


def test_its_gradient_is_that_of_the_integral() -> None:
    shapes = double(*SHAPES).requires_grad_()
    log_partition(shapes).sum().backward()
    for shape, gradient in zip(SHAPES, shapes.grad.tolist(), strict=True):
        step = 1e-2 * min(shape, 2 - shape)
        slope = (log_integral(shape + step) - log_integral(shape - step)) / (2 * step)
        # The quadrature is good for 1e-10, which the smallest step magnifies to 1e-5; curvature adds about as much.
        assert gradient == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("shape", [-0.1, 2.1])
def test_shapes_without_a_density_have_no_partition(shape: float) -> None:
    assert log_partition(double(shape)).isnan().all()


def test_a_table_made_in_inference_mode_serves_training() -> None:
    from latent_lab.objectives import robust

    robust._spline.cache_clear()
    with torch.inference_mode():
        log_partition(torch.ones(2))
    shape = torch.ones(2, requires_grad=True)
    log_partition(shape).sum().backward()
    assert shape.grad.isfinite().all()


# The density


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_the_likelihood_is_that_of_a_density(shape: float, scale: float) -> None:
    # The trapezoidal rule over x = scale sinh(t) is exact to many digits for smooth, fading integrands.
    t = torch.arange(-45.0, 45.0, 1 / 32, dtype=torch.float64)
    density = torch.exp(-adaptive_nll(scale * torch.sinh(t), double(shape), double(scale)))
    total = (density * scale * torch.cosh(t)).sum() / 32
    assert total.item() == pytest.approx(1, abs=1e-6)


def test_shape_two_is_the_normal_distribution() -> None:
    expected = -torch.distributions.Normal(double(0.0), double(0.3)).log_prob(RESIDUALS)
    torch.testing.assert_close(adaptive_nll(RESIDUALS, double(2.0), double(0.3)), expected, rtol=1e-9, atol=0)


def test_gradients_in_shape_and_scale_agree_with_finite_differences() -> None:
    residual, shapes, scales = double(0.1, -0.5, 2.0), double(0.2, 1.1, 1.8), double(0.3, 1.0, 2.0)
    inputs = (residual.requires_grad_(), shapes.requires_grad_(), scales.requires_grad_())
    assert torch.autograd.gradcheck(adaptive_nll, inputs, atol=1e-6)
