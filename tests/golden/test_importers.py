"""Importers of the Pioneer family, fed with files in the published structure, against outputs of the original programs.

Tolerances as in the READMEs of golden/pioneer and golden/automodulator: 1e-5 for images, 1e-5 and 1e-6 for codes.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.importers import AutomodulatorState, BalancedPioneerState, PioneerState
from latent_lab.models import Automodulator, Pioneer
from latent_lab.networks.modulation import AdaIN
from tests.unit.importers.automodulator_by_hand import AutomodulatorByHand
from tests.unit.importers.pioneer_by_hand import PioneerByHand, unit_vectors

WIDTHS = (32, 32, 32, 32, 16, 8, 4, 2, 1)
"""Of the golden networks, 32 latents."""
SMALLER = [pytest.param(0, 1.0, "phase0", id="4 pixels")]
TRAINED = [
    pytest.param(1, 0.0, "phase1.alpha0.0", id="fade 0"),
    pytest.param(1, 0.3, "phase1.alpha0.3", id="fade 0.3"),
    pytest.param(1, 1.0, "phase1.alpha1.0", id="8 pixels"),
]


def assert_close(ours: Tensor, published: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours.detach(), published, rtol=0, atol=tolerance)


def part(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


# Pioneer and Balanced Pioneer


def pioneer_file(nets: Mapping[str, Tensor], kind: str, folder: Path, alpha: float) -> Path:
    """A file at 8 pixels with the golden networks; the blocks that they do not have are random, as if untrained."""
    run = PioneerByHand(kind=kind, phase=1, alpha=alpha, widths=WIDTHS, latent_dim=32)
    for network, entries in (("G", ("G_state_dict", "G_running_state_dict")), ("E", ("D_state_dict",))):
        for entry in entries:
            run.states[entry] |= part(nets, f"state.{network}.")
            for name, vector in part(nets, f"u0.{network}.").items():
                number, slot = map(int, re.match(r"progression\.(\d)\.conv\.(\d)", name).groups())
                if entry in run.vectors:
                    run.vectors[entry][2 * number + (slot > 0)] = vector.reshape(-1, 1)
    return run.save(folder)


def imported(importer: BalancedPioneerState | PioneerState, path: Path) -> Pioneer:
    # The golden vectors are those of networks that were never run, and so not of length 1.
    with pytest.warns(UserWarning, match="not of length 1"):
        return importer.read(path).eval()


@pytest.mark.parametrize(("phase", "alpha", "key"), SMALLER + TRAINED)
def test_balanced_pioneers_images_and_codes(
    pioneer_golden: Callable, tmp_path: Path, phase: int, alpha: float, key: str
) -> None:
    nets = pioneer_golden("balanced_nets_nz32")
    path = pioneer_file(nets, "spectral", tmp_path, alpha)
    images = nets[("x4", "x8")[phase]]
    model = imported(BalancedPioneerState(resolution=4 * 2**phase), path)
    assert_close(model.decode(nets["z"]), nets[f"G.{key}"])
    assert_close(model.encode(images), nets[f"E.{key}.e_last_relu"])
    right = imported(BalancedPioneerState(resolution=4 * 2**phase, encoder_last_activation=False), path)
    assert_close(right.encode(images), nets[f"E.{key}"])


def test_bilinear_upsampling_of_balanced_pioneer(pioneer_golden: Callable, tmp_path: Path) -> None:
    nets = pioneer_golden("balanced_nets_nz32")
    path = pioneer_file(nets, "spectral", tmp_path, 0.3)
    model = imported(BalancedPioneerState(upsampling="bilinear"), path)
    assert_close(model.decode(nets["z"]), nets["G.phase1.alpha0.3.bilinear"])


@pytest.mark.parametrize(("phase", "alpha", "key"), SMALLER + TRAINED)
def test_pioneers_images(pioneer_golden: Callable, tmp_path: Path, phase: int, alpha: float, key: str) -> None:
    # Its files hold no spectral vectors, so codes agree with those of converged ones only (unit tests).
    nets = pioneer_golden("pioneer_nets_nz32")
    model = PioneerState(resolution=4 * 2**phase).read(pioneer_file(nets, "pixel_norm_equalized", tmp_path, alpha))
    assert_close(model.eval().decode(nets["z"]), nets[f"G.{key}"])


@pytest.fixture
def written_by_the_program(shared: Path) -> Path:
    return shared / "golden" / "pioneer" / "synthetic_checkpoint" / "3000016_state"


@pytest.mark.filterwarnings("ignore:.*not of length 1.*:UserWarning")
def test_a_checkpoint_that_the_original_program_wrote(written_by_the_program: Path, tmp_path: Path) -> None:
    by_hand = PioneerByHand(widths=WIDTHS, latent_dim=32)
    content = torch.load(written_by_the_program, weights_only=True)
    vectors = torch.load(written_by_the_program.with_name("3000016_SNU"), weights_only=True)
    for number, name in enumerate(("G_state_dict", "G_running_state_dict", "D_state_dict")):
        by_hand.states[name] = {key.removeprefix("module."): value for key, value in content[name].items()}
        by_hand.vectors[name] = vectors[18 * number : 18 * (number + 1)]
    model = BalancedPioneerState()(written_by_the_program, tmp_path / "new.ckpt")
    now = model.now
    assert (now.images_seen, now.phase) == (3_000_016, content["phase"])
    assert now.alpha == pytest.approx(content["alpha"], rel=1e-12)
    codes = torch.nn.functional.normalize(torch.randn(4, 32), dim=1)
    assert_close(model.decode(codes).double(), by_hand.generate(codes, now.phase, now.alpha))
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    assert_close(model.encode(images).double(), by_hand.encode(images, now.phase, now.alpha))


def _constant(shapes: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of these shapes that take no room in a file."""
    return {
        name: torch.full((1,), 0.01).expand([int(side) for side in shape.split("x")]) for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("system", "importer"), [("pioneer", PioneerState), ("balanced", BalancedPioneerState)])
