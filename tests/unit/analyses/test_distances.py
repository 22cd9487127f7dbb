"""Distances of pairs: images and codes of which one is a multiple of the other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from latent_lab.analyses import ANALYSES, Distances, HeldOut, Result
from latent_lab.latent.spaces import Gaussian, Hypersphere
from tests.unit.analyses.written import NUMBERS, Turner, Writer, Written, normal

DIM = 6
HELD_OUT, REFERENCE = Written(0.3 * normal(40, DIM, seed=1)), Written(0.3 * normal(90, DIM, seed=2))
PIXELS_FOR_CODES = math.sqrt(NUMBERS / DIM) / 2
"""A code's distance in pixels of [0, 1]: each coordinate is written 32 times."""


def measured(models: Any = None, source: Any = None, **options: Any) -> Result:
    quick = {"num_resamples": 20, **options}
    return Distances(**quick)(models or Writer(Gaussian(DIM)), source or HeldOut(HELD_OUT, REFERENCE))


def test_it_is_an_analysis() -> None:
    assert ANALYSES["distances"] is Distances


def test_pixels_components_and_codes_measure_the_same_pairs() -> None:
    numbers = measured().numbers
    for name in ("distance_random", "distance_near_90"):
        assert numbers[f"image_pixels/{name}"] == pytest.approx(PIXELS_FOR_CODES * numbers[name], rel=1e-4)
        # Images lie in as many dimensions as there are latents.
        assert numbers[f"image_pca6/{name}"] == pytest.approx(numbers[f"image_pixels/{name}"], rel=1e-4)


def test_neighbours_are_nearest_training_images() -> None:
    expected = torch.cdist(HELD_OUT.latents, REFERENCE.latents).amin(1).mean().item()
    result = measured()
    assert result.numbers["distance_near_90"] == pytest.approx(expected, rel=1e-4)
    assert result.numbers["ratio_near_90"] == pytest.approx(expected / result.numbers["distance_random"], rel=1e-4)


def test_neighbours_may_be_other_held_out_images() -> None:
    apart = torch.cdist(HELD_OUT.latents, HELD_OUT.latents).fill_diagonal_(math.inf)
    for result in (measured(searched="held_out"), measured(source=HELD_OUT)):
        assert result.protocol["searched"] == "held_out"
        assert result.numbers["distance_near_40"] == pytest.approx(apart.amin(1).mean().item(), rel=1e-4)


def test_copies_are_no_neighbours() -> None:
    both = Written(torch.cat([HELD_OUT.latents, REFERENCE.latents]))
    assert measured(source=HeldOut(HELD_OUT, both)).numbers["distance_near_130"] > 0.05


def test_noise_is_added_to_images_and_averaged_by_what_reads_them() -> None:
    numbers = measured().numbers
    # Uniform noise of half width 0.05 has the variance 0.05² / 3 in each of the numbers of an image in [0, 1]; a code
    # reads the mean of 32, in [-1, 1].
    assert numbers["image_pixels/distance_noise_0.05"] == pytest.approx(
        0.05 / math.sqrt(3) * math.sqrt(NUMBERS), rel=0.02
    )
    mean = 2 * 0.05 / math.sqrt(3 * NUMBERS / DIM) * math.sqrt(DIM)
    assert numbers["distance_noise_0.05"] == pytest.approx(mean, rel=0.1)
    assert measured(half_width=0.1).numbers["distance_noise_0.1"] == pytest.approx(
        2 * numbers["distance_noise_0.05"], rel=1e-4
    )


def test_a_turned_space_has_the_same_distances() -> None:
    numbers = measured([Writer(Gaussian(DIM)), Turner(DIM)]).numbers
    for name in ("distance_random", "distance_noise_0.05", "distance_near_90", "ratio_near_90", "pair_variance"):
        assert numbers[f"Turner/{name}"] == pytest.approx(numbers[f"Writer/{name}"], rel=1e-4)


def test_pairs_of_the_prior_stand_beside_those_of_codes() -> None:
    numbers = measured().numbers
    assert numbers["distance_prior"] == pytest.approx(math.sqrt(2 * DIM), rel=0.15)
    assert numbers["ratio_prior"] == pytest.approx(numbers["distance_random"] / numbers["distance_prior"])
    assert measured(Writer(Hypersphere(DIM))).numbers["distance_prior"] == pytest.approx(math.sqrt(2), rel=0.1)


def test_intervals_hold_the_values() -> None:
    result = measured()
    assert "image_pixels/ratio_near_90" in result.intervals
    for name, (low, high) in result.intervals.items():
        assert low < result.numbers[name] < high
    assert not measured(num_resamples=0).intervals


def test_the_size_of_batches_changes_no_number() -> None:
    assert measured(batch_size=7).numbers == pytest.approx(measured().numbers, rel=1e-5)


def test_the_sheet_shows_every_image_above_what_it_is_paired_with() -> None:
    result = measured(num_pictures=5)
    assert result.protocol["rows"] == ["image", "+ noise", "near", "random"]
    # Four rows and five columns of 8 px, with 2 px between them, enlarged 8 times.
    assert tuple(result.pictures["pairs"].shape) == (1, 3, 8 * 42, 8 * 52)


def test_without_as_many_components_as_latents_a_note_says_so() -> None:
    few = Written(normal(20, 64))
    result = measured(Writer(Gaussian(64)), HeldOut(few, few))
    assert not any(name.startswith("image_pca") for name in result.numbers)
    assert result.protocol["notes"] == ["20 reference images have no 64 principal components: no such row"]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 held-out images, got 2"):
        measured(source=HeldOut(Written(normal(2, DIM)), REFERENCE))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num": 2}, "num of at least 3"),
        ({"half_width": 0.0}, "half_width above 0"),
        ({"num_resamples": 1}, "or 0 for no intervals"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Distances(**options)
