from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import latent_lab
from latent_lab.importers import AutomodulatorState
from latent_lab.models import Automodulator
from latent_lab.networks.modulation import AdaIN
from tests.unit.importers.automodulator_by_hand import LATENT_DIM, AutomodulatorByHand

WITHOUT_NOISE = AutomodulatorState(evaluation_noise=False)


def latents() -> Tensor:
    return F.normalize(torch.randn(4, LATENT_DIM, generator=torch.Generator().manual_seed(5)), dim=1)


def images(resolution: int) -> Tensor:
    return torch.rand(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(6)) * 2 - 1


def decoded(model: Automodulator) -> Tensor:
    """Images of `latents()` as exactly as can be: normalisation of nearly constant maps magnifies small differences.

    In double precision and, as in the published program, without what is added to every variance.
    """
    return without_epsilon(model).double().decode(latents().double())


def without_epsilon(model: Automodulator) -> Automodulator:
    for module in model.modules():
        if isinstance(module, AdaIN):
            module.epsilon = 0.0
    return model


def assert_close(ours: Tensor, by_hand: Tensor) -> None:
    # Codes are in float32 against float64 there.
    torch.testing.assert_close(ours.detach().double(), by_hand, atol=1e-5, rtol=1e-5)


# What a file becomes


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_images_and_codes_are_those_of_the_published_networks_at_every_depth(
    tmp_path: Path, size: str, resolution: int
):
    by_hand = AutomodulatorByHand(size)
    importer = AutomodulatorState(evaluation_noise=False, resolution=resolution)
    model = importer.read(by_hand.save(tmp_path)).eval()
    phase = {4: 0, 8: 1, 16: 2}[resolution]
    assert (model.resolution, model.recipe["init_args"]["small"]) == (resolution, size == "small")
    assert_close(model.encode(images(resolution)), by_hand.encode(images(resolution), phase))
    assert_close(decoded(model), by_hand.generate(latents(), phase))


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_two_decoders_differ_from_64_pixels_on(tmp_path: Path, size: str):
    by_hand = AutomodulatorByHand(size, phase=5)
    content = by_hand.content()
    for phase in range(3, 6):
        maps = torch.zeros(1, 3 * 4 ** (2 + phase))
        content[f"adaptive_loss_{phase}"] = ({"latent_alpha": maps, "latent_scale": maps},)
    torch.save(content, tmp_path / "1_state.pth")
    model = WITHOUT_NOISE.read(tmp_path / "1_state.pth").eval()
    assert_close(decoded(model), by_hand.generate(latents(), 5))


def test_a_file_from_within_a_fade_decodes_and_encodes_with_its_alpha(tmp_path: Path):
    by_hand = AutomodulatorByHand(alpha=0.4)
    model = WITHOUT_NOISE.read(by_hand.save(tmp_path)).eval()
    assert (model.now.phase, model.now.alpha) == (2, pytest.approx(0.4, rel=1e-12))
    assert_close(model.encode(images(16)), by_hand.encode(images(16), 2, 0.4))
    assert_close(decoded(model), by_hand.generate(latents(), 2, 0.4))


def test_bilinear_upsampling_is_recognised(tmp_path: Path):
    by_hand = AutomodulatorByHand(first_adain=2)
    model = WITHOUT_NOISE.read(by_hand.save(tmp_path)).eval()
    assert model.recipe["init_args"]["upsampling"] == "bilinear"
    assert_close(decoded(model), by_hand.generate(latents(), 2))


