"""Drawn discs as a data set."""

from __future__ import annotations

import pytest
import torch

from latent_lab.data import SyntheticAgeing
from latent_lab.data.synthetic_ageing import AGES, draw_discs, sample_discs
from latent_lab.images import from_bytes, to_bytes


def small(**options: object) -> SyntheticAgeing:
    return SyntheticAgeing(**{"num_images": 24, "num_val": 6, "num_test": 12, "resolution": 16} | options)


def test_every_split_has_equally_many_images_of_each_age():
    data = small()
    for split, count in (("train", 24), ("val", 6), ("test", 12)):
        labels = data.source(split).batch(range(count), 16).labels
        assert labels is not None
        nearest = (labels[:, 1, None] - torch.tensor(AGES)).abs().argmin(1)
        assert nearest.bincount().tolist() == [count // 6] * 6
        assert (labels[:, 1] - torch.tensor(AGES)[nearest]).abs().max() <= 2.0


def test_images_are_what_is_drawn_and_labels_say_of_whom_and_when():
    data = small()
    batch = data.source("test").batch([3], 16)
    assert data.label_names == ("identity", "age")
    assert batch.labels is not None
    identity, age = batch.labels[0]
    assert identity == 24 + 6 + 3
    drawn = draw_discs(sample_discs(0, range(int(identity), int(identity) + 1)), age[None], 16)
    assert torch.equal(batch.images, from_bytes(to_bytes(drawn)))


def test_a_person_depends_on_seed_and_number_alone():
    whole, part = sample_discs(5, range(10)), sample_discs(5, range(7, 9))
    assert torch.equal(whole.background[7:9], part.background)
    assert torch.equal(whole.place[7:9], part.place)
    assert not torch.equal(sample_discs(6, range(10)).place, whole.place)


def test_a_smaller_drawing_is_the_larger_one_reduced():
    persons, ages = sample_discs(0, range(6)), torch.tensor(AGES)
    large, small_ones = draw_discs(persons, ages, 64), draw_discs(persons, ages, 32)
    # Edges are exact for straight ones, which a small dot's is not.
    assert (torch.nn.functional.avg_pool2d(large, 2) - small_ones).abs().mean() < 2e-3


def test_a_spread_of_zero_gives_the_nominal_ages():
    labels = small(spread=0.0, ages=[25.0, 35.0]).source("train").batch(range(4), 16).labels
    assert labels is not None
    assert labels[:, 1].tolist() == [25.0, 35.0, 25.0, 35.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_val": 0}, "num_images, num_val and num_test must be at least 1, got 24, 0 and 12"),
        ({"ages": []}, "ages must name at least one nominal age"),
        ({"spread": -1.0}, "spread must not be negative, got -1"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        small(**options)
