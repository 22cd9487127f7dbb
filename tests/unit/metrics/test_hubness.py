"""Hubs, shared attributes and shared neighbours."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch import Tensor

from latent_lab.metrics.functional import (
    agreement_beyond_chance,
    attribute_retention,
    binomial_hubness,
    distinct_neighbours,
    hubness,
    hubness_interval,
    neighbour_occurrence,
    neighbour_overlap,
    neighbour_overlap_interval,
)

NAN = float("nan")


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_occurrence_counts_how_often_a_point_is_a_neighbour() -> None:
    indices = torch.tensor([[1, 2], [2, 0], [1, 3]])
    assert neighbour_occurrence(indices, 5).tolist() == [1, 2, 2, 1, 0]


def test_everybody_equally_often_is_no_hubness() -> None:
    found = hubness(torch.full((10,), 3))
    assert found == (0.0, 0.0, 0.0, 0.0, 3, 0.0)


def test_one_hub_that_is_everybodys_neighbour() -> None:
    counts = torch.zeros(10, dtype=torch.int64)
    counts[3] = 10
    found = hubness(counts)
    assert found.antihub_share == pytest.approx(0.9)
    assert found.hub_share == pytest.approx(0.1)
    assert found.hub_occurrence == 1.0
    assert found.largest == 10
    assert found.robin_hood == pytest.approx(0.9)
    assert found.skewness == pytest.approx(scipy.stats.skew(counts.numpy()))


def test_hubness_grows_with_the_dimension() -> None:
    def skewness(d: int) -> float:
        return hubness(neighbour_occurrence(distinct_neighbours(normal(400, d), 5).indices, 400)).skewness

    assert skewness(3) < 1.0 < 2.0 < skewness(100)


def test_itself_and_its_copies_are_no_neighbours() -> None:
    points = torch.tensor([[0.0], [0.0], [1.0], [3.0], [0.0]])
    found = distinct_neighbours(points, 2)
    assert found.indices[[0, 1, 4]].tolist() == [[2, 3]] * 3
    assert found.distances[2].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="5 points have 2 others that differ from them, and not 3"):
        distinct_neighbours(points, 3)


def test_rates_of_attributes_written_out() -> None:
    labels = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    found = attribute_retention(torch.tensor([[1], [2], [3], [2]]), labels)
    assert found.query_rate.item() == found.point_rate.item() == 0.5
    assert found.neighbour_rate.item() == 0.25
    assert found.retention.item() == 0.5
    assert found.agreement.item() == 0.75
    assert found.chance_agreement.item() == 0.5


def test_random_neighbours_agree_as_often_as_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    queries, points = ((torch.rand(3000, 2, generator=rng) < torch.tensor([0.1, 0.6])).float() for _ in range(2))
    found = attribute_retention(torch.randint(3000, (3000, 5), generator=rng), queries, points)
    # 15,000 pairs know a share to about 0.4 %.
    torch.testing.assert_close(found.agreement, found.chance_agreement, rtol=0, atol=0.02)
    torch.testing.assert_close(found.retention, found.point_rate, rtol=0, atol=0.03)


def test_unknown_labels_do_not_count() -> None:
    labels = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, NAN]])
    found = attribute_retention(torch.tensor([[2], [0], [1]]), labels)
    assert found.agreement[0].item() == 0.0
    assert found.query_rate[0].item() == 0.5
    assert found.agreement[1].isnan()


def test_overlap_of_equal_disjoint_and_unrelated_neighbours() -> None:
    a = torch.tensor([[0, 1], [2, 3]])
    assert neighbour_overlap(a, a.flip(1), num_candidates=8).value == 1.0
    assert neighbour_overlap(a, a + 4, num_candidates=8).value == 0.0
    unrelated = [distinct_neighbours(normal(500, 4, seed), 10).indices for seed in (0, 1)]
    found = neighbour_overlap(*unrelated, num_candidates=499)
    interval = neighbour_overlap_interval(*unrelated, num_candidates=499, level=0.999)
    assert found.chance == pytest.approx(10 / 499)
    assert interval.low < found.chance < interval.high


def test_a_rotated_space_has_the_same_neighbours() -> None:
    points = normal(200, 6)
    turned = points @ torch.linalg.qr(normal(6, 6, 1)).Q * 3.0
    a, b = (distinct_neighbours(space, 5).indices for space in (points, turned))
    assert neighbour_overlap(a, b, num_candidates=199).value == 1.0


def test_what_does_not_fit_is_said() -> None:
    indices = torch.tensor([[0, 5]])
    with pytest.raises(ValueError, match="indices from 0 to 4, got 0 to 5"):
        neighbour_occurrence(indices, 5)
    with pytest.raises(ValueError, match="got none"):
        hubness(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"equally many neighbours in both, got \(1, 2\) and \(1, 1\)"):
        neighbour_overlap(indices, indices[:, :1], num_candidates=9)
    with pytest.raises(ValueError, match="as many rows of labels"):
        attribute_retention(indices, torch.zeros(3, 2))


def test_queries_of_their_own_have_the_nearest_points_that_are_no_copies() -> None:
    points = torch.tensor([[0.0], [0.0], [1.0], [3.0]])
    found = distinct_neighbours(points, 1, queries=torch.tensor([[0.0], [2.9], [3.0]]))
    assert found.indices.tolist() == [[2], [3], [2]]
    assert found.distances.flatten().tolist() == pytest.approx([1.0, 0.1, 2.0], abs=1e-6)
    with pytest.raises(ValueError, match="4 points have 2 others that differ from them, and not 3"):
        distinct_neighbours(points, 3, queries=points[:1])


def test_agreement_beyond_chance_by_hand() -> None:
    # Half of the points have the first label: chance 1/2. A quarter has the second: chance 5/8.
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = agreement_beyond_chance(torch.tensor([[1], [0], [3], [0]]), labels)
    # Of the first label queries 0, 1, 2 agree with their neighbours, of the second query 2 alone.
    assert found.of_labels.tolist() == pytest.approx([(3 / 4 - 1 / 2) * 2, (1 / 4 - 5 / 8) * 8 / 3])
    assert found.value == pytest.approx((0.5 - 1.0) / 2)
    assert found.of_queries.tolist() == pytest.approx([(1 - 5 / 3) / 2] * 2 + [1.0, (-1 - 5 / 3) / 2])


def test_labels_that_are_alike_everywhere_do_not_count() -> None:
    labels = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    found = agreement_beyond_chance(torch.tensor([[1], [0], [3], [2]]), labels)
    assert found.of_labels[0].isnan()
    assert found.value == 1.0


def test_neighbours_drawn_at_random_are_binomial() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = torch.stack([torch.randperm(1000, generator=rng)[:10] for _ in range(1000)])
    found, expected = hubness(neighbour_occurrence(drawn, 1000)), binomial_hubness(1000, 1000, 10)
    assert expected.skewness == pytest.approx(scipy.stats.binom(1000, 0.01).stats("s"))
    assert expected.antihub_share == pytest.approx(0.99**1000)
    assert found.robin_hood == pytest.approx(expected.robin_hood, rel=0.06)
    assert found.hub_share == pytest.approx(expected.hub_share, abs=0.005)
    assert found.hub_occurrence == pytest.approx(expected.hub_occurrence, abs=0.01)
    assert abs(found.largest - expected.largest) <= 3


def test_intervals_of_hubness_lie_about_the_values() -> None:
    indices = distinct_neighbours(normal(200, 20), 5).indices
    found = hubness(neighbour_occurrence(indices, 200))
    ends = hubness_interval(indices, 200, num_resamples=50)
    assert set(ends) == {"skewness", "antihub_share", "hub_share", "hub_occurrence", "robin_hood"}
    for name, interval in ends.items():
        assert interval.low < getattr(found, name) < interval.high
