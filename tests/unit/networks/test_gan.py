"""The vanilla GAN's networks and the recoder: sizes as published, ranges, dropout that is decided outside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.gan import GANDiscriminator, GANGenerator
from latent_lab.networks.recoder import LatentRecoder
from latent_lab.networks.strided import drop


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "count"),
    [
        pytest.param(lambda: GANGenerator(64, 64), 2_760_067, id="generator"),
        pytest.param(lambda: GANDiscriminator(64), 2_661_249, id="discriminator"),
        pytest.param(lambda: LatentRecoder(64, 64), 4_725_696, id="recoder"),
        pytest.param(
            lambda: LatentRecoder(
                512, 256, widths=[32, 64, 128, 256, 512, 1024], kernel_size=3, extra_dense=True, dropout=0.2
            ),
            40_893_760,
            id="recoder of StyleGAN",
        ),
    ],
)
def test_parameter_counts_are_the_published_ones(network, count: int):
    assert parameters(network()) == count


def test_two_doublings_from_eight_pixels_make_32():
    generator = GANGenerator(5, 32, widths=[6, 4])
    assert generator.start_shape == (16, 8, 8)
    assert generator(torch.zeros(2, 5)).shape == (2, 3, 32, 32)


def test_images_are_in_minus_one_to_one():
    generator = GANGenerator(5, 16, widths=[6, 4])
    images = generator(100 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.std() > 0.1


def test_kernels_are_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    generator = GANGenerator(64, 32, widths=[32, 64])
    kernel = generator.layers[3].weight
    bound = (6 / (16 * (32 + 64))) ** 0.5
    assert kernel.shape == (32, 64, 4, 4)
    assert kernel.abs().max() <= bound
    # 32,768 draws: their deviation is within two per cent of the distribution's, bound / sqrt(3).
    assert kernel.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert all((value == 0).all() for name, value in generator.named_parameters() if name.endswith("bias"))


def test_a_logit_is_one_number_for_each_image_and_no_probability():
    discriminator = GANDiscriminator(16, widths=[4, 4])
    with torch.no_grad():
        discriminator.dense.bias.fill_(-3.0)
        discriminator.dense.weight.zero_()
    assert discriminator(torch.zeros(2, 3, 16, 16)).tolist() == [-3.0, -3.0]


def test_published_relu_then_leaky_relu_is_the_relu():
    values = torch.linspace(-2, 2, 9)
    assert torch.equal(nn.LeakyReLU(0.2)(nn.ReLU()(values)), nn.ReLU()(values))


def test_activations_differ_where_features_are_negative():
    torch.manual_seed(0)
    relu, leaky = (GANDiscriminator(16, widths=[4, 4], activation=name) for name in ("relu", "leaky_relu"))
    leaky.load_state_dict(relu.state_dict())
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert not torch.allclose(relu(images), leaky(images))


def test_dropout_keeps_what_its_numbers_say_and_rescales():
    features, uniform = torch.ones(1, 4), torch.tensor([[0.0, 0.19, 0.2, 0.9]])
    torch.testing.assert_close(drop(features, uniform, 0.2), torch.tensor([[0.0, 0.0, 1.25, 1.25]]))
    assert drop(features, None, 0.2) is features
    assert drop(features, uniform, 0.0) is features


@pytest.mark.parametrize("network", [GANDiscriminator(16, widths=[4], dropout=0.5), LatentRecoder(3, 16, widths=[4])])
def test_images_in_a_batch_do_not_depend_on_each_other(network: nn.Module):
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(network(images)[1:], network(images[1:]))


def test_odd_sizes_are_halved_upwards_as_keras_does():
    recoder = LatentRecoder(3, 9, widths=[4, 5], kernel_size=3)
    assert recoder.num_features == 5 * 3 * 3
    assert recoder(torch.zeros(2, 3, 9, 9)).shape == (2, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GANGenerator(4, 16, widths=[4] * 5), "5 doublings cannot end at 16 pixels: give fewer"),
        (lambda: GANGenerator(4, 16, widths=[]), "generator widths must be one or more positive channel counts"),
        (lambda: GANDiscriminator(16, widths=[4, 0]), r"discriminator widths must be .*, got \[4, 0\]"),
        (lambda: GANDiscriminator(16, dropout=1.0), r"dropout must be a share in \[0, 1\), got 1.0"),
        (lambda: LatentRecoder(4, 16, stride=0), "stride must be at least 1, got 0"),
    ],
)
def test_impossible_sizes_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()
