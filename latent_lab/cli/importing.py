"""`latent-lab import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.schema import arguments_from


def named_format(words: Sequence[str]) -> type[Any] | None:
    """What the options of the command are read from; none while no format is given.

    Raises:
        InputError: if there is no format of that name.
    """
    from latent_lab.importers import FORMATS

    if not words or words[0].startswith("-"):
        return None
    if words[0] not in FORMATS:
        raise InputError(f"there is no format {words[0]}: {closest(words[0], FORMATS)}")
    return FORMATS[words[0]]


def import_weights(arguments: Arguments) -> None:
    """Writes the file in this package's form and says what is in it, and what of the published one is not."""
    chosen = named_format(arguments.words)
    suffix = chosen.suffix if chosen else ".ckpt"
    out = arguments.text("out")
    if chosen is None or len(arguments.words) != 2 or out is None:
        raise InputError(f"import takes a format, a file and --out: latent-lab import FORMAT FILE --out X{suffix}")
    if not out.endswith(suffix):
        raise InputError(f"--out must end with {suffix}, got {out}")
    one = chosen(**arguments_from(arguments.options, chosen))
    print("\n".join(one.run(Path(arguments.words[1]).expanduser(), Path(out).expanduser())))
