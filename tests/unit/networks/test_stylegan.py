"""StyleGAN's networks: both forms of a convolution, layers, growth, cuts, noise, arms, groups of a batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.latent.styles import repeat
from latent_lab.networks.layers import EqualizedLinear
from latent_lab.networks.modulation import AdaIN
from latent_lab.networks.stylegan import (
    DownConvolution,
    StyleGANDiscriminator,
    StyleGANGenerator,
    StyleGANMapping,
    StyleGANSynthesis,
    UpConvolution,
    check_groups,
    minibatch_deviation,
)

DIM, RESOLUTION, WIDTHS = 6, 16, [8, 7, 5]
phases = pytest.mark.parametrize("phase", [0, 1, 2])
alphas = pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def synthesis(**options: object) -> StyleGANSynthesis:
    return StyleGANSynthesis(DIM, RESOLUTION, **{"widths": WIDTHS} | options)


def noisy_synthesis(**options: object) -> StyleGANSynthesis:
    built = synthesis(**options)
    for layer in built.layers:
        nn.init.constant_(layer.noise_scale, 0.5)
    return built


def generator(mapping_layers: int = 2) -> StyleGANGenerator:
    return StyleGANGenerator(StyleGANMapping(DIM, mapping_layers), synthesis(), DIM)


def discriminator(**options: object) -> StyleGANDiscriminator:
    return StyleGANDiscriminator(RESOLUTION, **{"widths": WIDTHS} | options)


def styles(n: int = 3, layers: int = 6) -> Tensor:
    return torch.randn(n, layers, DIM)


# Convolutions that change the resolution


@pytest.mark.parametrize("side", [4, 5])
def test_upsampling_in_one_step_is_the_plain_form_with_the_kernel_turned(side: int) -> None:
    fused, plain = UpConvolution(3, 4, fused=True).double(), UpConvolution(3, 4, fused=False).double()
    plain.weight.data = fused.weight.data.rot90(2, (2, 3))
    features = torch.randn(2, 3, side, side, dtype=torch.float64)
    torch.testing.assert_close(fused(features), plain(features), rtol=0, atol=1e-13)


def test_upsampling_in_one_step_is_another_map_of_the_same_kernel() -> None:
    fused, plain = UpConvolution(3, 4, fused=True), UpConvolution(3, 4, fused=False)
    plain.load_state_dict(fused.state_dict())
    features = torch.randn(2, 3, 4, 4)
    assert (fused(features) - plain(features)).abs().max() > 0.1


def test_downsampling_in_one_step_is_the_plain_form() -> None:
    fused, plain = DownConvolution(3, 4, fused=True).double(), DownConvolution(3, 4, fused=False).double()
    plain.load_state_dict(fused.state_dict())
    features = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(fused(features), plain(features), rtol=0, atol=1e-13)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [UpConvolution, DownConvolution])
def test_a_constant_map_stays_constant_in_the_middle(kind: type, fused: bool) -> None:
    layer = kind(1, 1, fused=fused)
    nn.init.constant_(layer.weight, 1 / (9 * layer.scale))
    made = layer(torch.full((1, 1, 16, 16), 3.0))
    torch.testing.assert_close(made[..., 3:-3, 3:-3], torch.full_like(made[..., 3:-3, 3:-3], 3.0))


@pytest.mark.parametrize("fused", [False, True])
def test_a_bias_before_the_blur_is_weaker_at_the_border(fused: bool) -> None:
    up = UpConvolution(1, 1, fused=fused, bias=True)
    nn.init.constant_(up.bias, 1.0)
    features = up(torch.zeros(1, 1, 4, 4))[0, 0]
    # The kernel (1, 2, 1) / 4 loses a quarter of its weight in each direction that ends.
    assert (features[4, 4].item(), features[0, 4].item(), features[0, 0].item()) == (1.0, 0.75, 0.5625)


def test_a_bias_stands_either_before_the_blur_or_behind_the_noise() -> None:
    usual, other = synthesis(), synthesis(bias_before_blur=True)
    assert sum(p.numel() for p in usual.parameters()) == sum(p.numel() for p in other.parameters())
    names = {name for name, _ in other.named_parameters()} - {name for name, _ in usual.named_parameters()}
    assert names == {"layers.2.convolution.bias", "layers.4.convolution.bias"}


# Layers


def test_the_mapping_looks_at_directions_alone() -> None:
    mapping, latents = StyleGANMapping(DIM), torch.randn(4, DIM)
    # 1e-8 beside the mean square of the latents.
    torch.testing.assert_close(mapping(7 * latents), mapping(latents), rtol=1e-5, atol=1e-6)


def test_a_mapping_without_layers_gives_the_sphere_of_radius_root_dim() -> None:
    lengths = torch.linalg.vector_norm(StyleGANMapping(DIM, 0)(torch.randn(5, DIM)), dim=1)
    torch.testing.assert_close(lengths, torch.full((5,), math.sqrt(DIM)))


def test_the_mapping_takes_styles_row_by_row() -> None:
    mapping, given = StyleGANMapping(DIM), styles()
    torch.testing.assert_close(mapping(given)[:, 2], mapping(given[:, 2]))


def test_the_mapping_keeps_float64_and_ignores_autocast() -> None:
    mapping, latents = StyleGANMapping(DIM).double(), torch.randn(2, DIM, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mapping(latents), mapping(latents))
        assert mapping(latents).dtype == torch.float64


def test_a_mapping_learns_its_biases_as_slowly_as_its_weights() -> None:
    layer = EqualizedLinear(4, 3, 0.01, scaled_bias=True)
    nn.init.constant_(layer.bias, 5.0)
    torch.testing.assert_close(layer(torch.zeros(1, 4)), torch.full((1, 3), 0.05))


def test_variance_sets_the_spread_of_a_newborn_layer() -> None:
    inputs = torch.randn(64, 256)
    for variance in (1.0, 2.0, 0.125):
        outputs = EqualizedLinear(256, 512, variance=variance, bias=False)(inputs)
        assert outputs.var().item() == pytest.approx(variance, rel=0.05)


def test_equalised_adain_starts_at_one_plus_a_standard_normal_scale() -> None:
    adain, latents = AdaIN(256, 512, equalized=True), torch.randn(1, 256)
    latents = latents / latents.square().mean().sqrt()
    scale, shift = adain.style(latents)[0].chunk(2)
    # 512 draws of deviation 1: their mean lies within 0.15, their deviation within 0.1 of it.
    assert scale.mean().item() == pytest.approx(1, abs=0.15)
    assert shift.mean().item() == pytest.approx(0, abs=0.15)
    assert scale.std().item() == pytest.approx(1, abs=0.1)


def test_a_layer_adds_noise_then_bias_then_rectifies_then_normalises() -> None:
    built = synthesis()
    layer, given, w = built.layers[1], torch.randn(2, 8, 4, 4), torch.randn(2, DIM)
    noise = torch.randn(2, 1, 4, 4)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.noise_scale)
    features = layer.convolution(given) + layer.noise_scale[:, None, None] * noise + layer.bias[:, None, None]
    features = F.leaky_relu(features, 0.2)
    mean, deviation = features.mean((2, 3), keepdim=True), features.std((2, 3), correction=0, keepdim=True)
    scale, shift = layer.adain.style(w)[:, :, None, None].chunk(2, 1)
    torch.testing.assert_close(layer(given, w, noise), (features - mean) / deviation * scale + shift)


# Growth and cuts


@phases
@alphas
@pytest.mark.parametrize("options", [{}, {"constant_input": False}, {"layer_noise": False}, {"fused_from": 8}])
def test_images_have_the_resolution_of_the_phase(phase: int, alpha: float, options: dict) -> None:
    images = synthesis(**options)(styles(), phase, alpha)
    assert images.shape == (3, 3, 4 * 2**phase, 4 * 2**phase)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("phase", [1, 2])
def test_a_fade_begins_with_the_doubled_image_of_the_phase_before(phase: int) -> None:
    network, given = synthesis(), styles()
    before = F.interpolate(network(given, phase - 1), scale_factor=2, mode="nearest")
    torch.testing.assert_close(network(given, phase, 0.0), before)


@pytest.mark.parametrize("phase", [1, 2])
def test_a_fade_is_a_straight_line(phase: int) -> None:
    network, given = synthesis(), styles()
    start, end = network(given, phase, 0.0), network(given, phase, 1.0)
    torch.testing.assert_close(network(given, phase, 0.3), torch.lerp(start, end, 0.3), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(given, phase, torch.tensor(0.3)), network(given, phase, 0.3))


@pytest.mark.parametrize("phase", [1, 2])
def test_a_fading_discriminator_begins_with_the_score_of_the_halved_image(phase: int) -> None:
    network, images = discriminator(), torch.randn(4, 3, 4 * 2**phase, 4 * 2**phase)
    torch.testing.assert_close(network(images, phase, 0.0), network(F.avg_pool2d(images, 2), phase - 1))
    torch.testing.assert_close(network(images, phase, torch.tensor(0.3)), network(images, phase, 0.3))


@pytest.mark.parametrize("cut", [0, 6])
def test_a_cut_at_either_end_is_no_cut(cut: int) -> None:
    network, first, second = generator(), torch.randn(2, DIM), torch.randn(2, DIM)
    both = torch.cat([repeat(first, cut), repeat(second, 6 - cut)], dim=1)
    torch.testing.assert_close(network(both, 2), network(first if cut else second, 2))


def test_a_layer_listens_to_its_own_style() -> None:
    network, given = synthesis(), styles()
    for layer in range(6):
        changed = given.clone()
        changed[:, layer] += 1
        assert not torch.equal(network(changed, 2), network(given, 2))


def test_styles_of_layers_that_do_not_take_part_may_be_missing() -> None:
    network, given = synthesis(), styles()
    assert torch.equal(network(given[:, :4], 1), network(given, 1))
    with pytest.raises(ValueError, match="a point of W for each of 4 layers, got 3"):
        network(given[:, :3], 1)


# Noise


def test_noise_is_one_plane_for_all_channels_of_every_layer() -> None:
    shapes = []

    def draw(shape: torch.Size) -> Tensor:
        shapes.append(tuple(shape))
        return torch.zeros(shape)

    noisy_synthesis()(styles(), 2, noise=draw)
    assert shapes == [(3, 1, 4, 4)] * 2 + [(3, 1, 8, 8)] * 2 + [(3, 1, 16, 16)] * 2


def test_without_a_source_the_stored_maps_are_added() -> None:
    network, given = noisy_synthesis(), styles()
    maps = iter([network.get_buffer(f"noise_{number}") for number in range(6)])
    passed_in = network(given, 2, noise=lambda shape: next(maps).expand(shape))
    assert torch.equal(network(given, 2), passed_in)
    silent = network(given, 2, noise=torch.zeros)
    torch.testing.assert_close(network(given, 2, stored_noise=False), silent)
    assert not torch.equal(network(given, 2), silent)


def test_without_layer_noise_there_are_neither_scales_nor_maps() -> None:
    network = synthesis(layer_noise=False)
    assert not [name for name in network.state_dict() if "noise" in name]
    network(styles(), 2, noise=lambda shape: pytest.fail("noise was drawn"))


# Arms of the ablation


def test_a_dense_input_takes_the_style_of_the_first_layer() -> None:
    network, given = synthesis(constant_input=False), styles()
    for layer in network.layers:
        # Styles that do not depend on w.
        nn.init.zeros_(layer.adain.style.weight)
    changed = given.clone()
    changed[:, 1:] += 1
    assert torch.equal(network(changed, 2), network(given, 2))
    changed[:, 0] += 1
    assert not torch.equal(network(changed, 2), network(given, 2))


def test_a_traditional_generator_takes_one_latent() -> None:
    network = synthesis(styles=False, constant_input=False, layer_noise=False)
    assert network.layer_resolutions == (4,)
    given = styles(3, 1)
    images = network(given, 2)
    # Latents that lie apart in memory are multiplied in another order on some processors.
    torch.testing.assert_close(network(torch.cat([given, styles(3, 5)], 1), 2), images)
    assert not any("adain" in name for name in network.state_dict())


def test_latents_that_would_act_nowhere_are_refused() -> None:
    with pytest.raises(ValueError, match="latents act nowhere: make constant_input false"):
        synthesis(styles=False)


def test_a_negative_number_of_mapping_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="mapping_layers must not be negative, got -1"):
        StyleGANMapping(DIM, -1)


# The running mean of w


def test_the_mean_of_w_follows_its_batches() -> None:
    network = generator()
    for value in (1.0, 2.0):
        network.track_average(torch.full((DIM,), value), 0.9)
    torch.testing.assert_close(network.w_average, torch.full((DIM,), 0.9 * 0.1 + 0.1 * 2.0))


# Groups of a batch


def test_the_deviation_is_that_of_every_mth_image() -> None:
    features = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    deviation = minibatch_deviation(features, 4)
    for image in range(8):
        group = features[image % 2 :: 2]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(deviation[image], expected)


def test_a_small_batch_is_one_group() -> None:
    features = torch.randn(3, 2, 4, 4)
    assert len(set(minibatch_deviation(features, 4).tolist())) == 1


def test_equal_images_have_the_smallest_deviation_and_a_finite_second_gradient() -> None:
    features = torch.ones(4, 2, 4, 4, requires_grad=True)
    deviation = minibatch_deviation(features)
    torch.testing.assert_close(deviation, torch.full((4,), 1e-4))
    (slope,) = torch.autograd.grad(deviation.sum(), features, create_graph=True)
    slope.square().sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("batch_size", [6, 9])
def test_a_batch_that_does_not_fall_into_groups_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"a multiple of the group size 4 .* or smaller, got {batch_size}"):
        check_groups(batch_size, 4)


def test_scores_do_not_depend_on_the_order_of_a_group() -> None:
    network, images = discriminator(), torch.randn(8, 3, 16, 16)
    turned = network(images.view(4, 2, 3, 16, 16).flip(0).flatten(0, 1), 2)
    torch.testing.assert_close(turned, network(images, 2).view(4, 2).flip(0).flatten(), rtol=1e-5, atol=1e-6)


# Precision


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_half_precision_gives_float_images_and_scores(alpha: float) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        images = synthesis()(styles(4), 2, alpha)
        scores = discriminator()(images, 2, alpha)
    assert images.dtype == scores.dtype == torch.float32
    scores.sum().backward()


def test_float64_and_channels_last_work() -> None:
    network, critic = synthesis().double(), discriminator().double()
    images = network(styles().double(), 2)
    last = network.to(memory_format=torch.channels_last)(styles().double(), 2)
    assert images.dtype == last.dtype == torch.float64
    scores = critic(images, 2)
    torch.testing.assert_close(critic(images.contiguous(memory_format=torch.channels_last), 2), scores)
