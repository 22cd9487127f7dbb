"""How a command ends: the result is written, its numbers and notes are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from latent_lab import distributed
from latent_lab.analyses import Result, write_report
from latent_lab.analyses.report import table_lines
from latent_lab.cli.console import say


def finish(result: Result, folder: Path, written: Path | None = None, tables: Sequence[str] = ()) -> None:
    """Writes a result with its report; prints its numbers, some of its tables, its notes, and where it is.

    Args:
        result: of an analysis.
        folder: where it goes.
        written: what is named as written; none: the folder.
        tables: titles of those that are printed.
    """
    write_report(result, folder)
    if distributed.rank() == 0:
        print(numbers_table(result.numbers, result.intervals))
        for title in tables:
            print("\n".join(["", title, "", *table_lines(result.tables[title])]))
    for note in result.protocol.get("notes", ()):
        say(f"note: {note}")
    say(f"written to {written or folder}")


def numbers_table(numbers: Mapping[str, float], intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """Names and values in two columns, and intervals in a third where there are some."""
    width = max((len(name) for name in numbers), default=0)
    lines = []
    for name, value in numbers.items():
        line = f"{name:<{width}}  {value:>12.6g}"
        if intervals and name in intervals:
            low, high = intervals[name]
            line += f"  [{low:.6g}, {high:.6g}]"
        lines.append(line)
    return "\n".join(lines)
