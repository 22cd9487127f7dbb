"""Are codes distributed as the prior says? Codes of known law."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import ANALYSES, Normality, Result, write_report
from latent_lab.latent.spaces import AbstractLatentSpace, Empirical, Gaussian, Hypersphere
from tests.unit.analyses.written import Writer, Written, normal

DRAWS = 39
"""Simulated data sets: the smallest p-value is 1 / 40."""


def analysed(codes: Tensor, space: AbstractLatentSpace | None = None, **options: Any) -> Result:
    quick = {"num_draws": DRAWS, "num_resamples": 20, "cycle": False, **options}
    return Normality(**quick)(Writer(space or Gaussian(codes.shape[1])), Written(codes))


def heavy_tailed(n: int, d: int) -> Tensor:
    """Student's t with 3 degrees of freedom."""
    return normal(n, d) / (normal(n, 3, seed=1).square().mean(1, keepdim=True)).sqrt()


def test_it_is_an_analysis() -> None:
    assert ANALYSES["normality"] is Normality


def assert_accepted(numbers: Mapping[str, float], prefix: str = "") -> None:
    """By simulated tests (whose p-values are coarse) and by those with a known law."""
    own = {name.removeprefix(prefix): value for name, value in numbers.items() if name.startswith(prefix)}
    deviations = [value for name, value in own.items() if "_deviations_" in name]
    assert max(map(abs, deviations)) < 4
    known = [
        own[name] for name in own if name.startswith(("hz_p_", "hz_principal_p_", "hz_random_p_", "projections_p_"))
    ]
    assert min(known) > 0.01


def test_normal_codes_are_not_rejected() -> None:
    numbers = analysed(normal(300, 6)).numbers
    assert_accepted(numbers)
    assert numbers["coordinates_rejected_300"] == 0.0


def test_heavy_tails_are_rejected_by_every_test() -> None:
    numbers = analysed(heavy_tailed(300, 6)).numbers
    for name in ("bhep", "mardia_skewness", "mardia_kurtosis"):
        assert numbers[f"{name}_deviations_300"] > 5
    assert numbers["bhep_p_300"] == 1 / (1 + DRAWS)
    assert max(numbers[f"{name}_p_300"] for name in ("hz", "hz_principal", "hz_random")) < 1e-3
    assert numbers["coordinates_rejected_300"] > 0.5


def test_a_perfect_autoencoder_gives_the_prior_back() -> None:
    result = analysed(heavy_tailed(300, 6), cycle=True)
    assert result.numbers["bhep_deviations_300"] > 5
    assert_accepted(result.numbers, "cycle_")
    assert result.numbers["cycle_coordinate_variance_300"] == pytest.approx(1.0, abs=0.1)
    assert [row[1] for row in result.tables["Tests of normality"][1:]] == [
        "held-out",
        "prior, decoded and encoded again",
    ]


def test_in_many_dimensions_a_note_says_that_henze_and_zirkler_cannot_tell() -> None:
    result = analysed(normal(200, 96), num_draws=3)
    assert result.numbers["hz_200"] == pytest.approx(1.0, abs=1e-9)
    assert any("1 to rounding for most data" in note for note in result.protocol["notes"])
    assert not analysed(normal(200, 6), num_draws=3).protocol["notes"]


def test_fewer_images_than_dimensions_are_said_to_tell_little() -> None:
    result = analysed(normal(40, 64))
    assert result.numbers["hz_40"] == 4 * 40
    assert result.numbers["rank_40"] == 39
    assert "bhep_40" not in result.numbers
    assert "hz_random_p_40" not in result.numbers
    assert any("too few for 64 dimensions" in note for note in result.protocol["notes"])
    assert all(len(row) == len(rows[0]) for rows in result.tables.values() for row in rows)


def test_a_collapsed_coordinate_is_left_out_of_the_tests() -> None:
    codes = normal(300, 6)
    codes[:, 2] = 0.25
    result = analysed(codes)
    assert result.numbers["rank_300"] == 5
    assert result.numbers["collapsed_300"] == 1
    assert abs(result.numbers["bhep_deviations_300"]) < 4
    notes = " ".join(result.protocol["notes"])
    assert "span 5 of 6 dimensions" in notes
    assert "1 coordinates are constant" in notes


def test_codes_on_a_sphere_are_tested_for_uniformity() -> None:
    uniform = analysed(normal(200, 6), Hypersphere(6)).numbers
    assert not any(name.startswith(("hz", "bhep", "mardia")) for name in uniform)
    assert_accepted(uniform)
    gathered = analysed(normal(200, 6) + 1.0, Hypersphere(6)).numbers
    assert max(value for name, value in gathered.items() if name.endswith("_p_200")) == 1 / (1 + DRAWS)
    assert gathered["rayleigh_deviations_200"] > 10


def test_samples_of_a_prior_without_a_known_law_are_tested_beside_the_codes() -> None:
    result = analysed(normal(100, 6), Empirical(heavy_tailed(500, 6)))
    assert abs(result.numbers["bhep_deviations_100"]) < 4
    assert result.numbers["prior_bhep_deviations_100"] > 5
    assert not any(name.startswith("prior_") for name in analysed(normal(100, 6)).numbers)


def test_lengths_and_variances_are_those_of_the_codes() -> None:
    codes = 3.0 * normal(100, 6) + 1.0
    result = analysed(codes, num_draws=2)
    assert result.numbers["mean_length_100"] == pytest.approx(codes.norm(dim=1).mean().item(), rel=1e-5)
    assert result.numbers["length_of_mean_100"] == pytest.approx(codes.mean(0).norm().item(), rel=1e-5)
    assert result.numbers["coordinate_variance_100"] == pytest.approx(codes.var(0).mean().item(), rel=1e-5)
    for name, (low, high) in result.intervals.items():
        assert low < result.numbers[name] < high
    assert not analysed(codes, num_draws=2, num_resamples=0).intervals


def test_the_number_of_draws_and_codes_is_in_protocol_and_names() -> None:
    result = analysed(normal(100, 6), num=50, num_draws=5)
    assert all(name.endswith("_50") for name in result.numbers)
    assert result.protocol["null"]["draws"] == 5


def test_every_model_has_a_panel_and_a_row(tmp_path: Path) -> None:
    models = [Writer(Gaussian(6)), Writer(Hypersphere(6))]
    result = Normality(num_draws=2, cycle=False)(models, Written(normal(60, 6)))
    assert {"Writer 1/hz_60", "Writer 2/rayleigh_60"} < set(result.numbers)
    assert [row[0] for row in result.tables["What codes fill"][1:]] == ["Writer 1", "Writer 2"]
    assert {name: tuple(sheet.shape[:2]) for name, sheet in result.pictures.items()} == {
        "histograms": (1, 3),
        "spectra": (1, 3),
        "quantiles": (1, 3),
    }
    assert "Tests of uniformity on the sphere" in write_report(result, tmp_path).read_text()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 21 images, got 20: name a larger data set"):
        analysed(normal(20, 6))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num": 20}, "num of at least 21"),
        ({"num_draws": 1}, "num_draws of at least 2"),
        ({"num_resamples": 1}, "or 0 for no intervals"),
        ({"level": 1.0}, "level between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Normality(**options)


def test_codes_that_are_not_finite_are_refused() -> None:
    codes = normal(60, 6)
    codes[3, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 60 codes of Writer are not finite"):
        analysed(codes)
