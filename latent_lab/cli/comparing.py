"""`latent-lab compare`: results of several models in one table, each column measured in one way; reports beside each
other.
"""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from latent_lab.analyses.comparing import Comparison, compare
from latent_lab.analyses.report import html_page as html_of
from latent_lab.analyses.report import write_page
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import say
from latent_lab.cli.errors import InputError
from latent_lab.cli.side_by_side import (
    RESULT,
    compare_parts,
    csv_of_parts,
    entry_of,
    shared_pictures,
    side_by_side,
    turned_text,
)

_BEST = "best of its column"
_LARGEST = 250_000
"""Bytes of a picture's file up to which it stands in a page as it is."""


def comparison(arguments: Arguments) -> None:
    """Prints the table, and what parts numbers of the same name; of reports and runs one table for each part."""
    if len(arguments.words) < 2:
        raise InputError(
            f"compare needs at least 2 results, got {len(arguments.words)}: "
            "latent-lab compare A/result.json B/result.json"
        )
    out = arguments.text("out")
    path = None if out is None else Path(out).expanduser()
    if path is not None and path.suffix not in _PAGES:
        raise InputError(f"--out must end in {', '.join(_PAGES)}, got {path.name}: it decides on the form of the table")
    beginnings = re.split(r"[,\s]+", arguments.text("numbers") or "")
    entries = [entry_of(word) for word in arguments.words]
    if any(entry.is_report for entry in entries):
        parts = compare_parts(entries, beginnings)
    else:
        parts = {"": compare([entry.results[RESULT] for entry in entries], beginnings)}
    differences = [sentence for found in parts.values() for sentence in found.differences]
    if differences and arguments.options.get("strict"):
        more = len(differences) - 1
        rest = f" (and {more} more, see it without --strict)" if more else ""
        raise InputError(f"{differences[0]}{rest}")
    width = shutil.get_terminal_size((120, 24)).columns
    whole = parts.get("")
    if whole is not None:
        print("\n".join(text_page(whole, width)))
    else:
        print("\n\n".join("\n".join([title, "", *turned_text(found)]) for title, found in parts.items()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole is not None and (path.suffix != ".html" or not shared_pictures(entries)):
            text = _PAGES[path.suffix](whole)
        elif path.suffix == ".csv":
            text = csv_of_parts(parts)
        else:
            text = side_by_side(parts, entries, path.parent)
            if path.suffix == ".html":
                text = html_of(text, path.parent, title="latent-lab compare", largest=_LARGEST)
        write_page(path, text)
        say(f"written to {path}")


def text_page(found: Comparison, width: int) -> list[str]:
    """For a terminal: tables below each other, none wider than it must be, and the sentences."""
    cells = _rows(found, "{}*")
    for number, column in enumerate(found.columns, start=2):
        if column.best:  # digits stand below digits, with and without the mark
            for row in cells[1:]:
                row[number] += "" if row[number].endswith("*") else " "
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines: list[str] = []
    for block in _blocks(widths, width):
        lines += [""] if lines else []
        for row in cells:
            left = [f"{row[column]:<{widths[column]}}" for column in block if column < 2]
            right = [f"{row[column]:>{widths[column]}}" for column in block if column >= 2]
            lines.append("  ".join([*left, *right]).rstrip())
    notes = _sentences(found, f"* {_BEST}")
    return [*lines, "", *notes] if notes else lines


def markdown_page(found: Comparison) -> str:
    """A table and a list of sentences."""
    head, *body = _rows(found, "**{}**")
    lines = [f"| {' | '.join(_escaped(cell) for cell in head)} |", f"|---|---|{'---:|' * len(found.columns)}"]
    lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in body]
    sentences = _sentences(found, f"**bold**: {_BEST}")
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences)]).rstrip() + "\n"


def html_page(found: Comparison) -> str:
    """A page of its own that needs nothing else."""
    head, *body = _rows(found, "{}*")
    rows = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    for row in body:
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row[:2]]
        for cell in row[2:]:
            text = html.escape(cell.removesuffix("*"))
            cells.append(f'<td class="number">{f"<strong>{text}</strong>" if cell.endswith("*") else text}</td>')
        rows.append("".join(cells))
    table = "\n".join(f"<tr>{row}</tr>" for row in rows)
    notes = "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in _sentences(found, f"bold: {_BEST}"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>latent-lab compare</title>\n'
        "<style>body { font-family: sans-serif; } table { border-collapse: collapse; }\n"
        "th, td { border-bottom: 1px solid #ccc; padding: 0.3em 0.8em; text-align: left; }\n"
        ".number { text-align: right; white-space: nowrap; }</style>\n</head>\n<body>\n"
        f"<table>\n{table}\n</table>\n<ul>\n{notes}\n</ul>\n</body>\n</html>\n"
    )


def csv_page(found: Comparison) -> str:
    """Numbers at full precision, ends of intervals in columns of their own."""
    head = ["result", "model"]
    for column in found.columns:
        head += [column.title, *([f"{column.title} low", f"{column.title} high"] if column.intervals else [])]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for place, result in enumerate(found.results):
        row: list[object] = [result.label, result.model]
        for column in found.columns:
            row.append(column.values.get(place, ""))
            if column.intervals:
                row += column.intervals.get(place, ("", ""))
        writer.writerow(row)
    return buffer.getvalue()


_PAGES: Mapping[str, Callable[[Comparison], str]] = {".md": markdown_page, ".html": html_page, ".csv": csv_page}


def _rows(found: Comparison, mark: str) -> list[list[str]]:
    """Heads, then a row for each result."""
    rows = [["result", "model", *(column.title for column in found.columns)]]
    for place, result in enumerate(found.results):
        values = [found.cell(column, place, mark=mark) for column in found.columns]
        rows.append([result.label, result.model, *values])
    return rows


def _blocks(widths: Sequence[int], available: int) -> Iterator[list[int]]:
    """Columns that fit beside each other; each block begins with the result's name, the first also with the model."""
    block = [0, 1]
    for column in range(2, len(widths)):
        if len(block) > 1 and sum(widths[one] + 2 for one in (*block, column)) - 2 > available and block != [0, 1]:
            yield block
            block = [0]
        block.append(column)
    yield block


def _sentences(found: Comparison, mark: str) -> list[str]:
    marked = [mark] if any(column.best for column in found.columns) else []
    return [*marked, *found.remarks, *found.differences]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
