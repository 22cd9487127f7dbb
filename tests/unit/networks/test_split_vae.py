from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.batch_norm import GlobalBatchNorm
from latent_lab.networks.split_vae import (
    SplitImages,
    SplitVAEBottleneck,
    SplitVAEDecoder,
    SplitVAEEncoder,
    convolutional_block,
    dense_block,
    published_widths,
)


def numbers(network: nn.Module) -> int:
    """Parameters as Keras counts them: the running moments of batch normalisations are among them."""
    return sum(p.numel() for p in network.parameters()) + sum(b.numel() for b in network.buffers())


def networks(resolution: int, channels: int, latent_dim: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return (
        SplitVAEEncoder(resolution, channels=channels),
        SplitVAEBottleneck(512, latent_dim),
        SplitVAEDecoder(resolution, channels=channels),
    )


def small_decoder(**options: int) -> SplitVAEDecoder:
    return SplitVAEDecoder(16, base_dim=4, embedding_dim=8, **options)


@pytest.mark.parametrize(
    ("resolution", "channels", "latent_dim", "total"),
    [
        pytest.param(64, 3, 150, 28_989_363, id="CelebA"),
        pytest.param(32, 3, 200, 13_061_143, id="CIFAR-10"),
        pytest.param(32, 1, 32, 12_799_299, id="MNIST"),
    ],
)
def test_parameters_are_as_many_as_published(resolution: int, channels: int, latent_dim: int, total: int):
    assert sum(map(numbers, networks(resolution, channels, latent_dim))) == total


def test_each_part_for_celeba_has_the_published_number_of_parameters():
    assert tuple(map(numbers, networks(64, 3, 150))) == (4_670_400, 231_212, 24_087_751)


def test_a_residual_block_is_its_formula():
    torch.manual_seed(0)
    block = convolutional_block(3, 5, momentum=0.1).double().eval()
    for norm in (layer for layer in block.main if isinstance(layer, GlobalBatchNorm)):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    features = torch.randn(2, 3, 6, 6, dtype=torch.float64)

    def convolved(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(inputs, layer.weight, layer.bias, padding=1)

    def activated(norm: GlobalBatchNorm, inputs: torch.Tensor) -> torch.Tensor:
        def column(values: torch.Tensor) -> torch.Tensor:
            return values[None, :, None, None]

        scaled = (inputs - column(norm.running_mean)) / torch.sqrt(column(norm.running_var) + 1e-5)
        scaled = scaled * column(norm.weight) + column(norm.bias)
        return scaled * torch.sigmoid(scaled)

    main = convolved(block.main[2], activated(block.main[0], features))
    main = convolved(block.main[5], activated(block.main[3], main))
    expected = main + convolved(block.shortcut, features)
    torch.testing.assert_close(block(features), expected)


def test_the_shortcut_is_a_layer_also_where_widths_are_equal():
    assert isinstance(dense_block(4, 4, momentum=0.1).shortcut, nn.Linear)


def test_channels_double_inwards_up_to_the_cap():
    assert published_widths(64, 6, 1024) == [64, 128, 256, 512, 1024, 1024]


def test_the_map_has_one_channel_and_everything_is_in_the_unit_interval():
    split = small_decoder()(torch.randn(2, 8) * 30)
    assert split.map.shape == (2, 1, 16, 16)
    assert split.first.shape == split.second.shape == split.mixed.shape == (2, 3, 16, 16)
    for part in (*split, split.mixed):
        assert part.min() >= 0
        assert part.max() <= 1


def test_channels_of_the_last_layer_are_map_first_second():
    decoder = small_decoder()
    nn.init.zeros_(decoder.to_images.weight)
    decoder.to_images.bias.data = torch.arange(7.0)
    split = decoder(torch.randn(2, 8))
    in_order = torch.cat([split.map, split.first, split.second], 1)[0, :, 0, 0]
    torch.testing.assert_close(in_order, torch.sigmoid(torch.arange(7.0)))


def test_a_map_of_one_shows_the_first_image_and_of_zero_the_second():
    first, second = torch.rand(1, 3, 2, 2), torch.rand(1, 3, 2, 2)
    assert torch.equal(SplitImages(first, second, torch.ones(1, 1, 2, 2)).mixed, first)
    assert torch.equal(SplitImages(first, second, torch.zeros(1, 1, 2, 2)).mixed, second)


def test_grey_images_have_a_map_and_two_channels():
    assert small_decoder(channels=1).to_images.out_channels == 3


def test_heads_stay_in_full_precision_under_autocast():
    encoder, bottleneck = SplitVAEEncoder(16, base_dim=4, embedding_dim=8), SplitVAEBottleneck(8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = bottleneck(encoder(torch.rand(4, 3, 16, 16)))
        split = small_decoder()(bottleneck.to_embedding(mean))
    assert mean.dtype == log_variance.dtype == split.map.dtype == torch.float32


def test_the_shift_of_an_image_by_one_stride_shifts_the_first_features():
    convolution = SplitVAEEncoder(16, base_dim=4, embedding_dim=8).convolutions[0]
    images = torch.zeros(1, 3, 16, 16)
    images[..., 4:8, 4:8] = torch.rand(3, 4, 4)
    moved = images.roll((2, 2), (2, 3))
    torch.testing.assert_close(convolution(moved)[..., 2:7, 2:7], convolution(images)[..., 1:6, 1:6])


def test_images_that_are_too_small_for_the_scales_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="4 scales need images of at least 16 pixels, got 8: give fewer num_scales"):
        SplitVAEEncoder(8)
