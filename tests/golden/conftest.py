"""Golden vectors of the published programs, and how their parameters are called here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

Arrays = Mapping[str, Tensor]


def _reader(folder: Path) -> Callable[[str], Arrays]:
    def read(name: str) -> Arrays:
        with np.load(folder / f"{name}.npz") as file:
            return {key: torch.from_numpy(np.asarray(file[key])) for key in file if file[key].dtype.kind != "U"}

    return read


@pytest.fixture(scope="session")
def pioneer_golden(shared: Path) -> Callable[[str], Arrays]:
    """Reads a file of golden/pioneer as tensors."""
    return _reader(shared / "golden" / "pioneer")


@pytest.fixture(scope="session")
def latent_golden(shared: Path) -> Callable[[str], Arrays]:
    """Reads a file of golden/latent as tensors."""
    return _reader(shared / "golden" / "latent")


@pytest.fixture(scope="session")
def automodulator_golden(shared: Path) -> Callable[[str], Arrays]:
    """Reads a file of golden/automodulator as tensors."""
    return _reader(shared / "golden" / "automodulator")


@pytest.fixture(scope="session")
def our_name() -> Callable[[str, str], str]:
    """Translates a published name: ("E", "progression.7.conv.0.conv.weight_orig") -> "blocks.1.0.weight".

    The published encoder counts its nine blocks from 1024 pixels downwards; here both networks count from 4 pixels up.
    A name without a parameter is a convolution's, and stands for its spectral vector.
    """

    def translate(network: str, name: str) -> str:
        kind, number, rest = re.fullmatch(r"(progression|to_rgb|from_rgb)\.(\d+)\.(.*)", name).groups()
        phase = 8 - int(number) if network == "E" else int(number)
        if kind != "progression":
            return f"{kind}.{phase}.{rest}"
        slot, parameter = re.fullmatch(r"conv\.(\d)(?:\.conv)?(?:\.(bias|weight|weight_orig))?", rest).groups()
        return f"blocks.{phase}.{slot}.{(parameter or 'u').removesuffix('_orig')}"

    return translate


@pytest.fixture(scope="session")
def load_original(our_name: Callable[[str, str], str]) -> Callable[[nn.Module, str, Arrays], None]:
    """Gives one of our networks the start state and spectral vectors of a nets file, strictly."""

    def load(module: nn.Module, network: str, arrays: Arrays) -> None:
        state = {}
        for key, value in arrays.items():
            for prefix in (f"state.{network}.", f"u0.{network}."):
                # The label embedding is in the published state and takes part in nothing.
                if key.startswith(prefix) and "label_embed" not in key:
                    name = our_name(network, key.removeprefix(prefix))
                    state[name] = value.flatten() if name.endswith(".u") else value
        module.load_state_dict(state, strict=True)

    return load
