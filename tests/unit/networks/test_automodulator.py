"""Structure of the Automodulator's decoder: growth, fades, cuts, noise, support block, precision, size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latent_lab.networks.automodulator import AutomodulatorDecoder, published_decoder_widths
from latent_lab.networks.layers import EqualizedConv2d
from latent_lab.networks.modulation import AdaIN

DIM, RESOLUTION, WIDTHS = 16, 32, [8, 7, 6, 5]
phases = pytest.mark.parametrize("phase", [0, 1, 2, 3])
alphas = pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def decoder(**options: object) -> AutomodulatorDecoder:
    return AutomodulatorDecoder(DIM, RESOLUTION, widths=WIDTHS, **options)


def noisy_decoder(**options: object) -> AutomodulatorDecoder:
    built = decoder(**options)
    for name, parameter in built.named_parameters():
        if name.endswith("noise_scale"):
            parameter.data.fill_(0.5)
    return built


def codes(n: int = 3) -> Tensor:
    return nn.functional.normalize(torch.randn(n, DIM), dim=1)


def noise_of(seed: int) -> object:
    rng = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=rng)


def two_styles(num_blocks: int, cut: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two codes (N, D), and styles (N, L, D) that change over from the first to the second at the cut."""
    first, second = codes(), codes()
    below = (torch.arange(num_blocks) < cut)[:, None]
    return first, second, torch.where(below, first[:, None], second[:, None])


# Shapes and sizes


@phases
@alphas
@pytest.mark.parametrize("options", [{}, {"upsampling": "bilinear"}, {"support_block": 2}, {"fade_matching": True}])
def test_images_have_the_resolution_of_the_phase(phase: int, alpha: float, options: dict) -> None:
    images = decoder(**options)(codes(), phase, alpha)
    assert images.shape == (3, 3, 4 * 2**phase, 4 * 2**phase)
    assert torch.isfinite(images).all()


def test_grey_images_have_one_channel() -> None:
    assert decoder(channels=1)(codes(), 2).shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    ("small", "phase", "active"),
    [(False, 6, 28_971_920), (False, 7, 29_213_906), (True, 6, 23_442_640)],
)
def test_full_decoders_have_the_published_size(small: bool, phase: int, active: int) -> None:
    with torch.device("meta"):
        built = AutomodulatorDecoder(512, 1024, small=small)
    used = [*built.blocks[: phase + 1].parameters(), *built.to_rgb[phase].parameters()]
    # The published program has a gain, constantly 1, beside each of the 1 + 2 p convolutions.
    assert sum(parameter.numel() for parameter in used) + 1 + 2 * phase == active


def test_published_decoder_widths() -> None:
    assert published_decoder_widths(512, 1024) == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert published_decoder_widths(512, 1024, small=True) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert published_decoder_widths(64, 4) == [64]


def test_the_state_has_one_shape_for_the_whole_run() -> None:
    built = decoder()
    before = {name: value.shape for name, value in built.state_dict().items()}
    for phase in range(4):
        built(codes(), phase, 0.5)
    assert {name: value.shape for name, value in built.state_dict().items()} == before


def test_the_constant_input_is_no_parameter() -> None:
    assert not [name for name in decoder().state_dict() if not name.startswith(("blocks.", "to_rgb."))]


def test_layers_start_as_published() -> None:
    built = AutomodulatorDecoder(64, 8)
    for module in built.modules():
        if isinstance(module, AdaIN):
            assert torch.equal(module.style.bias, torch.ones(128))
            # Xavier's normal deviation for 64 inputs and 128 outputs; 8192 values know it to 0.8 %.
            assert module.style.weight.std().item() == pytest.approx((2 / (64 + 128)) ** 0.5, rel=0.04)
        if isinstance(module, EqualizedConv2d):
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
            assert module.weight.std().item() == pytest.approx(1.0, rel=0.02)


