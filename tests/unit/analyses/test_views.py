from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab.analyses import HeldOut, Views
from latent_lab.analyses.views import KnownViews, find_neighbours
from latent_lab.images import from_bytes, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractViewDecoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.metrics.functional import mean_squared_error
from latent_lab.types import ImageBatch
from tests.unit.analyses.toys import Noise, ToyAutoencoder


def turned(degrees: Sequence[float]) -> Tensor:
    """Rotations about the vertical axis."""
    angles = torch.tensor(list(degrees), dtype=torch.float64) * math.pi / 180
    matrices = torch.eye(3, dtype=torch.float64).repeat(len(angles), 1, 1)
    matrices[:, 0, 0] = matrices[:, 2, 2] = angles.cos()
    matrices[:, 0, 2], matrices[:, 2, 0] = angles.sin(), -angles.sin()
    return matrices


def picture(one: int, degrees: float, resolution: int) -> Tensor:
    """Grey levels that are linear in the angle, with a slope of the object's own."""
    grey = 40 + 40 * one + (1 + one) * degrees
    return from_bytes(torch.full((1, 3, resolution, resolution), round(grey), dtype=torch.uint8))[0]


class Turntable:
    """Objects at some angles."""

    label_names = ("object", "view")

    def __init__(self, pairs: Sequence[tuple[int, float]], split: str = "test") -> None:
        self.pairs = list(pairs)
        self.recipe: dict[str, Any] = {"split": split, "hash": str(self.pairs)}

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        chosen = [self.pairs[place] for place in indices]
        pose = torch.eye(4).repeat(len(chosen), 1, 1)
        pose[:, :3, :3] = turned([degrees for _, degrees in chosen]).float()
        return ImageBatch(
            torch.stack([picture(one, degrees, resolution) for one, degrees in chosen]),
            torch.tensor(list(indices)),
            torch.tensor([[float(one), degrees] for one, degrees in chosen]),
            pose,
        )


class Grey(AbstractAutoencoder):
    """The code of an image is its mean."""

    resolution = 8
    latent_space = Gaussian(1)

    def encode(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)).unsqueeze(1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :, None, None].expand(-1, 3, 8, 8)


class Oracle(Grey, AbstractViewDecoder):
    """Knows what objects look like from everywhere."""

    def view_latents(self, objects: Tensor, poses: Tensor) -> Normal:
        degrees = torch.atan2(poses[:, 0, 2], poses[:, 0, 0]) * 180 / math.pi
        images = [picture(int(one), float(angle), 8) for one, angle in zip(objects, degrees, strict=True)]
        mean = self.encode(torch.stack(images))
        return Normal(mean, torch.full_like(mean, 0.1))


SEEN = Turntable([(one, degrees) for one in (0, 1) for degrees in (0, 10, 20, 30)], "train")
UNSEEN = Turntable([(0, 12), (0, 15), (1, 4)])
SOURCE = HeldOut(UNSEEN, SEEN)
FEW = {"perceptual": None, "num_resamples": 20}


def neighbours(degrees: float, known: Sequence[float]) -> tuple[float, float, float]:
    found = find_neighbours(
        torch.tensor([5]), turned([degrees]), KnownViews(torch.full((len(known),), 5), turned(known))
    )
    return known[int(found.nearest)], known[int(found.beyond)], float(found.part)


def test_a_view_lies_between_the_nearest_ones_on_both_sides():
    nearest, beyond, part = neighbours(12.0, [0.0, 10.0, 20.0, 30.0])
    assert (nearest, beyond) == (10.0, 20.0)
    # Angles are rounded to a millionth.
    assert part == pytest.approx(0.2, abs=1e-4)


def test_neighbours_are_found_over_the_full_turn():
    nearest, beyond, part = neighbours(359.0, [0.0, 90.0, 180.0, 350.0])
    assert (nearest, beyond) == (0.0, 350.0)
    assert part == pytest.approx(0.1, abs=1e-4)


def test_a_known_view_is_its_own_neighbour():
    assert neighbours(10.0, [0.0, 10.0, 20.0]) == (10.0, 10.0, 0.0)


