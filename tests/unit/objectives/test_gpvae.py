from __future__ import annotations

import math

import torch
from torch.distributions import Normal, kl_divergence

from latent_lab.objectives.gpvae import divergence, negative_entropy


def test_the_exact_term_is_the_negative_entropy_up_to_a_constant():
    deviation = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = -Normal(torch.zeros_like(deviation), deviation).entropy().sum(1)
    constant = 3 * 0.5 * (1 + math.log(2 * math.pi))
    torch.testing.assert_close(negative_entropy(deviation), expected + constant)


def test_the_released_term_is_half_the_sum_of_deviations():
    torch.testing.assert_close(negative_entropy(torch.tensor([[1.0, 2.0]]), "released"), torch.tensor([-1.5]))


def test_the_divergence_from_a_standard_normal_prior_is_right_on_average():
    rng = torch.Generator().manual_seed(0)
    mean, deviation = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, 1.5]])
    latents = mean + deviation * torch.randn(100_000, 2, generator=rng)
    negative_log_prior = 0.5 * latents.square().sum(1)
    found = divergence(negative_log_prior, deviation.expand(100_000, 2))
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
    # The estimate's deviation is about 2.5, that of the mean 0.008.
    assert abs(found.mean() - expected) < 0.03
