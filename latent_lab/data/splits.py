"""Which image belongs to training, validation or test.

A split maps "train", "val" and "test" to places in the sorted list of names. Where a source holds out one part only,
that part serves as both "val" and "test", and a report says so; the training images are never among them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

SplitName: TypeAlias = Literal["train", "val", "test"]
SplitRule: TypeAlias = Literal["auto", "folders", "column", "last", "hash"]
Split: TypeAlias = Mapping[str, Sequence[int]]
"""Split name -> places in the list of names, ascending."""

VAL_SHARE = 0.05
TEST_SHARE = 0.05

# The CelebA partition file writes 0, 1, 2.
_SPELLINGS = {
    "train": "train",
    "training": "train",
    "0": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "1": "val",
    "test": "test",
    "testing": "test",
    "2": "test",
}


def split_names(
    names: Sequence[str], rule: str = "auto", *, holdout: int | float = 1000, column: Sequence[str] | None = None
) -> dict[str, list[int]]:
    """Applies a rule to names.

    Args:
        names: relative file names in sorted order.
        rule: "folders": top folders train/, val/, test/ (files elsewhere belong to no split); "column": `column`;
            "last": the last `holdout` names are both val and test; "hash": a hash of each name, 90 / 5 / 5, so that a
            file keeps its split when others are added; "auto": the first of folders, column, hash that applies.
        holdout: number of images that "last" holds out, or their share if it is below 1.
        column: for each name what a table's split column says: train, val or test (or 0, 1, 2), "" if nothing.

    Raises:
        ValueError: if the rule is unknown, does not apply, or leaves a split without images.
    """
    if rule not in get_args(SplitRule):
        raise ValueError(f"split must be one of {', '.join(get_args(SplitRule))}, got {rule!r}")
    if rule == "folders" or (rule == "auto" and _has_split_folders(names)):
        return by_column(names, [_top_folder(name) for name in names], what="top folders")
    if rule == "column" or (rule == "auto" and column is not None and _holds_something_out(column)):
        if column is None:
            raise ValueError('split "column" needs a labels file with a column named split, and there is none')
        return by_column(names, column, what="the split column")
    if rule == "last":
        return by_last(names, holdout)
    return by_hash(names)


def by_column(names: Sequence[str], column: Sequence[str], *, what: str) -> dict[str, list[int]]:
    """Splits that are written down; a missing val is the test part and a missing test is the val part."""
    split: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for place, word in enumerate(column):
        spelled = _SPELLINGS.get(word.strip().lower())
        if spelled is not None:
            split[spelled].append(place)
    counts = ", ".join(f"{len(places)} {name}" for name, places in split.items())
    if not split["train"] or not (split["val"] or split["test"]):
        raise ValueError(
            f"{what} must name training images (train) and held-out ones (val or test), found {counts} among "
            f'{len(names)} images: complete them, or choose split "last" or "hash"'
        )
    split["val"] = split["val"] or split["test"]
    split["test"] = split["test"] or split["val"]
    return split


def by_last(names: Sequence[str], holdout: int | float) -> dict[str, list[int]]:
    """The last `holdout` names, or that share of them if it is below 1, are held out and serve as both val and test."""
    held = max(1, round(holdout * len(names))) if 0 < holdout < 1 else holdout
    if not 1 <= held < len(names) or held != int(held):
        raise ValueError(
            f'holdout of split "last" must be between 1 and {len(names) - 1} for {len(names)} images, or a share of '
            f"them between 0 and 1, got {holdout}"
        )
    boundary = len(names) - int(held)
    held_out = list(range(boundary, len(names)))
    return {"train": list(range(boundary)), "val": held_out, "test": list(held_out)}


def by_hash(names: Sequence[str]) -> dict[str, list[int]]:
    """90 / 5 / 5 by a hash of each name; in sets so small that a split came out empty, one image changes its place.

    The name alone decides, so persons or scenes with several images occur in several splits: write a split column where
    that matters.
    """
    if len(names) < 3:
        raise ValueError(
            f"a data set needs at least 3 images, one each for train, val and test, found {len(names)}: add images, or "
            "make folders train/, val/ and test/"
        )
    fractions = [_fraction(name) for name in names]
    order = sorted(range(len(names)), key=lambda place: (fractions[place], names[place]))
    word = ["train" if f < 1 - VAL_SHARE - TEST_SHARE else "val" if f < 1 - TEST_SHARE else "test" for f in fractions]
    if "train" not in word:
        word[order[0]] = "train"
    if "test" not in word:
        word[order[-1]] = "test"
    if "val" not in word:
        word[order[-2]] = "val"
    return {name: [place for place, one in enumerate(word) if one == name] for name in ("train", "val", "test")}


def _fraction(name: str) -> float:
    # macOS writes accents as separate characters; the normal form makes the same file fall into the same split
    # anywhere.
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _has_split_folders(names: Sequence[str]) -> bool:
    return _holds_something_out([_top_folder(name) for name in names])


def _top_folder(name: str) -> str:
    # Folders "0", "1", "2" are classes or chunks, not the numbers of the CelebA partition.
    top = name.split("/")[0] if "/" in name else ""
    return "" if top.isdigit() else top


def _holds_something_out(column: Sequence[str]) -> bool:
    words = {_SPELLINGS.get(word.strip().lower()) for word in column}
    return "train" in words and bool(words & {"val", "test"})


__all__ = ["Split", "SplitName", "SplitRule", "by_column", "by_hash", "by_last", "split_names"]
