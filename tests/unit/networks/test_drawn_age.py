"""Discs that age: rules, and the oracle that measures them."""

from __future__ import annotations

import pytest
import torch

from latent_lab.data.synthetic_ageing import AGES, Discs, draw_discs, sample_discs
from latent_lab.images import quantise
from latent_lab.networks.drawn_age import blue_radius, disc_radius, measured_age, red_radius


def discs(count: int) -> Discs:
    return sample_discs(0, range(count))


@pytest.mark.parametrize(("resolution", "tolerance"), [(16, 5.0), (32, 1.5), (64, 1.0), (128, 0.5)])
def test_the_oracle_measures_the_age_of_drawn_discs(resolution: int, tolerance: float):
    # The colours' thresholds lie half-way between disc and background of medium brightness only, so an edge seems to be
    # off by up to a tenth of a pixel; small dots are a matter of few pixels.
    ages = torch.linspace(11.0, 69.0, 59)
    error = measured_age(quantise(draw_discs(discs(59), ages, resolution))) - ages
    assert error.abs().max() < tolerance
    assert error.abs().mean() < tolerance / 3


def test_faint_noise_does_not_age_a_disc():
    ages = torch.tensor(AGES)
    images = draw_discs(discs(6), ages, 32)
    noise = 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert (measured_age(images + noise) - ages).abs().max() < 1.5


def test_the_middle_steps_share_one_rule_and_the_others_have_their_own():
    ages = torch.tensor(AGES)
    grown, red, blue = (rule(ages).diff() for rule in (disc_radius, red_radius, blue_radius))
    torch.testing.assert_close(grown, torch.tensor([0.0, 0.13, 0.13, 0.13, 0.0]))
    torch.testing.assert_close(red, torch.tensor([-0.16, 0.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(blue, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.16]))


def test_growing_beyond_the_shared_steps_makes_nobody_old():
    # A translator that goes on with the middle rule must not pass for one of the last step.
    giant = draw_discs(discs(1), torch.tensor([55.0]), 32)
    grown = torch.nn.functional.max_pool2d(giant, 5, stride=1, padding=2)
    assert measured_age(grown).item() == pytest.approx(55.0, abs=0.1)


def test_a_translation_without_the_first_rule_keeps_the_young_apart():
    young = draw_discs(discs(4), torch.full((4,), 15.0), 64)
    assert (measured_age(young) - 15.0).abs().max() < 0.6


def test_grey_images_are_refused():
    with pytest.raises(ValueError, match="told by colours, got images with 1 channel"):
        measured_age(torch.zeros(2, 1, 8, 8))
