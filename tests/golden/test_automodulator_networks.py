"""Layers, encoder and decoder of the Automodulator against the published networks.

Tolerances as in golden/automodulator/README.md: 1e-6 for layers and the encoder, 1e-5 for the decoder's images. The
published AdaIN has no epsilon, so here it is 0.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.networks.automodulator import AutomodulatorDecoder
from latent_lab.networks.layers import EqualizedConv2d, EqualizedLinear, SpectralConv2d
from latent_lab.networks.modulation import AdaIN, add_noise, blur, upsample
from latent_lab.networks.pioneer import PioneerEncoder
from latent_lab.objectives import age
from tests.golden.automodulator_state import decoder_state, encoder_state

FADES = [pytest.param(0, 1.0, "step0_alpha1", id="4 pixels")] + [
    pytest.param(step, alpha, f"step{step}_alpha{name}", id=f"{4 * 2**step} pixels, alpha {name}")
    for step in (1, 2)
    for alpha, name in ((1.0, "1"), (0.4, "0.4"))
]


# Absolute, of primitives and codes, and of what has passed a decoder. The original ran with other vector instructions
# than many processors have: float32 sums in another order differ by up to 1.5e-6 and 1.7e-5.
PRIMITIVE = 2e-6
IMAGE = 2e-5


def assert_close(ours: Tensor, published: Tensor, tolerance: float, *, relative: float = 0.0) -> None:
    torch.testing.assert_close(ours, published.to(ours), rtol=relative, atol=tolerance)


def part(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def vectors(arrays: Mapping[str, Tensor]) -> dict[int, Tensor]:
    return {int(number): value for number, value in part(arrays, "SNU/").items()}


def unit(codes: Tensor) -> Tensor:
    return F.normalize(codes, dim=1)


# Layers


@pytest.fixture(scope="module")
def primitives(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("primitives")


def published_adain() -> AdaIN:
    return AdaIN(6, 8, epsilon=0.0, unbiased=True, initial_shift=1.0)


def test_adain(primitives: Mapping) -> None:
    adain = published_adain()
    adain.style.load_state_dict({"weight": primitives["adain_weight"], "bias": primitives["adain_bias"]})
    assert_close(adain.style(primitives["adain_z"]), primitives["adain_A"].flatten(1), PRIMITIVE)
    assert_close(adain(primitives["adain_x"], primitives["adain_z"]), primitives["adain_y"], PRIMITIVE)


def test_the_epsilon_of_training_changes_adain_by_less_than_the_tolerance(primitives: Mapping) -> None:
    adain = AdaIN(6, 8, unbiased=True)
    adain.style.load_state_dict({"weight": primitives["adain_weight"], "bias": primitives["adain_bias"]})
    assert_close(adain(primitives["adain_x"], primitives["adain_z"]), primitives["adain_y"], PRIMITIVE)


def test_initial_biases_of_adain(primitives: Mapping) -> None:
    assert torch.equal(published_adain().style.bias, primitives["adain_fresh_bias"])


def test_blur(primitives: Mapping) -> None:
    assert_close(blur(primitives["blur_x"]), primitives["blur_y"], PRIMITIVE)


def test_nearest_upsampling(primitives: Mapping) -> None:
    assert torch.equal(upsample(primitives["up_x"], "nearest"), primitives["up_y"])


def test_equalised_convolution(primitives: Mapping) -> None:
    outputs, inputs = primitives["eqconv_weight_orig"].shape[:2]
    layer = EqualizedConv2d(inputs, outputs, 3, 1)
    layer.load_state_dict({"weight": primitives["eqconv_weight_orig"], "bias": primitives["eqconv_bias"]})
    assert_close(layer(primitives["eqconv_x"]), primitives["eqconv_y"], PRIMITIVE)


def test_layer_noise(primitives: Mapping) -> None:
    noisy = add_noise(primitives["noise_x"], primitives["noise_scale"], lambda _: primitives["noise_draw"])
    assert_close(noisy, primitives["noise_y"], PRIMITIVE)


def test_a_layer_of_the_mapping(primitives: Mapping) -> None:
    layer = EqualizedLinear(6, 6, 0.01)
    layer.load_state_dict({"weight": primitives["maplin_weight_orig"], "bias": primitives["maplin_bias"]})
    assert_close(F.leaky_relu(layer(primitives["maplin_x"]), 0.2), primitives["maplin_y"], PRIMITIVE)


@pytest.fixture
def spectral(primitives: Mapping) -> SpectralConv2d:
    layer = SpectralConv2d(3, 6, 3, 1, gradient_through_power_iteration=True)
    state = {"weight": primitives["sn_weight_orig"], "bias": primitives["sn_bias"], "u": primitives["sn_u0"].flatten()}
    layer.load_state_dict(state)
    return layer


def test_spectral_convolution_of_the_first_two_calls_and_in_evaluation(
    primitives: Mapping, spectral: SpectralConv2d
) -> None:
    assert_close(spectral(primitives["sn_x"]), primitives["sn_y1"], PRIMITIVE)
    assert_close(spectral.u, primitives["sn_u1"].flatten(), PRIMITIVE)
    assert_close(spectral(primitives["sn_x"]), primitives["sn_y2"], PRIMITIVE)
    assert_close(spectral.u, primitives["sn_u2"].flatten(), PRIMITIVE)
    spectral.eval()
    assert_close(spectral(primitives["sn_x"]), primitives["sn_eval_y"], PRIMITIVE)
    assert_close(spectral.u, primitives["sn_u2"].flatten(), PRIMITIVE)


def test_spectral_weight_and_its_gradient(primitives: Mapping, spectral: SpectralConv2d) -> None:
    weight = spectral.normalised_weight()
    assert_close(weight, primitives["sn_w1"], PRIMITIVE)
    outputs = F.conv2d(primitives["sn_x"], weight, spectral.bias, padding=1)
    (weight.square().sum() + outputs.sum()).backward()
    # Entries of the gradient reach tens, hence the relative tolerance of the README.
    assert_close(spectral.weight.grad, primitives["sn_grad_of_sumW2_plus_sumY1"], 1e-5, relative=1e-4)


# Networks


@pytest.fixture(scope="module")
def toy(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("toy32_state")


@pytest.fixture(scope="module")
def golden(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("encoder_decoder")


@pytest.fixture
def encoder(toy: Mapping) -> PioneerEncoder:
    network = PioneerEncoder(32, 1024, gradient_through_power_iteration=True)
    network.load_state_dict(encoder_state(part(toy, "D/"), vectors(toy)))
    return network.eval()


@pytest.fixture(scope="module")
def decoder(toy: Mapping) -> AutomodulatorDecoder:
    network = AutomodulatorDecoder(32, 1024, epsilon=0.0)
    network.load_state_dict(decoder_state(part(toy, "G/")))
    return network


@pytest.mark.parametrize(("step", "alpha", "name"), FADES)
def test_codes(encoder: PioneerEncoder, golden: Mapping, step: int, alpha: float, name: str) -> None:
    codes = unit(encoder(golden[f"enc_x_step{step}"], step, alpha))
    assert_close(codes, golden[f"enc_z_{name}"], PRIMITIVE)


def test_effective_weight_of_a_convolution(encoder: PioneerEncoder, golden: Mapping) -> None:
    assert_close(encoder.blocks[2][0].normalised_weight(), golden["enc_sn_weight_prog6_conv0"], PRIMITIVE)


def test_codes_of_two_training_passes_move_the_spectral_vectors(encoder: PioneerEncoder, golden: Mapping) -> None:
    encoder.train()
    for call in (1, 2):
        codes = unit(encoder(golden["enc_x_step2"], 2))
        assert_close(codes, golden[f"enc_train_z_call{call}"], PRIMITIVE)
    assert_close(encoder.blocks[2][0].u, golden["enc_train_u_after2_prog6_conv0"].flatten(), PRIMITIVE)


@pytest.mark.parametrize(("step", "alpha", "name"), FADES)
def test_images(decoder: AutomodulatorDecoder, golden: Mapping, step: int, alpha: float, name: str) -> None:
    assert_close(decoder(golden["dec_z"], step, alpha), golden[f"dec_img_{name}"], IMAGE)


@pytest.mark.parametrize("block", [0, 1])
def test_content_after_a_block(decoder: AutomodulatorDecoder, golden: Mapping, block: int) -> None:
    content = decoder.modulate(golden["dec_z"], end=block + 1, phase=2)
    assert_close(content, golden[f"dec_content_after_block{block}"], IMAGE)


def test_one_code_in_parts_is_the_whole_image(decoder: AutomodulatorDecoder, golden: Mapping) -> None:
    content = None
    for begin in (0, 1):
        content = decoder.modulate(golden["dec_z"], begin=begin, end=begin + 1, content=content, phase=2)
    assert_close(decoder(golden["dec_z"], 2, begin=2, content=content), golden["dec_seq_img"], IMAGE)


@pytest.mark.parametrize("cut", [1, 2])
def test_two_codes_mixed_at_a_cut(decoder: AutomodulatorDecoder, golden: Mapping, cut: int) -> None:
    content = decoder.modulate(golden["dec_z"], end=cut, phase=2)
    images = decoder(golden["dec_z2"], 2, begin=cut, content=content)
    assert_close(images, golden[f"dec_mix_cut{cut}"], IMAGE)


def test_layer_noise_in_the_order_of_the_calls(decoder: AutomodulatorDecoder, golden: Mapping) -> None:
    draws = iter([golden[f"dec_noise_{number}"].float() for number in range(4)])
    images = decoder(golden["dec_z"], 2, 1.0, lambda _: next(draws))
    assert_close(images, golden["dec_noisy_img_step2"], IMAGE)
    assert next(draws, None) is None


@pytest.fixture(scope="module")
def scales(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("scale_mixing_128")


@pytest.mark.parametrize(
    ("name", "of_blocks"),
    [
        # hi is 4 and 8 pixels, mid 16 to 64, lo the rest.
        ("img_hiA_midB_loA", "aabbba"),
        ("img_use_equiv", "aabbba"),
        ("img_cut3", "aaabbb"),
        ("img_plain_A", "aaaaaa"),
    ],
)
def test_scales_of_two_codes_at_128_pixels(
    decoder: AutomodulatorDecoder, scales: Mapping, name: str, of_blocks: str
) -> None:
    styles = torch.stack([scales[f"z{source}"] for source in of_blocks])[None]
    # Values reach 4.5 and have passed eleven convolutions: some float32 units more than at 16 pixels.
    assert_close(decoder(styles, 5)[..., ::4, ::4], scales[name], IMAGE, relative=1e-5)


# Flip invariance


@pytest.fixture(scope="module")
def flip(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("flip_invariance")


@pytest.fixture
def flip_decoder(flip: Mapping) -> AutomodulatorDecoder:
    network = AutomodulatorDecoder(32, 16, epsilon=0.0, support_block=2)
    # The file holds what the case needs, and so the last to-RGB layer alone.
    missing, unexpected = network.load_state_dict(decoder_state(part(flip, "G/")), strict=False)
    assert not unexpected
    assert {name.rpartition(".")[0] for name in missing} == {"to_rgb.0", "to_rgb.1", "to_rgb.2"}
    return network


@pytest.fixture
def flip_encoder(flip: Mapping) -> PioneerEncoder:
    network = PioneerEncoder(32, 16, gradient_through_power_iteration=True)
    missing, unexpected = network.load_state_dict(encoder_state(part(flip, "D/"), vectors(flip)), strict=False)
    assert not unexpected
    assert {name.rpartition(".")[0] for name in missing} == {"from_rgb.0", "from_rgb.1"}
    return network


def test_the_flip_loss_and_its_gradients_reach_the_affine_layers(
    flip: Mapping, flip_decoder: AutomodulatorDecoder, flip_encoder: PioneerEncoder
) -> None:
    straight = flip["real_in"][:4]
    images = torch.cat([straight, straight.flip(3)])
    assert torch.equal(images, flip["x_after"])
    codes = unit(flip_encoder(images, 2))
    lower, upper = codes, codes.roll(4, 0)
    styles = torch.stack([lower, lower, upper, upper], 1)
    rebuilt = flip_decoder(styles, 2)
    loss = sum((rebuilt - images).abs().flatten(1).mean(1).chunk(2)).mean()
    assert_close(loss, flip["loss_flip"], 0.0, relative=1e-6)

    loss.backward()
    # In the published list of AdaIN layers, those of the support block come last.
    layers = {(0, 0): 0, (1, 0): 1, (1, 1): 2, (2, 0): 17, (2, 1): 18, (3, 0): 3, (3, 1): 4}
    for (block, place), number in layers.items():
        for parameter in ("weight", "bias"):
            ours = getattr(flip_decoder.blocks[block][place].adain.style, parameter).grad.norm()
            published = flip[f"gradnorm/adanorm_blocks.{number}.mod.{parameter}"]
            assert float(ours) == pytest.approx(float(published), rel=1e-4)


def test_divergences_of_the_flip_case(
    flip: Mapping, flip_decoder: AutomodulatorDecoder, flip_encoder: PioneerEncoder
) -> None:
    real = unit(flip_encoder(flip["x_after"], 2))
    halves = [0.1 * age.moment_kl(half) for half in real.chunk(2)]
    assert_close(sum(halves) / 2, flip["KL_real"], 0.0, relative=1e-6)
    # Codes of the first quarter of the rows change at the first cut.
    below, above = flip["zE"], torch.cat([flip["altE"], flip["zE"][2:]])
    fake = flip_decoder(torch.stack([below, above, above, above], 1), 2)
    assert_close(0.1 * age.moment_kl(unit(flip_encoder(fake, 2))), flip["KL_fake"], 0.0, relative=1e-6)


# Published sizes


def rows(shared: Path, size: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    with (shared / "golden" / "automodulator" / f"layout_automodulator_{size}.csv").open() as file:
        for row in csv.DictReader(file):
            network, name = row["name"].split(": ")
            yield network, name, tuple(int(side) for side in row["shape"].split("x"))


@pytest.mark.parametrize(("size", "mapping_layers"), [("large", 0), ("small", 0), ("large", 2)])
def test_every_published_decoder_parameter_has_its_place_and_shape(
    shared: Path, size: str, mapping_layers: int
) -> None:
    with torch.device("meta"):
        network = AutomodulatorDecoder(512, 1024, small=size == "small", mapping_layers=mapping_layers)
        published = {name: torch.empty(shape) for kind, name, shape in rows(shared, size) if kind.startswith("G_state")}
    state = decoder_state(published, mapping_layers=mapping_layers)
    shapes = {name: value.shape for name, value in state.items()}
    assert shapes == {name: value.shape for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("size", "count"), [("large", 29_842_639), ("small", 24_109_695)])
def test_published_decoders_have_the_recorded_number_of_parameters(shared: Path, size: str, count: int) -> None:
    listed = [(name, shape) for kind, name, shape in rows(shared, size) if kind.startswith("G_state")]
    own = [(name, shape) for name, shape in listed if "adanorm_blocks" not in name]
    assert sum(math.prod(shape) for _, shape in own) == count
    with torch.device("meta"):
        network = AutomodulatorDecoder(512, 1024, small=size == "small")
    unused = sum(
        math.prod(shape)
        for name, shape in own
        if "z_preprocess" in name or "label_embed" in name or "weight_gain" in name or ".noise.0." in name
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == count - unused


def test_every_published_encoder_parameter_has_its_place_and_shape(shared: Path) -> None:
    with torch.device("meta"):
        network = PioneerEncoder(512, 1024)
        published = {name: torch.empty(shape) for kind, name, shape in rows(shared, "large") if kind == "D_state_dict"}
        spectral = [torch.empty(network.blocks[8 - n // 2][n % 2 * 2].out_channels, 1) for n in range(18)]
    shapes = {name: value.shape for name, value in encoder_state(published, spectral).items()}
    assert shapes == {name: value.shape for name, value in network.state_dict().items()}
