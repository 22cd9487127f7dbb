from __future__ import annotations

from typing import Any

import pytest

from latent_lab.analyses import ExPost, HeldOut
from latent_lab.analyses.ex_post import FIT_ON
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

SMALL: dict[str, Any] = {"num_samples": 32, "extractor": "random", "batch_size": 8, "num_pictures": 4, "components": 3}
SOURCE = HeldOut(Noise(20), reference=Noise(40, seed=1))


def run(source: Any = SOURCE, **options: Any) -> Any:
    return ExPost(**{**SMALL, **options})(ToyAutoencoder(), source)


def ends(result: Any) -> list[str]:
    return [name.partition("_32_")[2] for name in result.numbers]


def test_there_is_a_distance_and_a_sheet_for_each_prior():
    result = run(second_stage=True, second_stage_steps=2, second_stage_width=8)
    assert ends(result) == ["prior", "gmm3", "second_stage"]
    assert set(result.pictures) == {"samples_prior", "samples_gmm3", "samples_second_stage"}


def test_densities_are_fitted_to_training_images_and_samples_compared_with_them():
    result = run()
    assert result.protocol["fitted_to"]["images"] == 40
    assert result.protocol["fitted_to"]["data"]["seed"] == 1
    assert result.protocol["num_reference"] == 40
    assert not any("published" in note for note in result.protocol["notes"])


def test_the_published_leak_says_what_it_is():
    result = run(fit_on="published_leak", components=None, num_fit=None, source=HeldOut(Noise(120), Noise(40, seed=1)))
    assert ends(result) == ["prior_leak", "gmm100_leak"]
    assert result.protocol["mixture"]["reg_covar"] == 1e-6
    assert result.protocol["fitted_to"]["data"]["seed"] == 0
    assert any("not a test" in note for note in result.protocol["notes"])


def test_without_a_training_set_apart_a_note_says_so():
    assert any("no training set apart" in note for note in run(source=Noise(20)).protocol["notes"])


def test_the_default_mixture_is_that_of_rae():
    result = run(components=None)
    assert result.protocol["mixture"]["components"] == 10
    assert result.protocol["mixture"]["reg_covar"] == 1e-3


def test_the_same_options_give_the_same_numbers():
    options = {"second_stage": True, "second_stage_steps": 2, "second_stage_width": 8}
    assert run(**options).numbers == run(**options).numbers


def test_the_batch_size_changes_no_number():
    assert run().numbers == pytest.approx(run(batch_size=64).numbers, rel=1e-5)


def test_a_mixture_fits_codes_better_than_a_prior_that_they_do_not_fill():
    # The toy's codes of non-negative noise lie on one side of the sphere that its prior covers.
    numbers = list(run(num_samples=200).numbers.values())
    assert numbers[1] < numbers[0]


def test_renormalised_codes_deviate_as_those_of_images():
    plain = run(second_stage=True, second_stage_steps=2, second_stage_width=8)
    stretched = run(second_stage=True, second_stage_steps=2, second_stage_width=8, renormalise=True)
    assert stretched.protocol["second_stage"]["renormalised"]
    assert list(plain.numbers.values())[2] != list(stretched.numbers.values())[2]


def test_more_components_than_images_are_refused():
    with pytest.raises(ValueError, match=r"a mixture of 41 components needs .* as many codes, got 40 codes"):
        run(components=41)


def test_a_decoder_alone_is_refused():
    with pytest.raises(TypeError, match="ex_post needs a model with encode"):
        ExPost(**SMALL)(ToyDecoder(), SOURCE)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=f"fit_on must be {' or '.join(FIT_ON)}, got 'test'"):
        ExPost(fit_on="test")
    with pytest.raises(ValueError, match="reg_covar must not be negative, got -1"):
        ExPost(reg_covar=-1.0)
    with pytest.raises(ValueError, match="ex_post needs components of at least 1, got 0"):
        ExPost(components=0)