def test_two_decoders_share_no_state() -> None:
    first, second = decoder(), decoder()
    before = {name: value.clone() for name, value in second.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 1
    assert all(torch.equal(value, before[name]) for name, value in second.state_dict().items())


def test_only_affine_parameters_see_the_latent() -> None:
    built = decoder(support_block=2)
    affine = built.affine_parameters()
    names = {name for name, parameter in built.named_parameters() if any(parameter is other for other in affine)}
    assert names == {name for name, _ in built.named_parameters() if ".adain.style." in name}
    # Two tensors for each of 1 + 4 * 2 AdaIN layers.
    assert len(affine) == 18


# Styles


@phases
@alphas
def test_one_code_for_all_blocks_may_be_given_once(phase: int, alpha: float) -> None:
    built, latents = decoder(), codes()
    assert torch.equal(built(latents, phase, alpha), built(latents[:, None].expand(-1, 4, -1), phase, alpha))


@phases
def test_codes_of_inactive_blocks_have_no_effect_and_may_be_missing(phase: int) -> None:
    built, styles = decoder(), torch.randn(3, 4, DIM)
    images = built(styles, phase, 0.5)
    assert torch.equal(built(styles[:, : phase + 1], phase, 0.5), images)
    styles[:, phase + 1 :] = float("nan")
    assert torch.equal(built(styles, phase, 0.5), images)


@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_every_active_block_follows_its_own_code(block: int) -> None:
    built, styles = decoder(), torch.randn(3, 4, DIM)
    changed = styles.clone()
    changed[:, block] = torch.randn(3, DIM)
    features = [built.modulate(which, end=block, phase=3) for which in (styles, changed)]
    assert torch.equal(*features)
    assert not torch.allclose(built(styles, 3), built(changed, 3))


def test_too_few_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="styles must hold a latent for each of 3 blocks, got 2"):
        decoder()(torch.randn(2, 2, DIM), 2)


def test_images_are_linear_in_the_last_features() -> None:
    # No tanh: an output bias of ten comes out as ten more.
    built, latents = decoder(), codes()
    before = built(latents, 2)
    built.to_rgb[2].bias.data += 10
    torch.testing.assert_close(built(latents, 2), before + 10)


# Cuts


@phases
@pytest.mark.parametrize("support_block", [None, 2])
def test_decoding_in_two_parts_is_decoding_at_once(phase: int, support_block: int | None) -> None:
    built = noisy_decoder(support_block=support_block)
    active = built.active_blocks(phase)
    for cut in range(active + 1):
        _, second, styles = two_styles(len(built.blocks), cut)
        noise = noise_of(0)
        content = built.modulate(styles, noise, end=cut, phase=phase)
        assert torch.equal(
            built(second, phase, 1.0, noise, begin=cut, content=content), built(styles, phase, 1.0, noise_of(0))
        )


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_fade_may_be_decoded_in_two_parts_below_the_blocks_that_fade_in(phase: int) -> None:
    built = noisy_decoder()
    for cut in range(phase + 1):
        _, second, styles = two_styles(4, cut)
        noise = noise_of(0)
        content = built.modulate(styles, noise, end=cut, phase=phase)
        assert torch.equal(
            built(second, phase, 0.3, noise, begin=cut, content=content), built(styles, phase, 0.3, noise_of(0))
        )
    with pytest.raises(ValueError, match=f"blocks from {phase} on are fading in"):
        built(codes(), phase, 0.3, begin=phase + 1, content=content)


@phases
def test_cuts_below_and_above_all_blocks_are_pure_decoding(phase: int) -> None:
    built = decoder()
    for cut, pure in ((0, 1), (phase + 1, 0)):
        *sources, styles = two_styles(4, cut)
        assert torch.equal(built(styles, phase), built(sources[pure], phase))


def test_several_codes_fold_from_left_to_right() -> None:
    built, (first, second, third) = decoder(), (codes(), codes(), codes())
    content = None
    for latents, begin, end in ((first, 0, 1), (second, 1, 3), (third, 3, None)):
        content = built.modulate(latents, begin=begin, end=end, content=content, phase=3)
    styles = torch.stack([first, second, second, third], 1)
    assert torch.equal(content, built.modulate(styles, phase=3))


@pytest.mark.parametrize(("begin", "end"), [(2, 2), (3, 1), (4, None), (9, None)])
def test_an_empty_range_of_blocks_returns_the_content_itself(begin: int, end: int | None) -> None:
    content = torch.randn(3, 6, 16, 16)
    assert decoder().modulate(codes(), begin=begin, end=end, content=content, phase=3) is content


def test_an_end_behind_the_last_active_block_is_that_block() -> None:
    built, latents = decoder(), codes()
    assert torch.equal(built.modulate(latents, end=9, phase=2), built.modulate(latents, phase=2))
    assert built.modulate(latents, phase=2).shape == (3, 6, 16, 16)


def test_a_later_begin_without_content_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decoding from block 2 on needs the features after block 1 \(content\)"):
        decoder()(codes(), 3, begin=2)


