from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import latent_lab
from latent_lab.importers import (
    AbstractImporter,
    StyleGANArrays,
    StyleGANGenforce,
    StyleGANLernapparat,
    StyleGANPickle,
    StyleGANRosinality,
)
from latent_lab.models import StyleGAN
from tests.golden.stylegan_state import discriminator_state, generator_state
from tests.unit.importers import stylegan_by_hand as by_hand
from tests.unit.importers.stylegan_by_hand import LATENT_DIM, Network, Variables, networks, of, pickled, variables


@pytest.fixture
def found() -> Variables:
    return variables()


def latents() -> Tensor:
    return torch.randn(4, LATENT_DIM, generator=torch.Generator().manual_seed(5))


def as_tensors(found: Variables) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def tf_file(found: Variables, folder: Path, settings: Any = None, protocol: int = 4) -> Path:
    return write(folder / "stylegan.pkl", pickled(networks(found, settings), protocol))


def npz_file(found: Variables, folder: Path) -> Path:
    np.savez(folder / "stylegan.npz", **found)
    return folder / "stylegan.npz"


def genforce_file(found: Variables, folder: Path) -> Path:
    return saved(folder / "stylegan.pth", by_hand.genforce(found))


def lernapparat_file(found: Variables, folder: Path) -> Path:
    return saved(folder / "stylegan.pt", by_hand.lernapparat(of("Gs", found)))


def rosinality_file(found: Variables, folder: Path) -> Path:
    states = {
        name: by_hand.rosinality(of(network, found)) for name, network in (("generator", "G"), ("g_running", "Gs"))
    }
    return saved(folder / "stylegan.model", states)


WHOLE = [
    pytest.param(StyleGANPickle(), tf_file, id="tf"),
    pytest.param(StyleGANArrays(), npz_file, id="arrays"),
    pytest.param(StyleGANGenforce(), genforce_file, id="genforce"),
]
ALL = [
    *WHOLE,
    pytest.param(StyleGANRosinality(), rosinality_file, id="rosinality"),
    pytest.param(StyleGANLernapparat(), lernapparat_file, id="lernapparat"),
]


def assert_state(network: torch.nn.Module, expected: dict[str, Tensor], tolerance: float = 0.0) -> None:
    state = network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=tolerance, atol=tolerance)


# Whole files


@pytest.mark.parametrize(("importer", "file"), WHOLE)
def test_all_three_networks_are_those_of_the_file(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path
):
    model = importer.read(file(found, tmp_path))
    assert isinstance(model, StyleGAN)
    for network, prefix in ((model.generator_average.network, "Gs"), (model.generator, "G")):
        expected = generator_state(as_tensors(of(prefix, found)))
        assert expected.keys() == network.state_dict().keys()
        assert_state(network, expected)
    expected = discriminator_state(as_tensors(of("D", found)))
    assert expected.keys() == model.discriminator.state_dict().keys()
    assert_state(model.discriminator, expected)


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_sizes_are_read_off_the_file(importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path):
    model = importer.read(file(found, tmp_path))
    assert (model.resolution, model.latent_space.dim, model.num_layers, model.channels) == (16, LATENT_DIM, 6, 3)
    arguments = model.recipe["init_args"]
    assert (arguments["widths"], arguments["mapping_layers"], arguments["max_resolution"]) == ([8, 8, 8], 8, None)
    assert (model.now.alpha, model.images_seen, arguments["fused_from"]) == (1.0, 0, 128)


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_the_checkpoint_loads_by_itself(importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path):
    path = file(found, tmp_path)
    model = importer(path, tmp_path / "new.ckpt").eval()
    again = latent_lab.load(tmp_path / "new.ckpt")
    assert torch.equal(again.decode(latents()), model.decode(latents()))
    assert torch.equal(again.mapped_average, model.mapped_average)


@pytest.mark.parametrize(("importer", "file"), ALL[:3])
def test_a_file_of_the_averaged_generator_alone_is_enough(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path
):
    found = {name: value for name, value in found.items() if not name.startswith("G/")}
    if file is not tf_file:  # whose file always holds three networks
        found = {name: value for name, value in found.items() if name.startswith("Gs/")}
    if file is genforce_file:
        path = saved(tmp_path / "x.pth", {"generator_smooth": by_hand.genforce_generator(of("Gs", found))})
    else:
        path = file(found, tmp_path)
    converted = importer.convert(path)
    for name, value in converted.model.generator_average.network.state_dict().items():
        assert torch.equal(converted.model.generator.state_dict()[name], value)
    if file is not tf_file:
        assert [what.partition(" (")[0] for what in converted.absent] == [
            "the generator before averaging",
            "a discriminator for this model",
        ]


