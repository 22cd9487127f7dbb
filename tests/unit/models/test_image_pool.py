"""Pools of earlier translations: the published rule, and draws that depend on the position alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.models.image_pool import POOL_SIZE, ImagePools


def pictures(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None, None, None]


def exchange(pools: ImagePools, position: int, *numbers: float, pool: str = "onward", stream: str = "") -> list[float]:
    return pools.exchange(pictures(*numbers), position, pool=pool, stream=stream or pool).flatten().tolist()


def test_the_first_fifty_images_are_returned_as_they_are():
    pools = ImagePools(0)
    assert POOL_SIZE == 50
    for number in range(50):
        assert exchange(pools, number, float(number)) == [number]
    kept = pools.state()["onward"]
    assert kept is not None
    assert kept.flatten().tolist() == list(range(50))


def test_a_full_pool_returns_an_earlier_image_half_of_the_time_and_keeps_the_new_one():
    pools = ImagePools(0)
    returned = [exchange(pools, number, float(number))[0] for number in range(1050)]
    later = range(50, 1050)
    earlier = [number for number in later if returned[number] != number]
    # 1000 draws of one half: their number has a standard deviation of 16.
    assert 420 < len(earlier) < 580
    kept = pools.state()["onward"]
    assert kept is not None
    # Whatever was stored is returned once or still there; what was returned at once was not stored.
    assert sorted([returned[number] for number in earlier] + kept.flatten().tolist()) == sorted([*range(50), *earlier])


def test_an_image_stays_for_a_hundred_steps_on_average():
    pools = ImagePools(1)
    ages = []
    for start in range(0, 1500, 100):
        returned = exchange(pools, start, *map(float, range(start, start + 100)))
        ages += [number - value for number, value in enumerate(returned, start) if number >= 300 and value != number]
    # It leaves with probability 1/2 * 1/50 at each step: a mean of 100 with deviation 100, over about 600 images.
    assert sum(ages) / len(ages) == pytest.approx(100, abs=16)


def test_draws_depend_on_the_position_alone():
    one, two = ImagePools(3, 4), ImagePools(3, 4)
    at_once = [
        value for start in range(0, 40, 4) for value in exchange(one, start, *map(float, range(start, start + 4)))
    ]
    by_twos = [
        value for start in range(0, 40, 2) for value in exchange(two, start, *map(float, range(start, start + 2)))
    ]
    assert at_once == by_twos


def test_pools_and_streams_are_independent():
    pools = ImagePools(0, 4)
    onward = [exchange(pools, n, float(n), pool="onward")[0] for n in range(60)]
    back = [exchange(pools, n, float(n), pool="back")[0] for n in range(60)]
    assert onward != back
    shared = [exchange(pools, n, -1.0 - n, pool="onward", stream="onward/1")[0] for n in range(60)]
    assert any(value >= 0 for value in shared)


def test_a_state_is_taken_over_whole():
    pools, again = ImagePools(0, 4), ImagePools(0, 4)
    for number in range(20):
        exchange(pools, number, float(number))
    again.restore(pools.state())
    assert [exchange(again, n, float(n)) for n in range(20, 60)] == [
        exchange(pools, n, float(n)) for n in range(20, 60)
    ]


def test_a_smaller_pool_takes_over_what_fits():
    pools, small = ImagePools(0, 4), ImagePools(0, 2)
    exchange(pools, 0, 1.0, 2.0, 3.0, 4.0)
    small.restore(pools.state())
    kept = small.state()["onward"]
    assert kept is not None
    assert kept.flatten().tolist() == [1.0, 2.0]


def test_without_capacity_nothing_is_kept():
    pools = ImagePools(0, 0)
    assert exchange(pools, 0, 1.0, 2.0) == [1.0, 2.0]
    assert pools.state() == {}


def test_cleared_pools_are_empty():
    pools = ImagePools(0, 4)
    exchange(pools, 0, 1.0)
    pools.clear()
    assert pools.state() == {}


def test_a_negative_capacity_is_refused():
    with pytest.raises(ValueError, match="pool_size must not be negative, got -1: 0 keeps no earlier translations"):
        ImagePools(0, -1)
