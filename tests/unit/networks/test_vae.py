from __future__ import annotations

import pytest
import torch

from latent_lab.networks.vae import DECODERS, AdaIN, AdaINDecoder, ClassicalDecoder, HeadedEncoder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", sorted(DECODERS))
@pytest.mark.parametrize("resolution", [4, 8, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_decoder_makes_images_of_its_size(kind: str, resolution: int, channels: int):
    decoder = DECODERS[kind](8, resolution, channels=channels)
    images = decoder(torch.randn(2, 8))
    assert images.shape == (2, channels, resolution, resolution)
    assert images.dtype == torch.float32


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_has_one_code_for_each_head(num_heads: int, channels: int):
    encoder = HeadedEncoder(6, 16, num_heads=num_heads, widths=[8, 8, 4], channels=channels)
    codes = encoder(torch.rand(3, channels, 16, 16) * 2 - 1)
    assert [code.shape for code in codes] == [(3, 6)] * num_heads


def test_newborn_codes_differ_between_images_although_spectral_features_are_tiny():
    encoder = HeadedEncoder(16, 32, num_heads=1, widths=[16, 16, 16, 8])
    images = torch.rand(8, 3, 32, 32) * torch.linspace(0.1, 2, 8).view(8, 1, 1, 1) - 1
    features = encoder.trunk(images, 3)
    assert features.abs().max() < 0.1
    (codes,) = encoder(images)
    assert codes.std(0).mean() > 20 * features.std(0).mean()


@pytest.mark.parametrize(
    "module",
    [HeadedEncoder(4, 16, num_heads=2), ClassicalDecoder(4, 16), AdaINDecoder(4, 16)],
    ids=lambda m: type(m).__name__,
)
def test_every_trainable_parameter_gets_a_gradient(module: torch.nn.Module):
    output = module(torch.randn(2, 3, 16, 16) if isinstance(module, HeadedEncoder) else torch.randn(2, 4))
    sum(part.square().sum() for part in (output if isinstance(output, tuple) else (output,))).backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_adain_gives_each_map_the_mean_and_deviation_of_its_style():
    adain = AdaIN(5, 3)
    latents = torch.randn(2, 5)
    features = adain(torch.randn(2, 3, 8, 8) * 7 + 2, latents)
    scale, shift = adain.style(latents).chunk(2, dim=1)
    torch.testing.assert_close(features.mean((2, 3)), shift, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.std((2, 3), correction=0), scale.abs(), atol=1e-5, rtol=1e-5)


def test_adain_starts_at_scale_one_and_shift_zero():
    adain = AdaIN(5, 3)
    features = adain(torch.randn(2, 3, 8, 8) * 7 + 2, torch.zeros(2, 5))
    torch.testing.assert_close(features.mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(features.var((2, 3), correction=0), torch.ones(2, 3))


def test_adain_of_a_constant_map_is_its_shift_and_has_a_finite_gradient():
    adain = AdaIN(5, 3)
    latents = torch.randn(2, 5)
    constant = torch.full((2, 3, 4, 4), 2.0, requires_grad=True)
    features = adain(constant, latents)
    torch.testing.assert_close(features, adain.style(latents)[:, 3:, None, None].expand_as(features))
    features.sum().backward()
    assert constant.grad is not None
    assert torch.isfinite(constant.grad).all()


def test_without_styles_every_sample_of_the_adain_decoder_is_the_same():
    decoder = AdaINDecoder(4, 16)
    for block in decoder.blocks:
        torch.nn.init.zeros_(block.adain.style.weight)
    images = decoder(torch.randn(3, 4))
    torch.testing.assert_close(images, images[:1].expand_as(images))


def test_the_adain_decoder_has_two_styled_convolutions_for_each_doubling():
    decoder = AdaINDecoder(4, 64, widths=[6, 6, 5, 4, 3])
    assert [block.convolution.out_channels for block in decoder.blocks] == [6, 6, 6, 5, 5, 4, 4, 3, 3]
    assert [block.upsamples for block in decoder.blocks] == [False] + [True, False] * 4


def test_blur_follows_the_upsampled_convolution_and_keeps_a_constant_inside():
    decoder = AdaINDecoder(4, 8, widths=[2, 2])
    kernel = decoder.blocks[1].kernel
    torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))
    torch.testing.assert_close(kernel[0, 0] * 16, torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]))
    assert "blocks.1.kernel" not in decoder.state_dict()


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_widths_that_do_not_fit_the_resolution_are_refused(kind: str):
    with pytest.raises(ValueError, match="widths must give 3 positive channel counts"):
        DECODERS[kind](4, 16, widths=[4, 4])
