"""Generators and encoders of Pioneer and Balanced Pioneer against the published networks.

Values at 4 and 8 pixels, names and shapes up to 1024 pixels.

Forward values agree to 1e-5 (golden/pioneer/README.md).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latent_lab.networks.pioneer import PioneerEncoder, PioneerGenerator

SYSTEMS = {"pioneer": "pixel_norm_equalized", "balanced": "spectral"}
PHASES = [
    pytest.param(0, 1.0, "phase0", id="4 pixels"),
    pytest.param(1, 0.0, "phase1.alpha0.0", id="fade 0"),
    pytest.param(1, 0.3, "phase1.alpha0.3", id="fade 0.3"),
    pytest.param(1, 1.0, "phase1.alpha1.0", id="8 pixels"),
]
both_systems = pytest.mark.parametrize("system", SYSTEMS)


def assert_close(ours: Tensor, published: Tensor) -> None:
    torch.testing.assert_close(ours, published, rtol=0, atol=1e-5)


@pytest.fixture
def nets(pioneer_golden: Callable, system: str) -> Mapping[str, Tensor]:
    return pioneer_golden(f"{system}_nets_nz32")


@pytest.fixture
def generator(nets: Mapping, load_original: Callable, system: str) -> PioneerGenerator:
    network = PioneerGenerator(32, 8, normalisation=SYSTEMS[system])
    load_original(network, "G", nets)
    return network


@pytest.fixture
def encoder(nets: Mapping, load_original: Callable, system: str) -> PioneerEncoder:
    network = PioneerEncoder(32, 8, last_activation=system == "pioneer")
    load_original(network, "E", nets)
    return network


def picture(nets: Mapping, phase: int) -> Tensor:
    return nets[("x4", "x8")[phase]]


@both_systems
@pytest.mark.parametrize(("phase", "alpha", "key"), PHASES)
def test_generator(generator: PioneerGenerator, nets: Mapping, phase: int, alpha: float, key: str) -> None:
    assert_close(generator(nets["z"], phase, alpha), nets[f"G.{key}"])


@both_systems
@pytest.mark.parametrize(("phase", "alpha", "key"), PHASES)
def test_encoder(encoder: PioneerEncoder, nets: Mapping, phase: int, alpha: float, key: str) -> None:
    codes = encoder(picture(nets, phase), phase, alpha)
    assert_close(torch.nn.functional.normalize(codes, dim=1), nets[f"E.{key}"])


@both_systems
def test_second_call_uses_the_spectral_vectors_that_the_first_one_left(
    encoder: PioneerEncoder, nets: Mapping, our_name: Callable, system: str
) -> None:
    encoder(nets["x8"], 1, 1.0)
    buffers = dict(encoder.named_buffers())
    recorded = [key for key in nets if key.startswith("u1_after_phase1.E.")]
    assert len(recorded) == 4
    for key in recorded:
        assert_close(buffers[our_name("E", key.removeprefix("u1_after_phase1.E."))], nets[key].flatten())
    codes = encoder(nets["x8"], 1, 1.0)
    assert_close(torch.nn.functional.normalize(codes, dim=1), nets["E.phase1.alpha1.0.second_call"])


@pytest.mark.parametrize("system", ["balanced"])
def test_spectral_vectors_of_the_balanced_generator_after_a_call(
    generator: PioneerGenerator, nets: Mapping, our_name: Callable
) -> None:
    generator(nets["z"], 1, 1.0)
    buffers = dict(generator.named_buffers())
    recorded = [key for key in nets if key.startswith("u1_after_phase1.G.")]
    assert len(recorded) == 4
    for key in recorded:
        assert_close(buffers[our_name("G", key.removeprefix("u1_after_phase1.G."))], nets[key].flatten())


@pytest.mark.parametrize("system", ["balanced"])
@pytest.mark.parametrize(("phase", "alpha", "key"), PHASES)
def test_last_activation_of_the_published_weights(
    nets: Mapping, load_original: Callable, phase: int, alpha: float, key: str
) -> None:
    encoder = PioneerEncoder(32, 8, last_activation=True)
    load_original(encoder, "E", nets)
    codes = encoder(picture(nets, phase), phase, alpha)
    assert_close(torch.nn.functional.normalize(codes, dim=1), nets[f"E.{key}.e_last_relu"])


@pytest.mark.parametrize("system", ["balanced"])
@pytest.mark.parametrize("upsampling", ["bilinear", "bilinear_newest"])
def test_bilinear_upsampling(nets: Mapping, load_original: Callable, upsampling: str) -> None:
    # At 8 pixels the newest block is the only upsampled one, so both options agree.
    generator = PioneerGenerator(32, 8, upsampling=upsampling)
    load_original(generator, "G", nets)
    assert_close(generator(nets["z"], 1, 0.3), nets["G.phase1.alpha0.3.bilinear"])


@both_systems
def test_reconstruction(generator: PioneerGenerator, encoder: PioneerEncoder, nets: Mapping) -> None:
    codes = torch.nn.functional.normalize(encoder(nets["x8"], 1, 0.3), dim=1)
    assert_close(generator(codes, 1, 0.3), nets["recon.phase1.alpha0.3"])


@both_systems
@pytest.mark.parametrize("network", ["G", "E"])
def test_parameters_of_the_full_networks_have_the_published_names_and_shapes(
    shared: Path, our_name: Callable, system: str, network: str
) -> None:
    with torch.device("meta"):
        ours = (
            PioneerGenerator(512, 1024, normalisation=SYSTEMS[system])
            if network == "G"
            else PioneerEncoder(512, 1024, last_activation=True)
        )
    with (shared / "golden" / "pioneer" / "param_shapes_nz512.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["system"], row["net"]) == (system, network)]
    published = {}
    for row in rows:
        name = row["checkpoint_key"].removeprefix("module.")
        if "label_embed" not in name:  # unused in the published programs, absent here
            published[our_name(network, name)] = tuple(map(int, row["shape"].split("x")))
    assert {name: tuple(parameter.shape) for name, parameter in ours.named_parameters()} == published
    # Section 1.2 of the facts: whole modules, there with the label embedding's single number.
    total = {"G": 23_079_116 - 1, "E": 25_439_616}[network]
    assert sum(parameter.numel() for parameter in ours.parameters()) == total
    assert sum(math.prod(shape) for shape in published.values()) == total