def test_the_content_of_a_cut_has_the_statistics_that_its_last_style_asks_for() -> None:
    built, latents = decoder(), codes()
    content = built.modulate(latents, end=2, phase=3)
    scale, shift = built.blocks[1][1].adain.style(latents).chunk(2, dim=1)
    torch.testing.assert_close(content.mean((2, 3)), shift, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(content.std((2, 3)), scale.abs(), atol=1e-5, rtol=1e-4)


# Fades


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_a_fresh_phase_shows_the_enlarged_images_of_the_phase_before(phase: int, upsampling: str) -> None:
    built, latents = decoder(upsampling=upsampling), codes()
    enlarged = nn.functional.interpolate(built(latents, phase - 1), scale_factor=2, mode=upsampling)
    torch.testing.assert_close(built(latents, phase, 0.0), enlarged)


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"upsampling": "bilinear"}, {"support_block": 2}])
def test_a_faded_image_is_the_mixture_of_both_ends(phase: int, options: dict) -> None:
    built, latents = decoder(**options), codes()
    coarse, fine = built(latents, phase, 0.0), built(latents, phase, 1.0)
    torch.testing.assert_close(built(latents, phase, 0.3), 0.7 * coarse + 0.3 * fine)


def test_matched_fades_give_the_coarse_image_the_fine_ones_mean_and_deviation() -> None:
    built, latents = decoder(fade_matching=True), codes()
    start, end = built(latents, 2, 0.0), built(latents, 2, 1.0)
    torch.testing.assert_close(start.mean((2, 3)), end.mean((2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(start.std((2, 3)), end.std((2, 3)), atol=1e-5, rtol=1e-5)
    built.fade_matching = False
    plain = built(latents, 2, 0.0)
    normalised = [nn.functional.instance_norm(images, eps=0.0) for images in (start, plain)]
    torch.testing.assert_close(*normalised, atol=1e-4, rtol=1e-4)


def test_a_matched_fade_of_constant_images_is_finite() -> None:
    built = decoder(fade_matching=True)
    for layer in built.to_rgb:
        nn.init.zeros_(layer.weight)
    latents = codes().requires_grad_()
    images = built(latents, 2, 0.5)
    images.sum().backward()
    assert torch.isfinite(images).all()
    assert torch.isfinite(latents.grad).all()


@phases
@alphas
def test_alpha_may_be_a_number_or_a_tensor(phase: int, alpha: float) -> None:
    built, latents = decoder(), codes()
    torch.testing.assert_close(built(latents, phase, torch.tensor(alpha)), built(latents, phase, alpha))


# Noise


@phases
def test_noise_is_asked_for_once_by_every_convolution_but_block_0s(phase: int) -> None:
    asked = []

    def noise(shape: torch.Size) -> Tensor:
        asked.append(tuple(shape))
        return torch.zeros(shape)

    decoder()(codes(), phase, 0.5, noise)
    assert asked == [(3, WIDTHS[p], 4 * 2**p, 4 * 2**p) for p in range(1, phase + 1) for _ in range(2)]


def test_block_0_has_no_noise_scales() -> None:
    names = [name for name in decoder().state_dict() if name.endswith("noise_scale")]
    assert names == [f"blocks.{block}.{place}.noise_scale" for block in (1, 2, 3) for place in (0, 1)]


def test_noise_changes_images_only_where_a_source_is_passed() -> None:
    built, latents = noisy_decoder(), codes()
    still = built(latents, 3)
    assert torch.equal(built(latents, 3), still)
    assert torch.equal(built(latents, 3, 1.0, noise_of(1)), built(latents, 3, 1.0, noise_of(1)))
    assert not torch.allclose(built(latents, 3, 1.0, noise_of(1)), still)
    assert not torch.allclose(built(latents, 3, 1.0, noise_of(1)), built(latents, 3, 1.0, noise_of(2)))


def test_without_noise_all_variation_in_space_comes_from_the_border() -> None:
    # Ones go in, so away from the zero padding a convolution with a 3x3 kernel sees a constant.
    built = decoder()
    convolved = built.blocks[0][0].convolution(torch.ones(1, 8, 4, 4))
    torch.testing.assert_close(convolved[..., 1:3, 1:3], convolved[..., 1:2, 1:2].expand(1, 8, 2, 2))
    assert convolved.flatten(2).std(2).min() > 0


def test_bilinear_blocks_have_no_blur_and_their_first_noise_after_the_activation() -> None:
    def order(layers: nn.ModuleList) -> list[tuple]:
        return [(layer.upsampling, layer.blur, layer.noise_after_activation) for layer in layers]

    assert order(decoder(upsampling="bilinear").blocks[2]) == [("bilinear", False, True), (None, False, False)]
    assert order(decoder().blocks[2]) == [("nearest", True, False), (None, False, False)]


# Support block


def test_a_support_block_repeats_the_resolution_before_it() -> None:
    built = decoder(support_block=2)
    assert built.block_resolutions == (4, 8, 8, 16, 32)
    assert [built.active_blocks(phase) for phase in range(4)] == [1, 3, 4, 5]
    assert [layer.in_channels for layer in built.to_rgb] == [8, 7, 7, 6, 5]
    assert built.blocks[2][0].upsampling is None
    assert not [name for name in built.state_dict() if "noise" in name]


def test_without_a_support_block_there_is_one_block_for_each_resolution() -> None:
    built = decoder()
    assert built.block_resolutions == (4, 8, 16, 32)
    assert [built.active_blocks(phase) for phase in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_a_support_block_may_follow_any_block(place: int) -> None:
    built, latents = decoder(support_block=place), codes()
    for phase in range(4):
        images = built(latents, phase, 0.5)
        assert images.shape[-1] == 4 * 2**phase
        built.zero_grad()
        images.sum().backward()
        used = [block[0].convolution.weight.grad is not None for block in built.blocks]
        assert used == [number < built.active_blocks(phase) for number in range(5)]


@pytest.mark.parametrize(("support_block", "phase"), [(None, 4), (2, 4), (None, -1)])
def test_a_phase_that_the_network_does_not_reach_is_refused(support_block: int | None, phase: int) -> None:
    with pytest.raises(ValueError, match=f"the network ends at 32 pixels, got phase {phase}"):
        decoder(support_block=support_block)(codes(), phase)


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_support_block_out_of_place_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match=f"support_block must be a place from 1 to 4 .* got {place}"):
        decoder(support_block=place)


# Mapping


@pytest.mark.parametrize("layers", [1, 8])
def test_mapping_layers_map_every_blocks_code_alike(layers: int) -> None:
    built, plain = decoder(mapping_layers=layers), decoder()
    plain.load_state_dict({name: value for name, value in built.state_dict().items() if "mapping" not in name})
    styles = torch.randn(2, 4, DIM)
    mapped = built.mapping(styles)
    assert len([name for name in built.state_dict() if name.startswith("mapping.")]) == 2 * layers
    torch.testing.assert_close(built(styles, 3, 0.5), plain(mapped, 3, 0.5))


@pytest.mark.parametrize("layers", [-1, 9])
def test_a_deeper_mapping_is_refused(layers: int) -> None:
    with pytest.raises(ValueError, match=f"mapping_layers must be a number from 0 to 8, got {layers}"):
        decoder(mapping_layers=layers)


# Gradients and precision


@pytest.mark.parametrize(
    ("phase", "alpha", "rgb"), [(0, 1.0, {0}), (1, 1.0, {1}), (1, 0.5, {0, 1}), (2, 0.0, {1, 2}), (3, 1.0, {3})]
)
def test_unused_blocks_get_no_gradient(phase: int, alpha: float, rgb: set[int]) -> None:
    # None, not zero: Adam skips such parameters, so their moments start when they do.
    built = decoder()
    built(codes(), phase, alpha, torch.randn).square().sum().backward()
    for number in range(4):
        assert {p.grad is not None for p in built.blocks[number].parameters()} == {number <= phase}
        assert {p.grad is not None for p in built.to_rgb[number].parameters()} == {number in rgb}


@phases
@alphas
def test_images_are_float32_under_autocast_and_gradients_finite(phase: int, alpha: float) -> None:
    built, latents = noisy_decoder(), codes().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = built(latents, phase, alpha, torch.randn)
    assert images.dtype == torch.float32
    images.square().mean().backward()
    assert torch.isfinite(latents.grad).all()


def test_float64_decoders_stay_in_float64() -> None:
    built, latents = noisy_decoder(mapping_layers=1).double(), codes().double()
    for alpha in (0.3, 1.0):
        assert built(latents, 2, alpha, noise_of(0)).dtype == torch.float64


def test_gradients_are_those_of_finite_differences() -> None:
    built, latents = decoder().double(), codes(1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: built(z, 1, 0.3), latents)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_channels_last_changes_no_result(alpha: float) -> None:
    built, latents = noisy_decoder(), codes()
    expected = built(latents, 3, alpha, noise_of(0))
    built.to(memory_format=torch.channels_last)
    # Other kernels add up in another order.
    torch.testing.assert_close(built(latents, 3, alpha, noise_of(0)), expected, atol=1e-5, rtol=1e-5)


def test_each_samples_image_depends_on_its_own_code_alone() -> None:
    built, latents = decoder(), codes(4)
    torch.testing.assert_close(built(latents, 3)[1:2], built(latents[1:2], 3), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("widths", [[8, 7], [8, 7, 6, 0]])
def test_widths_that_do_not_fit_are_refused(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="widths must give 4 positive channel counts"):
        AutomodulatorDecoder(DIM, RESOLUTION, widths=widths)
