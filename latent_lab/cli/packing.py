"""`latent-lab prepare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.cli.schema import arguments_from


def packing_function(words: Sequence[str]) -> Callable[..., Any]:
    """What the options of the command are read from."""
    del words
    from latent_lab.data.packing import prepare

    return prepare


def prepare(arguments: Arguments) -> None:
    """Packs a folder and prints what came of it."""
    if len(arguments.words) != 1:
        raise InputError(f"prepare takes one SOURCE, got {len(arguments.words)}: latent-lab prepare photos --out DIR")
    out = arguments.options.pop("out", None)
    if out is None:
        raise InputError("prepare needs --out DIR, a new folder for the packed images")
    pack = packing_function(arguments.words)
    summary = pack(arguments.words[0], out, **arguments_from(arguments.options, pack))
    print(summary)
    for note in summary.notes:
        print(note)
    if summary.odd_files:
        print(f"{len(summary.odd_files)} odd files are listed in {summary.folder / 'report.txt'}")
    print(f"use it with --data.root {summary.folder}")