def test_every_published_name_and_shape_of_full_size_is_known(
    shared: Path, tmp_path: Path, system: str, importer: type[Any]
) -> None:
    with (shared / "golden" / "pioneer" / "param_shapes_nz512.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == system]
    decoder, encoder = (
        _constant({row["checkpoint_key"]: row["shape"] for row in rows if row["net"] == net}) for net in "GE"
    )
    content = {"G_state_dict": decoder, "G_running_state_dict": decoder, "D_state_dict": encoder}
    progress = {"iteration": 25_480_000, "phase": 6, "alpha": 1.0}
    torch.save(content | progress | {"optimizerG": {}, "optimizerD": {}}, tmp_path / "1_state")
    if system == "balanced":
        vectors = [*unit_vectors(decoder, 0), *unit_vectors(decoder, 1), *unit_vectors(encoder, 2)]
        torch.save(vectors, tmp_path / "1_SNU")
    model = importer(resolution=4).read(tmp_path / "1_state")
    assert model.latent_space.dim == 512
    assert model.recipe["init_args"]["widths"] is None


# Automodulator


def automodulator_file(toy: Mapping[str, Tensor], folder: Path, phase: int, alpha: float = 1.0) -> Path:
    run = AutomodulatorByHand(phase=phase, alpha=alpha)
    content = run.content()
    content["G_state_dict"] = content["G_running_state_dict"] = part(toy, "G/")
    content["D_state_dict"] = part(toy, "D/")
    content["SNU"] = [vector.reshape(-1, 1) for _, vector in sorted(part(toy, "SNU/").items())]
    content = {name: value for name, value in content.items() if not name.startswith("adaptive_loss")}
    torch.save(content, folder / "1_state.pth")
    return folder / "1_state.pth"


@pytest.fixture
def toy(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("toy32_state")


@pytest.fixture
def golden(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("encoder_decoder")


def read_without_noise(path: Path, resolution: int | None = None) -> Automodulator:
    """The model, with nothing added to variances, as in the published program."""
    model = AutomodulatorState(evaluation_noise=False, resolution=resolution).read(path).eval()
    for module in model.modules():
        if isinstance(module, AdaIN):
            module.epsilon = 0.0
    return model


@pytest.mark.filterwarnings("ignore:.*not of length 1.*:UserWarning")
@pytest.mark.parametrize(
    ("step", "alpha", "name"),
    [(0, 1.0, "step0_alpha1"), (1, 1.0, "step1_alpha1"), (2, 1.0, "step2_alpha1"), (2, 0.4, "step2_alpha0.4")],
)
def test_the_automodulators_images_and_codes(
    toy: Mapping, golden: Mapping, tmp_path: Path, step: int, alpha: float, name: str
) -> None:
    model = read_without_noise(automodulator_file(toy, tmp_path, 2, alpha), 4 * 2**step)
    assert_close(model.decode(golden["dec_z"]), golden[f"dec_img_{name}"])
    assert_close(model.encode(golden[f"enc_x_step{step}"]), golden[f"enc_z_{name}"], 1e-6)


@pytest.mark.filterwarnings("ignore:.*not of length 1.*:UserWarning")
def test_the_automodulators_mixtures_at_128_pixels(
    toy: Mapping, automodulator_golden: Callable, tmp_path: Path
) -> None:
    scales = automodulator_golden("scale_mixing_128")
    model = read_without_noise(automodulator_file(toy, tmp_path, 5))
    for name, of_blocks in (("img_hiA_midB_loA", "aabbba"), ("img_cut3", "aaabbb"), ("img_plain_A", "aaaaaa")):
        styles = torch.stack([scales[f"z{source}"] for source in of_blocks])[None]
        # Values reach 3, through 13 layers, and processors add in different orders.
        torch.testing.assert_close(model.decode_layers(styles)[..., ::4, ::4], scales[name], rtol=1e-5, atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*not of length 1.*:UserWarning")
def test_the_automodulators_layer_noise(toy: Mapping, golden: Mapping, tmp_path: Path) -> None:
    model = read_without_noise(automodulator_file(toy, tmp_path, 2))
    draws = iter([golden[f"dec_noise_{number}"].float() for number in range(4)])
    images = model.generator_average(golden["dec_z"], 2, 1.0, lambda _: next(draws))
    assert_close(images, golden["dec_noisy_img_step2"])


@pytest.mark.parametrize("size", ["small", "large"])
def test_every_published_name_and_shape_of_the_automodulator_is_known(shared: Path, tmp_path: Path, size: str) -> None:
    states: dict[str, dict[str, str]] = {}
    with (shared / "golden" / "automodulator" / f"layout_automodulator_{size}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            entries, key = row["name"].split(": ")
            for entry in entries.split("|"):
                states.setdefault(entry, {})[key] = row["shape"]
    content: dict[str, Any] = {name: _constant(shapes) for name, shapes in states.items()}
    assert [len(content[name]) for name in ("G_state_dict", "D_state_dict")] == [162, 54]
    plain = {name.removeprefix("module."): value for name, value in content["D_state_dict"].items()}
    content |= {"SNU": unit_vectors(plain, 0), "iteration": 42_420_000, "phase": 7, "alpha": 1.0}
    torch.save(content, tmp_path / "1_state.pth")
    model = AutomodulatorState(resolution=4).read(tmp_path / "1_state.pth")
    assert model.latent_space.dim == 512
    assert (model.recipe["init_args"]["widths"], model.recipe["init_args"]["small"]) == (None, size == "small")
