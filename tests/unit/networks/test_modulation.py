"""AdaIN, layer noise, blur and the convolution that joins them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.networks.layers import EqualizedLinear
from latent_lab.networks.modulation import AdaIN, StyledConvolution, add_noise, blur, upsample


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# AdaIN


@pytest.mark.parametrize("unbiased", [False, True])
def test_adain_gives_each_map_the_mean_and_deviation_of_its_style(unbiased: bool) -> None:
    adain = AdaIN(5, 3, unbiased=unbiased)
    latents = torch.randn(2, 5)
    features = adain(torch.randn(2, 3, 8, 8) * 7 + 2, latents)
    scale, shift = adain.style(latents).chunk(2, dim=1)
    torch.testing.assert_close(features.mean((2, 3)), shift, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.std((2, 3), correction=int(unbiased)), scale.abs(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("initial_shift", [0.0, 1.0])
def test_adain_starts_at_scale_one_and_the_initial_shift(initial_shift: float) -> None:
    adain = AdaIN(5, 3, initial_shift=initial_shift)
    features = adain(torch.randn(2, 3, 8, 8) * 7 + 2, torch.zeros(2, 5))
    torch.testing.assert_close(features.mean((2, 3)), torch.full((2, 3), initial_shift), atol=1e-6, rtol=0)
    torch.testing.assert_close(features.var((2, 3), correction=0), torch.ones(2, 3))


def test_adain_of_a_constant_map_is_its_shift_and_has_a_finite_gradient() -> None:
    adain = AdaIN(5, 3)
    latents = torch.randn(2, 5)
    constant = torch.full((2, 3, 4, 4), 2.0, requires_grad=True)
    features = adain(constant, latents)
    torch.testing.assert_close(features, adain.style(latents)[:, 3:, None, None].expand_as(features))
    features.sum().backward()
    assert constant.grad is not None
    assert torch.isfinite(constant.grad).all()


def test_the_published_adain_divides_a_constant_map_by_zero() -> None:
    assert not torch.isfinite(AdaIN(5, 3, epsilon=0.0)(torch.ones(1, 3, 4, 4), torch.zeros(1, 5))).all()


def test_adain_forgets_the_mean_and_deviation_of_its_input() -> None:
    adain, latents, features = AdaIN(5, 3), torch.randn(2, 5), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(adain(3 * features - 2, latents), adain(features, latents), atol=1e-5, rtol=1e-5)


def test_adains_statistics_are_float32_under_autocast() -> None:
    # Deviation 1 on a mean of 1000, where bfloat16 resolves steps of 4. The style of a zero latent is exact.
    adain, latents = AdaIN(5, 3), torch.zeros(2, 5)
    features = torch.randn(2, 3, 8, 8) + 1000
    with torch.autocast("cpu", dtype=torch.bfloat16):
        modulated = adain(features, latents)
    assert modulated.dtype == torch.float32
    torch.testing.assert_close(modulated, adain(features, latents))


# Blur and upsampling


def test_blur_of_a_point_is_the_binomial_kernel() -> None:
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 16
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
    assert torch.equal(blur(point)[0, 0], expected)


def test_blur_keeps_a_constant_inside_and_takes_a_quarter_off_at_an_edge() -> None:
    blurred = blur(torch.full((1, 2, 6, 6), 3.0))[0, 1]
    assert torch.equal(blurred[1:-1, 1:-1], torch.full((4, 4), 3.0))
    assert torch.equal(blurred[0, 1:-1], torch.full((4,), 3 * 0.75))
    assert blurred[0, 0] == 3 * 0.75**2


def test_bilinear_upsampling_takes_pixel_centres() -> None:
    row = torch.tensor([[0.0, 4.0], [0.0, 4.0]])[None, None]
    assert torch.equal(upsample(row, "bilinear")[0, 0, 0], torch.tensor([0.0, 1.0, 3.0, 4.0]))
    assert torch.equal(upsample(row, "nearest")[0, 0, 0], torch.tensor([0.0, 0.0, 4.0, 4.0]))


# Layer noise


def test_noise_has_one_scale_for_each_channel_and_a_value_for_every_pixel() -> None:
    asked = []

    def noise(shape: torch.Size) -> Tensor:
        asked.append(shape)
        return torch.arange(24.0).reshape(shape)

    features = torch.ones(2, 3, 2, 2)
    noisy = add_noise(features, torch.tensor([0.0, 1.0, 10.0]), noise)
    assert asked == [(2, 3, 2, 2)]
    assert torch.equal(noisy[1, :, 0, 1], 1 + torch.tensor([0.0, 17.0, 210.0]))


@pytest.mark.parametrize("after", [False, True])
def test_noise_comes_before_the_activation_or_after_it(after: bool) -> None:
    layer = StyledConvolution(2, 1, 3, layer_noise=True, noise_after_activation=after)
    layer.noise_scale.data.fill_(1.0)
    features, latents, drawn = torch.randn(2, 2, 4, 4), torch.randn(2, 3), torch.randn(2, 1, 4, 4)
    convolved = layer.convolution(features)
    activated = (
        torch.nn.functional.leaky_relu(convolved, 0.2) + drawn
        if after
        else torch.nn.functional.leaky_relu(convolved + drawn, 0.2)
    )
    torch.testing.assert_close(layer(features, latents, lambda _: drawn), layer.adain(activated, latents))


def test_newborn_noise_has_no_effect_but_a_gradient() -> None:
    layer = StyledConvolution(2, 3, 3, layer_noise=True)
    features, latents = torch.randn(2, 2, 4, 4), torch.randn(2, 3)
    noisy = layer(features, latents, torch.randn)
    assert torch.equal(noisy, layer(features, latents))
    noisy[0, 0, 0, 0].backward()
    assert layer.noise_scale.grad.abs().max() > 0


def test_a_layer_without_noise_asks_for_none() -> None:
    layer = StyledConvolution(2, 3, 3)

    def noise(shape: torch.Size) -> Tensor:
        raise AssertionError(shape)

    layer(torch.randn(2, 2, 4, 4), torch.randn(2, 3), noise)
    assert "noise_scale" not in layer.state_dict()


def test_blur_stands_between_convolution_and_activation() -> None:
    layer = StyledConvolution(2, 3, 4, upsampling="nearest", blur=True)
    features, latents = torch.randn(2, 2, 4, 4), torch.randn(2, 4)
    doubled = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    activated = torch.nn.functional.leaky_relu(blur(layer.convolution(doubled)), 0.2)
    torch.testing.assert_close(layer(features, latents), layer.adain(activated, latents))


# Mappings


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_an_equalised_dense_layer_starts_with_he_weights_whatever_its_multiplier(multiplier: float) -> None:
    layer = EqualizedLinear(256, 128, multiplier)
    effective = layer(torch.eye(256))
    # 32,768 values: the deviation's own standard error is 0.4 %.
    assert effective.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.02)
    assert layer.weight.std().item() == pytest.approx(1 / multiplier, rel=0.02)
