"""`latent-lab import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.schema import arguments_from

_USAGE = "latent-lab import FORMAT FILE --out X.ckpt"


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
    """Writes the checkpoint and says what is in it."""
    importer = named_format(arguments.words)
    out = arguments.text("out")
    if importer is None or len(arguments.words) != 2 or out is None:
        raise InputError(f"import takes a format, a file and --out: {_USAGE}")
    if not out.endswith(".ckpt"):
        raise InputError(f"--out must end with .ckpt, got {out}")
    path = Path(out).expanduser()
    model = importer(**arguments_from(arguments.options, importer))(Path(arguments.words[1]).expanduser(), path)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{path}: {type(model).__name__}, {model.resolution} px, {model.channels} channels, "
        f"{model.latent_space.dim} latents, {count:,} parameters"
    )