def test_the_raw_and_the_averaged_decoder_keep_apart(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    model = WITHOUT_NOISE.read(by_hand.save(tmp_path)).eval()
    raw = without_epsilon(model).double().generator(latents().double(), 2)
    assert_close(raw, by_hand.generate(latents(), 2, name="G_state_dict"))


def test_the_dense_layer_before_the_modulations_can_be_used(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    model = AutomodulatorState(evaluation_noise=False, mapping_layers=1).read(by_hand.save(tmp_path)).eval()
    assert_close(decoded(model), by_hand.generate(latents(), 2, mapped=True))


def test_scales_of_the_layer_noise_are_those_of_the_file(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    model = AutomodulatorState().read(by_hand.save(tmp_path))
    published = by_hand.states["G_running_state_dict"]
    for number in (1, 2):
        for place in (0, 1):
            scale = model.generator_average.network.blocks[number][place].noise_scale
            assert torch.equal(scale, published[f"noise.{number}.{place}.noise_scale"])
    plain = WITHOUT_NOISE.read(by_hand.save(tmp_path)).eval()
    assert (model.eval().decode(latents()) - plain.decode(latents())).abs().max() > 1e-2


def test_the_robust_loss_has_the_parameters_of_the_file(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    model = AutomodulatorState().read(by_hand.save(tmp_path))
    content = by_hand.content()["adaptive_loss_2"][0]
    assert torch.equal(model.robust.raw_shapes[2], content["latent_alpha"].view(3, 16, 16))
    assert torch.equal(model.robust.raw_scales[2], content["latent_scale"].view(3, 16, 16))


def test_training_on_does_not_overwrite_them_by_those_of_smaller_resolutions(tmp_path: Path):
    model = AutomodulatorState().read(AutomodulatorByHand().save(tmp_path))
    before = model.robust.raw_shapes[2].clone()
    model._grow_robust_loss(model.now)
    assert torch.equal(model.robust.raw_shapes[2], before)


def test_old_files_keep_their_spectral_vectors_beside_them_and_have_no_second_names(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    content = by_hand.content()
    torch.save(content.pop("SNU"), tmp_path / "8000000_SNU", _use_new_zipfile_serialization=False)
    for name in ("G_state_dict", "G_running_state_dict"):
        content[name] = {key: value for key, value in content[name].items() if "adanorm" not in key}
    torch.save(content, tmp_path / "8000000_state", _use_new_zipfile_serialization=False)
    model = WITHOUT_NOISE.read(tmp_path / "8000000_state").eval()
    assert_close(model.encode(images(16)), by_hand.encode(images(16), 2))
    assert_close(decoded(model), by_hand.generate(latents(), 2))


def test_the_checkpoint_loads_by_itself(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    WITHOUT_NOISE(by_hand.save(tmp_path), tmp_path / "new.ckpt")
    model = latent_lab.load(tmp_path / "new.ckpt")
    assert model.images_seen == 8_000_000
    assert_close(decoded(model), by_hand.generate(latents(), 2))


def test_all_that_the_model_does_without_is_named(tmp_path: Path):
    dropped = "\n".join(AutomodulatorState().convert(AutomodulatorByHand().save(tmp_path)).dropped)
    for part in (
        "34 tensors adanorm_blocks.* of G_state_dict (second names)",
        "label_embed.weight, noise.0.0.noise_scale, noise.0.1.noise_scale of G_running_state_dict (take part in",
        "to_rgb.8.*",
        "from_rgb.0.*",
        "optimizerG, optimizerD, optimizerA (state of training)",
    ):
        assert part in dropped


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda content: content["G_state_dict"].pop("module.noise.2.0.noise_scale"),
            r"G_state_dict of .* has no tensor noise\.2\.0\.noise_scale",
            id="missing tensor",
        ),
        pytest.param(
            lambda content: content["D_state_dict"].update({"module.head.weight": torch.zeros(2)}),
            r"D_state_dict of .* has tensors that belong to no part of the network: head\.weight",
            id="extra tensor",
        ),
        pytest.param(
            lambda content: content["G_state_dict"].update({"module.to_rgb.1.bias": torch.zeros(4)}),
            r"to_rgb\.1\.bias has shape \(4,\) where \(3,\) belongs",
            id="wrong shape",
        ),
        pytest.param(
            lambda content: content["G_state_dict"].update({"module.adanorm_blocks.3.mod.bias": torch.zeros(32)}),
            r"adanorm_blocks\.3\.mod\.bias differs from progression\.2\.conv\.0\.3\.mod\.bias, of which it is a second",
            id="second name of something else",
        ),
        pytest.param(
            lambda content: content["G_state_dict"].update({"module.supportTorgbBlock8.weight": torch.zeros(3)}),
            r"has a supporting block \(flip invariance\), which no published model has",
            id="flip invariance",
        ),
        pytest.param(
            lambda content: content.update(SNU=content["SNU"][:17]),
            r"must hold a list of 18 spectral vectors, two for each block of the encoder; it is one of 17",
            id="vectors",
        ),
        pytest.param(lambda content: content.pop("SNU"), r"has no spectral vectors \(SNU\), and there is no", id="SNU"),
        pytest.param(
            lambda content: content.update(adaptive_loss_1=({"latent_alpha": torch.zeros(1, 5)},)),
            r"adaptive_loss_1 of .*: latent_alpha has shape \(1, 5\) where \(1, 192\) belongs",
            id="robust loss",
        ),
        pytest.param(lambda content: content.pop("adaptive_loss_1"), r"but no adaptive_loss_1", id="no robust loss"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_sentence(tmp_path: Path, change: Callable, message: str):
    content: dict[str, Any] = AutomodulatorByHand().content()
    change(content)
    torch.save(content, tmp_path / "1_state.pth")
    with pytest.raises(ValueError, match=message) as caught:
        AutomodulatorState().read(tmp_path / "1_state.pth")
    assert "\n" not in str(caught.value)


def test_a_resolution_that_was_never_trained_is_refused(tmp_path: Path):
    path = AutomodulatorByHand().save(tmp_path)
    with pytest.raises(ValueError, match=r"trained up to 16 px and its blocks for 1024 px are as they were drawn"):
        AutomodulatorState(resolution=1024).read(path)


def test_a_decoder_of_neither_size_is_refused(tmp_path: Path):
    by_hand = AutomodulatorByHand()
    by_hand.states["G_state_dict"] |= {"to_rgb.8.weight": torch.zeros(3, 5, 1, 1)}
    with pytest.raises(ValueError, match=r"it is neither of the two published sizes"):
        AutomodulatorState().read(by_hand.save(tmp_path))
