"""StyleGAN's objectives in closed form."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from latent_lab.networks.stylegan import StyleGANDiscriminator
from latent_lab.objectives import gan, stylegan

FAKE, REAL = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0.7, 2.0, -0.4])


def test_an_undecided_discriminator_loses_ln_2_on_either_side():
    zero = torch.zeros(4)
    assert stylegan.discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert stylegan.saturating_generator_loss(zero).item() == pytest.approx(-math.log(2))


def test_the_logistic_loss_is_twice_the_cross_entropy_over_both_batches():
    cross_entropy = gan.discriminator_loss(FAKE, REAL, torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(stylegan.discriminator_loss(FAKE, REAL), 2 * cross_entropy)


def test_the_two_generator_losses_differ_by_the_mean_score():
    difference = stylegan.saturating_generator_loss(FAKE) + FAKE.mean() + F.softplus(-FAKE).mean()
    assert difference.item() == pytest.approx(0, abs=1e-6)


def test_wasserstein_losses():
    loss = stylegan.wasserstein_discriminator_loss(FAKE, REAL, drift=0.5)
    expected = FAKE.mean() - REAL.mean() + 0.5 * (REAL**2).mean()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(stylegan.wasserstein_generator_loss(FAKE), -FAKE.mean())


def test_points_between_lie_on_the_line():
    real, fake = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    share = torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(stylegan.between(real, fake, share)[:, 0, 0, 0], share)


def test_penalties_of_a_linear_score_are_those_of_its_weights():
    weights = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.zeros(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    scores = (images * weights).sum((1, 2, 3))
    torch.testing.assert_close(stylegan.r1_penalty(scores, images), weights.square().sum().expand(5))
    expected = (weights.square().sum().sqrt() - 1).square()
    torch.testing.assert_close(stylegan.gradient_penalty(scores, images), expected.expand(5))


def test_the_penalty_is_differentiated_again():
    slope = torch.tensor(3.0, requires_grad=True)
    images = torch.zeros(2, 1, 2, 2, requires_grad=True)
    scores = slope * images.sum((1, 2, 3))
    # Four pixels of slope 3: 36; its derivative with respect to the slope is 2 * 4 * 3.
    penalty = stylegan.r1_penalty(scores, images).mean()
    penalty.backward()
    assert penalty.item() == 36
    assert slope.grad is not None
    assert slope.grad.item() == 24


@pytest.mark.parametrize("factor", [2, 4])
def test_the_published_scale_is_the_penalty_of_enlarged_images(factor: int):
    torch.manual_seed(0)
    network = StyleGANDiscriminator(16, widths=[4, 4, 4]).double()
    phase = {2: 1, 4: 0}[factor]
    small = torch.randn(4, 3, 16 // factor, 16 // factor, dtype=torch.float64, requires_grad=True)
    native = stylegan.r1_penalty(network(small, phase), small)
    large = F.interpolate(small.detach(), scale_factor=factor, mode="nearest").requires_grad_()
    enlarged = stylegan.r1_penalty(network(F.avg_pool2d(large, factor), phase), large)
    torch.testing.assert_close(enlarged, native / factor**2)
    gamma = stylegan.r1_gamma(10.0, 16 // factor, 16, as_published=True)
    torch.testing.assert_close(gamma * native, 10.0 * enlarged)
    assert stylegan.r1_gamma(10.0, 16 // factor, 16) == 10.0


@pytest.mark.parametrize("fused_from", [8, 32])
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_penalty_of_a_discriminator_has_the_gradient_of_finite_differences(fused_from: int, alpha: float):
    torch.manual_seed(0)
    network = StyleGANDiscriminator(16, widths=[4, 4, 4], fused_from=fused_from).double()
    images = torch.randn(8, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    parameters = list(network.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]

    def penalty(step: float) -> torch.Tensor:
        with torch.no_grad():
            for parameter, change in zip(parameters, direction, strict=True):
                parameter += step * change
        value = stylegan.r1_penalty(network(images, 2, alpha), images).mean()
        with torch.no_grad():
            for parameter, change in zip(parameters, direction, strict=True):
                parameter -= step * change
        return value

    # In place changes would spoil a graph that is still to be followed, so the gradient is taken first.
    gradients = torch.autograd.grad(
        stylegan.r1_penalty(network(images, 2, alpha), images).mean(), parameters, allow_unused=True
    )
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    step = 1e-6
    measured = (penalty(step) - penalty(-step)).item() / (2 * step)
    # Kinks of the rectifiers that lie within the step and rounding leave about six digits.
    assert float(slope) == pytest.approx(measured, rel=1e-5)
