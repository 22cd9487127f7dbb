from __future__ import annotations

import pytest
import torch

from latent_lab.networks.gpvae import GPVAEDecoder, GPVAEEncoder


def test_the_published_networks_have_the_published_number_of_parameters():
    encoder, decoder = GPVAEEncoder(128, 256), GPVAEDecoder(128, 256)
    # The published 553,304 count the fixed variance of the observations, too.
    assert sum(value.numel() for net in (encoder, decoder) for value in net.parameters()) == 553_303


@pytest.mark.parametrize("resolution", [8, 32])
def test_an_image_becomes_a_latent_and_a_latent_an_image(resolution: int):
    encoder = GPVAEEncoder(resolution, 5, channels=1, width=4)
    decoder = GPVAEDecoder(resolution, 5, channels=1, width=4)
    mean, deviation = encoder(torch.rand(3, 1, resolution, resolution))
    assert mean.shape == deviation.shape == (3, 5)
    assert decoder(mean).shape == (3, 1, resolution, resolution)


def test_deviations_are_positive_whatever_the_image():
    encoder = GPVAEEncoder(8, 5, width=4)
    assert (encoder(torch.full((1, 3, 8, 8), 1e4))[1] > 0).all()
    assert (encoder(torch.full((1, 3, 8, 8), -1e4))[1] > 0).all()


def test_the_last_layer_is_linear():
    decoder = GPVAEDecoder(8, 5, width=4)
    last = decoder.convolutions[-1]
    assert isinstance(last, torch.nn.Conv2d)
    with torch.no_grad():
        last.bias.fill_(-7.0)
    # ELU would keep it above -1.
    assert decoder(torch.zeros(1, 5)).max() < -3


def test_no_image_at_all_is_an_image_batch_too():
    encoder, decoder = GPVAEEncoder(8, 5, width=4), GPVAEDecoder(8, 5, width=4)
    mean, _ = encoder(torch.zeros(0, 3, 8, 8))
    assert decoder(mean).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("network", [GPVAEEncoder, GPVAEDecoder])
def test_four_pixels_are_too_few(network: type):
    with pytest.raises(ValueError, match="at least 8 pixels, got 4"):
        network(4, 5)
