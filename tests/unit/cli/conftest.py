from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from latent_lab.cli import main
from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Pioneer

TINY = """\
model:
  class_path: Pioneer
  init_args:
    latent_dim: 8
    widths: [8, 8]
    schedule:
      stages:
        - {resolution: 4, kimg: 0.032, batch_size: 8}
        - {resolution: 8, kimg: 0.064, batch_size: 8, fade_kimg: 0.016, margin: 0.05}
data:
  class_path: SyntheticFaces
  init_args: {num_images: 16, num_val: 8, num_test: 8}
run: {record_kimg: 0.016, analyses: []}
trainer: {accelerator: cpu, devices: 1}
"""


class Outcome(NamedTuple):
    code: int
    out: str
    error: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def tiny(folder: Path) -> Path:
    """A configuration of a model that trains in a second."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def latent_lab(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command line in the working folder."""

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    """An untrained model at 8 px that looks like the end of a run."""
    model = Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=8, widths=[8, 8])
    model.advance(64)
    content = {"state_dict": model.state_dict(), "optimizer_states": []}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=8).recipe
    path = folder / "model.ckpt"
    torch.save(content, path)
    return path


@pytest.fixture
def photos(folder: Path) -> Path:
    """Three images of different sizes and one file that is none."""
    root = folder / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (20, 30)), ("b.jpg", (16, 16)), ("c.png", (40, 12))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / name)
    (root / "d.png").write_text("not an image", encoding="utf-8")
    return root