def test_a_view_outside_of_the_known_ones_has_the_nearest_one_alone():
    assert neighbours(25.0, [0.0, 10.0, 20.0]) == (20.0, 20.0, 0.0)


def test_of_two_views_equally_far_the_first_counts():
    assert neighbours(15.0, [10.0, 20.0])[0] == 10.0
    assert neighbours(15.0, [20.0, 10.0])[0] == 20.0


def test_other_objects_are_no_neighbours():
    known = KnownViews(torch.tensor([0, 1]), turned([10.0, 80.0]))
    assert int(find_neighbours(torch.tensor([1]), turned([10.0]), known).nearest) == 1


def test_an_object_without_a_known_view_is_refused():
    known = KnownViews(torch.tensor([0, 1]), turned([10.0, 80.0]))
    with pytest.raises(ValueError, match="no training image shows the object 7"):
        find_neighbours(torch.tensor([7]), turned([10.0]), known)


def test_perfect_predictions_have_no_error_and_gain_what_baselines_err():
    numbers = Views(**FEW)(Oracle(), SOURCE).numbers
    assert numbers["views_mse"] == 0.0
    nearest = Turntable([(0, 10), (0, 10), (1, 0)]).batch(range(3), 8).images
    expected = mean_squared_error(UNSEEN.batch(range(3), 8).images, nearest).mean().item()
    assert numbers["views_mse_nearest_image"] == pytest.approx(expected)
    assert numbers["views_mse_nearest_code"] == pytest.approx(expected)
    assert numbers["views_mse_gain_nearest_code"] == pytest.approx(expected)


def test_codes_linear_in_the_angle_are_interpolated_without_error():
    model = Grey()
    numbers = Views(**FEW)(model, SOURCE).numbers
    # Only rounding to 8 bits is left.
    assert numbers["views_mse_interpolated_codes"] < (1 / 127) ** 2
    assert numbers["views_mse_reconstruction"] == pytest.approx(0.0, abs=1e-9)


def test_a_model_that_predicts_no_views_has_its_baselines_measured():
    numbers = Views(**FEW)(Grey(), SOURCE).numbers
    assert set(numbers) == {
        f"views_mse_{name}" for name in ("reconstruction", "nearest_code", "interpolated_codes", "nearest_image")
    }


def test_every_number_has_an_interval_around_it():
    result = Views(**FEW)(Oracle(), SOURCE)
    assert set(result.intervals) == set(result.numbers)
    for name, (low, high) in result.intervals.items():
        assert low <= result.numbers[name] <= high, name


def test_perceptual_distances_have_the_names_of_their_network():
    numbers = Views(perceptual="random_l2", num_resamples=20)(Oracle(), SOURCE).numbers
    assert numbers["views_random_l2"] == 0.0
    assert numbers["views_random_l2_gain_nearest_code"] > 0


def test_numbers_do_not_depend_on_the_batch_size():
    whole, single = (Views(**FEW, batch_size=size)(Oracle(), SOURCE).numbers for size in (64, 1))
    assert whole == pytest.approx(single)


def test_the_picture_is_named_after_the_split_and_has_a_block_of_rows_for_each_object():
    pictures = Views(**FEW)(Oracle(), SOURCE).pictures
    assert list(pictures) == ["views_test"]
    # Two objects, five rows each; images are enlarged eightfold, with frames of two pixels.
    assert pictures["views_test"].shape[2] == 2 * 5 * (8 + 4) * 8
    assert torch.equal(quantise(pictures["views_test"]), pictures["views_test"])


def test_images_without_views_are_refused():
    model = ToyAutoencoder()
    with pytest.raises(ValueError, match="take the data set MultiViewImages or SyntheticViews"):
        Views(**FEW)(model, HeldOut(Noise(3), Noise(5)))


def test_a_folder_is_refused():
    with pytest.raises(ValueError, match="name a data set instead of a folder"):
        Views(**FEW)(Grey(), UNSEEN)


@pytest.mark.parametrize("option", ["num", "num_objects", "num_views", "num_resamples", "batch_size"])
def test_impossible_options_are_refused(option: str):
    with pytest.raises(ValueError, match=f"views needs {option} of at least"):
        Views(**{option: 0})
