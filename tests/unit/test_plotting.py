"""Figures come out as pictures that go where pictures of models go."""

from __future__ import annotations

import math

import torch

from latent_lab.plotting import heat_map, sorted_curves


def test_a_heat_map_shows_where_values_are_and_leaves_missing_ones_white() -> None:
    names = ["first", "second"]
    picture = heat_map([[math.nan, 0.5], [0.5, math.nan]], names, names, title="R²", low=0.0, high=1.0)
    assert picture.shape[:2] == (1, 3)
    assert picture.min() >= -1.0
    assert picture.max() <= 1.0
    other = heat_map([[math.nan, 0.5], [0.1, math.nan]], names, names, title="R²", low=0.0, high=1.0)
    assert not torch.equal(picture, other)


def test_a_heat_map_of_nothing_is_still_a_picture() -> None:
    assert heat_map([[math.nan]], ["one"], ["one"], title="alone").shape[:2] == (1, 3)


def test_curves_are_sorted_before_they_are_drawn() -> None:
    drawn = [sorted_curves({"map": values}, title="t", x="x", y="y") for values in ([1.0, 3.0, 2.0], [3.0, 2.0, 1.0])]
    assert torch.equal(*drawn)
