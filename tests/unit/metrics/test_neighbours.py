"""Nearest neighbours: exact distances, ties, copies, independent program, bad input."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from latent_lab.metrics.functional import nearest


def cloud(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def by_hand(queries: torch.Tensor, points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    distances = (queries.double()[:, None] - points.double()).square().sum(2).sqrt()
    ordered, order = distances.sort(dim=1, stable=True)
    return ordered[:, :k], order[:, :k]


@pytest.mark.parametrize("width", [1, 3, 40])
def test_neighbours_are_those_of_scikit_learn(width: int) -> None:
    queries, points = cloud(150, width), cloud(200, width, 1)
    theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(points.double().numpy())
    distances, indices = theirs.kneighbors(queries.double().numpy())
    ours = nearest(queries, points, 4)
    # scikit-learn's distances come from products, too, whose float64 rounding is about 1e-8 of the largest norm.
    torch.testing.assert_close(ours.distances, torch.from_numpy(distances), rtol=1e-7, atol=1e-7)
    assert torch.equal(ours.indices, torch.from_numpy(indices))


def test_a_vector_is_no_neighbour_of_itself_where_the_same_is_left_out() -> None:
    points = cloud(60, 5)
    theirs = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(points.double().numpy())
    assert torch.equal(nearest(points, points, 3, exclude_same=True).indices, torch.from_numpy(theirs.kneighbors()[1]))


def test_a_vector_is_at_distance_zero_from_itself_however_large_the_mean() -> None:
    points = cloud(50, 30) + 1e4
    found = nearest(points, points, 1)
    assert torch.equal(found.distances, torch.zeros(50, 1, dtype=torch.float64))
    assert torch.equal(found.indices[:, 0], torch.arange(50))


def test_distances_are_float64_exact_where_float32_products_see_nothing() -> None:
    # Two clusters far apart, whose members differ by less than float32 products of their coordinates resolve.
    points = cloud(40, 16, 1) * 1e-4 + torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0)[:, None]
    expected = by_hand(points, points, 5)
    found = nearest(points, points, 5)
    torch.testing.assert_close(found.distances, expected[0], rtol=1e-12, atol=0)
    assert torch.equal(found.indices, expected[1])


def test_of_equally_near_points_those_with_smaller_numbers_come_first() -> None:
    points = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [3.0]])
    assert nearest(torch.zeros(1, 1), points, 3).indices.tolist() == [[0, 1, 2]]
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    assert torch.equal(nearest(grid, grid, 5).indices, by_hand(grid, grid, 5)[1])


def test_copies_are_neighbours_of_each_other_at_distance_zero() -> None:
    points = cloud(7, 4).repeat(20, 1)
    found = nearest(points, points, 2, exclude_same=True)
    assert torch.equal(found.distances, torch.zeros(140, 2, dtype=torch.float64))
    assert found.indices[:3].tolist() == [[7, 14], [8, 15], [9, 16]]
    assert found.indices[139].tolist() == [6, 13]


def test_a_collapsed_set_is_no_harder_than_any_other() -> None:
    points = torch.ones(4000, 64)
    found = nearest(points, points, 3, exclude_same=True)
    assert found.distances.max() == 0
    assert found.indices[0].tolist() == [1, 2, 3]
    assert found.indices[3999].tolist() == [0, 1, 2]


def test_blocks_and_a_common_scale_change_no_neighbour() -> None:
    queries, points = cloud(90, 12), cloud(70, 12, 1)
    whole = nearest(queries, points, 6)
    pieces = nearest(queries, points, 6, block=7)
    huge = nearest(queries.double() * 1e200, points.double() * 1e200, 6)
    assert torch.equal(whole.indices, pieces.indices)
    assert torch.equal(whole.distances, pieces.distances)
    assert torch.equal(whole.indices, huge.indices)


def test_products_of_shortened_factors_change_no_neighbour() -> None:
    queries, points = cloud(80, 200), cloud(100, 200, 1)
    expected = nearest(queries, points, 3)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = nearest(queries, points, 3)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


def test_all_other_points_can_be_neighbours() -> None:
    points = cloud(5, 2)
    assert nearest(points, points, 4, exclude_same=True).indices.sort(1).values[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("queries", "points", "k", "exclude_same", "sentence"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 2), 4, False, "4 nearest neighbours need at least 4 points, got 3"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 3, True, "3 nearest neighbours need at least 4 points, got 3"),
        (torch.zeros(3, 2), torch.zeros(3, 5), 1, False, "vectors of one width, got 2 .queries. and 5 .points."),
        (torch.zeros(3, 2), torch.zeros(4, 2), 1, True, "to be one set, got 3 and 4"),
        (torch.zeros(3, 2), torch.full((4, 2), torch.nan), 1, False, "got NaN or infinity in 4 of 4 rows"),
        (torch.zeros(3, 2), torch.zeros(4, 2), 0, False, "k must be at least 1, got 0"),
    ],
)
def test_bad_input_gets_one_sentence(
    queries: torch.Tensor, points: torch.Tensor, k: int, exclude_same: bool, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        nearest(queries, points, k, exclude_same=exclude_same)
