"""`latent-lab compare` on files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from latent_lab.analyses import Result


@pytest.fixture
def results(folder: Path) -> Path:
    """Two results whose distances have other references, with an interval each."""
    for name, factor, count in (("a", 1.0, 9000), ("b", 0.5, 2000)):
        protocol = {"model": f"Model<{name}>", "num_reference": count, "intervals": {"level": 0.95}}
        numbers = {"fd_efflite0_10k": 20.0 * factor, "rec_mse": 0.25 * factor}
        intervals = {"rec_mse": (0.2 * factor, 0.3 * factor)}
        Result("evaluate", numbers, protocol, intervals=intervals).save(folder / name)
    return folder


def test_the_table_has_a_row_for_each_result_and_a_line_for_each_difference(latent_lab, results):
    outcome = latent_lab("compare", "a", "b/result.json")
    assert outcome.code == 0, outcome.error
    head, first, second, *rest = outcome.out.splitlines()
    assert head.split() == ["result", "model", "fd_efflite0_10k", "[a]", "fd_efflite0_10k", "[b]", "rec_mse"]
    assert first.split() == ["a", "Model<a>", "20", "0.25", "[0.2,", "0.3]"]
    assert second.split() == ["b", "Model<b>", "10", "0.125", "[0.1,", "0.15]*"]
    assert "fd_efflite0_10k: a and b differ in num_reference: 9000 | 2000" in rest
    assert "in brackets: intervals at level 0.95" in rest


def test_strict_makes_a_difference_an_error(latent_lab, results):
    outcome = latent_lab("compare", "a", "b", "--strict")
    assert outcome.code == 2
    assert outcome.error == ("latent-lab: fd_efflite0_10k: a and b differ in num_reference: 9000 | 2000\n")
    assert latent_lab("compare", "a", "b", "--strict", "--numbers", "rec").code == 0


def test_wide_tables_are_broken_into_blocks(latent_lab, results, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    out = latent_lab("compare", "a", "b").out
    assert max(len(line) for line in out.split("\n\n* best")[0].splitlines()) <= 60
    assert out.count("result") >= 2


def test_a_markdown_page_marks_the_best_in_bold(latent_lab, results):
    latent_lab("compare", "a", "b", "--out", "t/page.md")
    page = (results / "t" / "page.md").read_text()
    assert "| b | Model<b> |  | 10 | **0.125 [0.1, 0.15]** |" in page
    assert "- fd_efflite0_10k: a and b differ" in page


def test_an_html_page_is_whole_and_escaped(latent_lab, results):
    latent_lab("compare", "a", "b", "--out", "page.html")
    page = (results / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "Model&lt;a&gt;" in page
    assert "<strong>0.125 [0.1, 0.15]</strong>" in page


def test_a_csv_file_has_full_precision_and_the_ends_of_intervals(latent_lab, results):
    latent_lab("compare", "a", "b", "--out", "table.csv")
    rows = list(csv.DictReader((results / "table.csv").open()))
    assert rows[1]["rec_mse"] == "0.125"
    assert (rows[0]["rec_mse low"], rows[0]["rec_mse high"]) == ("0.2", "0.3")
    assert rows[0]["fd_efflite0_10k [b]"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "compare needs at least 2 results, got 1"),
        (["a", "nowhere"], "there is no file nowhere"),
        (["a", "b", "--out", "t.pdf"], "--out must end in .md, .html, .csv, got t.pdf"),
        (["a", "b", "--numbers", "kd"], "no number in common that begins with kd"),
    ],
)
def test_mistakes_get_one_sentence(latent_lab, results, words, message):
    outcome = latent_lab("compare", *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.error.count("\n") == 1
