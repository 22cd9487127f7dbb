"""`latent-lab chain label`: estimated ages as a table of labels, and that domains can be told by it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.data import OrderedDomains
from latent_lab.data.domains import PUBLISHED_AGES
from latent_lab.data.synthetic_ageing import draw_discs, sample_discs
from latent_lab.networks.drawn_age import measured_age

AGES = (15.0, 25.0, 35.0, 45.0, 55.0, 65.0)


@pytest.fixture
def discs(folder: Path) -> Path:
    """Discs of 15 to 65 years, a PNG of 32 px for each, in two folders, and one wide image."""
    root = folder / "discs"
    drawn = conversions.to_bytes(draw_discs(sample_discs(0, range(len(AGES))), torch.tensor(AGES), 32))
    for age, disc in zip(AGES, drawn, strict=True):
        path = root / ("young" if age < 40 else "old") / f"{int(age)},x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(disc.permute(1, 2, 0).numpy()).save(path)
    wide = np.zeros((20, 48, 3), dtype=np.uint8)
    wide[:, 14:34] = 255
    Image.fromarray(wide).save(root / "z_wide.png")
    return root


def rows_of(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["file"]: row["age"] for row in csv.DictReader(stream)}


class Darkness(nn.Module):
    """Knows no age of what is bright, nor of anything but squares."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == images.shape[-2]
        brightness = images.mean((1, 2, 3))
        return torch.where(brightness > 0.9, torch.nan, 40.0 + 10.0 * brightness)


class Blind(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.new_full((len(images),), torch.inf)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the user's."""
    module: Any = ModuleType("own_ages")
    module.Darkness, module.Blind = Darkness, Blind
    monkeypatch.setitem(sys.modules, "own_ages", module)


def test_every_image_gets_the_age_that_the_estimator_sees(latent_lab: Any, discs: Path):
    outcome = latent_lab("chain", "label", discs, "--estimator", "drawn", "--out", "ages.csv", "--batch-size", "4")
    assert outcome.code == 0, outcome.error
    found = rows_of(Path("ages.csv"))
    assert list(found) == sorted(found)
    assert len(found) == len(AGES) + 1
    for age in AGES:
        name = f"{'young' if age < 40 else 'old'}/{int(age)},x.png"
        pixels = torch.from_numpy(np.array(Image.open(discs / name))).permute(2, 0, 1)[None]
        # Files of 32 px are seen as they are; the table has two decimals.
        assert float(found[name]) == pytest.approx(measured_age(conversions.from_bytes(pixels)).item(), abs=0.006)
        assert float(found[name]) == pytest.approx(age, abs=2.0)
    facts = json.loads(Path("ages.csv.json").read_text())
    assert facts["estimator"]["name"] == "age_drawn"
    assert (facts["num_images"], facts["num_without_age"]) == (7, 0)
    assert "35 (30 to below 40)" in outcome.out
    # Nothing temporary is left.
    assert sorted(path.name for path in Path().glob("*ages*")) == ["ages.csv", "ages.csv.json"]
    assert not list(Path().glob(".*"))


def test_domains_are_told_by_the_table(latent_lab: Any, discs: Path):
    assert latent_lab("chain", "label", discs, "--estimator", "drawn", "--out", discs / "ages.csv").code == 0
    images = {
        "class_path": "ImageFolder",
        "init_args": {"root": str(discs), "labels": "ages.csv", "resolution": 8, "split": "last", "holdout": 1},
    }
    data = OrderedDomains(images, domains=PUBLISHED_AGES[1:5], train_on=["25", "35"])
    data.prepare_data()
    source = data.source("train")
    # The last file, the wide one, is held out.
    assert [len(source.domain(name)) for name in ("25", "35", "45", "55")] == [1, 1, 1, 1]


def test_larger_images_are_reduced_first(latent_lab: Any, discs: Path):
    words = ("--estimator", "own_ages.Darkness", "--largest", "8", "--out", "ages.csv")
    assert latent_lab("chain", "label", discs, *words).code == 0
    assert json.loads(Path("ages.csv.json").read_text())["largest"] == 8


def test_images_without_an_age_get_an_empty_cell_and_one_sentence(latent_lab: Any, discs: Path):
    (discs / "broken.png").write_text("no image", encoding="utf-8")
    outcome = latent_lab("chain", "label", discs, "--estimator", "own_ages.Darkness", "--out", "ages.csv")
    assert outcome.code == 0, outcome.error
    found = rows_of(Path("ages.csv"))
    # The central square of the wide image is white.
    assert [name for name, age in found.items() if not age] == ["z_wide.png"]
    assert "broken.png" not in found
    assert (
        "gave no age for 1 of 7 images (z_wide.png): their age is left empty, so they are in no domain" in outcome.error
    )
    assert "skipped broken.png (the content is not an image)" in outcome.error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["discs", "--estimator", "own_ages.Blind", "--out", "x.csv"], "gave no age for any of the 7 images"),
        (["discs", "--out", "x.csv", "--estimator", "regressor"], "the age estimator regressor needs the path of a"),
        (["discs", "--out", "x.csv", "--estimator", "dlib_age", "--estimator-path", "nowhere"], "nowhere"),
        (["discs", "--out", "x.csv", "--estimator", "dilb"], "unknown age estimator 'dilb'"),
        (["discs", "--out", "x.csv", "--estimator", "drawn", "--batch-size", "0"], "must be at least 1"),
        (["discs"], "chain label needs --out FILE.csv, got none"),
        (["discs", "--out", "x.json"], "chain label needs --out FILE.csv, got x.json"),
        (["--out", "x.csv"], "chain label needs the folder of the images"),
        (["nowhere", "--out", "x.csv", "--estimator", "drawn"], "image folder 'nowhere' does not exist"),
        (["discs", "--out", "there.csv"], "there.csv exists, and its labels may be known"),
        (["discs", "--out", "x.csv", "--data.root", "y"], "chain label has no option --data.root"),
    ],
)
def test_what_cannot_be_labelled_is_said_in_one_sentence(words: list[str], sentence: str, latent_lab: Any, discs: Path):
    Path("there.csv").write_text("file,age\n", encoding="utf-8")
    outcome = latent_lab("chain", "label", *words)
    assert outcome.code == 2
    assert len(outcome.error.splitlines()) == 1, outcome.error
    assert sentence in outcome.error
    assert not list(Path().glob("x*"))
