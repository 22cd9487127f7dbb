"""Losses of translation on constants, where the arithmetic is plain."""

from __future__ import annotations

import pytest
import torch

from latent_lab.objectives.translator import cycle_error, deceive, discriminate


def scores(value: float) -> torch.Tensor:
    return torch.full((2, 1, 3, 3), value)


def test_a_discriminator_that_says_0_everywhere_pays_a_third():
    # (1 + 0 + 0) / 3: real images are missed, translations and the wrong domain are right.
    assert discriminate(scores(0.0), scores(0.0), scores(0.0)).item() == pytest.approx(1 / 3)


def test_a_discriminator_that_says_1_everywhere_pays_two_thirds():
    assert discriminate(scores(1.0), scores(1.0), scores(1.0)).item() == pytest.approx(2 / 3)


def test_without_the_wrong_domain_two_terms_are_averaged():
    assert discriminate(scores(0.0), scores(0.0)).item() == pytest.approx(1 / 2)


def test_four_terms_are_divided_by_their_number_or_by_three_as_published():
    terms = [scores(1.0)] * 3
    assert discriminate(scores(1.0), *terms).item() == pytest.approx(3 / 4)
    assert discriminate(scores(1.0), *terms, divisor="three").item() == pytest.approx(1.0)


def test_generators_pay_two_where_discriminators_say_0_everywhere():
    assert (deceive(scores(0.0)) + deceive(scores(0.0))).item() == 2.0
    assert deceive(scores(1.0)).item() == 0.0
    assert deceive(scores(3.0)).item() == 4.0


def test_a_cycle_error_is_the_mean_absolute_difference():
    images = torch.zeros(2, 3, 4, 4)
    assert cycle_error(images, images + 0.25).item() == pytest.approx(0.25)
    half = images.clone()
    half[:, :, :2] = -1.0
    assert cycle_error(images, half).item() == pytest.approx(0.5)
