"""I-MSE: closed forms, the metric, and bad input."""

import pytest
import torch

from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian
from latent_lab.metrics import LatentRecovery
from latent_lab.metrics.functional.latent_recovery import latent_recovery, latent_recovery_interval


class Halver(AbstractAutoencoder):
    """Finds half of every latent."""

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return Gaussian(12)

    @property
    def resolution(self) -> int:
        return 2

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.view(-1, 3, 2, 2)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) / 2


def latents(count: int = 400) -> torch.Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(0))


def test_latents_that_are_found_exactly_have_no_error() -> None:
    estimate = latent_recovery(latents(), latents())
    assert (estimate.value, estimate.relative) == (0.0, 0.0)
    assert estimate.cosine == pytest.approx(1.0)


def test_the_mean_of_the_prior_as_an_answer_misses_the_whole_variance() -> None:
    z = latents()
    estimate = latent_recovery(z, z.mean(0).expand_as(z))
    assert estimate.relative == pytest.approx(399 / 400, rel=1e-6)  # the variance is the unbiased one


def test_on_the_sphere_error_and_cosine_say_the_same() -> None:
    z, other = (torch.nn.functional.normalize(latents() + shift, dim=1) for shift in (0.0, 0.4))
    estimate = latent_recovery(z, other)
    assert estimate.value == pytest.approx(2 * (1 - estimate.cosine) / 12, rel=1e-6)


def test_half_of_every_latent_misses_a_quarter_of_its_square_whatever_the_batches() -> None:
    metric, z = LatentRecovery(12), latents()
    for places in torch.arange(400).split(150):
        metric.update(Halver(), z[places], places)
    assert metric.compute().item() == pytest.approx(z.double().square().mean().item() / 4, rel=1e-6)
    interval = metric.interval(num_resamples=100)
    assert interval.low < metric.compute().item() < interval.high


def test_intervals_hold_each_estimate() -> None:
    z = latents()
    found = z + 0.3 * latents().flip(0)
    estimate, intervals = latent_recovery(z, found), latent_recovery_interval(z, found, num_resamples=100)
    for value, interval in zip(estimate, intervals, strict=True):
        assert interval.low < value < interval.high


def test_a_single_latent_has_no_variance_and_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 of them"):
        latent_recovery(latents(1), latents(1))
