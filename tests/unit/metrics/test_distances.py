"""The table of distances: pairs, noise, means, ratios and intervals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.metrics.functional import (
    PairDistances,
    add_uniform_noise,
    code_distances,
    code_distances_interval,
    distinct_neighbours,
    pair_distances,
    random_partners,
)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 3, 100])
def test_everybody_is_once_the_partner_of_another(n: int) -> None:
    partners = random_partners(n, seed=1)
    assert partners.sort().values.tolist() == list(range(n))
    assert (partners != torch.arange(n)).all()


def test_noise_is_uniform_with_the_published_width_in_unit_range() -> None:
    images = torch.zeros(4, 3, 32, 32)
    noise = add_uniform_noise(images, torch.arange(4)) / 2  # a difference in [0, 1]
    assert noise.abs().max().item() == pytest.approx(0.05, rel=1e-2)
    # 12,288 draws know a deviation to 0.6 %.
    assert noise.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.03)
    assert noise.mean().item() == pytest.approx(0.0, abs=1e-3)


def test_noise_belongs_to_the_image_not_to_the_batch() -> None:
    images = torch.zeros(4, 3, 8, 8)
    whole = add_uniform_noise(images, torch.arange(4))
    parts = [add_uniform_noise(images[:2], torch.tensor(rows)) for rows in ([2, 3], [0, 1])]
    assert torch.equal(whole, torch.cat(parts[::-1]))
    assert not torch.equal(whole, add_uniform_noise(images, torch.arange(4), seed=1))
    clipped = add_uniform_noise(images + 1.0, torch.arange(4), clip=True)
    assert clipped.max().item() == 1.0
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1"):
        add_uniform_noise(images, torch.arange(4), half_width=-0.1)


def test_normal_codes_lie_as_far_apart_as_the_prior_says() -> None:
    codes = normal(4000, 64)
    nearest = distinct_neighbours(codes[:, :8], 1).indices[:, 0]
    table = code_distances(pair_distances(codes, codes + 0.1, nearest), 64)
    # sqrt(2 D) (1 - 1/(4 D)): the mean of a chi variable.
    assert table.random == pytest.approx(math.sqrt(128) * (1 - 1 / 256), rel=0.005)
    assert table.noise == pytest.approx(0.8, rel=1e-6)
    assert table.noise_ratio == pytest.approx(table.noise / table.random)
    assert table.nearest_ratio < 1.0
    assert table.coordinate_variance == pytest.approx(1.0, abs=0.02)


def test_neighbours_may_be_other_images() -> None:
    codes, others = normal(10, 3), normal(5, 3, 1)
    nearest = torch.full((10,), 4)
    found = pair_distances(codes, codes, nearest, searched_codes=others)
    torch.testing.assert_close(found.nearest, (codes - others[4]).norm(dim=1))
    assert (found.noise == 0).all()


def test_intervals_cover_the_estimate_and_ratios_keep_what_is_shared() -> None:
    scale = torch.linspace(1.0, 5.0, 300).double()
    distances = PairDistances(random=2 * scale, noise=scale, nearest=1.5 * scale)
    table = code_distances(distances, 10)
    intervals = code_distances_interval(distances, 10)
    assert set(intervals) == set(table._fields)
    for name, interval in intervals.items():
        assert interval.low - 1e-9 <= getattr(table, name) <= interval.high + 1e-9
    assert intervals["noise"].high - intervals["noise"].low > 0.1
    assert intervals["noise_ratio"].high - intervals["noise_ratio"].low < 1e-9
    assert intervals == code_distances_interval(distances, 10)


def test_what_does_not_fit_is_said() -> None:
    codes = normal(10, 3)
    with pytest.raises(ValueError, match="their own nearest neighbours: search with exclude_same"):
        pair_distances(codes, codes, torch.arange(10))
    with pytest.raises(ValueError, match=r"got \(10, 2\), 10 neighbours"):
        pair_distances(codes, codes[:, :2], torch.arange(10).roll(1))
    with pytest.raises(ValueError, match="rows 0 to 9 of the searched codes"):
        pair_distances(codes, codes, torch.full((10,), 10))
    with pytest.raises(ValueError, match="finite codes, but 10 of 10"):
        pair_distances(codes, codes * float("nan"), torch.arange(10).roll(1))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        random_partners(1)
    with pytest.raises(ValueError, match="the latent space has collapsed"):
        code_distances(PairDistances(*torch.zeros(3, 5)), 3)
