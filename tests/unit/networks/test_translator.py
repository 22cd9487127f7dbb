"""Networks of translation: sizes and counts as published, paddings, what a score sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.translator import (
    PatchDiscriminator,
    ResidualBlock,
    TranslationGenerator,
    TranslationGenerators,
)


def parameters(network: nn.Module, kind: type = nn.Module) -> int:
    layers = [layer for layer in network.modules() if isinstance(layer, kind) and not list(layer.children())]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters())


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_generator_has_the_published_number_of_parameters(padding: str, norm: str):
    generator = TranslationGenerator(padding=padding, norm=norm)
    assert parameters(generator) == 11_388_675
    # Without the norms' scales and offsets it is CycleGAN's, whose norms have none.
    assert parameters(generator, nn.Conv2d | nn.ConvTranspose2d) == 11_378_179


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_discriminator_has_the_published_number_of_parameters(padding: str, norm: str):
    discriminator = PatchDiscriminator(padding=padding, norm=norm)
    assert parameters(discriminator) == 2_766_529
    assert parameters(discriminator, nn.Conv2d) == 2_764_737


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [8, 20, 64])
def test_a_generator_keeps_the_size_of_images(padding: str, resolution: int):
    generator = TranslationGenerator(width=2, blocks=1, padding=padding)
    assert generator(torch.zeros(1, 3, resolution, resolution)).shape == (1, 3, resolution, resolution)


@pytest.mark.parametrize(("padding", "size"), [("same", 32), ("symmetric", 30)])
def test_256_pixels_have_the_published_map_of_scores(padding: str, size: int):
    discriminator = PatchDiscriminator(width=1, padding=padding)
    assert discriminator.map_size(256) == size
    assert discriminator(torch.zeros(1, 3, 256, 256)).shape == (1, 1, size, size)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("resolution", "halvings"), [(16, 1), (16, 2), (64, 3)])
def test_the_stated_map_size_is_that_of_the_map(padding: str, resolution: int, halvings: int):
    discriminator = PatchDiscriminator(width=1, halvings=halvings, padding=padding)
    size = discriminator.map_size(resolution)
    assert discriminator(torch.zeros(2, 3, resolution, resolution)).shape == (2, 1, size, size)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_a_score_sees_70_pixels(padding: str):
    discriminator = PatchDiscriminator(width=2, padding=padding).double()
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    # Instance norm looks at the whole map, so what convolutions alone see is measured without it.
    layers = nn.Sequential(*(layer for layer in discriminator.layers if not isinstance(layer, nn.InstanceNorm2d)))
    images = torch.zeros(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    scores = layers(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert images.grad is not None
    seen = images.grad[0, 0].abs() > 0
    assert seen.any(0).sum() == 70
    assert seen.any(1).sum() == 70


def test_the_two_paddings_shift_maps_by_a_pixel():
    # A single pixel through the doubling of either kind, with a kernel that copies its centre.
    from latent_lab.networks.translator import _doubling

    found = []
    for padding in ("same", "symmetric"):
        layer = _doubling(1, 1, padding)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[..., 1, 1] = 1.0
            layer.bias.zero_()
        pixel = torch.zeros(1, 1, 4, 4)
        pixel[0, 0, 2, 2] = 1.0
        found.append(layer(pixel)[0, 0].nonzero().tolist())
    assert found == [[[5, 5]], [[4, 4]]]


def test_for_one_image_both_norms_are_the_same():
    instance, batch = (TranslationGenerator(width=2, blocks=1, norm=norm).eval() for norm in ("instance", "batch"))
    batch.load_state_dict(instance.state_dict())
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(batch(images), instance(images))


def test_with_batch_statistics_an_output_depends_on_the_other_images_in_evaluation_too():
    generator = TranslationGenerator(width=2, blocks=1, norm="batch").eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert not torch.allclose(generator(images)[:1], generator(images[:1]), atol=1e-4)
    assert not [name for name, _ in generator.named_buffers()]


def test_outputs_are_images_in_range():
    generator = TranslationGenerator(width=4, blocks=1)
    images = generator(torch.full((1, 3, 16, 16), 5.0))
    assert images.abs().max() <= 1.0
    assert images.dtype == torch.float32


def test_a_residual_block_without_its_branch_changes_nothing():
    block = ResidualBlock(3, "instance")
    nn.init.zeros_(block.layers[-1].weight)
    features = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    # Negative values pass, too: nothing is rectified after the sum.
    assert torch.equal(block(features), features)


def test_initial_weights_are_drawn_as_asked():
    normal = PatchDiscriminator(width=32, halvings=2).layers[2]
    glorot = PatchDiscriminator(width=32, halvings=2, initial_weights="glorot").layers[2]
    # 32,768 values: their deviation is off by half a percent at most (one standard error is 0.4 %).
    assert normal.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert glorot.weight.abs().max().item() <= (6 / (32 * 16 + 64 * 16)) ** 0.5
    assert glorot.weight.std().item() == pytest.approx((2 / (32 * 16 + 64 * 16)) ** 0.5, rel=0.02)
    assert not normal.bias.any()


def test_onward_and_back_have_weights_of_their_own():
    pair = TranslationGenerators(width=2, blocks=1)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pair(images, "onward"), pair.onward(images))
    assert torch.equal(pair(images, "back"), pair.back(images))
    assert not torch.equal(pair(images, "onward"), pair(images, "back"))


@pytest.mark.parametrize("options", [{"width": 0}, {"blocks": 0}])
def test_bad_sizes_are_refused_in_one_sentence(options: dict[str, int]):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} of a translator's network must be at least 1, got 0"):
        TranslationGenerator(**{"width": 2, "blocks": 1} | options)
