"""Three ways of inversion side by side: what they are fed, their numbers, and the picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latent_lab.analyses import ANALYSES, Invert
from latent_lab.latent.inversion import Recoded
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

QUICK: dict[str, Any] = {"num": 3, "steps": 15, "restarts": 2, "perceptual": "random_l2", "columns": 2}


def kinds_and_methods(methods: tuple[str, ...]) -> list[str]:
    return [f"{kind}_{method}" for kind in ("generated", "real") for method in methods]


def test_it_is_registered():
    assert ANALYSES["invert"] is Invert


def test_every_method_has_every_number():
    result = Invert(**QUICK)(ToyAutoencoder(), Noise(5))
    methods = ("learned", "optimised", "hybrid")
    expected = {f"{name}_{method}" for name in ("i_mse", "i_mse_relative") for method in methods}
    for name in ("rec_mse", "rec_mse_relative", "random_l2", "norm", "seconds"):
        expected |= {f"{name}_{end}" for end in kinds_and_methods(methods)}
    assert set(result.numbers) == expected
    assert all(value >= 0 for value in result.numbers.values())


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_hybrid_is_at_least_as_good_as_the_others(optimiser: str):
    numbers = Invert(**QUICK, optimiser=optimiser)(ToyAutoencoder(), Noise(5)).numbers
    for kind in ("generated", "real"):
        errors = {method: numbers[f"rec_mse_{kind}_{method}"] for method in ("learned", "optimised", "hybrid")}
        # The optimiser's loss is a float32 mean, this one float64.
        assert errors["hybrid"] <= min(errors.values()) * (1 + 1e-5) + 1e-12


def test_optimisation_finds_the_latents_of_generated_images():
    numbers = Invert(**QUICK | {"steps": 60, "restarts": 4})(ToyAutoencoder(), Noise(5)).numbers
    assert numbers["i_mse_relative_hybrid"] < 1e-3
    assert numbers["rec_mse_generated_hybrid"] < 1e-6 < numbers["rec_mse_real_hybrid"]


def test_a_perfect_encoder_needs_no_optimisation():
    decoder = ToyDecoder()
    inverse = torch.linalg.pinv(decoder.matrix.detach().double())
    model = Recoded(decoder, lambda images: (torch.atanh(images.flatten(1).double() / 1.2) @ inverse).float())
    numbers = Invert(**QUICK)(model, Noise(3)).numbers
    assert numbers["i_mse_relative_learned"] < 1e-6
    assert numbers["rec_mse_generated_learned"] < 1e-8


def test_the_norm_is_that_of_the_space():
    numbers = Invert(**QUICK)(ToyAutoencoder(dim=6), Noise(5)).numbers
    for end in kinds_and_methods(("learned", "optimised", "hybrid")):
        assert numbers[f"norm_{end}"] == pytest.approx(1 / 6**0.5, rel=1e-5)


def test_without_an_encoder_only_optimisation_is_left_and_a_note_says_so():
    result = Invert(**QUICK)(ToyDecoder(), Noise(5))
    assert {name.rpartition("_")[2] for name in result.numbers} == {"optimised"}
    assert result.protocol["notes"] == [
        "ToyDecoder cannot encode: learned and hybrid inversion are left out; they need a recoder"
    ]
    assert result.protocol["rows"] == ["generated", "generated, optimised", "real", "real, optimised"]


def test_the_sheet_has_a_row_of_images_over_the_rows_of_their_inversions():
    result = Invert(**QUICK)(ToyAutoencoder(), Noise(5))
    sheet = result.pictures["inversions"]
    assert sheet.shape == (1, 3, 4 * (8 * 18 + 2), 4 * (2 * 18 + 2))
    assert len(result.protocol["rows"]) == 8
    tile = sheet[0, :, 4 * (4 * 18 + 2) : 4 * (5 * 18) : 4, 8:72:4]
    torch.testing.assert_close(tile, Noise(5).batch([0], 16).images[0])


def test_fewer_real_images_leave_white_places():
    result = Invert(**QUICK)(ToyDecoder(), Noise(1))
    sheet = result.pictures["inversions"]
    assert result.protocol["num_real"] == 1
    assert (sheet[0, :, 4 * (2 * 18 + 2) : 4 * 54, 4 * 20 :] == 1).all()
    # One image is its own mean: there is nothing to relate its error to.
    assert "rec_mse_relative_real_optimised" not in result.numbers


def test_numbers_depend_on_the_seed_and_not_on_the_batch_size():
    first, again, other = (
        Invert(**QUICK, **options)(ToyAutoencoder(), Noise(5)).numbers
        for options in ({}, {"batch_size": 2}, {"seed": 1})
    )
    # The toy decodes in float64, so batches differ in the encoder's last bits only.
    for name in ("rec_mse_generated_learned", "rec_mse_real_optimised", "i_mse_optimised"):
        assert again[name] == pytest.approx(first[name], rel=1e-3, abs=1e-9)
    assert other["rec_mse_generated_learned"] != first["rec_mse_generated_learned"]


def test_the_protocol_states_equal_budgets():
    protocol = Invert(**QUICK)(ToyAutoencoder(), Noise(5)).protocol
    assert "2 starts of the prior, 15 steps each; hybrid: these same optimisations and one from" in protocol["budget"]
    assert (protocol["num_generated"], protocol["num_real"], protocol["stream"]) == (3, 3, "invert/latents")


def test_it_needs_real_images():
    with pytest.raises(ValueError, match="was given none"):
        Invert()(ToyDecoder())
    with pytest.raises(ValueError, match="the source is empty"):
        Invert()(ToyDecoder(), Noise(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "invert needs num of at least 1, got 0"),
        ({"restarts": 0}, "invert needs restarts of at least 1, got 0"),
        ({"clipping": "stochastic"}, "give clip a number and optimiser adam"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Invert(**options)
