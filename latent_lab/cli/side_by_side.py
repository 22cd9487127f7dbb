"""Reports and runs side by side: for each part a table with a column for each of them, and their pictures in rows."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latent_lab.analyses.comparing import RESULT_FILE, Comparison, Recorded, compare, read_result
from latent_lab.cli.errors import InputError
from latent_lab.cli.report_page import MEASURED
from latent_lab.cli.reporting import REPORT
from latent_lab.cli.run_folders import results_in, run_folder_of

RESULT = "test"
"""The part of a single result, and of what `test` has measured."""
_BEST = "best of its row"
_TITLES: Mapping[str, str] = {
    RESULT: "Numbers",
    "evaluate": "Quick test",
    "sample": "Samples",
    "latent-health": "Health of the latent space",
    "latent-health/evaluate": "What comes back of images",
    "latent-health/normality": "Codes against the prior",
    "latent-health/posterior": "Posterior",
    "training-neighbours": "Nearest training images",
}
"""Parts of a report, in the order in which they are shown."""
_FIRST: Mapping[str, str] = {
    "sample/samples.png": "Samples",
    "latent-health/evaluate/reconstructions.png": "Reconstructions",
    "training-neighbours/training_neighbours.png": "Nearest training images",
}
"""Pictures that are shown before others, with titles."""
_HIDDEN = ("latent-health/evaluate/samples.png", "evaluate/samples.png", "evaluate/reconstructions.png")
"""Pictures of a report that show once more what others show."""


@dataclass(frozen=True)
class Entry:
    """What was named: a result, a report, or a run with one of both."""

    label: str
    results: Mapping[str, Recorded]
    """Part -> result; of a single result `RESULT`."""
    is_report: bool = False
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Path in the report -> file."""


def entry_of(word: str) -> Entry:
    """The result, report or run of a word of the command line.

    Raises:
        ValueError: if there is none, or it is damaged.
        InputError: if a run has neither a report nor a result of `test`.
    """
    path = Path(word).expanduser()
    run = run_folder_of(path) if path.is_dir() else None
    if run is None or (path / RESULT_FILE).is_file():
        recorded = read_result(path)
        folder = path if path.is_dir() else path.parent
        if recorded.analysis == REPORT:
            return _report(folder, recorded.label)
        pictures = {file.name: file for file in sorted(folder.glob("*.png"))}
        return Entry(recorded.label, {RESULT: recorded}, pictures=pictures)
    found = results_in(path)
    reports = [where for where, recorded in found if recorded.analysis == REPORT]
    tests = [(where, recorded) for where, recorded in found if recorded.analysis == "evaluate"]
    if reports:
        return _report(reports[-1], run.name)
    if not tests:
        raise InputError(
            f"{path} holds neither a report nor a result of `latent-lab test`: make one with latent-lab report {path}"
        )
    where, recorded = tests[-1]
    pictures = {file.name: file for file in sorted(where.glob("*.png"))}
    return Entry(run.name, {RESULT: dataclasses.replace(recorded, label=run.name)}, pictures=pictures)


def _report(folder: Path, label: str) -> Entry:
    results: dict[str, Recorded] = {}
    for file in sorted(folder.rglob(RESULT_FILE), key=lambda file: file.stat().st_mtime):
        part = file.parent.relative_to(folder).as_posix()
        if part != ".":
            results[RESULT if part.startswith(f"{MEASURED}/") else part] = read_result(file.parent)
    run = run_folder_of(folder.resolve().parent)
    label = run.name if run is not None else label
    pictures = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.png"))}
    return Entry(label, results, True, {name: file for name, file in pictures.items() if name not in _HIDDEN})


def compare_parts(entries: Sequence[Entry], beginnings: Sequence[str]) -> dict[str, Comparison]:
    """Title of each part that two or more of the entries have -> its comparison.

    Args:
        entries: at least two.
        beginnings: only numbers whose names begin with one of these.

    Raises:
        InputError: if there is no number that two have in common.
    """
    labels = _labels(entries)
    parts = list(dict.fromkeys([*_TITLES, *(part for entry in entries for part in entry.results)]))
    found = {}
    for part in parts:
        results = [
            _named(entry.results[part], label)
            for entry, label in zip(entries, labels, strict=True)
            if part in entry.results
        ]
        if len(results) < 2 or len({result.analysis for result in results}) > 1 or not _in_common(results, beginnings):
            continue
        found[_TITLES.get(part, part)] = compare(results, beginnings)
    if not found:
        which = "" if "" in beginnings else f" that begins with {' or '.join(beginnings)}"
        raise InputError(f"these have no number in common{which}: {', '.join(labels)}")
    return found


