"""Importers of StyleGAN, fed with files in four published structures, against outputs of the published networks.

Tolerances as in golden/automodulator/README.md: 5e-5 for images, 1e-6 relative to 1 for scores.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.importers import (
    AbstractImporter,
    StyleGANArrays,
    StyleGANGenforce,
    StyleGANLernapparat,
    StyleGANPickle,
    StyleGANRosinality,
)
from latent_lab.latent.styles import mix, repeat
from latent_lab.latent.views import Truncated, WSpaceView
from latent_lab.models import StyleGAN
from latent_lab.networks.modulation import AdaIN
from tests.unit.importers import stylegan_by_hand as by_hand
from tests.unit.importers.stylegan_by_hand import Variables, networks, of, pickled

IMAGES, SCORES = 5e-5, 1e-6

FUSED_FROM = {"plain": 128, "fused": 8}


@pytest.fixture(scope="module", params=["plain", "fused"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def golden(form: str, automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden(f"stylegan1_toy16_{form}")


@pytest.fixture(scope="module")
def published(golden: Mapping[str, Tensor]) -> Variables:
    return {name: value.numpy() for name, value in golden.items() if name.startswith(("Gs/", "D/"))}


def tf(published: Variables, form: str, folder: Path) -> StyleGAN:
    settings = by_hand.EasyDict(num_channels=3, resolution=16, label_size=0, fused_scale=form == "fused")
    (folder / "x.pkl").write_bytes(pickled(networks(published, settings)))
    return StyleGANPickle().read(folder / "x.pkl")


def arrays(published: Variables, form: str, folder: Path) -> StyleGAN:
    np.savez(folder / "x.npz", **published)
    return StyleGANArrays(fused_from=FUSED_FROM[form]).read(folder / "x.npz")


def genforce(published: Variables, form: str, folder: Path) -> StyleGAN:
    torch.save(by_hand.genforce(published), folder / "x.pth")
    return StyleGANGenforce(fused_from=FUSED_FROM[form]).read(folder / "x.pth")


def lernapparat(published: Variables, form: str, folder: Path) -> StyleGAN:
    """Given the noise that its file does not have."""
    torch.save(by_hand.lernapparat(of("Gs", published)), folder / "x.pt")
    model = StyleGANLernapparat(fused_from=FUSED_FROM[form]).read(folder / "x.pt")
    _give_noise(model, published)
    return model


def rosinality(published: Variables, form: str, folder: Path) -> StyleGAN:
    torch.save(by_hand.rosinality(of("Gs", published), FUSED_FROM[form]), folder / "x.model")
    return StyleGANRosinality().read(folder / "x.model")


def _give_noise(model: StyleGAN, published: Variables) -> None:
    for number in range(6):
        noise = torch.from_numpy(published[f"Gs/synthesis/noise{number}"])
        model.generator_average.network.synthesis.get_buffer(f"noise_{number}").copy_(noise)


WHOLE = [tf, arrays, genforce]


def assert_close(ours: Tensor, golden: Tensor, tolerance: float = IMAGES) -> None:
    torch.testing.assert_close(ours, golden, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("imported", [*WHOLE, lernapparat, rosinality])
def test_points_of_w(
    golden: Mapping[str, Tensor], published: Variables, form: str, tmp_path: Path, imported: Callable
) -> None:
    w = golden["out/w"]
    # Eight layers amplify rounding in proportion to the largest coordinates; rosinality's factor 0.01 is rounded, too.
    assert_close(imported(published, form, tmp_path).eval().map(golden["in/z"]), w, 2e-6 * w.abs().max().item())


@pytest.mark.parametrize("imported", [*WHOLE, lernapparat])
def test_images(
    golden: Mapping[str, Tensor], published: Variables, form: str, tmp_path: Path, imported: Callable
) -> None:
    model = imported(published, form, tmp_path).eval()
    assert_close(model.decode(golden["in/z"]), golden["out/img_psi1"])
    assert_close(WSpaceView(model).decode(golden["out/w"]), golden["out/img_psi1"])


@pytest.mark.parametrize("imported", WHOLE)
def test_mixed_and_truncated_images(
    golden: Mapping[str, Tensor], published: Variables, form: str, tmp_path: Path, imported: Callable
) -> None:
    model = imported(published, form, tmp_path).eval()
    first, second = (repeat(golden[name], 6) for name in ("in/z", "in/z2"))
    for cut in (1, 3, 4):
        assert_close(model.decode_layers(mix(first, second, range(cut, 6))), golden[f"out/img_mixcut{cut}"])
    truncated = Truncated(model, psi=0.7, cutoff=2)
    assert_close(truncated.decode(golden["in/z"]), golden["out/img_psi0.7_cut2"])


@pytest.mark.parametrize("imported", WHOLE)
def test_scores(
    golden: Mapping[str, Tensor], published: Variables, form: str, tmp_path: Path, imported: Callable
) -> None:
    model = imported(published, form, tmp_path)
    assert_close(model.discriminator(golden["in/images"], 2), golden["out/score"][:, 0], SCORES)


@pytest.mark.parametrize("level", ["0.25", "1.0", "1.6"])
@pytest.mark.parametrize("imported", WHOLE)
def test_images_of_a_snapshot_from_within_growth(
    golden: Mapping[str, Tensor], published: Variables, form: str, tmp_path: Path, imported: Callable, level: str
) -> None:
    snapshot = published | {name: np.float32(level) for name in published if name.endswith("lod")}
    model = imported(snapshot, form, tmp_path).eval()
    # The published program enlarges what it makes to the full resolution. Its alpha is our share of 600,000 images.
    images = F.interpolate(model.decode(golden["in/z"]), size=16, mode="nearest")
    assert_close(images, golden[f"out/img_lod{level}"])


def test_rosinalitys_images_are_nvidias_where_both_programs_can_do_the_same(
    published: Variables, golden: Mapping[str, Tensor], form: str, tmp_path: Path
) -> None:
    # One map of noise for each resolution, no bias of the constant nor before a blur, the same in every variance.
    common = dict(published)
    for name in published:
        if name.startswith("Gs/synthesis") and name.endswith(("Const/bias", "Conv0_up/bias")):
            common[name] = np.zeros_like(published[name])
    for number in (1, 3, 5):
        common[f"Gs/synthesis/noise{number}"] = common[f"Gs/synthesis/noise{number - 1}"]
    theirs, nvidias = (one(common, form, tmp_path).eval() for one in (rosinality, tf))
    _give_noise(theirs, common)
    for module in theirs.modules():
        if isinstance(module, AdaIN):
            assert module.epsilon == 1e-5
            module.epsilon = 1e-8
    # Both with rounded factors, over images up to 10.
    assert_close(theirs.decode(golden["in/z"]), nvidias.decode(golden["in/z"]))


# Layouts of the published sizes


def rows(shared: Path, name: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Owner, name and shape of every tensor of a layout."""
    with (shared / "golden" / "automodulator" / f"layout_{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            owner, _, tensor = row["name"].rpartition(": ")
            yield owner, tensor, () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x")))


def tensors(shared: Path, layout: str, owner: str) -> dict[str, Tensor]:
    """Of one part of a layout: halves, except for constants. Views of one number, so files stay small."""
    found = {name: shape for owners, name, shape in rows(shared, layout) if owner in owners.split("|")}
    assert found
    return {name: _constant(name, shape) for name, shape in found.items()}


def _constant(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("lod"):
        return torch.zeros(shape)
    # A kernel of one input channel that is no parameter of a convolution.
    if len(shape) == 4 and shape[1:] == (1, 3, 3):
        return torch.from_numpy(by_hand.KERNEL).expand(shape)
    return torch.full((), 0.5).expand(shape)


def content_of(shared: Path, layout: str) -> Any:
    program = layout.partition("_")[0]
    if program == "lernapparat":
        return tensors(shared, layout, "")
    parts = {
        "genforce": ("generator", "discriminator", "generator_smooth"),
        "rosinality": ("generator", "discriminator", "g_running"),
    }[program]
    return {part: tensors(shared, layout, part) for part in parts}


SLOW = pytest.mark.slow
"""A few seconds each: networks of full size are made."""

TORCH_LAYOUTS: Mapping[str, AbstractImporter] = {
    "genforce_256": StyleGANGenforce(),
    "genforce_1024": StyleGANGenforce(),
    "rosinality_1024": StyleGANRosinality(),
    "lernapparat_1024": StyleGANLernapparat(),
}


def assert_published(model: StyleGAN, resolution: int) -> None:
    arguments = model.recipe["init_args"]
    assert (model.resolution, model.latent_space.dim) == (resolution, 512)
    assert (arguments["widths"], arguments["mapping_layers"], arguments["fused_from"]) == (None, 8, 128)


@pytest.mark.parametrize(
    "layout",
    [
        "genforce_256",
        "genforce_1024",
        pytest.param("rosinality_1024", marks=SLOW),
        pytest.param("lernapparat_1024", marks=SLOW),
    ],
)
def test_every_published_name_and_shape_of_torch_programs_is_known(shared: Path, tmp_path: Path, layout: str) -> None:
    torch.save(content_of(shared, layout), tmp_path / "x.pth")
    model = TORCH_LAYOUTS[layout].read(tmp_path / "x.pth")
    assert isinstance(model, StyleGAN)
    assert_published(model, int(layout.rpartition("_")[2]))


@pytest.mark.parametrize("layout", TORCH_LAYOUTS)
def test_a_renamed_tensor_of_a_published_layout_is_refused_by_its_name(
    shared: Path, tmp_path: Path, layout: str
) -> None:
    content = content_of(shared, layout)
    generator = content.get("generator_smooth", content.get("g_running", content))
    name = next(name for name in generator if name.endswith(("4x4.bias", "layer1.bias", "style.1.linear.bias")))
    generator[f"{name}_"] = generator.pop(name)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=rf"{name}_, which no network of this layout has") as caught:
        TORCH_LAYOUTS[layout].read(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def nvidia(shared: Path, resolution: int) -> Variables:
    """Zeros in the published shapes; all of one shape are one array, so the file stays small."""
    found: Variables = {}
    zeros: dict[tuple[int, ...], np.ndarray] = {}
    for owners, name, shape in rows(shared, f"nvidia_tf_{resolution}"):
        part = owners.partition("[")[2].partition("]")[0]
        entry = "Gs" if owners.startswith("G") else "D"
        array = zeros.setdefault(shape, np.zeros(shape, np.float32)) if shape else np.float32(0)
        found["/".join(filter(None, (entry, part, name)))] = array
    return found


@pytest.mark.parametrize("resolution", [256, pytest.param(512, marks=SLOW), pytest.param(1024, marks=SLOW)])
def test_every_published_variable_of_nvidia_is_known(shared: Path, tmp_path: Path, resolution: int) -> None:
    settings = by_hand.EasyDict(num_channels=3, resolution=resolution, label_size=0)
    (tmp_path / "x.pkl").write_bytes(pickled(networks(nvidia(shared, resolution), settings)))
    assert_published(StyleGANPickle().read(tmp_path / "x.pkl"), resolution)


@pytest.mark.parametrize("resolution", [256, 512, 1024])
def test_a_renamed_variable_of_nvidia_is_refused_by_its_name(shared: Path, tmp_path: Path, resolution: int) -> None:
    found = nvidia(shared, resolution)
    found["Gs/synthesis/4x4/Conv/biases"] = found.pop("Gs/synthesis/4x4/Conv/bias")
    (tmp_path / "x.pkl").write_bytes(pickled(networks(found)))
    with pytest.raises(ValueError, match=r"synthesis/4x4/Conv/biases, which no network of this layout has"):
        StyleGANPickle().read(tmp_path / "x.pkl")
