"""Health of a latent space: codes of known law through an autoencoder without loss."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab.analyses import ANALYSES, LatentHealth, Result
from latent_lab.analyses.latent_health import IMAGES, LAW, POSTERIOR
from latent_lab.latent.interfaces import AbstractStochasticEncoder
from latent_lab.latent.spaces import AbstractLatentSpace, Empirical, Gaussian, Hypersphere
from tests.unit.analyses.written import Writer, Written, normal

QUICK = {"num": 60, "num_draws": 5, "num_resamples": 10, "num_pictures": 2}


def analysed(codes: Tensor, space: AbstractLatentSpace | None = None, **options: object) -> Result:
    return LatentHealth(**{**QUICK, **options})(Writer(space or Gaussian(codes.shape[1])), Written(codes))


@functools.cache
def of_normal_codes() -> Result:
    """What several tests look at."""
    return analysed(normal(60, 4))


def row(result: Result, what: str) -> list[str | float]:
    table = result.tables["Codes beside samples of the prior"]
    return next(list(one[1:]) for one in table if str(one[0]).startswith(what))


def test_it_is_an_analysis() -> None:
    assert ANALYSES["latent-health"] is LatentHealth


def test_an_autoencoder_without_loss_finds_its_latents_again() -> None:
    numbers = of_normal_codes().numbers
    assert numbers["i_mse_60"] == pytest.approx(0.0, abs=1e-10)
    assert numbers["latent_cosine_60"] == pytest.approx(1.0)
    # Decoded and encoded samples of the prior are these samples.
    assert numbers["kl_fake_60"] == pytest.approx(0.0, abs=1e-6)


def test_the_gap_is_that_of_the_moments() -> None:
    codes = normal(60, 4)
    codes = (codes - codes.mean(0)) / codes.std(0, correction=0)
    numbers = analysed(3.0 * codes + 0.5).numbers
    # KL(N(1/2, 9) || N(0, 1)) of each dimension.
    expected = (9.0 + 0.25) / 2 - math.log(3.0) - 0.5
    of_prior = numbers["kl_real_60"] - numbers["kl_gap_60"]
    assert of_prior == pytest.approx(numbers["kl_fake_60"])
    prior_itself = expected - numbers["kl_real_60"]
    # 60 samples have moments near those of the law, and never a divergence below 0.
    assert 0 < prior_itself < 0.1


def test_intervals_hold_their_numbers() -> None:
    result = of_normal_codes()
    assert {"kl_gap_60", "kl_real_60", "i_mse_60"} <= set(result.intervals)
    low, high = result.intervals["kl_gap_60"]
    assert low <= result.numbers["kl_gap_60"] <= high
    assert result.protocol["intervals"]["num_resamples"] == 10


def test_without_resamples_there_are_no_intervals() -> None:
    result = analysed(normal(60, 4), num_resamples=0)
    assert result.intervals == {}
    assert "intervals" not in result.protocol


def test_dimensions_that_codes_leave_empty_are_seen_beside_the_prior() -> None:
    codes = normal(60, 4)
    codes = (codes - codes.mean(0)) / codes.std(0)
    codes[:, 2:] *= 1e-4
    of_images, of_samples, of_prior = row(analysed(codes), "dimensions in use: participation ratio (of 4)")
    assert of_images == pytest.approx(2.0, abs=0.05)
    assert of_samples == pytest.approx(of_prior)
    assert of_prior > 3.0


def test_codes_on_a_sphere_are_tested_on_it() -> None:
    codes = Hypersphere(4).project(normal(60, 4))
    result = analysed(codes, Hypersphere(4))
    assert row(result, "uniform on projections")[0] > 0.001
    assert row(result, "mean length") == pytest.approx([1.0, 1.0, 1.0])
    assert not any(str(one[0]).startswith("normal") for one in result.tables["Codes beside samples of the prior"])


def test_a_prior_of_unknown_law_has_no_divergence_and_says_so() -> None:
    result = analysed(normal(60, 4), Empirical(normal(100, 4, seed=1)))
    assert not any(name.startswith("kl_") for name in result.numbers)
    assert "known by its samples alone" in result.protocol["notes"][0]


def test_it_consists_of_the_analyses_that_have_names() -> None:
    result = of_normal_codes()
    assert {title: section.analysis for title, section in result.sections.items()} == {
        LAW: "normality",
        IMAGES: "evaluate",
    }
    assert result.sections[IMAGES].numbers["rec_mse"] < 0.5
    assert result.sections[IMAGES].pictures["reconstructions"].shape[1] == 3


class Uncertain(Writer, AbstractStochasticEncoder):
    def posterior(self, images: Tensor) -> Normal:
        mean = self.encode(images)
        return Normal(mean, torch.full_like(mean, 0.5))


def test_a_posterior_gets_a_section_and_a_word_about_its_means() -> None:
    result = LatentHealth(**QUICK)(Uncertain(Gaussian(4)), Written(normal(60, 4)))
    assert result.sections[POSTERIOR].numbers["latents_active"] == 4
    assert any("means of posteriors" in note for note in result.protocol["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 5}, "num of at least 21 images, got 5"),
        ({"num_pictures": 0}, "num_pictures of at least 1, got 0"),
        ({"num_resamples": 1}, "num_resamples of at least 2"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentHealth(**options)


def test_two_models_are_too_many() -> None:
    pair = [Writer(Gaussian(4)), Writer(Gaussian(4))]
    with pytest.raises(ValueError, match="latent-health takes 1 models, got 2"):
        LatentHealth(**QUICK)(pair, Written(normal(60, 4)))
