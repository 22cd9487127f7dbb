from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from latent_lab.objectives import vae


def test_the_kl_of_the_prior_itself_is_zero():
    assert vae.kl_to_standard_normal(torch.zeros(3, 4), torch.zeros(3, 4)).tolist() == [0.0, 0.0, 0.0]


def test_the_kl_is_that_of_torch_distributions():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64).unbind()
    posterior = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(vae.kl_to_standard_normal(mean, log_variance), kl_divergence(posterior, prior))


def test_the_gaussian_term_is_the_negative_log_likelihood():
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 1, 3, 4, 4, generator=rng, dtype=torch.float64).unbind()
    expected = -Normal(y, 0.3).log_prob(x).sum()
    torch.testing.assert_close(vae.gaussian_term((x - y).square().mean(), 0.09, x.numel()), expected)


def test_the_constants_of_the_gaussian_term_carry_no_gradient_to_the_error():
    error = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(vae.gaussian_term(error, 0.05, 12), error)
    (plain,) = torch.autograd.grad(vae.gaussian_term(error, 0.05, 12, with_constants=False), error)
    assert whole == plain == pytest.approx(12 / (2 * 0.05))


def test_the_gaussian_term_is_least_where_gamma_squared_is_the_error():
    variances = torch.linspace(0.01, 0.2, 191, dtype=torch.float64)
    terms = [vae.gaussian_term(torch.tensor(0.05, dtype=torch.float64), v, 10).item() for v in variances]
    assert variances[terms.index(min(terms))].item() == pytest.approx(0.05)


def test_binary_cross_entropy_of_a_perfect_grey_is_its_entropy():
    half = torch.full((1, 1, 2, 2), 0.5)
    assert vae.binary_cross_entropy(torch.zeros(1, 1, 2, 2), half).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("rule", ["ema_min", "split", "running_min"])
def test_gamma_never_rises(rule: vae.GammaRule):
    variance = statistic = torch.tensor(vae.initial_variance(rule), dtype=torch.float64)
    before = variance
    for error in (0.3, 0.9, 2.0, 0.1, 5.0):
        variance, statistic = vae.updated_variance(rule, variance, statistic, torch.tensor(error, dtype=torch.float64))
        assert variance <= before
        before = variance


def test_a_latent_that_ignores_the_image_is_counted_as_inactive():
    mean = torch.tensor([[-1.0, 0.0], [1.0, 0.1]])
    found = vae.latent_statistics(mean, torch.tensor([[-20.0, 0.0], [-20.0, 0.0]]))
    assert found["train/latents/active"] == found["train/latents/inactive"] == 1
    # Coordinate 0 has Var(mean) 1 and no variance, coordinate 1 Var(mean) 0.0025 and variance 1.
    assert found["train/latents/variance_law"].item() == pytest.approx((1.0 + 1.0025) / 2, abs=1e-6)
