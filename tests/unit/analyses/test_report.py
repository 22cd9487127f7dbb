"""Reports: numbers with their intervals."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import torch
from PIL import Image

from latent_lab.analyses import Result, write_report
from latent_lab.analyses.report import html_page, number_text
from latent_lab.images import save_png


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


def page_of(picture: torch.Tensor, folder: Path, largest: int | None) -> str:
    save_png(folder / "a.png", picture)
    return html_page("![a](a.png)", folder, title="t", largest=largest)


def test_large_pictures_are_embedded_smaller_and_a_line_says_so(tmp_path: Path) -> None:
    noise = 2 * torch.rand(1, 3, 100, 1500, generator=torch.Generator().manual_seed(0)) - 1
    page = page_of(noise, tmp_path, 10_000)
    content = re.search(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert content is not None
    with Image.open(io.BytesIO(base64.b64decode(content[1]))) as picture:
        assert picture.size == (1200, 80)
    assert "Large pictures are shown smaller" in page


def test_small_pictures_and_those_without_a_limit_are_embedded_as_they_are(tmp_path: Path) -> None:
    for picture, largest in ((torch.zeros(1, 3, 4, 4), 10_000), (torch.rand(1, 3, 64, 1500), None)):
        page = page_of(picture, tmp_path, largest)
        assert base64.b64encode((tmp_path / "a.png").read_bytes()).decode() in page
        assert "shown smaller" not in page


def test_folded_parts_and_code_are_html(tmp_path: Path) -> None:
    text = '<details markdown="1"><summary>s</summary>\n\n```yaml\na: 1\n```\n\n| a |\n|---|\n| b |\n\n</details>'
    page = html_page(text, tmp_path, title="t")
    assert "<pre><code" in page
    assert "<td>b</td>" in page
    assert "```" not in page
