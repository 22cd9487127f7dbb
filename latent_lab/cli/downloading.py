"""`latent-lab download`: files that others publish, from where the manifest says they are."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import say
from latent_lab.cli.errors import InputError, closest

_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20


def download(arguments: Arguments) -> None:
    """Fetches what is not yet in the folder and says what comes next."""
    from latent_lab.models.loading import how_to_obtain, import_command, is_chain, is_published, read_manifest

    if len(arguments.words) != 1 or arguments.text("out") is None:
        raise InputError("download takes a published checkpoint and a folder: latent-lab download NAME --out DIR")
    name = arguments.words[0]
    manifest = read_manifest()
    if name not in manifest:
        published = [one for one, entry in manifest.items() if is_published(entry)]
        raise InputError(f"there is no published checkpoint {name}: {closest(name, published)}")
    entry = manifest[name]
    if is_chain(entry):
        raise InputError(f"{name} comes with the project and needs no download: latent-lab chain apply {name}")
    if not is_published(entry):
        raise InputError(f"{name} comes with the project and needs no download: use its name as a checkpoint")
    folder = Path(str(arguments.text("out"))).expanduser()
    if not all("url" in file for file in entry["files"]):
        raise InputError(f"{name} cannot be fetched by a program: {how_to_obtain(name, entry, folder)}")
    folder.mkdir(parents=True, exist_ok=True)
    for file in entry["files"]:
        by_hand = f"get {file['name']} with a browser from {entry['page']} into {folder}"
        print(_obtain(file, folder / file["name"], by_hand))
    print(f"next: {import_command(entry, folder)}")


def _obtain(file: Mapping[str, Any], target: Path, by_hand: str) -> str:
    """The file under its name, once all of it is there and it is the published one; a line on what was done.

    Raises:
        InputError: with one sentence, if it cannot be fetched or is another file; nothing is left behind then.
    """
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in ("sha256", "md5")}
    if target.is_file():
        with target.open("rb") as opened:
            while block := opened.read(_BLOCK):
                _update(digests, block)
        return f"{target}: was there already, {_verdict(file, digests, target)}"
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as opened:
            for block in _blocks(file, by_hand):
                opened.write(block)
                _update(digests, block)
        verdict = _verdict(file, digests, target)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return f"{target}: {target.stat().st_size:,} bytes, {verdict}"


def _update(digests: Mapping[str, Any], block: bytes) -> None:
    for digest in digests.values():
        digest.update(block)


def _verdict(file: Mapping[str, Any], digests: Mapping[str, Any], target: Path) -> str:
    """What the digests say, checked against those that are known."""
    for name, digest in digests.items():
        if name in file and digest.hexdigest() != file[name]:
            raise InputError(
                f"{target.name} has {name} {digest.hexdigest()}, the manifest says {file[name]}: it was changed or "
                f"damaged{', remove it and try again' if target.is_file() else ' on its way, and was not kept'}"
            )
    known = next((name for name in digests if name in file), None)
    if known is not None:
        return f"{known} as it should be"
    return f"sha256 {digests['sha256'].hexdigest()} (which one it should be is not known)"


def _blocks(file: Mapping[str, Any], by_hand: str) -> Iterator[bytes]:
    """The content of an address, piece by piece.

    Raises:
        InputError: with one sentence, if it cannot be had.
    """
    url, received, shown = file["url"], 0, 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise InputError(f"{url} shows a page instead of giving a file: {by_hand}")
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                received += len(block)
                if total and received * 10 // total > shown:
                    shown = received * 10 // total
                    say(f"{file['name']}: {10 * shown} % of {total / 1e6:,.0f} MB")
                yield block
    except InputError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"{url} could not be fetched ({_reason(error)}): try again later, or {by_hand}") from error
    if received < total:
        raise InputError(f"{url} broke off after {received:,} of {total:,} bytes: try again, or {by_hand}")


def _reason(error: Exception) -> str:
    """One line on what the network said."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
