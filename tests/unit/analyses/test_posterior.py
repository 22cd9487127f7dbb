from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from latent_lab.analyses import Posterior
from latent_lab.latent.interfaces import AbstractStochasticEncoder
from latent_lab.latent.spaces import Gaussian
from tests.unit.analyses.toys import Noise, ToyAutoencoder


class TwoUsed(AbstractStochasticEncoder):
    """Encodes mean brightness and contrast, and leaves a third coordinate at the prior."""

    latent_space = Gaussian(3)
    resolution = 8

    def posterior(self, images: Tensor) -> Normal:
        brightness, contrast = images.mean((1, 2, 3)), images.std((1, 2, 3))
        mean = torch.stack([3 * brightness, 5 * contrast, torch.zeros_like(contrast)], 1)
        deviation = torch.tensor([0.1, 0.2, 1.0]).expand_as(mean)
        return Normal(mean, deviation)

    def encode(self, images: Tensor) -> Tensor:
        return self.posterior(images).mean

    def decode(self, latents: Tensor) -> Tensor:
        return torch.zeros(len(latents), 3, 8, 8)


def test_used_and_unused_latents_are_counted():
    numbers = Posterior(batch_size=7)(TwoUsed(), Noise(40)).numbers
    assert numbers["latents_active"] == 2
    assert numbers["latents_inactive"] == numbers["latents_almost_prior"] == 1


def test_the_kl_of_a_latent_at_the_prior_is_zero_and_the_sum_is_the_whole():
    numbers = Posterior()(TwoUsed(), Noise(40)).numbers
    assert numbers["kl_of_latent_002"] == pytest.approx(0.0, abs=1e-6)
    assert sum(numbers[f"kl_of_latent_00{k}"] for k in range(3)) == pytest.approx(numbers["kl"])


def test_batches_change_nothing_beyond_rounding():
    one, two = (Posterior(batch_size=size)(TwoUsed(), Noise(30)).numbers for size in (1, 16))
    assert one == pytest.approx(two, rel=1e-6)


def test_there_is_a_figure():
    picture = Posterior(num=10)(TwoUsed(), Noise(30)).pictures["kl_of_latents"]
    assert picture.shape[:2] == (1, 3)
    assert picture.std() > 0.05


def test_a_model_without_posteriors_is_refused():
    with pytest.raises(TypeError, match="posterior needs a model with posterior"):
        Posterior()(ToyAutoencoder(), Noise(8))
