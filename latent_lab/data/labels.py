"""Labels of images from a CSV table with a column `file`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

_SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class LabelTable:
    """Numbers for images, and what the table says about their splits."""

    label_names: tuple[str, ...]
    values: Float32[np.ndarray, "N K"]
    """NaN where a number is missing."""
    split: list[str] | None
    """For each image the split column's word, "" if the table does not list it; none without such a column."""
    notes: tuple[str, ...]
    """What was ignored or missing, in sentences."""


def read_labels(path: Path, names: Sequence[str]) -> LabelTable:
    """Reads the labels of the given images.

    Every column whose entries are all numbers (or empty: unknown) becomes a label; the others are ignored, and the
    notes say so. A row belongs to the image with that relative name or, if no row matches so, with that last part of
    the name.

    Args:
        path: CSV in UTF-8 with a header.
        names: relative file names.

    Raises:
        ValueError: if the file is missing, has no column `file`, or lists none of the images.
    """
    if not path.is_file():
        raise ValueError(f"labels file {str(path)!r} does not exist: give the path of a CSV file with a column `file`")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [name for name in reader.fieldnames or () if name]
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"labels file {str(path)!r} is not a CSV file in UTF-8 ({error}): write it as one") from None
    if "file" not in columns:
        found = ", ".join(columns[:5]) or "nothing"
        raise ValueError(f"labels file {str(path)!r} needs a column named file, found {found}: add it or rename one")
    matched = _match(rows, names)
    if not any(matched):
        raise ValueError(
            f"labels file {str(path)!r} lists none of the {len(names)} images: its first row says "
            f"{rows[0]['file'] if rows else 'nothing'!r}, the first image is {names[0]!r}; write relative file names"
        )
    numeric = [name for name in columns if name not in ("file", _SPLIT_COLUMN) and _is_numeric(rows, name)]
    values = np.array(
        [[_number(row.get(name)) if row else np.nan for name in numeric] for row in matched], dtype=np.float32
    ).reshape(len(names), len(numeric))
    ignored = [name for name in columns if name not in (*numeric, "file", _SPLIT_COLUMN)]
    unlisted = sum(row is None for row in matched)
    notes = []
    if ignored:
        notes.append(f"Columns {', '.join(ignored)} of the labels file are not numbers and are ignored.")
    if unlisted:
        notes.append(f"{unlisted} images have no row in the labels file.")
    split = [(row[_SPLIT_COLUMN] or "") if row else "" for row in matched] if _SPLIT_COLUMN in columns else None
    return LabelTable(tuple(numeric), values, split, tuple(notes))


def _match(rows: Sequence[dict[str, str]], names: Sequence[str]) -> list[dict[str, str] | None]:
    by_file = {row["file"].strip().removeprefix("./"): row for row in rows if row["file"]}
    return [by_file.get(name) or by_file.get(PurePosixPath(name).name) for name in names]


def _is_numeric(rows: Sequence[dict[str, str]], column: str) -> bool:
    try:
        numbers = [_number(row.get(column)) for row in rows]
    except ValueError:
        return False
    return not np.isnan(numbers).all()


def _number(entry: str | None) -> float:
    return float(entry) if entry and entry.strip() else float("nan")


__all__ = ["LabelTable", "read_labels"]