@pytest.mark.parametrize(("level", "phase", "alpha"), [(0.25, 2, 0.75), (1.0, 1, 1.0), (1.6, 1, 0.4), (2.0, 0, 1.0)])
@pytest.mark.parametrize(("importer", "file"), WHOLE)
def test_a_snapshot_from_within_training_keeps_its_state_of_growth(
    importer: AbstractImporter,
    file: Callable,
    found: Variables,
    tmp_path: Path,
    level: float,
    phase: int,
    alpha: float,
):
    found |= {name: np.float32(level) for name in found if name.endswith("lod")}
    importer(file(found, tmp_path), tmp_path / "new.ckpt")
    model = latent_lab.load(tmp_path / "new.ckpt")
    # Progress is counted in images: 600,000 for a fade.
    assert (model.now.phase, model.now.alpha) == (phase, pytest.approx(alpha, abs=2e-6))
    assert model.full_resolution == 16
    assert_state(model.generator_average.network, generator_state(as_tensors(of("Gs", found))))


# NVIDIA's pickle


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_any_protocol_is_read(found: Variables, tmp_path: Path, protocol: int):
    model = StyleGANPickle().read(tf_file(found, tmp_path, protocol=protocol))
    assert_state(model.generator, generator_state(as_tensors(of("G", found))))


def test_names_of_both_numpy_versions_are_known(found: Variables, tmp_path: Path):
    content = pickled(networks(found), protocol=2)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    other = content.replace(new, old) if new in content else content.replace(old, new)
    assert other != content
    model = StyleGANPickle().read(write(tmp_path / "x.pkl", other))
    assert_state(model.generator, generator_state(as_tensors(of("G", found))))


def test_the_source_text_in_the_file_is_not_kept_anywhere(found: Variables, tmp_path: Path):
    StyleGANPickle()(tf_file(found, tmp_path), tmp_path / "new.ckpt")
    assert b"this source text was run" not in (tmp_path / "new.ckpt").read_bytes()
    assert "source text of G, D and Gs (not read)" in StyleGANPickle().convert(tf_file(found, tmp_path)).dropped


@pytest.mark.parametrize(("setting", "fused_from"), [("auto", 128), (True, 8), (False, 128)])
def test_which_convolutions_are_fused_is_a_setting_of_the_generator(
    found: Variables, tmp_path: Path, setting: Any, fused_from: int
):
    model = StyleGANPickle().read(tf_file(found, tmp_path, {"fused_scale": setting}))
    assert model.recipe["init_args"]["fused_from"] == fused_from


