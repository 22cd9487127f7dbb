from __future__ import annotations

import math

import pytest
import torch

from latent_lab.objectives.mmd import SCALES, inverse_multiquadratic, mmd_squared, squared_distances


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normals(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_distances_are_those_of_the_definition(rng: torch.Generator):
    a, b = normals(rng, 5, 3), normals(rng, 4, 3)
    expected = (a[:, None] - b[None]).square().sum(2)
    torch.testing.assert_close(squared_distances(a, b), expected)


def test_the_kernel_counts_its_scales_at_distance_zero_and_half_of_one_at_that_scale():
    assert inverse_multiquadratic(torch.tensor(0.0), 4).item() == len(SCALES)
    # c = C * 2 D sigma^2 = 2 * 2 * 4 * 9 = 144, and c / (c + c) = 1/2
    assert inverse_multiquadratic(torch.tensor(144.0), 4, scales=[2.0], prior_deviation=3.0).item() == 0.5


def test_two_points_each_follow_the_closed_form():
    # One dimension, one scale, c = 2: k = 2 / (2 + d^2). Codes 0 and 1: k = 2/3; prior 2 and 4: k = 1/3; the distances
    # between are 2, 4, 1, 3.
    codes, prior = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])
    across = (2 / 6 + 2 / 18 + 2 / 3 + 2 / 11) / 4
    expected = 2 / 3 + 1 / 3 - 2 * across
    assert mmd_squared(codes, prior, scales=[1.0]).item() == pytest.approx(expected, rel=1e-6)


def test_it_is_unbiased_zero_on_average_for_equal_distributions(rng: torch.Generator):
    values = torch.stack([mmd_squared(normals(rng, 8, 4), normals(rng, 8, 4)) for _ in range(400)])
    # Four standard errors; the biased estimate, with its diagonal, would lie near 2 (7 - 3.8) / 8 = 0.8.
    assert abs(values.mean().item()) < 4 * values.std().item() / math.sqrt(len(values)) < 0.1


def test_other_means_and_other_spreads_are_told_apart(rng: torch.Generator):
    prior = normals(rng, 200, 8)
    same = mmd_squared(normals(rng, 200, 8), prior)
    shifted = mmd_squared(normals(rng, 200, 8) + 0.5, prior)
    narrow = mmd_squared(0.5 * normals(rng, 200, 8), prior)
    assert shifted > 10 * same.abs()
    assert narrow > 10 * same.abs()


def test_order_and_common_rotations_do_not_matter(rng: torch.Generator):
    codes, prior = normals(rng, 10, 6), normals(rng, 10, 6)
    rotation, _ = torch.linalg.qr(normals(rng, 6, 6))
    expected = mmd_squared(codes, prior)
    torch.testing.assert_close(mmd_squared(codes.flip(0), prior), expected)
    torch.testing.assert_close(mmd_squared(codes @ rotation, prior @ rotation), expected)


def test_its_gradient_exists_where_codes_are_equal(rng: torch.Generator):
    codes = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    mmd_squared(codes, normals(rng, 4, 3)).backward()
    assert codes.grad is not None
    assert torch.isfinite(codes.grad).all()
    assert codes.grad.abs().sum() > 0


def test_its_gradient_is_that_of_finite_differences(rng: torch.Generator):
    codes = normals(rng, 4, 3).requires_grad_()
    prior = normals(rng, 4, 3)
    assert torch.autograd.gradcheck(lambda x: mmd_squared(x, prior), codes)


def test_half_precision_is_widened(rng: torch.Generator):
    codes, prior = normals(rng, 8, 4).bfloat16(), normals(rng, 8, 4).bfloat16()
    assert mmd_squared(codes, prior).dtype == torch.float32
    torch.testing.assert_close(mmd_squared(codes, prior), mmd_squared(codes.float(), prior.float()))


def test_a_single_code_is_no_set():
    with pytest.raises(ValueError, match="needs at least 2 codes, got 1"):
        mmd_squared(torch.zeros(1, 3), torch.zeros(1, 3))
