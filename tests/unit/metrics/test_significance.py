"""Monte-Carlo p-values and adjustment for many tests."""

import math

import pytest
import torch

from latent_lab.metrics.functional import holm, monte_carlo_test

NULL = torch.arange(1.0, 100.0)


@pytest.mark.parametrize(
    ("statistic", "alternative", "p_value"),
    [(1000.0, "larger", 0.01), (0.0, "larger", 1.0), (0.0, "smaller", 0.01), (50.5, "two-sided", 1.0)],
)
def test_the_p_value_is_the_rank_among_draws_and_the_statistic(
    statistic: float, alternative: str, p_value: float
) -> None:
    assert monte_carlo_test(statistic, NULL, alternative=alternative).p_value == pytest.approx(p_value)


def test_two_sided_doubles_the_smaller_tail() -> None:
    assert monte_carlo_test(0.0, NULL, alternative="two-sided").p_value == pytest.approx(0.02)


def test_deviations_place_the_statistic_beside_the_null() -> None:
    test = monte_carlo_test(50.0 + 3 * NULL.double().std().item(), NULL)
    assert test.deviations == pytest.approx(3.0)
    assert math.isnan(monte_carlo_test(1.0, torch.ones(5)).deviations)


def test_a_single_draw_is_no_null() -> None:
    with pytest.raises(ValueError, match="at least 2 draws of the null, got 1"):
        monte_carlo_test(1.0, torch.ones(1))


def test_holm_written_out() -> None:
    adjusted = holm(torch.tensor([0.04, 0.01, 0.03, 0.9]))
    # 4 x 0.01; 3 x 0.03; max(0.09, 2 x 0.04); max(0.09, 0.9). float32 inputs hold 1e-8.
    assert adjusted.tolist() == pytest.approx([0.09, 0.04, 0.09, 0.9], rel=1e-6)


def test_holm_leaves_out_tests_that_were_not_made() -> None:
    adjusted = holm(torch.tensor([0.02, float("nan"), 0.5]))
    assert adjusted[0].item() == pytest.approx(0.04)
    assert adjusted[1].isnan()
    assert holm(torch.tensor([float("nan")])).isnan().all()
