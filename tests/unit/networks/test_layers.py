"""Pixel norm, equalised and spectrally normalised convolutions."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from latent_lab.networks.layers import EqualizedConv2d, PixelNorm, SpectralConv2d


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def exact_sigma(layer: SpectralConv2d) -> Tensor:
    return torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]


def sigma(layer: SpectralConv2d) -> Tensor:
    mode = layer.training
    weight = layer.eval().normalised_weight()
    layer.train(mode)
    return (layer.weight.detach().norm() / weight.detach().norm()).squeeze()


# Pixel norm


def test_pixel_norm_gives_unit_mean_square_over_channels() -> None:
    features = PixelNorm()(torch.randn(2, 16, 3, 3) * 10)
    torch.testing.assert_close(features.square().mean(1), torch.ones(2, 3, 3))


def test_pixel_norm_ignores_the_scale_of_a_pixel() -> None:
    features = torch.randn(1, 16, 3, 3)
    torch.testing.assert_close(PixelNorm()(features * 7), PixelNorm()(features))


def test_pixel_norm_of_zero_is_zero() -> None:
    assert torch.equal(PixelNorm()(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


# Equalised learning rate


@pytest.mark.parametrize(("inputs", "kernel_size"), [(8, 3), (16, 4), (3, 1)])
def test_equalised_weight_is_scaled_by_the_fan_in(inputs: int, kernel_size: int) -> None:
    layer = EqualizedConv2d(inputs, 5, kernel_size)
    features = torch.zeros(1, inputs, kernel_size, kernel_size)
    features[0, 0, 0, 0] = 1
    expected = layer.weight[:, 0, 0, 0] * math.sqrt(2 / (inputs * kernel_size**2))
    torch.testing.assert_close(layer(features).flatten(), expected)


def test_the_first_dense_layer_of_the_full_generator_is_scaled_by_one_sixty_fourth() -> None:
    with torch.device("meta"):
        layer = EqualizedConv2d(512, 512, 4, 3)
    assert layer.scale == 1 / 64


def test_equalised_weights_start_standard_normal_and_biases_at_zero() -> None:
    layer = EqualizedConv2d(32, 32, 3)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.bias, torch.zeros(32))


def test_the_bias_is_not_scaled() -> None:
    layer = EqualizedConv2d(4, 2, 3)
    torch.nn.init.constant_(layer.bias, 3.0)
    assert layer(torch.zeros(1, 4, 3, 3)).flatten().tolist() == [3.0, 3.0]


# Spectral normalisation


def test_spectral_weights_start_kaiming_normal_and_biases_at_zero() -> None:
    layer = SpectralConv2d(32, 32, 3)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 9)), rel=0.05)
    assert torch.equal(layer.bias, torch.zeros(32))


def test_sigma_converges_to_the_largest_singular_value() -> None:
    layer = SpectralConv2d(6, 8, 3)
    for _ in range(300):
        layer.normalised_weight()
    torch.testing.assert_close(sigma(layer), exact_sigma(layer), rtol=1e-5, atol=0)
    largest = torch.linalg.svdvals(layer.normalised_weight().detach().flatten(1))[0]
    assert largest.item() == pytest.approx(1, rel=1e-5)


def test_converging_at_once_gives_the_largest_singular_value() -> None:
    layer = SpectralConv2d(6, 8, 3)
    layer.converge(300)
    torch.testing.assert_close(sigma(layer), exact_sigma(layer), rtol=1e-5, atol=0)


def test_without_a_number_of_iterations_convergence_is_exact_however_close_the_singular_values_are() -> None:
    layer = SpectralConv2d(6, 8, 3)
    left, _, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
    values = torch.tensor([1.0, 0.999, *[0.5] * 6])
    with torch.no_grad():
        layer.weight.copy_((left * values @ right).view_as(layer.weight))
    layer.converge()
    assert torch.dot(layer.u, left[:, 0]).abs().item() == pytest.approx(1, abs=1e-5)


def test_sigma_is_never_above_the_largest_singular_value_and_never_falls() -> None:
    layer = SpectralConv2d(6, 8, 3)
    history = []
    for _ in range(20):
        history.append(sigma(layer).item())
        layer.normalised_weight()
    assert all(later >= earlier * (1 - 1e-6) for earlier, later in itertools.pairwise(history))
    assert history[-1] <= exact_sigma(layer).item() * (1 + 1e-6)


def test_the_output_does_not_depend_on_the_weights_scale() -> None:
    layer = SpectralConv2d(3, 4, 3)
    scaled = copy.deepcopy(layer)
    scaled.weight.data *= 50
    features = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(scaled(features), layer(features))


def test_eval_mode_leaves_the_spectral_vector_alone() -> None:
    layer = SpectralConv2d(3, 4, 3).eval()
    before, features = layer.u.clone(), torch.randn(1, 3, 5, 5)
    first = layer(features)
    second = layer(features)
    assert torch.equal(layer.u, before)
    assert torch.equal(first, second)


def test_eval_mode_computes_what_the_next_training_pass_would() -> None:
    layer, features = SpectralConv2d(3, 4, 3), torch.randn(1, 3, 5, 5)
    assert torch.equal(layer.eval()(features), layer.train()(features))


def test_training_mode_moves_the_spectral_vector_once_per_pass_also_without_gradient() -> None:
    layer, features = SpectralConv2d(3, 4, 3), torch.randn(1, 3, 5, 5)
    twin = copy.deepcopy(layer)
    layer(features)
    with torch.no_grad():
        twin(features)
    assert torch.equal(layer.u, twin.u)
    torch.testing.assert_close(layer.u.norm(), torch.tensor(1.0))


@pytest.mark.parametrize("through", [False, True])
def test_two_passes_before_one_backward_pass_work(through: bool) -> None:
    layer = SpectralConv2d(3, 4, 3, gradient_through_power_iteration=through)
    twin = copy.deepcopy(layer)
    a, b = torch.randn(2, 1, 3, 5, 5).unbind()
    (layer(a).square().sum() + layer(b).sum()).backward()
    # The same passes, each followed by its own backward pass.
    twin(a).square().sum().backward()
    twin(b).sum().backward()
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)


@pytest.mark.parametrize("through", [False, True])
def test_at_convergence_both_gradient_conventions_agree_with_that_of_the_exact_norm(through: bool) -> None:
    layer = SpectralConv2d(3, 4, 3, gradient_through_power_iteration=through).double()
    layer.converge(2000)
    features = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    layer(features).square().sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    normalised = weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.nn.functional.conv2d(features, normalised).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-8, atol=1e-8)


def test_before_convergence_the_conventions_differ() -> None:
    features = torch.randn(1, 3, 5, 5)
    layers = [SpectralConv2d(3, 4, 3, gradient_through_power_iteration=through) for through in (False, True)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer in layers:
        layer(features).square().sum().backward()
    assert (layers[0].weight.grad - layers[1].weight.grad).abs().max() > 0.01 * layers[0].weight.grad.abs().max()


@pytest.mark.parametrize("through", [False, True])
def test_the_weights_gradient_is_orthogonal_to_the_weight(through: bool) -> None:
    # The output does not change with the weight's scale, if v follows the weight; a constant v keeps that, too.
    layer = SpectralConv2d(3, 4, 3, gradient_through_power_iteration=through).double()
    layer(torch.randn(1, 3, 5, 5, dtype=torch.float64)).square().sum().backward()
    assert (layer.weight.grad * layer.weight).sum().abs() < 1e-10


def test_the_state_contains_the_spectral_vector() -> None:
    layer = SpectralConv2d(3, 4, 3)
    layer(torch.randn(1, 3, 5, 5))
    restored = SpectralConv2d(3, 4, 3)
    restored.load_state_dict(layer.state_dict())
    assert set(layer.state_dict()) == {"weight", "bias", "u"}
    assert torch.equal(restored.u, layer.u)


def test_the_spectral_vector_is_no_parameter() -> None:
    assert {name for name, _ in SpectralConv2d(3, 4, 3).named_parameters()} == {"weight", "bias"}


def test_a_layer_can_be_copied_after_a_pass() -> None:
    layer, features = SpectralConv2d(3, 4, 3), torch.randn(1, 3, 5, 5)
    layer(features)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.eval()(features), layer.eval()(features))
    twin.train()(features)
    assert not torch.equal(twin.u, layer.u)


def test_the_spectral_norm_is_computed_in_full_precision_under_autocast() -> None:
    layer = SpectralConv2d(3, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = layer.eval().normalised_weight()
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, layer.normalised_weight())
