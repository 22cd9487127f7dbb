"""A result as a page that can be read: numbers, pictures, protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def _table(rows: Table) -> Iterator[str]:
    """Lines of a table: its first row is the head, numbers stand to the right."""
    head, *body = rows
    kinds = ["---:" if any(isinstance(row[column], float) for row in body) else "---" for column in range(len(head))]
    yield f"| {' | '.join(_cell(str(cell)) for cell in head)} |"
    yield f"|{'|'.join(kinds)}|"
    for row in body:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else _cell(str(cell)) for cell in row]
        yield f"| {' | '.join(cells)} |"


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
    lines += [f"| `{name}` | {value:.6g} |" for name, value in result.numbers.items()]
    for title, rows in result.tables.items():
        lines += ["", f"## {title}", "", *_table(rows)]
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
