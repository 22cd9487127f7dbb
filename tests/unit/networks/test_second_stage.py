from __future__ import annotations

import torch

from latent_lab.networks.second_stage import SecondStageVAE


def test_inputs_are_joined_to_what_the_last_layers_see():
    network = SecondStageVAE(4, width=8)
    for layers in (network.encoder, network.decoder):
        for parameter in layers.parameters():
            parameter.data.zero_()
    codes = torch.randn(3, 4)
    # With dead hidden layers, only the joined input reaches mean and codes.
    torch.testing.assert_close(network(codes)[0], codes @ network.mean.weight[:, 8:].T)
    torch.testing.assert_close(network.decode(codes), codes @ network.to_codes.weight[:, 8:].T)


def test_hidden_layers_are_as_many_and_as_wide_as_asked_for():
    network = SecondStageVAE(4, width=8, num_layers=3)
    assert [layer.out_features for layer in network.decoder[::2]] == [8, 8, 8]


def test_the_variance_is_the_square_of_gamma():
    torch.testing.assert_close(SecondStageVAE(4, width=8, gamma=0.5).variance, torch.tensor(0.25))
