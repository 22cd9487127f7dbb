"""AGE's networks: layers as published, other sizes in the same style, initial weights, ranges, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.age import RESOLUTIONS, AGEEncoder, AGEGenerator
from latent_lab.networks.batch_norm import GlobalBatchNorm

every_size = pytest.mark.parametrize("resolution", RESOLUTIONS)

# Numbers of the layers that have parameters in the published files.
SLOTS = {
    (AGEEncoder, 32): [0, 2, 3, 5, 6, 8],
    (AGEEncoder, 64): [0, 2, 3, 5, 6, 8, 9, 11],
    (AGEGenerator, 32): [0, 1, 3, 4, 6, 7, 9, 10, 12],
    (AGEGenerator, 64): [0, 1, 3, 4, 6, 7, 9, 10, 12],
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def norm(width: int) -> int:
    return 2 * width


@pytest.mark.parametrize(("network", "resolution"), SLOTS)
def test_names_are_those_of_the_published_files(network: type[nn.Module], resolution: int):
    names = network(16, resolution, base_width=4).state_dict()
    assert [int(name.split(".")[1]) for name in dict.fromkeys(name.rpartition(".")[0] for name in names)] == (
        SLOTS[network, resolution]
    )
    assert {name.rpartition(".")[2] for name in names} == {"weight", "bias", "running_mean", "running_var"}


def test_parameter_counts_follow_from_the_published_tables():
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 64)
    assert parameters(AGEEncoder(64, 64)) == kernels + 64 + norm(128 + 256 + 512)
    kernels = 16 * (64 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert parameters(AGEGenerator(64, 64)) == kernels + norm(512 + 256 + 128 + 64)
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128)
    assert parameters(AGEEncoder(128, 32)) == kernels + 128 + norm(128 + 256)
    kernels = 16 * (128 * 512 + 512 * 256 + 256 * 128 + 128 * 128) + 128 * 3
    assert parameters(AGEGenerator(128, 32)) == kernels + 3 + norm(512 + 256 + 128 + 128)


@every_size
def test_codes_and_images_have_the_stated_shapes(resolution: int):
    latents = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    images = AGEGenerator(5, resolution, base_width=2, channels=1)(latents)
    assert images.shape == (2, 1, resolution, resolution)
    assert AGEEncoder(5, resolution, base_width=2, channels=1)(images).shape == (2, 5)


def test_images_are_in_minus_one_to_one():
    latents = 1000 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    images = AGEGenerator(5, 16, base_width=4)(latents)
    assert images.abs().max() <= 1


def test_kernels_and_scales_begin_as_published():
    torch.manual_seed(0)
    for network in (AGEEncoder(64, 32), AGEGenerator(64, 32)):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 10_000:
                # At least 100,000 draws each: three standard errors of the deviation are 0.7 per cent.
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
            elif isinstance(layer, GlobalBatchNorm):
                assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.01)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
                assert (layer.bias == 0).all()


def test_images_of_another_size_are_refused_in_one_sentence():
    # The 32 px network would make maps of 64 px images, and losses would take their places for samples.
    with pytest.raises(ValueError, match="sees 32 x 32 pixels, got 64 x 64: resize the images first"):
        AGEEncoder(5, 32, base_width=2)(torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize("network", [AGEEncoder, AGEGenerator])
def test_a_size_without_a_network_is_refused_in_one_sentence(network: type[nn.Module]):
    with pytest.raises(ValueError, match="AGE has networks for 16, 32, 64, 128 px, got 8"):
        network(5, 8)