class Foreign:
    """Runs a harmless function of the operating system when it is unpickled the ordinary way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("LATENT_LAB_WAS_RUN", "1"))


@pytest.mark.parametrize("place", ["settings", "variables", "outermost"])
def test_any_other_name_in_a_pickle_is_refused_and_named(found: Variables, tmp_path: Path, place: str):
    if place == "settings":
        content: Any = networks(found, {"func": Foreign()})
    elif place == "variables":
        content = networks({**found, "Gs/synthesis/noise0": Foreign()})
    else:
        content = Foreign()
    path = write(tmp_path / "x.pkl", pickled(content))
    for importer in (StyleGANPickle(), StyleGANArrays()):
        with pytest.raises(ValueError, match=r"x\.pkl was not opened: it names posix\.putenv, which no file") as caught:
            importer.read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize(("importer", "file"), ALL)
def test_a_truncated_file_is_refused_in_one_sentence(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path, share: float
):
    path = file(found, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=path.name) as caught:
        importer.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"version": 4}, "a network is of version 4", id="version"),
        pytest.param({"variables": [("lod", 0.0)]}, "a network has a variable that is no array", id="number"),
        pytest.param({"variables": {"lod": 0.0}}, "are no list of names and values", id="no list"),
        pytest.param(
            {"variables": [("lod", np.float32(0)), ("lod", np.float32(0))]}, "two variables of one name", id="twice"
        ),
        pytest.param(
            {"variables": [("lod", np.array([None]))]}, "has an array of 'O8', which is no plain number", id="objects"
        ),
        pytest.param({"static_kwargs": None}, "the settings of a network are a NoneType", id="settings"),
        pytest.param({"components": {"x": 3}}, "a component of a network is none", id="component"),
    ],
)
def test_a_network_that_is_put_together_otherwise_is_refused(
    found: Variables, tmp_path: Path, change: dict[str, Any], message: str
):
    content = networks(found)
    content[1].state.update(change)
    with pytest.raises(ValueError, match=message) as caught:
        StyleGANPickle().read(write(tmp_path / "x.pkl", pickled(content)))
    assert "\n" not in str(caught.value)


def test_an_array_with_fewer_bytes_than_its_shape_needs_is_refused(found: Variables, tmp_path: Path):
    class Short:
        def __reduce__(self) -> tuple[Any, ...]:
            rebuild, arguments, state = np.zeros(3, np.float32).__reduce__()
            return rebuild, arguments, (state[0], (10**9,), *state[2:])

    found |= {"Gs/synthesis/noise0": Short()}
    with pytest.raises(ValueError, match=r"an array of shape \(1000000000,\) has 12 bytes"):
        StyleGANPickle().read(tf_file(found, tmp_path))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("nonlinearity", "relu"), ("use_instance_norm", False), ("mapping_lrmul", 1.0), ("label_size", 10)],
)
def test_a_network_with_other_settings_is_refused(found: Variables, tmp_path: Path, setting: str, value: Any):
    with pytest.raises(ValueError, match=rf"was built with {setting} = {value!r}, this format is of networks with"):
        StyleGANPickle().read(tf_file(found, tmp_path, {setting: value}))


def test_components_of_another_network_are_refused(found: Variables, tmp_path: Path):
    content = networks(found)
    content[0].state["components"] = {"style": Network("style", {}, {}, {})}
    with pytest.raises(ValueError, match=r"G of .* has the component 'style'"):
        StyleGANPickle().read(write(tmp_path / "x.pkl", pickled(content)))


# Arrays


def test_a_dictionary_of_arrays_is_read_from_a_pickle_under_the_programs_own_names(found: Variables, tmp_path: Path):
    average = of("Gs", found)
    dump = OrderedDict((f"G_{name}" if "/" in name else name, value) for name, value in average.items())
    model = StyleGANArrays().read(write(tmp_path / "x.pkl", pickled(dump)))
    assert_state(model.generator_average.network, generator_state(as_tensors(average)))


def test_column_order_double_precision_and_other_byte_orders_are_read(found: Variables, tmp_path: Path):
    average = of("Gs", found)
    average["dlatent_avg"] = average["dlatent_avg"].astype(">f8")
    average["synthesis/4x4/Conv/weight"] = np.asfortranarray(average["synthesis/4x4/Conv/weight"])
    model = StyleGANArrays().read(write(tmp_path / "x.pkl", pickled(average)))
    expected = {name: value.astype(np.float32) for name, value in average.items()}
    assert_state(model.generator_average.network, generator_state(as_tensors(expected)))


def test_two_spellings_of_one_variable_are_refused(found: Variables, tmp_path: Path):
    found["Gs/G_mapping/Dense0/bias"] = found["Gs/mapping/Dense0/bias"]
    with pytest.raises(ValueError, match=r"Gs of .* has two variables mapping/Dense0/bias"):
        StyleGANArrays().read(npz_file(found, tmp_path))


def test_fused_convolutions_are_an_option(found: Variables, tmp_path: Path):
    path = npz_file(found, tmp_path)
    plain, fused = (StyleGANArrays(fused_from=pixels).read(path).eval() for pixels in (128, 8))
    assert (plain.decode(latents()) - fused.decode(latents())).abs().max() > 0.1


def test_each_kind_of_file_names_the_format_of_the_other(found: Variables, tmp_path: Path):
    with pytest.raises(ValueError, match=r"whole networks are of the format stylegan_tf"):
        StyleGANArrays().read(tf_file(found, tmp_path))
    with pytest.raises(ValueError, match=r"arrays by name are of the format stylegan_arrays"):
        StyleGANPickle().read(write(tmp_path / "x.pkl", pickled(of("Gs", found))))


def test_arrays_of_objects_in_an_npz_file_are_refused(tmp_path: Path):
    np.savez(tmp_path / "x.npz", lod=np.array([None]))
    with pytest.raises(ValueError, match=r"x\.npz is not a \.npz file of arrays by name, or is damaged"):
        StyleGANArrays().read(tmp_path / "x.npz")


# rosinality


@pytest.mark.parametrize("fused_from", [8, 16, 128])
def test_rosinalitys_images_are_those_of_its_own_program(found: Variables, tmp_path: Path, fused_from: int):
    state = by_hand.rosinality(of("Gs", found), fused_from)
    model = StyleGANRosinality().read(saved(tmp_path / "x.model", state)).eval()
    assert model.recipe["init_args"]["fused_from"] == fused_from
    synthesis = model.generator_average.network.synthesis
    noise = [synthesis.get_buffer(f"noise_{2 * phase}") for phase in range(3)]
    expected = by_hand.rosinality_images(state, latents(), noise, top=2)
    images = model.double().decode(latents().double())
    # In double precision; the rescaled weights were rounded to single.
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
    w = by_hand.rosinality_styles(state, latents())
    torch.testing.assert_close(model.map(latents().double()), w, rtol=1e-5, atol=1e-5)


def test_rosinalitys_noise_is_one_map_for_each_resolution_and_w_is_averaged(found: Variables, tmp_path: Path):
    converted = StyleGANRosinality().convert(rosinality_file(found, tmp_path))
    model = converted.model.eval()
    synthesis = model.generator_average.network.synthesis
    for phase in range(3):
        assert torch.equal(synthesis.get_buffer(f"noise_{2 * phase}"), synthesis.get_buffer(f"noise_{2 * phase + 1}"))
    many = model.map(torch.randn(20_000, LATENT_DIM, generator=torch.Generator().manual_seed(9)))
    # The mean of n samples is off by its standard error, deviation / sqrt(n): here of 10,240 and 20,000.
    error = many.std(0) * (1 / 10_240 + 1 / 20_000) ** 0.5
    assert ((model.mapped_average - many.mean(0)) / error).abs().max() < 5
    assert [what.partition(" (")[0] for what in converted.absent] == [
        "maps of noise",
        "the mean of w",
        "a discriminator for this model",
    ]


def test_rosinalitys_discriminator_and_optimisers_stay_behind_and_are_named(found: Variables, tmp_path: Path):
    state = by_hand.rosinality(of("Gs", found))
    content = {"g_running": state, "generator": state, "discriminator": {}, "g_optimizer": {}, "d_optimizer": {}}
    dropped = StyleGANRosinality().convert(saved(tmp_path / "x.model", content)).dropped
    assert any(what.startswith("discriminator (another network") for what in dropped)
    assert "g_optimizer, d_optimizer (state of training)" in dropped


def test_rosinalitys_untrained_blocks_are_recognised_and_left_out(found: Variables, tmp_path: Path):
    state = by_hand.rosinality(of("Gs", found))
    for half in (1, 2):
        state[f"generator.progression.2.noise{half}.weight_orig"].zero_()
    path = saved(tmp_path / "x.model", state)
    converted = StyleGANRosinality().convert(path)
    assert converted.model.resolution == 8
    assert "blocks 2 of g_running (beyond 8 px)" in converted.dropped
    assert StyleGANRosinality(resolution=16).read(path).resolution == 16


def test_rosinalitys_resolution_is_asked_for_where_nothing_tells_it(found: Variables, tmp_path: Path):
    state = by_hand.rosinality(of("Gs", found))
    for name in state:
        if "noise" in name:
            state[name].zero_()
    path = saved(tmp_path / "x.model", state)
    with pytest.raises(ValueError, match=r"does not tell its resolution, all scales of noise are 0: give it by --reso"):
        StyleGANRosinality().read(path)
    with pytest.raises(ValueError, match=r"has blocks up to 16 px, got resolution 32"):
        StyleGANRosinality(resolution=32).read(path)


# lernapparat


def test_lernapparats_images_are_nvidias_but_for_the_noise(found: Variables, tmp_path: Path):
    theirs = StyleGANLernapparat().read(lernapparat_file(found, tmp_path)).eval()
    synthesis = theirs.generator_average.network.synthesis
    assert not torch.equal(synthesis.get_buffer("noise_2"), synthesis.get_buffer("noise_3"))
    nvidias = StyleGANPickle().read(tf_file(found, tmp_path)).eval()
    assert not torch.equal(theirs.decode(latents()), nvidias.decode(latents()))
    for number in range(6):
        for model in (theirs, nvidias):
            model.generator_average.network.synthesis.get_buffer(f"noise_{number}").zero_()
    assert torch.equal(theirs.decode(latents()), nvidias.decode(latents()))


def test_what_lernapparats_file_does_without_is_named(found: Variables, tmp_path: Path):
    absent = StyleGANLernapparat().convert(lernapparat_file(found, tmp_path)).absent
    assert [what.partition(" (")[0] for what in absent] == [
        "maps of noise",
        "to-RGB below 16 px",
        "the mean of w",
        "the generator before averaging",
        "a discriminator for this model",
    ]


def test_lernapparats_mean_of_w_is_taken_if_it_is_there(found: Variables, tmp_path: Path):
    mean = torch.randn(LATENT_DIM, generator=torch.Generator().manual_seed(1))
    state = by_hand.lernapparat(of("Gs", found)) | {"truncation.avg_latent": mean}
    model = StyleGANLernapparat().read(saved(tmp_path / "x.pt", state)).eval()
    assert torch.equal(model.mapped_average, mean)


# What is refused


def changed(file: Callable, found: Variables, folder: Path, change: Callable) -> Path:
    """A file whose averaged generator was changed by a function of its names and tensors."""
    if file in (tf_file, npz_file):
        average = of("Gs", found)
        change(average)
        rest = {name: value for name, value in found.items() if not name.startswith("Gs/")}
        return file(rest | {f"Gs/{name}": value for name, value in average.items()}, folder)
    path = file(found, folder)
    content = torch.load(path, weights_only=True)
    change(content.get("generator_smooth", content.get("g_running", content)))
    return saved(path, content)


def last_bias(state: dict[str, Any]) -> str:
    """Of the last dense layer."""
    return next(name for name in state if re.search(r"(mapping.*[dD]ense7|^style\.15\.linear).bias$", name))


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_a_renamed_tensor_is_refused_by_its_name(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path
):
    def rename(state: dict[str, Any]) -> None:
        name = last_bias(state)
        state[f"{name}es"] = state.pop(name)

    with pytest.raises(ValueError, match=r"(7|linear).biases, which no network of this layout has") as caught:
        importer.read(changed(file, found, tmp_path, rename))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_a_missing_tensor_is_named(importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no tensor .*(7|linear).bias: it is another network, or damaged"):
        importer.read(changed(file, found, tmp_path, lambda state: state.pop(last_bias(state))))


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_an_extra_tensor_is_named(importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path):
    def add(state: dict[str, Any]) -> None:
        name = last_bias(state)
        # A bias of a layer that does not exist, but could.
        state[name.replace("7", "9").replace("style.15", "style.19")] = state[name]

    with pytest.raises(ValueError, match=r"has tensors that belong to no part of the network: .*9"):
        importer.read(changed(file, found, tmp_path, add))


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_a_tensor_of_another_shape_is_named(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path
):
    def cut(state: dict[str, Any]) -> None:
        state[last_bias(state)] = state[last_bias(state)][:-1]

    with pytest.raises(ValueError, match=r"(7|linear).bias has shape \(15,\) where \(16,\) belongs"):
        importer.read(changed(file, found, tmp_path, cut))


@pytest.mark.parametrize(("importer", "file"), ALL)
def test_values_that_are_not_finite_are_refused(
    importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path
):
    def spoil(state: dict[str, Any]) -> None:
        state[last_bias(state)][0] = float("nan")

    with pytest.raises(ValueError, match=r"bias has values that are not finite"):
        importer.read(changed(file, found, tmp_path, spoil))


@pytest.mark.parametrize(("importer", "file"), ALL[2:])
def test_another_blur_kernel_is_refused(importer: AbstractImporter, file: Callable, found: Variables, tmp_path: Path):
    def sharpen(state: dict[str, Any]) -> None:
        name = next(name for name in state if name.endswith(("kernel", "conv1.2.weight")))
        state[name] = state[name] * 16

    with pytest.raises(ValueError, match=r"is not the blur kernel of StyleGAN"):
        importer.read(changed(file, found, tmp_path, sharpen))


def test_a_gap_between_blocks_is_refused(found: Variables, tmp_path: Path):
    average = {name: value for name, value in of("Gs", found).items() if "8x8" not in name}
    with pytest.raises(ValueError, match=r"must have blocks 4, 8, it has 4, 16"):
        StyleGANArrays().read(npz_file(average, tmp_path))


def test_a_level_of_detail_beyond_the_network_is_refused(found: Variables, tmp_path: Path):
    found["Gs/lod"] = np.float32(2.5)
    with pytest.raises(ValueError, match=r"the level of detail \(lod\) must be in \[0, 2\] at 16 px, got 2\.5"):
        StyleGANArrays().read(npz_file(found, tmp_path))


def test_generators_of_two_sizes_in_one_file_are_refused(found: Variables, tmp_path: Path):
    smaller = {f"G/{name}": value for name, value in of("G", variables(resolution=8)).items()}
    average = {name: value for name, value in found.items() if not name.startswith("G/")}
    with pytest.raises(ValueError, match=r"G and Gs are of different sizes"):
        StyleGANArrays().read(npz_file(average | smaller, tmp_path))


@pytest.mark.parametrize("importer", [one.values[0] for one in ALL])
def test_a_file_of_something_else_is_refused_in_one_sentence(importer: AbstractImporter, tmp_path: Path):
    path = saved(tmp_path / "other.pt", [torch.zeros(3)])
    with pytest.raises(ValueError, match=r"other\.pt") as caught:
        importer.read(path)
    assert "\n" not in str(caught.value)
