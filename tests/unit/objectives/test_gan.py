"""The adversarial objective in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from latent_lab.objectives import gan

ZERO, ONE = torch.zeros(4), torch.ones(4)


def test_an_undecided_discriminator_loses_ln_2():
    loss = gan.discriminator_loss(ZERO, ZERO, ZERO, ONE)
    assert loss.item() == pytest.approx(math.log(2))
    assert gan.generator_loss(ZERO).item() == pytest.approx(math.log(2))


def test_the_discriminators_loss_is_the_cross_entropy_over_both_batches():
    fake, real = torch.tensor([0.3, -1.2]), torch.tensor([0.7, 2.0])
    fake_targets, real_targets = torch.tensor([0.01, 0.04]), torch.tensor([1.02, 1.0])
    logits, targets = torch.cat([fake, real]).double(), torch.cat([fake_targets, real_targets]).double()
    p = 1 / (1 + torch.exp(-logits))
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    assert gan.discriminator_loss(fake, real, fake_targets, real_targets).item() == pytest.approx(expected.item(), 1e-6)


def test_the_two_conventions_are_the_same_game_with_the_sign_turned():
    fake, real = torch.tensor([0.3, -1.2]), torch.tensor([0.7, 2.0])
    usual = gan.discriminator_loss(fake, real, torch.zeros(2), torch.ones(2))
    turned = gan.discriminator_loss(-fake, -real, torch.ones(2), torch.zeros(2))
    torch.testing.assert_close(usual, turned)
    torch.testing.assert_close(gan.generator_loss(fake, "real_is_one"), gan.generator_loss(-fake, "fake_is_one"))
    assert torch.equal(gan.judged_real(real, "real_is_one"), gan.judged_real(-real, "fake_is_one"))


def test_labels_of_the_conventions():
    label = gan.class_label
    assert (label(real=True, convention="real_is_one"), label(real=False, convention="real_is_one")) == (1.0, 0.0)
    assert (label(real=True, convention="fake_is_one"), label(real=False, convention="fake_is_one")) == (0.0, 1.0)


def test_noise_is_added_to_labels_of_both_classes():
    uniform = torch.tensor([0.0, 0.5])
    torch.testing.assert_close(gan.noisy_labels(1.0, uniform), torch.tensor([1.0, 1.025]))
    torch.testing.assert_close(gan.noisy_labels(0.0, uniform, 0.1), torch.tensor([0.0, 0.05]))


def test_a_target_above_one_pushes_its_logit_up_to_a_bound_and_no_further():
    real = torch.tensor([10.0, gan.LARGEST_LOGIT + 1], requires_grad=True)
    gan.discriminator_loss(torch.zeros(2), real, torch.zeros(2), torch.full((2,), 1.05)).backward()
    assert real.grad is not None
    assert real.grad[0] < 0
    assert real.grad[1] == 0


def test_a_wrong_logit_has_a_gradient_however_sure_it_is():
    fake = torch.tensor([40.0], requires_grad=True)
    gan.discriminator_loss(fake, torch.zeros(1), torch.zeros(1), torch.ones(1)).backward()
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(0.5)  # 1 / (2 N)


def test_the_generators_gradient_does_not_vanish_where_the_discriminator_is_sure():
    logits = torch.tensor([-40.0], requires_grad=True)
    gan.generator_loss(logits).backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(-1.0)
