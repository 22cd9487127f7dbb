"""Reports: numbers with their intervals."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import torch

from latent_lab.analyses import Result, write_report
from latent_lab.analyses.report import number_text


def test_an_interval_stands_beside_its_number(tmp_path: Path) -> None:
    protocol = {"intervals": {"level": 0.9, "num_resamples": 50}}
    result = Result("evaluate", {"fd": 12.3456789, "rec_mse": 0.5}, protocol, intervals={"fd": (11.5, 13.25)})
    page = write_report(result, tmp_path).read_text()
    assert "| `fd` | 12.3457 [11.5, 13.25] |" in page
    assert "| `rec_mse` | 0.5 |" in page
    assert "In brackets: bootstrap intervals at level 0.9, from 50 resamples" in page


def test_a_page_without_intervals_does_not_speak_of_them(tmp_path: Path) -> None:
    assert "In brackets" not in write_report(Result("evaluate", {"fd": 1.0}, {}), tmp_path).read_text()


def test_a_number_keeps_six_digits() -> None:
    assert number_text(1234567.0) == "1.23457e+06"


def test_further_files_are_written_beside_the_numbers(tmp_path: Path) -> None:
    write_report(Result("map", {}, {}, files={"map.txt": lambda path: path.write_text("y = x M")}), tmp_path)
    assert (tmp_path / "map.txt").read_text() == "y = x M"


def with_sections() -> Result:
    sheet = torch.zeros(1, 3, 4, 6)
    inner = Result("distances", {"random": 2.0}, {"seed": 3, "notes": ["few images"]}, {"rows": sheet}, {"All": TABLE})
    return Result("compare-spaces", {}, {"models": "a, b"}, sections={"How far apart codes are": inner})


TABLE = (("space", "random"), ("images", 1.5))


def test_sections_follow_each_other_with_their_own_pictures_and_protocol(tmp_path: Path) -> None:
    page = write_report(with_sections(), tmp_path).read_text()
    assert "## How far apart codes are" in page
    assert "![rows](distances/rows.png)" in page
    assert "### Protocol of: How far apart codes are\n\n| what | value |\n|---|---|\n| seed | 3 |" in page
    assert "- few images" in page
    assert json.loads((tmp_path / "distances" / "result.json").read_text())["numbers"] == {"random": 2.0}


def test_the_html_page_needs_no_other_file(tmp_path: Path) -> None:
    write_report(with_sections(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    content = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    assert content is not None
    assert base64.b64decode(content[1]) == (tmp_path / "distances" / "rows.png").read_bytes()
    assert "<td>images</td>" in page
    assert '.png"' not in page
