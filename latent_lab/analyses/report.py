"""A result as a page that can be read: numbers, pictures, protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_lab import distributed
from latent_lab.analyses.base import Result, Table


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested plain data with dotted names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(str(inner) for inner in value)
    else:
        yield name, str(value)


def _cell(text: str) -> str:
    """Text that cannot end a table cell or row."""
    return text.replace("|", "\\|").replace("\n", " ")


def table_lines(rows: Table) -> Iterator[str]:
    """Lines of a table: its first row is the head, numbers stand to the right."""
    head, *body = rows
    kinds = ["---:" if any(isinstance(row[column], float) for row in body) else "---" for column in range(len(head))]
    yield f"| {' | '.join(_cell(str(cell)) for cell in head)} |"
    yield f"|{'|'.join(kinds)}|"
    for row in body:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else _cell(str(cell)) for cell in row]
        yield f"| {' | '.join(cells)} |"


def number_text(value: float, interval: Sequence[float] | None = None) -> str:
    """A number with six digits, and its interval with as many: "12.3456 [11.9876, 12.7003]"."""
    if interval is None:
        return f"{value:.6g}"
    low, high = interval
    return f"{value:.6g} [{low:.6g}, {high:.6g}]"


def interval_sentence(protocol: Mapping[str, Any]) -> str:
    """What the intervals of a result are, as far as its protocol says."""
    facts = protocol.get("intervals", {})
    level = f" at level {facts['level']:g}" if "level" in facts else ""
    how = f", from {facts['num_resamples']} resamples" if "num_resamples" in facts else ""
    return f"In brackets: bootstrap intervals{level}{how}; they say nothing about bias."


def write_report(result: Result, folder: Path) -> Path:
    """Saves a result and writes report.md beside it: numbers, tables, pictures, remarks, the whole protocol.

    Args:
        result: of any analysis.
        folder: is made if necessary; links to pictures are relative, so it can be moved.

    Returns:
        The page's path. Only the first process writes.
    """
    path = folder / "report.md"
    if distributed.rank() != 0:
        return path
    result.save(folder)
    notes = result.protocol.get("notes", ())
    lines = [f"# {result.analysis}", "", "| number | value |", "|---|---:|"]
    lines += [
        f"| `{name}` | {number_text(value, result.intervals.get(name))} |" for name, value in result.numbers.items()
    ]
    if result.intervals:
        lines += ["", interval_sentence(result.protocol)]
    for title, rows in result.tables.items():
        lines += ["", f"## {title}", "", *table_lines(rows)]
    for stem in result.pictures:
        lines += ["", f"## {stem}", "", f"![{stem}]({stem}.png)"]
    if notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    lines += ["", "## Protocol", "", "| what | value |", "|---|---|"]
    rest = {key: value for key, value in result.protocol.items() if key != "notes"}
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(rest)]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path
