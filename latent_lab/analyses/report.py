"""A result as a page that can be read: numbers, pictures, protocol."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import markdown
from PIL import Image

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
    kind = facts.get("kind", "bootstrap intervals")
    return f"In brackets: {kind}{level}{how}; they say nothing about bias."


def write_report(result: Result, folder: Path) -> Path:
    """Saves a result and writes report.md beside it: numbers, tables, pictures, remarks, the whole protocol.

    A result with sections gets them one after another, and report.html too, a page that needs no other file.

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
    lines = [f"# {result.analysis}", "", *body_lines(result, "##", "")]
    for title, section in result.sections.items():
        lines += ["", f"## {title}", "", *body_lines(section, "###", f"{section.analysis}/")]
    lines += ["", "## Protocol", "", *protocol_lines(result.protocol)]
    for title, section in result.sections.items():
        own = {key: value for key, value in section.protocol.items() if value != result.protocol.get(key)}
        lines += ["", f"### Protocol of: {title}", "", *protocol_lines(own)]
    text = "\n".join(lines) + "\n"
    write_page(path, text)
    if result.sections:
        write_page(folder / "report.html", html_page(text, folder, title=result.analysis))
    return path


def body_lines(result: Result, heading: str, pictures: str) -> Iterator[str]:
    """Numbers, tables, pictures and notes of one result.

    Args:
        result: of an analysis.
        heading: marks before a heading.
        pictures: folder of its pictures, with a slash at the end.
    """
    if result.numbers:
        yield from ("| number | value |", "|---|---:|")
        for name, value in result.numbers.items():
            yield f"| `{name}` | {number_text(value, result.intervals.get(name))} |"
    if result.intervals:
        yield from ("", interval_sentence(result.protocol))
    for title, rows in result.tables.items():
        yield from ("", f"{heading} {title}", "", *table_lines(rows))
    for stem in result.pictures:
        yield from ("", f"{heading} {stem}", "", f"![{stem}]({pictures}{stem}.png)")
    notes = result.protocol.get("notes", ())
    if notes:
        yield from ("", f"{heading} Notes", "", *(f"- {note}" for note in notes))


def protocol_lines(protocol: Mapping[str, Any]) -> Iterator[str]:
    """A table of all entries but the notes, nested ones with dotted names."""
    yield from ("| what | value |", "|---|---|")
    rest = {key: value for key, value in protocol.items() if key != "notes"}
    yield from (f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(rest))


def write_page(path: Path, text: str) -> None:
    """Writes text; the file appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


_STYLE = """\
body { font-family: sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.25rem 0.7rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: 0.7rem; overflow-x: auto; font-size: 0.85rem; }
details { margin: 0.7rem 0; }
summary { cursor: pointer; }
"""
_SHOWN_WIDTH = 1200
_JPEG_QUALITY = 88


def html_page(text: str, folder: Path, *, title: str, largest: int | None = None) -> str:
    """A page of Markdown as HTML that holds its pictures and its style.

    Args:
        text: Markdown with tables, fenced code, and `<details markdown="1">` around what is folded; pictures are PNG
            files named relative to the folder.
        folder: of the pictures.
        title: for the browser.
        largest: bytes above which a picture's file is shown at most 1200 pixels wide and as JPEG, which a line at the
            end says; none: pictures are embedded as they are.
    """
    smaller = False

    def embedded(match: re.Match[str]) -> str:
        nonlocal smaller
        content, kind = (folder / html.unescape(match[1])).read_bytes(), "png"
        if largest is not None and len(content) > largest:
            content, kind, smaller = _as_jpeg(content), "jpeg", True
        return f'src="data:image/{kind};base64,{base64.b64encode(content).decode("ascii")}"'

    extensions = ["tables", "fenced_code", "md_in_html"]
    body = re.sub(r'src="([^":]+\.png)"', embedded, markdown.markdown(text, extensions=extensions))
    if smaller:
        body += "\n<p>Large pictures are shown smaller and as JPEG; the PNG files lie beside this page.</p>"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>\n{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _as_jpeg(png: bytes) -> bytes:
    """The picture at most `_SHOWN_WIDTH` pixels wide."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        shown = picture.convert("RGB")
        shown.thumbnail((_SHOWN_WIDTH, 4 * _SHOWN_WIDTH))
        shown.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
