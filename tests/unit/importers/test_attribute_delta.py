from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from latent_lab.analyses.directions import read_direction
from latent_lab.importers import AttributeDelta, attribute_delta
from latent_lab.models.loading import read_manifest


@pytest.fixture
def direction() -> torch.Tensor:
    return 0.02 * torch.randn(1, 512, generator=torch.Generator().manual_seed(0))


def save(direction: Any, path: Path) -> Path:
    """As the programs do."""
    torch.save(direction, path, _use_new_zipfile_serialization=False)
    return path


def facts(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_direction_is_that_of_the_file_and_edit_reads_it(direction: torch.Tensor, tmp_path: Path):
    path = save(direction, tmp_path / "hat_delta")
    lines = AttributeDelta().run(path, tmp_path / "new" / "hat.safetensors")
    assert torch.equal(read_direction(tmp_path / "new" / "hat.safetensors", 512), direction)
    assert "direction of hat_delta, 512 latents, length 0.4" in lines[0]
    assert facts(tmp_path / "new" / "hat.safetensors")["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_shipped_file_is_known_by_its_digest_with_what_it_is_of_and_for(
    direction: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = save(direction, tmp_path / "renamed")
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    known = attribute_delta._Shipped("smile", "balanced_pioneer_celebahq256", direction.norm().item())
    monkeypatch.setitem(attribute_delta._BY_MD5, digest, known)
    AttributeDelta().run(path, tmp_path / "a.safetensors")
    assert facts(tmp_path / "a.safetensors")["attribute"] == "smile"
    assert facts(tmp_path / "a.safetensors")["model"] == "balanced_pioneer_celebahq256"


@pytest.mark.parametrize(("norm", "model"), [(0.334, "automodulator_ffhq512"), (0.4, "not recorded")])
def test_a_shipped_name_counts_only_with_the_shipped_length(
    direction: torch.Tensor, tmp_path: Path, norm: float, model: str
):
    path = save(direction / direction.norm() * norm, tmp_path / "smile_delta512-16")
    AttributeDelta().run(path, tmp_path / "a.safetensors")
    assert facts(tmp_path / "a.safetensors")["model"] == model


def test_an_attribute_can_be_named(direction: torch.Tensor, tmp_path: Path):
    AttributeDelta(attribute="hat").run(save(direction, tmp_path / "x"), tmp_path / "a.safetensors")
    assert facts(tmp_path / "a.safetensors")["attribute"] == "hat"


def test_the_known_digests_are_those_of_the_manifest():
    files = read_manifest()["balanced_pioneer_attributes"]["files"]
    assert {file["md5"]: file["name"].removesuffix("_delta") for file in files} == {
        digest: known.attribute for digest, known in attribute_delta._BY_MD5.items()
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(2)}, r"holds a dict where one tensor, a direction, belongs"),
        (torch.zeros(3, 512), r"holds a tensor of shape \(3, 512\) .* where a direction \(1, D\)"),
        (torch.zeros(1, 512, dtype=torch.int64), r"\(torch\.int64\) where a direction"),
        (torch.full((1, 4), float("inf")), r"has values that are not finite"),
        (Path("x"), r"was not opened: it asks for pathlib\S*, which is neither"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(content: Any, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message) as caught:
        AttributeDelta().run(save(content, tmp_path / "x"), tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.safetensors").exists()
