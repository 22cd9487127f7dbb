"""Linear separability: entropies of tables that are known, and of labels that hyperplanes find or cannot find."""

import math

import pytest
import torch

from latent_lab.metrics.functional import (
    attribute_entropy,
    conditional_entropy,
    most_confident,
    separability_score,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def binary_entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


@pytest.mark.parametrize(
    ("table", "bits"),
    [
        ([[5, 0], [0, 3]], 0.0),
        ([[2, 2], [2, 2]], 1.0),
        ([[3, 1], [1, 3]], binary_entropy(0.25)),
        ([[6, 2], [0, 0]], binary_entropy(0.25)),
        ([[4, 0], [2, 2]], 0.5),
    ],
)
def test_conditional_entropies_of_known_tables(table: list[list[int]], bits: float) -> None:
    counts = torch.tensor(table, dtype=torch.float64)
    assert conditional_entropy(counts) == pytest.approx(bits, abs=1e-12)
    assert conditional_entropy(counts / counts.sum()) == pytest.approx(bits, abs=1e-12)


def test_what_is_known_is_in_the_rows() -> None:
    counts = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert conditional_entropy(counts) == pytest.approx(0.5)
    assert conditional_entropy(counts.T) == pytest.approx(0.0)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one observation, got none"):
        conditional_entropy(torch.zeros(2, 2))


def test_the_score_is_two_to_the_sum_of_bits() -> None:
    assert separability_score([]) == 1.0
    assert separability_score([1.0, 1.0, 0.5]) == pytest.approx(2**2.5)


def test_the_most_confident_are_far_from_even_odds_either_way() -> None:
    assert most_confident(torch.tensor([0.1, -3.0, 2.0, -0.2, 5.0]), 0.6).tolist() == [4, 1, 2]
    assert most_confident(torch.tensor([0.1, -3.0]), 0.1).tolist() == [1]


def test_labels_on_the_two_sides_of_a_hyperplane_are_perfectly_separable() -> None:
    points = normal(400, 5)
    log_odds = points @ normal(5, seed=1) - 0.3
    assert attribute_entropy(points, log_odds) == pytest.approx(0.0, abs=1e-12)


def test_labels_that_have_nothing_to_do_with_the_points_leave_one_bit_open() -> None:
    # A fit to noise finds about sqrt(D / N) of it: the open share is below 1 by a hundredth.
    assert attribute_entropy(normal(4000, 3), normal(4000, seed=1), 1.0) > 0.99


def test_labels_of_a_curved_boundary_are_not_linearly_separable() -> None:
    points = normal(2000, 2)
    assert attribute_entropy(points, points[:, 0] * points[:, 1]) > 0.9


def test_labels_that_are_all_equal_leave_nothing_open() -> None:
    assert attribute_entropy(normal(50, 3), 1.0 + normal(50).abs()) == 0.0
