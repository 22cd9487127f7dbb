"""The noise figure of a linear decoder, whose layers' noise has known deviations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import ANALYSES, LayerNoise
from latent_lab.analyses.feeding import chosen_latents
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Automodulator, StyleGAN
from tests.unit.analyses.layered_toys import ToyLayeredDecoder
from tests.unit.analyses.mapped_toys import NOISE_GAINS, ToyMappedDecoder
from tests.unit.analyses.test_truncation import tile


def run(**options: int) -> tuple[dict[str, float], Tensor]:
    result = LayerNoise(**{"num": 2, "num_draws": 100, **options})(ToyMappedDecoder())
    return dict(result.numbers), result.pictures["noise"]


def test_it_is_an_analysis_by_name():
    assert ANALYSES["noise"] is LayerNoise


def test_deviations_are_those_of_the_layers_gains():
    numbers, _ = run(num=4)
    coarse, middle, fine = NOISE_GAINS
    # By default 8 pixels and more are fine. 4 latents x 256 fine and 64 coarse pixels with 100 draws each: the mean of
    # so many deviations is 1 % off at most, and 0.75 % too small, since it is the population's.
    assert numbers["noise_deviation"] == pytest.approx((middle**2 + fine**2) ** 0.5, rel=0.02)
    assert numbers["noise_deviation_fine"] == pytest.approx((middle**2 + fine**2) ** 0.5, rel=0.02)
    assert numbers["noise_deviation_coarse"] == pytest.approx(coarse, abs=1e-7)


def test_where_fine_begins_is_an_option():
    numbers, _ = run(num=4, fine_from=16)
    assert numbers["noise_deviation_fine"] == pytest.approx(NOISE_GAINS[2], rel=0.02)
    assert numbers["noise_deviation_coarse"] == pytest.approx(NOISE_GAINS[1], rel=0.03)


def test_a_row_shows_all_noise_none_fine_coarse_and_the_deviation():
    _, sheet = run(fine_from=16)
    model = ToyMappedDecoder()
    silent = model.decode(chosen_latents(model, 2, 0, "noise/latents", ()))
    for row in range(2):
        everything, none, fine, coarse, deviation = (tile(sheet, row, column) for column in range(5))
        torch.testing.assert_close(none, silent[row])
        # The same draw of each layer's noise in all pictures, so that differences add up.
        torch.testing.assert_close(everything - none, (fine - none) + (coarse - none), atol=1e-6, rtol=0)
        assert 0.03 < (fine - none).std() < 0.07
        # Noise at 8 pixels is the same in blocks of 2 x 2.
        torch.testing.assert_close((coarse - none)[:, ::2, ::2], (coarse - none)[:, 1::2, 1::2], atol=1e-6, rtol=0)
        # Four times the deviation in shares of the way from black (-1) to white (1).
        expected = 4 * sum(gain**2 for gain in NOISE_GAINS) ** 0.5 - 1
        assert deviation.mean().item() == pytest.approx(expected, abs=0.01)


def test_draws_depend_on_their_number_alone():
    numbers, sheet = run()
    pieces, other = run(batch_size=7)
    assert pieces == pytest.approx(numbers, rel=1e-6)
    torch.testing.assert_close(sheet, other)
    assert run(seed=1)[0] != numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_draws": 1}, "num_draws of at least 2, got 1"),
        ({"num": 0}, "num of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1"),
        ({"numpy_seeds": (-1,)}, "numpy_seeds from 0"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LayerNoise(**options)


@pytest.mark.parametrize("fine_from", [4, 32])
def test_layers_must_fall_into_fine_and_coarse_ones(fine_from: int):
    with pytest.raises(ValueError, match=f"with fine_from {fine_from} there are none .* those of 4, 8, 16 pixels"):
        LayerNoise(fine_from=fine_from)(ToyMappedDecoder())


def test_models_without_noise_are_refused():
    with pytest.raises(ValueError, match="this ToyMappedDecoder was built without"):
        LayerNoise()(ToyMappedDecoder(layer_noise=False))
    with pytest.raises(TypeError, match=r"noise needs a model with decode_with_noise.* a StyleGAN qualifies"):
        LayerNoise()(ToyLayeredDecoder())


def set_noise_scales(model: StyleGAN | Automodulator, value: float) -> None:
    with torch.no_grad():
        for name, parameter in model.generator_average.network.named_parameters():
            if "noise_scale" in name:
                parameter.fill_(value)


@pytest.mark.parametrize("kind", [StyleGAN, Automodulator])
def test_models_with_noise_scales_depend_on_noise_of_all_layers(kind: type):
    model = kind(GrowthSchedule([Stage(16, 1.0, 8)]), latent_dim=6, widths=[8, 8, 4])
    set_noise_scales(model, 0.3)
    numbers = LayerNoise(num=1, num_draws=4, fine_from=16)(model).numbers
    assert min(numbers.values()) > 1e-4


@pytest.mark.parametrize("kind", [StyleGAN, Automodulator])
def test_no_noise_is_noise_of_scale_zero(kind: type):
    model = kind(GrowthSchedule([Stage(16, 1.0, 8)]), latent_dim=6, widths=[8, 8, 4]).eval()
    set_noise_scales(model, 0.3)
    latents = model.latent_space.sample(2, torch.Generator().manual_seed(0))
    silent, noisy = model.decode_with_noise(latents, None), model.decode(latents)
    set_noise_scales(model, 0.0)
    torch.testing.assert_close(silent, model.decode(latents))
    assert (noisy - silent).abs().max() > 1e-3
