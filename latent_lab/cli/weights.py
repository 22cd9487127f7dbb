"""`latent-lab weights`: which weights evaluation knows, where they are, and collecting them in one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError, closest

if TYPE_CHECKING:
    from latent_lab.networks.pretrained import PublishedWeights

_WORDS = ("list", "pack")


def weights(arguments: Arguments) -> int | None:
    """Lists (also without a further word) or packs."""
    word, *sources = arguments.words or ["list"]
    out = arguments.text("out")
    if word == "list":
        if sources or out is not None:
            raise InputError("weights list takes nothing more: latent-lab weights list")
        _list()
        return None
    if word == "pack":
        if not sources or out is None:
            raise InputError(
                "weights pack takes files or folders, and a folder to collect weights in: latent-lab weights pack "
                "SOURCE ... --out DIR"
            )
        return _pack([Path(source).expanduser() for source in sources], Path(out).expanduser())
    raise InputError(f"weights has no command {word}: {closest(word, _WORDS)}")


def _list() -> None:
    from latent_lab.networks.known_weights import KNOWN_WEIGHTS
    from latent_lab.networks.pretrained import find_weights, sha256_of

    for known in KNOWN_WEIGHTS:
        found = find_weights(known)
        if found is None:
            place = f"not found; {_how_to_get(known)}"
        elif known.matches(sha256_of(found)):
            place = f"found: {found}"
        else:
            place = f"not the published file: {found}; {_how_to_get(known)}"
        print(f"{known.file_names[0]}\n    {known.title}, for {known.purpose}; licence {known.licence}")
        print(f"    {place}\n    sha256 {known.sha256}{'...' if len(known.sha256) < 64 else ''}")


def _how_to_get(known: PublishedWeights) -> str:
    if known.url:
        return f"get it from {known.url}, or with --download true"
    return f"it was made from {known.origin}, and is searched for in the folder LATENT_LAB_WEIGHTS names"


@dataclass
class Packing:
    """What became of the known weights."""

    lines: list[str] = field(default_factory=list)
    """A sentence for each file that was found, in the order of the list of known weights."""
    missing: list[PublishedWeights] = field(default_factory=list)
    """Those that are not in the folder."""


def _pack(sources: Sequence[Path], out: Path) -> int:
    from latent_lab.networks.known_weights import KNOWN_WEIGHTS

    packing = pack(sources, out, KNOWN_WEIGHTS)
    for line in packing.lines:
        print(line)
    for known in packing.missing:
        print(f"missing: {known.file_names[0]} ({known.title}, for {known.purpose}); {_how_to_get(known)}")
    collected = len(KNOWN_WEIGHTS) - len(packing.missing)
    print(f"{collected} of {len(KNOWN_WEIGHTS)} known weights are in {out}")
    if collected:
        print(f"use them with LATENT_LAB_WEIGHTS={out.resolve()}")
    return 0 if collected else 2


def pack(sources: Sequence[Path], out: Path, known_weights: Iterable[PublishedWeights]) -> Packing:
    """Copies published weights that are found under the sources into one folder, each under its published name.

    A file counts by its digest; one of the right name with another digest is named and left where it is. What is in the
    folder already stays. A copy appears whole or not at all.

    Args:
        sources: files, or folders that are searched with all their subfolders.
        out: the folder; made if something is found.
        known_weights: what to look for.

    Raises:
        InputError: if a source does not exist, or the folder is a file.
    """
    from latent_lab.networks.pretrained import sha256_of

    for source in sources:
        if not source.exists():
            raise InputError(f"there is no file or folder {source} to look for weights in")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder to collect weights in")
    packing = Packing()
    for known in known_weights:
        target = out / known.file_names[0]
        if target.is_file() and known.matches(sha256_of(target)):
            packing.lines.append(f"{target}: was there already")
            continue
        right = None
        for candidate in _candidates(sources, known.file_names):
            if known.matches(sha256_of(candidate)):
                right = candidate
                break
            packing.lines.append(f"{candidate}: left out, its sha256 is not that of {known.title}")
        if right is None:
            packing.missing.append(known)
            continue
        _copy(right, target)
        packing.lines.append(f"{target}: copied from {right}, {target.stat().st_size:,} bytes")
    return packing


def _candidates(sources: Sequence[Path], names: tuple[str, ...]) -> list[Path]:
    """Files of these names among the sources and below them."""
    from latent_lab.networks.pretrained import files_named

    found = []
    for source in sources:
        if source.is_dir():
            found += files_named(source, names)
        elif source.name in names:
            found.append(source)
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
