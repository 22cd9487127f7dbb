"""Nearest training images of samples: copies are found, mirrored or not, and new images are as far as held-out ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import ANALYSES, HeldOut, Result, TrainingNeighbours
from latent_lab.analyses.feeding import prior_latents
from latent_lab.analyses.sample import STREAM
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.spaces import Gaussian
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

QUICK = {"num": 20, "num_resamples": 10, "num_pictures": 4}
TRAINING = Noise(30)
SOURCE = HeldOut(Noise(20, seed=1), TRAINING)


class Copier(AbstractDecoder):
    """Gives training images, each latent of the evaluation's stream another one."""

    latent_space = Gaussian(2)

    def __init__(self, images: Noise, *, mirrored: bool = False, resolution: int = 8) -> None:
        self.images, self.mirrored, self.resolution = images, mirrored, resolution
        self.latents = prior_latents(self, 0, STREAM, range(20))

    @property
    def resolution(self) -> int:
        return self._resolution

    @resolution.setter
    def resolution(self, value: int) -> None:
        self._resolution = value

    def decode(self, latents: Tensor) -> Tensor:
        which = torch.cdist(latents, self.latents).argmin(1).tolist()
        images = self.images.batch(which, self.resolution).images
        return images.flip(3) if self.mirrored else images


def analysed(model: object, **options: object) -> Result:
    return TrainingNeighbours(**{**QUICK, **options})(model, SOURCE)


def test_it_is_an_analysis() -> None:
    assert ANALYSES["training-neighbours"] is TrainingNeighbours


@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_are_found_and_named(mirrored: bool) -> None:
    result = analysed(Copier(TRAINING, mirrored=mirrored))
    assert result.numbers == {"closer_pixels_20_of_30": 1.0}
    head, *rows = result.tables["Nearest training image of each sample that is shown"]
    assert list(head) == ["sample", "pixels: image", "pixels: distance", "pixels: held-out nearer"]
    suffix = ", mirrored" if mirrored else ""
    assert [list(row) for row in rows] == [[str(i), f"{i}{suffix}", 0.0, 0.0] for i in range(4)]


def test_the_picture_shows_each_copy_below_its_sample() -> None:
    plain = analysed(Copier(TRAINING), num_shown=1).pictures["training_neighbours"]
    turned = analysed(Copier(TRAINING, mirrored=True), num_shown=1).pictures["training_neighbours"]
    for sheet in (plain, turned):
        # Two blocks of one row each, to the right of their names.
        above, below = sheet[..., -4 * 8 * 10 :].chunk(2, dim=2)
        assert torch.equal(above, below)
    assert not torch.equal(plain, turned)


def test_new_images_are_as_far_as_held_out_ones() -> None:
    result = analysed(Copier(Noise(20, seed=2)), num_resamples=50)
    value = result.numbers["closer_pixels_20_of_30"]
    assert 0.3 < value < 0.7
    low, high = result.intervals["closer_pixels_20_of_30"]
    assert low < value < high
    _, of_samples, _ = result.tables["Distance to the nearest training image"]
    assert of_samples[2] > 0


def test_a_model_that_encodes_is_asked_for_codes_too() -> None:
    result = analysed(ToyAutoencoder(resolution=8))
    assert set(result.numbers) == {"closer_pixels_20_of_30", "closer_codes_20_of_30"}
    assert "notes" not in result.protocol


class CopyingAutoencoder(Copier, AbstractAutoencoder):
    """Its codes are halves of the image, so that mirrored copies have other codes."""

    def encode(self, images: Tensor) -> Tensor:
        return torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], 1)


def test_mirrored_copies_are_found_by_codes() -> None:
    result = analysed(CopyingAutoencoder(TRAINING, mirrored=True))
    assert result.numbers["closer_codes_20_of_30"] == 1.0
    _, first, *_ = result.tables["Nearest training image of each sample that is shown"]
    assert first[4] == "0, mirrored"


def test_a_model_without_an_encoder_is_searched_by_pixels_alone() -> None:
    result = analysed(ToyDecoder(resolution=8))
    assert "ToyDecoder cannot encode: training images are searched by pixels alone" in result.protocol["notes"]


def test_large_images_are_compared_at_fewer_pixels() -> None:
    result = analysed(Copier(Noise(20, seed=2), resolution=16), most_pixels=8)
    assert result.protocol["pixels"]["resolution"] == 8
    assert result.protocol["resolution"] == 16


def test_without_resamples_there_are_no_intervals() -> None:
    result = analysed(Copier(TRAINING), num_resamples=0)
    assert result.intervals == {}
    assert "intervals" not in result.protocol


def test_training_images_are_needed() -> None:
    with pytest.raises(ValueError, match="needs training images beside the held-out ones"):
        TrainingNeighbours(**QUICK)(Copier(TRAINING), Noise(5))
    with pytest.raises(ValueError, match="at least 2 training images and a held-out one, got 1 and 20"):
        TrainingNeighbours(**QUICK)(Copier(TRAINING), HeldOut(Noise(20), Noise(1)))


@pytest.mark.parametrize("option", ["num", "num_reference", "num_pictures", "num_shown", "most_pixels", "batch_size"])
def test_impossible_options_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"training-neighbours needs {option} of at least"):
        TrainingNeighbours(**{option: 0})
