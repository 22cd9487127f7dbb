"""Maps between all pairs of models: numbers, means over instances, figures."""

from __future__ import annotations

from typing import Any

import pytest

from latent_lab.analyses import MapMatrix, MapSpaces, Participant, Result
from tests.unit.analyses.linear_spaces import first_half, plain, second_half, turned


def run(models: list[Participant], **options: Any) -> Result:
    return MapMatrix(**({"num_images": 20, "num_resamples": 10} | options))(models)


@pytest.fixture(scope="module")
def four() -> Result:
    """Two copies of all that there is, and two halves that have nothing in common."""
    return run([plain(), turned(), first_half(), second_half()])


def test_every_ordered_pair_has_the_numbers_that_a_map_alone_has(four: Result) -> None:
    alone = MapSpaces(
        num_images=20, num_resamples=10, num_shuffles=1, beside=(), num_recovered=0, perceptual="random_l2"
    )([first_half(), plain()])
    shared = set(alone.numbers) & set(four.numbers)
    of_map = {"l_mse", "r2", "r2_shuffled", "m_mse", "m_mse_relative", "m_mse_to_ideal", "m_mse_shuffled"}
    assert {f"first_to_plain/{name}_affine" for name in of_map} < shared
    assert {f"{name}/r_mse" for name in ("first", "plain")} < shared
    for name in shared:
        assert four.numbers[name] == pytest.approx(alone.numbers[name], rel=1e-5, abs=1e-9)
        assert four.intervals.get(name, ()) == pytest.approx(alone.intervals.get(name, ()), rel=1e-5, abs=1e-9)
    assert len({name.partition("/")[0] for name in four.numbers if "_to_" in name}) == 12


def test_half_of_what_there_is_explains_half(four: Result) -> None:
    assert four.numbers["plain_to_turned/r2_affine"] > 0.999
    assert four.numbers["turned_to_plain/r2_affine"] > 0.999
    assert four.numbers["first_to_plain/r2_affine"] == pytest.approx(0.5, abs=0.05)
    assert four.numbers["first_to_second/r2_affine"] == pytest.approx(0.0, abs=0.05)


def test_means_are_over_pairs_of_different_instances(four: Result) -> None:
    head, *rows = four.tables["means over instances"]
    means = {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}
    assert {pair: row["maps"] for pair, row in means.items()} == {
        ("Reader", "Reader"): "2",
        ("Reader", "half"): "4",
        ("half", "Reader"): "4",
        ("half", "half"): "2",
    }
    both = [four.numbers[f"{a}_to_{b}/m_mse_affine"] for a, b in (("first", "second"), ("second", "first"))]
    assert means["half", "half"]["M-MSE"] == pytest.approx(sum(both) / 2)
    assert len(four.tables["maps"]) == 13


def test_a_kind_with_one_instance_has_no_row_to_itself() -> None:
    rows = run([plain(), first_half()]).tables["means over instances"][1:]
    assert [row[:2] for row in rows] == [("Reader", "half"), ("half", "Reader")]


def test_heat_maps_are_of_models_and_of_kinds_where_these_have_instances(four: Result) -> None:
    assert set(four.pictures) == {"r2", "m_mse_relative", "r2_of_kinds", "m_mse_relative_of_kinds"}
    assert set(run([plain(), first_half()], num_shuffles=0).pictures) == {"r2", "m_mse_relative"}
