"""Neighbours in latent spaces: overlaps, shared labels and hubs that are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import ANALYSES, HeldOut, NearestNeighbours, Result
from latent_lab.latent.spaces import Gaussian
from tests.unit.analyses.written import Scrambler, Turner, Writer, Written, normal

DIM = 6
LATENTS = 0.3 * normal(120, DIM, seed=2)


def found(models: Any = None, source: Any = None, **options: Any) -> Result:
    quick = {"num_resamples": 20, "k": 4, "num_components": DIM, **options}
    return NearestNeighbours(**quick)(models or Writer(Gaussian(DIM)), source or Written(LATENTS))


def labelled(**labels: Tensor) -> Written:
    return Written(LATENTS, labels)


def test_it_is_an_analysis() -> None:
    assert ANALYSES["neighbours"] is NearestNeighbours


def test_turned_copies_of_a_space_have_the_same_neighbours() -> None:
    numbers = found([Writer(Gaussian(DIM)), Turner(DIM)]).numbers
    assert numbers["Turner/overlap_k4_120_with_Writer"] == 1.0
    assert numbers["Turner/overlap_k4_120_with_image_pca6"] == 1.0
    for name in ("hubness_skewness", "antihubs", "robin_hood", "largest_occurrence"):
        assert numbers[f"Turner/{name}_k4_120"] == pytest.approx(numbers[f"Writer/{name}_k4_120"])


def test_unrelated_codes_have_as_few_neighbours_in_common_as_chance_gives() -> None:
    result = found([Writer(Gaussian(DIM)), Scrambler(Gaussian(DIM))])
    low, high = result.intervals["Scrambler/overlap_k4_120_with_Writer"]
    assert low < 4 / 119 < high
    assert next(iter(title for title in result.tables if "in common" in title)).endswith("(by chance 0.0336)")


def test_labels_that_follow_clusters_are_shared_and_others_are_not() -> None:
    group = (torch.arange(120) % 2).float()
    coin = (normal(120, seed=5) > 0).float()
    clustered = LATENTS + 5.0 * group.unsqueeze(1)
    shared = found(source=Written(clustered, {"group": group})).numbers
    assert shared["label_agreement_k4_120"] == pytest.approx(1.0)
    result = found(source=Written(clustered, {"coin": coin}))
    assert abs(result.numbers["label_agreement_k4_120"]) < 0.15


def test_an_attribute_that_is_lost_among_neighbours_shows_in_the_table() -> None:
    # Those with hats are spread far around all others, whom they have as neighbours.
    hat = (torch.arange(120) % 10 == 0).float()
    tables = found(source=Written(LATENTS * (1.0 + 9.0 * hat.unsqueeze(1)), {"hat": hat})).tables
    head, row = next(rows for title, rows in tables.items() if title.startswith("Frequency"))
    assert head == ["attribute", "share of images (chance)", "image_pca6", "Writer"]
    assert row[:2] == ["hat", pytest.approx(0.1)]
    assert row[3] < 0.5


def test_labels_that_are_no_yes_or_no_are_named_and_left_out() -> None:
    coin = (torch.arange(120) % 2).float()
    result = found(source=labelled(age=normal(120), smile=coin, always=torch.ones(120), signs=2 * coin - 1))
    assert any(note.endswith("left out: age, always") for note in result.protocol["notes"])
    rows = next(rows for title, rows in result.tables.items() if title.startswith("Retention"))
    assert [row[0] for row in rows[1:]] == ["smile", "signs"]
    assert rows[1][1:] == pytest.approx(rows[2][1:])


def test_without_labels_a_note_says_so() -> None:
    result = found()
    assert not any("label_agreement" in name for name in result.numbers)
    assert any("there are no labels" in note for note in result.protocol["notes"])


def test_hubs_are_counted_beside_those_of_the_prior_and_of_chance() -> None:
    result = found([Writer(Gaussian(DIM)), Turner(DIM)])
    table = result.tables["Hubness"]
    assert [row[:2] for row in table[1:]] == [
        ["image_pca6", "images"],
        ["Writer", "images"],
        ["Writer", "samples of the prior"],
        ["Turner", "images"],
        ["Turner", "samples of the prior"],
        ["neighbours drawn at random", ""],
    ]
    # Both have the same prior.
    assert table[3][3:] == table[5][3:]
    assert result.numbers["Writer/prior_antihubs_k4_120"] == table[3][4]


def test_images_are_searched_among_training_or_held_out_ones() -> None:
    source = HeldOut(Written(LATENTS[:50], name="held out"), Written(LATENTS))
    assert found(source=source).protocol["num"] == 120
    held_out = found(source=source, among="held_out")
    assert held_out.protocol["num"] == 50
    assert held_out.protocol["searched"]["source"] == "held out"


def test_intervals_hold_the_values() -> None:
    result = found(source=labelled(smile=(LATENTS[:, 0] > 0).float()))
    assert "label_agreement_k4_120" in result.intervals
    for name, (low, high) in result.intervals.items():
        assert low <= result.numbers[name] <= high
    assert not found(num_resamples=0).intervals


def test_the_figure_has_images_and_a_block_of_rows_for_every_space() -> None:
    _, channels, height, width = found(num_pictures=5, num_shown=2).pictures["neighbours"].shape
    # One row of images, two spaces of two rows; 10 px each and 2 px around, enlarged 8 times.
    assert (channels, height) == (3, 8 * (12 + 22 + 22))
    assert width > 8 * 52


def test_fewer_images_than_components_are_noted() -> None:
    result = found(source=Written(LATENTS[:6]), k=3, num_pictures=2)
    assert any(name.startswith("image_pca5/") for name in result.numbers)
    assert "6 images have 5 principal components, not 6" in result.protocol["notes"]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="4 neighbours need at least 6 images, got 5"):
        found(source=Written(LATENTS[:5]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k of at least 1"),
        ({"num_shown": 5}, "at most k = 4"),
        ({"num_resamples": 1}, "or 0 for no intervals"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        found(**options)
