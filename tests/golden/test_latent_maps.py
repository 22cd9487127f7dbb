"""Closed forms of maps between latent spaces, and their errors, against independent programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from latent_lab.latent.maps import (
    NormalEquations,
    fit_by_descent,
    fit_least_squares,
    fit_orthogonal,
    fit_published,
    fit_ridge,
    minibatches,
)

Golden = Mapping[str, Tensor]
EXACT = {"rtol": 1e-9, "atol": 1e-12}
"""Float64 on both sides; the normal equations square a condition number of about 10."""


@pytest.fixture(scope="module")
def golden(latent_golden: Callable[[str], Golden]) -> Golden:
    return latent_golden("linear_maps")


@pytest.fixture(scope="module")
def equations(golden: Golden) -> NormalEquations:
    return NormalEquations.of(golden["X"], golden["Y"])


def test_least_squares_with_and_without_bias(golden: Golden, equations: NormalEquations) -> None:
    plain, affine = fit_least_squares(equations), fit_least_squares(equations, affine=True)
    torch.testing.assert_close(plain.map.matrix, golden["M_lstsq"], **EXACT)
    assert plain.mean_squared_error == pytest.approx(golden["L_mse_lstsq"].item(), rel=1e-9)
    torch.testing.assert_close(affine.map.matrix, golden["M_affine"], **EXACT)
    torch.testing.assert_close(affine.map.bias, golden["b_affine"], **EXACT)
    assert affine.mean_squared_error == pytest.approx(golden["L_mse_affine"].item(), rel=1e-9)


def test_ridge(golden: Golden, equations: NormalEquations) -> None:
    fit = fit_ridge(equations, golden["ridge_lambda"].item())
    torch.testing.assert_close(fit.map.matrix, golden["M_ridge"], **EXACT)


@pytest.mark.parametrize(("name", "penalty"), [("1em4", 1e-4), ("15em4", 1.5e-3)])
def test_minimiser_of_the_published_objective(
    golden: Golden, equations: NormalEquations, name: str, penalty: float
) -> None:
    matrix = fit_published(equations, kernel_penalty=penalty, activity_penalty=penalty).map.matrix
    torch.testing.assert_close(matrix, golden[f"M_kerasreg_{name}"], **EXACT)
    mapped = golden["X"] @ matrix
    objective = (golden["Y"] - mapped).square().mean() + penalty * matrix.square().sum()
    objective = objective + penalty * mapped.square().sum() / len(mapped)
    assert objective.item() == pytest.approx(golden[f"obj_kerasreg_{name}"].item(), rel=1e-9)


def test_descent_ends_within_three_percent_of_the_minimiser(golden: Golden) -> None:
    # Entries of M are up to 2 here: the published 2,000 steps of 5e-4 cannot reach them.
    pairs = minibatches(golden["X"].float(), golden["Y"].float(), batch_size=120, steps=500)
    matrix = fit_by_descent(pairs, learning_rate=0.02).matrix.double()
    exact = golden["M_kerasreg_1em4"]
    assert (matrix - exact).norm() / exact.norm() < 0.03


def test_smallest_map_of_fewer_pairs_than_coordinates(golden: Golden) -> None:
    equations = NormalEquations.of(golden["wide_X"], golden["wide_Y"])
    fit = fit_least_squares(equations, minimum_norm=True)
    torch.testing.assert_close(fit.map.matrix, golden["wide_M_minnorm"], **EXACT)
    assert fit.rank == 6


def test_orthogonal_map_with_scale(golden: Golden) -> None:
    source, target = golden["proc_X"], golden["proc_Y"]
    equations = NormalEquations.of(source, target)
    rotation = fit_orthogonal(equations, scaled=False).map.matrix
    torch.testing.assert_close(rotation, golden["proc_R"], **EXACT)
    fit = fit_orthogonal(equations)
    assert (fit.map.matrix / rotation).mean().item() == pytest.approx(golden["proc_scale"].item(), rel=1e-9)
    assert fit.mean_squared_error == pytest.approx(golden["proc_residual_mse"].item(), rel=1e-9)
