"""Spectrum, ranks and collapsed coordinates."""

import pytest
import torch

from latent_lab.metrics.functional import active_subspace
from latent_lab.metrics.functional.active_subspace import whiten


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ranks_of_a_known_spectrum() -> None:
    # Orthogonal columns: variances 4, 1 and 1 exactly.
    basis = torch.linalg.qr(torch.cat([torch.ones(60, 1, dtype=torch.float64), normal(60, 3)], 1)).Q[:, 1:]
    found = active_subspace(basis * 59**0.5 * torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))
    assert found.eigenvalues.tolist() == pytest.approx([4.0, 1.0, 1.0])
    assert found.participation_ratio == pytest.approx(36 / 18)
    p = torch.tensor([2 / 3, 1 / 6, 1 / 6], dtype=torch.float64)
    assert found.entropy_rank == pytest.approx(torch.exp(-(p * p.log()).sum()).item())
    assert found.numerical_rank == 3


def test_a_combination_of_coordinates_costs_a_rank_whatever_the_units() -> None:
    codes = normal(50, 4)
    codes[:, 3] = codes[:, 0] - 2 * codes[:, 1]
    scaled = codes * torch.tensor([1e-9, 1.0, 1e6, 1.0], dtype=torch.float64) + 1e3
    assert active_subspace(codes).numerical_rank == 3
    assert active_subspace(scaled * torch.tensor([1, 1, 1, 0])).numerical_rank == 3


def test_fewer_codes_than_coordinates_span_one_dimension_less_than_there_are() -> None:
    assert active_subspace(normal(10, 30)).numerical_rank == 9


def test_collapsed_coordinates_are_named() -> None:
    codes = normal(500, 5)
    codes[:, 1] *= 0.01
    codes[:, 4] = 7.0
    found = active_subspace(codes)
    assert found.collapsed.tolist() == [1, 4]
    assert found.numerical_rank == 4
    assert found.variances.shape == (5,)


def test_equal_codes_have_no_subspace() -> None:
    with pytest.raises(ValueError, match="all 5 codes are equal: the latent space has collapsed"):
        active_subspace(torch.full((5, 3), 0.1))


def test_codes_that_are_not_finite_are_counted() -> None:
    codes = normal(5, 3)
    codes[2, 1] = float("nan")
    with pytest.raises(ValueError, match="1 of 5 are not"):
        active_subspace(codes)


def test_fewer_codes_than_coordinates_have_the_same_spectrum_and_distances() -> None:
    codes = normal(12, 40)
    # More rows by repetition: the population covariance stays, the way in which it is computed does not.
    many = codes.repeat(4, 1)
    wide, tall = active_subspace(codes), active_subspace(many)
    assert len(wide.eigenvalues) == 40
    torch.testing.assert_close(wide.eigenvalues * 11 / 12, tall.eigenvalues * 47 / 48, rtol=1e-9, atol=1e-9)
    assert whiten(codes).rank == whiten(many).rank == 11
    torch.testing.assert_close(
        torch.cdist(whiten(codes).rows, whiten(codes).rows),
        torch.cdist(whiten(many).rows, whiten(many).rows)[:12, :12],
        rtol=1e-6,
        atol=1e-6,
    )
