"""The truncation figure of a linear decoder, whose deviations are proportional to psi."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_lab.analyses import ANALYSES, Truncation
from latent_lab.analyses.feeding import chosen_latents
from latent_lab.analyses.truncation import mean_deviation
from latent_lab.latent.styles import repeat
from tests.unit.analyses.layered_toys import ToyLayeredDecoder
from tests.unit.analyses.mapped_toys import ToyMappedDecoder

TILE = 4 * 18  # an image of 16 pixels and an edge of 2, four times enlarged


def tile(sheet: Tensor, row: int, column: int) -> Tensor:
    """One image of a sheet at its own size."""
    top, left = 8 + row * TILE, 8 + column * TILE
    return sheet[0, :, top : top + 64 : 4, left : left + 64 : 4]


def test_it_is_an_analysis_by_name():
    assert ANALYSES["truncation"] is Truncation


def test_the_diversity_of_a_linear_decoder_is_proportional_to_psi():
    numbers = Truncation(num_measured=20)(ToyMappedDecoder()).numbers
    whole = numbers["diversity_psi_1"]
    assert whole > 0.01
    assert list(numbers) == [f"diversity_psi_{psi}" for psi in ("1", "0.7", "0.5", "0", "-0.5", "-1")]
    for psi in (0.7, 0.5, 0.0, -0.5, -1.0):
        # Images are float32 and differ from each other by hundredths.
        assert numbers[f"diversity_psi_{psi:g}"] == pytest.approx(abs(psi) * whole, rel=1e-4, abs=1e-7)


def test_a_cutoff_truncates_the_first_layers_alone():
    numbers = Truncation(num_measured=20, psis=(1.0, 0.0), cutoff=1)(ToyMappedDecoder()).numbers
    assert numbers["diversity_psi_0"] == pytest.approx(2 / 3 * numbers["diversity_psi_1"], rel=1e-4)


def test_rows_are_latents_and_columns_are_psis():
    model = ToyMappedDecoder()
    sheet = Truncation(num=2, psis=(0.5, 0.0), num_measured=2)(model).pictures["truncation"]
    latents = chosen_latents(model, 2, 0, "truncation/latents", ())
    average = model.decode_mapped(repeat(model.mapped_average[None], 3))[0]
    for row in range(2):
        whole = model.decode(latents)[row]
        torch.testing.assert_close(tile(sheet, row, 0), (whole + average) / 2)
        torch.testing.assert_close(tile(sheet, row, 1), average)


def test_the_published_latents_are_those_of_numpys_seeds():
    model = ToyMappedDecoder()
    sheet = Truncation(numpy_seeds=(91, 388), psis=(1.0,), num_measured=2)(model).pictures["truncation"]
    for row, seed in enumerate((91, 388)):
        latent = torch.from_numpy(np.random.RandomState(seed).randn(1, 5)).float()
        torch.testing.assert_close(tile(sheet, row, 0), model.decode(latent)[0])


def test_the_batch_size_changes_no_number():
    whole = Truncation(num_measured=10)(ToyMappedDecoder())
    pieces = Truncation(num_measured=10, batch_size=3)(ToyMappedDecoder())
    assert pieces.numbers == pytest.approx(whole.numbers, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(pieces.pictures["truncation"], whole.pictures["truncation"])


def test_deviations_are_those_of_all_images_together():
    images = 0.3 * torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = images.clamp(-1, 1).std(0, correction=0).mean().item()
    assert mean_deviation(iter(images.split(3))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"psis": ()}, "needs psis, finite and each once, got none"),
        ({"psis": (0.5, 0.5)}, r"each once, got 0\.5, 0\.5"),
        ({"psis": (float("nan"),)}, "finite"),
        ({"cutoff": 0}, "cutoff of at least 1 layer"),
        ({"num": 0}, "num of at least 1, got 0"),
        ({"num_measured": 1}, "num_measured of at least 2, got 1"),
        ({"batch_size": 0}, "batch_size of at least 1"),
        ({"numpy_seeds": (3, -1)}, r"numpy_seeds from 0 to 2\^32 - 1, got 3, -1"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Truncation(**options)


def test_a_decoder_without_w_is_refused():
    with pytest.raises(TypeError, match="truncation needs a model with decode_mapped, map, mapped_average"):
        Truncation()(ToyLayeredDecoder())
