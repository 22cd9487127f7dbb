"""Structure of Pioneer's networks: growth, fades, gradients, precision, size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from latent_lab.networks.layers import EqualizedConv2d, PixelNorm, SpectralConv2d
from latent_lab.networks.pioneer import PioneerEncoder, PioneerGenerator, check_widths, published_widths

DIM, RESOLUTION = 16, 32
NORMALISATIONS = ["none", "pixel_norm", "equalized", "pixel_norm_equalized", "spectral"]
phases = pytest.mark.parametrize("phase", [0, 1, 2, 3])
alphas = pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def generator(**options: object) -> PioneerGenerator:
    return PioneerGenerator(DIM, RESOLUTION, widths=[16, 12, 8, 4], **options).eval()


def encoder(**options: object) -> PioneerEncoder:
    return PioneerEncoder(DIM, RESOLUTION, widths=[16, 12, 8, 4], **options).eval()


def latents(n: int = 3) -> Tensor:
    return nn.functional.normalize(torch.randn(n, DIM), dim=1)


def pictures(phase: int, n: int = 3) -> Tensor:
    return torch.rand(n, 3, 4 * 2**phase, 4 * 2**phase) * 2 - 1


# Shapes and sizes


@phases
@alphas
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "bilinear_newest"])
def test_generator_returns_images_of_the_phase(phase: int, alpha: float, upsampling: str) -> None:
    images = generator(upsampling=upsampling)(latents(), phase, alpha)
    assert images.shape == (3, 3, 4 * 2**phase, 4 * 2**phase)


@phases
@alphas
def test_encoder_returns_codes(phase: int, alpha: float) -> None:
    assert encoder()(pictures(phase), phase, alpha).shape == (3, DIM)


@pytest.mark.parametrize("network", [generator, encoder])
def test_the_state_has_one_shape_for_the_whole_run(network: object) -> None:
    built = network().train()
    before = {name: value.shape for name, value in built.state_dict().items()}
    for phase in range(4):
        built(latents() if network is generator else pictures(phase), phase, 0.5)
    assert {name: value.shape for name, value in built.state_dict().items()} == before


@pytest.mark.parametrize(
    ("network", "whole", "phase", "active_millions"),
    [
        (PioneerGenerator, 23_079_115, 0, 6.56),
        (PioneerGenerator, 23_079_115, 4, 22.48),
        (PioneerGenerator, 23_079_115, 6, 23.04),
        (PioneerEncoder, 25_439_616, 0, 6.56),
        (PioneerEncoder, 25_439_616, 4, 24.25),
        (PioneerEncoder, 25_439_616, 6, 25.36),
    ],
)
def test_full_networks_have_the_published_size(network: type, whole: int, phase: int, active_millions: float) -> None:
    with torch.device("meta"):
        built = network(512, 1024)
    assert sum(parameter.numel() for parameter in built.parameters()) == whole
    rgb = built.to_rgb if network is PioneerGenerator else built.from_rgb
    active = [*built.blocks[: phase + 1].parameters(), *rgb[phase].parameters()]
    assert sum(parameter.numel() for parameter in active) / 1e6 == pytest.approx(active_millions, abs=0.005)


def test_published_widths() -> None:
    assert published_widths(512, 1024) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert published_widths(32, 1024) == [32, 32, 32, 32, 16, 8, 4, 2, 1]
    assert published_widths(8, 1024)[-1] == 1


@pytest.mark.parametrize("widths", [[16, 8], [16, 8, 4, 2], [16, 0, 4]])
def test_widths_must_be_one_positive_number_for_each_resolution(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="widths must give 3 positive channel counts, for 4 to 16 pixels, got "):
        check_widths(widths, 16)


# Layers


@pytest.mark.parametrize(
    ("normalisation", "convolution", "pixel_norms"),
    [
        ("none", nn.Conv2d, 0),
        ("pixel_norm", nn.Conv2d, 8),
        ("equalized", EqualizedConv2d, 0),
        ("pixel_norm_equalized", EqualizedConv2d, 8),
        ("spectral", SpectralConv2d, 0),
    ],
)
def test_every_arm_of_the_ablation_has_its_layers(normalisation: str, convolution: type, pixel_norms: int) -> None:
    built = generator(normalisation=normalisation)
    in_blocks = [module for module in built.blocks.modules() if isinstance(module, nn.Conv2d)]
    assert {type(module) for module in in_blocks} == {convolution}
    assert len(in_blocks) == 8
    assert sum(isinstance(module, PixelNorm) for module in built.modules()) == pixel_norms
    assert {type(module) for module in built.to_rgb} == {nn.Conv2d}


def test_pixel_norm_stands_between_convolution_and_activation() -> None:
    layers = [type(layer) for layer in generator(normalisation="pixel_norm_equalized").blocks[1]]
    assert layers == [EqualizedConv2d, PixelNorm, nn.LeakyReLU] * 2


@pytest.mark.parametrize("network", [generator, encoder])
def test_only_the_encoders_last_convolution_lacks_an_activation(network: object) -> None:
    activations = [sum(isinstance(layer, nn.LeakyReLU) for layer in block) for block in network().blocks]
    assert activations == ([2, 2, 2, 2] if network is generator else [1, 2, 2, 2])


def test_spectral_convolutions_are_told_about_gradients_through_the_power_iteration() -> None:
    for network in (generator, encoder):
        flags = {
            module.gradient_through_power_iteration
            for module in network(gradient_through_power_iteration=True).modules()
            if isinstance(module, SpectralConv2d)
        }
        assert flags == {True}


def test_to_rgb_is_linear() -> None:
    # No tanh: an output bias of ten comes out as ten more.
    built, codes = generator(), latents()
    before = built(codes, 2)
    built.to_rgb[2].bias.data += 10
    torch.testing.assert_close(built(codes, 2), before + 10)


# Fades


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("normalisation", ["pixel_norm_equalized", "spectral"])
def test_a_fresh_phase_shows_the_doubled_images_of_the_phase_before(phase: int, normalisation: str) -> None:
    built, codes = generator(normalisation=normalisation), latents()
    before = built(codes, phase - 1)
    doubled = before.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(built(codes, phase, 0.0), doubled)


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_fresh_phase_encodes_what_halved_images_gave_before(phase: int) -> None:
    built, images = encoder(), pictures(phase)
    halved = images.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    torch.testing.assert_close(built(images, phase, 0.0), built(halved, phase - 1))


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_a_faded_image_is_the_mixture_of_both_ends(upsampling: str) -> None:
    built, codes = generator(upsampling=upsampling), latents()
    coarse, fine = built(codes, 2, 0.0), built(codes, 2, 1.0)
    torch.testing.assert_close(built(codes, 2, 0.3), 0.7 * coarse + 0.3 * fine)


def test_bilinear_newest_is_nearest_below_the_newest_block() -> None:
    kinds = {kind: generator(upsampling=kind) for kind in ("nearest", "bilinear", "bilinear_newest")}
    for built in kinds.values():
        built.load_state_dict(kinds["nearest"].state_dict())
    codes = latents()
    newest = kinds["bilinear_newest"]
    # At 8 pixels the newest block is the only upsampled one.
    assert torch.equal(newest(codes, 1), kinds["bilinear"](codes, 1))
    images = {kind: built(codes, 2) for kind, built in kinds.items()}
    assert not torch.equal(images["bilinear_newest"], images["bilinear"])
    assert not torch.equal(images["bilinear_newest"], images["nearest"])
    doubled = nn.functional.interpolate(kinds["nearest"](codes, 1), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(newest(codes, 2, 0.0), doubled)


@phases
@alphas
@pytest.mark.parametrize("network", [generator, encoder])
def test_alpha_may_be_a_number_or_a_tensor(network: object, phase: int, alpha: float) -> None:
    built = network()
    inputs = latents() if network is generator else pictures(phase)
    torch.testing.assert_close(built(inputs, phase, torch.tensor(alpha)), built(inputs, phase, alpha))


# Gradients


@pytest.mark.parametrize("network", [generator, encoder])
@pytest.mark.parametrize(
    ("phase", "alpha", "used"), [(0, 1.0, {0}), (1, 1.0, {0, 1}), (1, 0.5, {0, 1}), (2, 1.0, {0, 1, 2})]
)
def test_unused_blocks_get_no_gradient(network: object, phase: int, alpha: float, used: set[int]) -> None:
    # None, not zero: Adam skips such parameters, so their moments start when they do.
    built = network().train()
    built(latents() if network is generator else pictures(phase), phase, alpha).square().sum().backward()
    rgb = built.to_rgb if network is generator else built.from_rgb
    rgb_used = {phase, phase - 1} if alpha < 1 else {phase}
    for number in range(4):
        assert {p.grad is not None for p in built.blocks[number].parameters()} == {number in used}
        assert {p.grad is not None for p in rgb[number].parameters()} == {number in rgb_used}


# Precision


@phases
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_images_are_float32_under_autocast(phase: int, normalisation: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(normalisation=normalisation)(latents(), phase, 0.5)
    assert images.dtype == torch.float32


@phases
@alphas
def test_codes_are_float32_under_autocast(phase: int, alpha: float) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = encoder()(pictures(phase), phase, alpha)
    assert codes.dtype == torch.float32


def test_float64_networks_stay_in_float64() -> None:
    images = generator().double()(latents().double(), 1, 0.5)
    assert images.dtype == torch.float64
    assert encoder().double()(images, 1, 0.5).dtype == torch.float64


@pytest.mark.parametrize("alpha", [0.3, 0.7])
def test_float64_networks_fade_in_float64(alpha: float) -> None:
    built, images = encoder().double(), pictures(1).double()
    features = [built.from_rgb[0](nn.functional.avg_pool2d(images, 2))]
    features.append(nn.functional.avg_pool2d(built.blocks[1](built.from_rgb[1](images)), 2))
    mixed = (1 - alpha) * features[0] + alpha * features[1]
    torch.testing.assert_close(built(images, 1, alpha), built.blocks[0](mixed).flatten(1), rtol=1e-12, atol=1e-14)


# Starting values


def test_spectral_and_rgb_layers_start_as_published() -> None:
    built = PioneerGenerator(64, 8)
    first = built.blocks[0][0].weight
    assert first.std().item() == pytest.approx(math.sqrt(2 / (64 * 16)), rel=0.05)
    bound = 1 / math.sqrt(64)
    for value in (built.to_rgb[0].weight, built.to_rgb[0].bias):
        assert value.abs().max() <= bound
    assert built.to_rgb[0].weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def test_an_untrained_spectral_generator_is_nearly_constant() -> None:
    # Measured in the published program at width 512: 1.5e-3 at 4x4, 3.6e-4 at 8x8. Hence no half precision there.
    images = PioneerGenerator(512, 8, widths=[512, 64]).train()
    codes = nn.functional.normalize(torch.randn(16, 512), dim=1)
    with torch.no_grad():
        deviation = images(codes, 0).std(0).mean()
    assert 3e-4 < deviation < 6e-3


def test_a_phase_without_blocks_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"ends at 8 pixels, got phase 2, which would be 16: there are no such blocks"):
        PioneerGenerator(4, 8)(torch.ones(2, 4), 2)
    with pytest.raises(ValueError, match=r"ends at 8 pixels, got phase 2"):
        PioneerEncoder(4, 8)(torch.ones(2, 3, 16, 16), 2)


def test_images_of_another_size_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"must be 8 x 8 pixels, as the network has grown so far, got \(16, 16\)"):
        PioneerEncoder(4, 16)(torch.ones(2, 3, 16, 16), 1)
