from __future__ import annotations

import pytest
import torch

from latent_lab.networks.vae import DECODERS, AdaINDecoder, ClassicalDecoder, HeadedEncoder


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


def test_without_styles_every_sample_of_the_adain_decoder_is_the_same():
    decoder = AdaINDecoder(4, 16)
    for block in decoder.blocks:
        torch.nn.init.zeros_(block.adain.style.weight)
    images = decoder(torch.randn(3, 4))
    torch.testing.assert_close(images, images[:1].expand_as(images))


def test_the_adain_decoder_has_two_styled_convolutions_for_each_doubling():
    decoder = AdaINDecoder(4, 64, widths=[6, 6, 5, 4, 3])
    assert [block.convolution.out_channels for block in decoder.blocks] == [6, 6, 6, 5, 5, 4, 4, 3, 3]
    assert [block.upsampling for block in decoder.blocks] == [None] + ["nearest", None] * 4
    assert [block.blur for block in decoder.blocks] == [False] + [True, False] * 4
    assert all(block.noise_scale is None for block in decoder.blocks)


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_widths_that_do_not_fit_the_resolution_are_refused(kind: str):
    with pytest.raises(ValueError, match="widths must give 3 positive channel counts"):
        DECODERS[kind](4, 16, widths=[4, 4])