def _named(recorded: Recorded, label: str) -> Recorded:
    """The result under another name, without numbers of single latents, of which no two models have the same."""
    numbers = {name: value for name, value in recorded.numbers.items() if "_of_latent_" not in name}
    return dataclasses.replace(recorded, label=label, numbers=numbers)


def _in_common(results: Sequence[Recorded], beginnings: Sequence[str]) -> bool:
    names = [name for result in results for name in result.numbers if name.startswith(tuple(beginnings))]
    return len(names) > len(set(names))


def _labels(entries: Sequence[Entry]) -> list[str]:
    """What the entries are called, equal ones numbered."""
    names = [entry.label for entry in entries]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def shared_pictures(entries: Sequence[Entry]) -> list[str]:
    """Pictures that two or more entries have, those that say most first."""
    names = [name for entry in entries for name in entry.pictures]
    shared = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [*(name for name in _FIRST if name in shared), *(name for name in shared if name not in _FIRST)]


# --------------------------------------------------------------------------------------------------------------- forms


def _turned(found: Comparison, mark: str) -> list[list[str]]:
    """A row for each number, a column for each result, after a row of heads."""
    rows = [["number", *(result.label for result in found.results)]]
    if any(result.model for result in found.results):
        rows.append(["model", *(result.model for result in found.results)])
    rows += [
        [column.title, *(found.cell(column, place, mark=mark) for place in range(len(found.results)))]
        for column in found.columns
    ]
    return rows


def _sentences(found: Comparison, mark: str) -> list[str]:
    marked = [mark] if any(column.best for column in found.columns) else []
    return [*marked, *found.remarks, *found.differences]


def turned_text(found: Comparison) -> list[str]:
    """Lines for a terminal."""
    rows = _turned(found, "{}*")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    sentences = _sentences(found, f"* {_BEST}")
    return [*lines, "", *sentences] if sentences else lines


def side_by_side(parts: Mapping[str, Comparison], entries: Sequence[Entry], folder: Path) -> str:
    """Markdown: a section for each part, then pictures in rows.

    Args:
        parts: title -> comparison.
        entries: that are compared.
        folder: of the page, to which links are relative.
    """
    labels = _labels(entries)
    lines = [f"# {' | '.join(labels)}"]
    for title, found in parts.items():
        head, *body = _turned(found, "**{}**")
        lines += ["", f"## {title or 'Numbers'}", "", _row(head), f"|---|{'---:|' * (len(head) - 1)}", *map(_row, body)]
        lines += ["", *(f"- {sentence}" for sentence in _sentences(found, f"**bold**: {_BEST}"))]
    shown = shared_pictures(entries)
    lines += ["", "## Pictures"] if shown else []
    for name in shown:
        cells = [_link(entry.pictures.get(name), folder) for entry in entries]
        title = _FIRST.get(name, name.removesuffix(".png"))
        lines += ["", f"### {title}", "", _row(labels), "|---" * len(labels) + "|", _row(cells)]
    return "\n".join(lines).rstrip() + "\n"


def csv_of_parts(parts: Mapping[str, Comparison]) -> str:
    """A line for each number of each result, with full precision and the ends of its interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["part", "number", "result", "value", "low", "high"])
    for title, found in parts.items():
        for column in found.columns:
            for place, value in column.values.items():
                ends = column.intervals.get(place, ("", ""))
                writer.writerow([title, column.title, found.results[place].label, value, *ends])
    return buffer.getvalue()


def _link(picture: Path | None, folder: Path) -> str:
    if picture is None:
        return ""
    return f"![{picture.stem}](<{Path(os.path.relpath(picture, folder)).as_posix()}>)"


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
