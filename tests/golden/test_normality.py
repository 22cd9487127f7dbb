"""Henze-Zirkler's statistic, p-value and moments, and BHEP with a free bandwidth, against stored ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_lab.metrics.functional import bhep, henze_zirkler

STORED = (
    "gauss_60x3",
    "lognormal_200x2",
    "corr_gauss_150x10",
    "student4_400x5",
    "gauss_300x64",
    "scalemix_300x64",
    "rankdef_50x4",
    "nanrows_80x3",
    "iris_setosa_50x4",
    "iris_all_150x4",
)


@pytest.fixture(scope="module")
def golden(latent_golden: Callable[[str], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    return latent_golden("henze_zirkler")


def codes_of(golden: Mapping[str, Tensor], case: str) -> Tensor:
    codes = golden[f"{case}__X"]
    # The reference drops rows with NaN; here they are refused.
    return codes[~codes.isnan().any(1)]


@pytest.mark.parametrize("case", STORED)
def test_statistic_bandwidth_moments_and_p_value(golden: Mapping[str, Tensor], case: str) -> None:
    test = henze_zirkler(codes_of(golden, case))
    assert test.statistic == pytest.approx(golden[f"{case}__hz"].item(), rel=1e-9)
    assert test.beta == pytest.approx(golden[f"{case}__beta"].item(), rel=1e-12)
    assert test.null_mean == pytest.approx(golden[f"{case}__mu"].item(), rel=1e-12)
    assert test.null_deviation**2 == pytest.approx(golden[f"{case}__sigma2"].item(), rel=1e-9)
    # At 64 dimensions the deviation is 2e-9 and the reference subtracts from 1: rounding moves its p-value by 1e-7.
    tolerance = 1e-6 if case.endswith("x64") else 1e-9
    assert test.p_value == pytest.approx(golden[f"{case}__p"].item(), rel=tolerance, abs=1e-300)


def test_a_large_mean_costs_no_digits(golden: Mapping[str, Tensor]) -> None:
    test = henze_zirkler(golden["offset1e6_120x4__X"])
    # The codes themselves hold 1e-10 of their deviation beside a mean of a million.
    assert test.statistic == pytest.approx(golden["offset1e6_120x4__hz_centred"].item(), rel=1e-9)
    assert test.p_value == pytest.approx(golden["offset1e6_120x4__p_centred"].item(), rel=1e-8)


@pytest.mark.parametrize("dim", [64, 150, 512])
@pytest.mark.parametrize("kind", ["gauss", "scalemix"])
def test_five_thousand_codes(golden: Mapping[str, Tensor], kind: str, dim: int) -> None:
    rng = np.random.default_rng(123)
    codes = rng.standard_normal((5000, dim))
    if kind == "scalemix":
        codes = codes * np.where(rng.uniform(size=(5000, 1)) < 0.1, 0.3, 1.0)
    case = f"seed123_{kind}_5000x{dim}"
    np.testing.assert_array_equal(codes[0, :4], golden[f"{case}__first4"].numpy())
    test = henze_zirkler(torch.from_numpy(codes))
    assert test.statistic == pytest.approx(golden[f"{case}__hz"].item(), abs=1e-12)
    assert not test.informative
    if dim == 64:
        # Rounding of the reference's 1 - 1e-10 over a deviation of 6e-10.
        assert test.p_value == pytest.approx(golden[f"{case}__p"].item(), rel=1e-5)


@pytest.mark.parametrize("case", ["corr_gauss_150x10", "student4_400x5", "scalemix_300x64", "gauss_300x64"])
def test_the_free_bandwidth_of_bhep(golden: Mapping[str, Tensor], case: str) -> None:
    beta = golden[f"{case}__bhep_beta_2_over_sqrt_d"].item()
    expected = golden[f"{case}__bhep_stat"].item()
    for chosen in (None, beta):
        test = bhep(codes_of(golden, case), beta=chosen, num_draws=2)
        assert test.statistic == pytest.approx(expected, rel=1e-9)
