from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d, glorot_uniform_


@pytest.mark.parametrize("pixels", [7, 8])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (4, 2), (5, 1)])
def test_a_convolution_gives_the_pixels_divided_by_the_stride_rounded_up(pixels: int, kernel_size: int, stride: int):
    made = SameConv2d(2, 3, kernel_size, stride)(torch.zeros(1, 2, pixels, pixels))
    assert made.shape == (1, 3, -(-pixels // stride), -(-pixels // stride))


def test_the_odd_zero_goes_to_the_bottom_and_to_the_right():
    layer = SameConv2d(1, 1, 3, stride=2)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 0, 0] = 1.0  # looks at the upper left pixel of each window
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert layer(images)[0, 0].tolist() == [[0.0, 2.0], [8.0, 10.0]]


def test_even_padding_is_that_of_pytorch():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layer = SameConv2d(3, 4, 4, stride=2)
    torch.testing.assert_close(
        layer(images), nn.functional.conv2d(images, layer.weight, layer.bias, stride=2, padding=1)
    )


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_the_transposed_convolution_is_the_adjoint(kernel_size: int):
    rng = torch.Generator().manual_seed(kernel_size)
    forward = SameConv2d(3, 5, kernel_size, stride=2).double()
    backward = SameConvTranspose2d(5, 3, kernel_size, stride=2).double()
    with torch.no_grad():
        backward.weight.copy_(forward.weight)
        forward.bias.zero_()
        backward.bias.zero_()
    x = torch.randn(1, 3, 8, 8, generator=rng, dtype=torch.float64)
    y = torch.randn(1, 5, 4, 4, generator=rng, dtype=torch.float64)
    torch.testing.assert_close((forward(x) * y).sum(), (x * backward(y)).sum())


def test_a_kernel_smaller_than_the_stride_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be at least the stride 2, got 1"):
        SameConvTranspose2d(1, 1, 1, stride=2)


def test_kernels_are_uniform_within_glorots_limit_and_biases_zero():
    layer = SameConv2d(8, 16, 4, stride=2)
    torch.manual_seed(0)
    glorot_uniform_(layer)
    limit = (6.0 / (16 * (8 + 16))) ** 0.5
    assert layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert not layer.bias.any()
