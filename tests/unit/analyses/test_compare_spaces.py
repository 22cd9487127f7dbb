"""All analyses of latent spaces in one report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latent_lab.analyses import HeldOut, write_report
from latent_lab.analyses.compare_spaces import PARTS, CompareSpaces
from tests.unit.analyses.toys import Noise, ToyAutoencoder

FEW = {"num": 40, "num_reference": 80, "num_resamples": 8}


def test_every_part_gets_the_shared_options() -> None:
    whole = CompareSpaces(seed=7, **FEW)
    for part in PARTS:
        assert whole.analysis(part).seed == 7
    assert whole.analysis("neighbours").num == 80
    assert whole.analysis("map-matrix").num_held_out == 40
    assert whole.analysis("map-matrix").num_fit == 80


def test_parts_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match=r"parts must be some of normality, .*, got beauty"):
        CompareSpaces(parts=("beauty",))


def test_images_are_encoded_once_for_several_parts() -> None:
    source = HeldOut(Noise(40), Noise(80, seed=1))
    CompareSpaces(parts=("distances", "similarity"), **FEW)([ToyAutoencoder(), ToyAutoencoder(dim=4)], source)
    # Each model reads every image once; images as such are read again, for distances between them.
    assert source.reference.reads <= 4 * 80


def test_the_report_has_a_section_for_every_part_and_needs_no_other_file(tmp_path: Path) -> None:
    source = HeldOut(Noise(40), Noise(80, seed=1))
    result = CompareSpaces(parts=("distances", "similarity"), **FEW)([ToyAutoencoder(), ToyAutoencoder(dim=4)], source)
    write_report(result, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<h2>How far apart are codes?</h2>" in page
    assert "<h2>Are images laid out alike?</h2>" in page
    assert json.loads((tmp_path / "similarity" / "result.json").read_text())["analysis"] == "similarity"


def test_without_labels_directions_are_left_out_with_a_note() -> None:
    source = HeldOut(Noise(40), Noise(80, seed=1))
    result = CompareSpaces(parts=("directions",), **FEW)([ToyAutoencoder(), ToyAutoencoder(dim=4)], source)
    assert not result.sections
    assert "no labels" in result.protocol["notes"][0]
