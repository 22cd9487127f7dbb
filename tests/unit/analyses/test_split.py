from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import HeldOut, Split
from latent_lab.analyses.split import VARIANTS, variants
from latent_lab.latent.interfaces import AbstractSplitDecoder
from tests.unit.analyses.toys import Noise, ToyAutoencoder


class ToySplit(ToyAutoencoder, AbstractSplitDecoder):
    """The first image is what the autoencoder decodes, the second its negative; the left half shows the first."""

    def parts(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = ToyAutoencoder.decode(self, latents).clamp(-1, 1)
        mixing = torch.zeros(len(first), 1, self.pixels, self.pixels)
        mixing[..., : self.pixels // 2] = 1.0
        return first, -first, mixing

    def decode(self, latents: Tensor) -> Tensor:
        first, second, mixing = self.parts(latents)
        return mixing * first + (1 - mixing) * second


SMALL = {"num_samples": 32, "num_reconstructions": 20, "extractor": "random", "batch_size": 8, "num_pictures": 4}


def test_variants_are_mixture_both_images_and_their_mean():
    latents = torch.randn(2, 6)
    found = variants(ToySplit(), latents)
    assert torch.equal(found["mixed"], ToySplit().decode(latents))
    assert torch.equal(found["first"], -found["second"])
    assert torch.count_nonzero(found["half"]) == 0
    assert found["map"][..., 0].unique() == 1.0
    assert found["map"][..., -1].unique() == -1.0


def test_every_variant_has_an_error_and_a_distance():
    source = HeldOut(Noise(20), reference=Noise(40, seed=1))
    result = Split(**SMALL)(ToySplit(), source)
    assert {name for name in result.numbers if name.startswith("rec_mse")} == {
        "rec_mse" + ("" if variant == "mixed" else f"_{variant}") for variant in VARIANTS
    }
    distances = {name for name in result.numbers if not name.startswith("rec_mse")}
    assert len(distances) == 4
    assert all("_32" in name for name in distances)
    assert result.protocol["reference"]["seed"] == 1


def test_the_error_of_the_mean_is_that_of_a_grey_image():
    result = Split(**SMALL, distances=False)(ToySplit(), Noise(20))
    # The mean of an image and its negative is 0, which as a byte is 128.
    images = Noise(20).batch(range(20), 16).images
    assert result.numbers["rec_mse_half"] == pytest.approx(((images - (128 / 127.5 - 1)) ** 2).mean().item(), rel=1e-5)


def test_without_distances_no_extractor_is_needed():
    result = Split(distances=False, extractor="inception", num_pictures=2)(ToySplit(), Noise(4))
    assert all(name.startswith("rec_mse") for name in result.numbers)


def test_sheets_have_a_row_for_the_input_each_image_and_the_map():
    result = Split(**SMALL, distances=False)(ToySplit(), Noise(20))
    # Rows of 16 + 2 pixels and a border of 2, enlarged four times.
    assert result.pictures["split_reconstructions"].shape == (1, 3, (5 * 18 + 2) * 4, (4 * 18 + 2) * 4)
    assert result.pictures["split_samples"].shape == (1, 3, (4 * 18 + 2) * 4, (4 * 18 + 2) * 4)


def test_the_batch_size_changes_no_number():
    source = HeldOut(Noise(20), reference=Noise(40, seed=1))
    small = Split(**SMALL)(ToySplit(), source).numbers
    large = Split(**{**SMALL, "batch_size": 64})(ToySplit(), source).numbers
    assert small == pytest.approx(large, rel=1e-5)


def test_other_models_are_refused_in_one_sentence():
    with pytest.raises(TypeError, match=r"split needs a model with parts, .* does not offer: a SplitVAE qualifies"):
        Split()(ToyAutoencoder(), Noise(4))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="split needs num_samples of at least 2, got 1"):
        Split(num_samples=1)
