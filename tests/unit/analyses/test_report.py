"""Reports: numbers with their intervals."""

from __future__ import annotations

from pathlib import Path

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
