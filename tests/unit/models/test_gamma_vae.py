from __future__ import annotations

from typing import Any

import pytest
import torch

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import GammaVAE
from latent_lab.models.gamma_balance import GammaBalance
from latent_lab.networks.gamma_vae import DECODER_WIDTHS, GammaVAEDecoder, GammaVAEEncoder
from latent_lab.objectives import vae


def schedule(resolution: int = 16) -> GrowthSchedule:
    return GrowthSchedule([Stage(resolution, 1.0, 8, learning_rate=1e-3)])


def small(**options: Any) -> GammaVAE:
    return GammaVAE(schedule(), latent_dim=4, encoder_widths=[8, 8], decoder_widths=[8, 8, 8], **options)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_networks_have_the_published_numbers_of_parameters():
    assert count(GammaVAEEncoder(64, 64)) == 6_822_912
    assert count(GammaVAEDecoder(64, 64)) == 4_887_683
    assert count(GammaVAEDecoder(64, 64, widths=DECODER_WIDTHS["thesis"])) == 2_760_067


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_the_activation_is_the_one_that_is_named(activation: str):
    encoder = GammaVAEEncoder(16, 4, widths=[8], activation=activation)  # type: ignore[arg-type]
    features = encoder.convolutions(torch.rand(2, 3, 16, 16) - 0.5)
    assert (features.min() < 0) == (activation == "leaky_relu")


def test_too_many_halvings_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="4 widths halve 16 pixels below 2"):
        GammaVAEEncoder(16, 4, widths=[8, 8, 8, 8])


def test_a_growing_schedule_is_refused():
    with pytest.raises(ValueError, match="GammaVAE does not grow, but its schedule has 8, 16 px"):
        GammaVAE(GrowthSchedule([Stage(8, 1.0, 8), Stage(16, 1.0, 8)]))


def gradient_of_the_reconstruction_term(detach: bool, error: float) -> float:
    """d/dw of the term for e = error * w at w = 1, where the minibatch sets a new minimum of running_min."""
    balance = GammaBalance("running_min", detach=detach)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    term = vae.gaussian_term(error * weight, balance(error * weight), 48, with_constants=False)
    (gradient,) = torch.autograd.grad(term, weight)
    return gradient.item()


def test_an_undetached_gamma_kills_the_reconstruction_gradient_and_the_default_does_not():
    # e / (2 e) is a constant. The quotient rule cancels exactly, since e * w and gamma^2 are the same number.
    assert gradient_of_the_reconstruction_term(detach=False, error=0.25) == 0.0
    assert gradient_of_the_reconstruction_term(detach=True, error=0.25) == pytest.approx(24.0)


@pytest.mark.parametrize(("detach", "trains"), [(True, True), (False, False)])
def test_the_undetached_rule_leaves_the_decoder_without_a_gradient(detach: bool, trains: bool):
    model = small(gamma_rule="running_min", detach_gamma=detach).double()
    real = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rebuilt = torch.sigmoid(model.decoder(model.encoder(real)[0]))
    error = vae.mean_squared_error(rebuilt, real)
    vae.gaussian_term(error, model.balance(error), real[0].numel(), with_constants=False).backward()
    largest = max(parameter.grad.abs().max().item() for parameter in model.decoder.parameters())
    # Two equal terms of opposite sign: what remains is rounding of gradients that are of the order of 100.
    assert (largest > 1e-3) == trains
    assert trains or largest < 1e-10


def test_only_running_min_can_be_undetached():
    with pytest.raises(ValueError, match="running_min alone"):
        small(gamma_rule="ema_min", detach_gamma=False)


def test_gamma_stands_still_in_evaluation_mode():
    balance = GammaBalance("ema_min").eval()
    balance(torch.tensor(0.1))
    assert balance.variance == 1.0


def test_gamma_is_in_the_state_dict():
    state = small().state_dict()
    assert {"balance.variance", "balance.statistic"} <= set(state)


def test_an_images_code_is_the_posteriors_mean():
    model = small().eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    posterior = model.posterior(images)
    torch.testing.assert_close(model.encode(images), posterior.mean)
    assert posterior.stddev.shape == (2, 4)


def test_one_channel_is_an_option():
    model = small(image_channels=1).eval()
    assert model.reconstruct(torch.zeros(2, 1, 16, 16)).shape == (2, 1, 16, 16)
    assert model.channels == 1


def test_decoded_images_lie_within_the_range():
    decoded = small().eval().decode(10 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert decoded.min() >= -1
    assert decoded.max() <= 1
