"""Published weights as local files: where they are looked for, how identified, how networks made of them behave.

Evaluation networks are frozen and never belong to a model: whoever needs one asks `find_extractor` or
`find_perceptual` and holds it outside the module tree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from latent_lab.images import check_range

WEIGHTS_FOLDER_VARIABLE = "LATENT_LAB_WEIGHTS"
"""Environment variable that names a folder with weights, searched with all its subfolders."""


@dataclass(frozen=True)
class PublishedWeights:
    """What is known about a weights file before it is opened."""

    title: str
    """For messages: "the FID Inception network of 2015-12-05"."""
    file_names: tuple[str, ...]
    """Names under which it is found; a download gets the first one."""
    sha256: str
    """Digest of the published file, or its leading digits where only those are published."""
    url: str | None = None
    """Where it can be downloaded, if anywhere."""
    origin: str = ""
    """Where it comes from, if not from there."""
    licence: str = ""
    """Its licence."""
    purpose: str = ""
    """Options that need it: "--extractor inception"."""

    def matches(self, digest: str) -> bool:
        """Whether a file's sha256 is the published one."""
        return digest.startswith(self.sha256)

    def name_of(self, name: str, digest: str) -> str:
        """The name of a network with a file of this digest: other weights than the published ones show in it."""
        return name if self.matches(digest) else f"{name}_{digest[:8]}"


def sha256_of(*paths: Path) -> str:
    """The sha256 of a file's bytes, or of several files' bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def files_named(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of these names in a folder or below, in alphabetical order of paths."""
    return sorted(
        Path(base) / name for base, _, files in os.walk(folder, followlinks=True) for name in names if name in files
    )


def _search(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The file of one of these names in a folder or below; of several, the first in alphabetical order of paths."""
    return next(iter(files_named(folder, names)), None)


def find_weights(weights: PublishedWeights, path: str | Path | None = None) -> Path | None:
    """The weights file, if it is on this machine.

    Looked for at the given path alone, if there is one (a file, or a folder that is searched); otherwise in the
    folder that LATENT_LAB_WEIGHTS names and then in torch hub's cache.

    Raises:
        ValueError: if a path is given and nothing is there.
    """
    if path is not None:
        chosen = Path(path).expanduser()
        found = _search(chosen, weights.file_names) if chosen.is_dir() else chosen
        if found is None or not found.is_file():
            raise ValueError(
                f"weights of {weights.title} were expected at {chosen}, where there is no "
                f"{' or '.join(weights.file_names)}: give the path of the file or of a folder that holds it"
            )
        return found
    folder = os.environ.get(WEIGHTS_FOLDER_VARIABLE)
    if folder and (found := _search(Path(folder).expanduser(), weights.file_names)):
        return found
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    return next((cache / name for name in weights.file_names if (cache / name).is_file()), None)


def obtain_weights(weights: PublishedWeights, path: str | Path | None = None, *, download: bool = False) -> Path:
    """The weights file, downloaded into torch hub's cache if that is allowed and it is nowhere on this machine.

    Raises:
        ValueError: if it is absent, with one sentence on where to get it and where to put it.
    """
    if found := find_weights(weights, path):
        return found
    place = f"put {weights.file_names[0]} into the folder that the environment variable {WEIGHTS_FOLDER_VARIABLE} names"
    reason = "was not found"
    if download and weights.url:
        target = Path(torch.hub.get_dir()) / "checkpoints" / weights.file_names[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(target), hash_prefix=weights.sha256, progress=False)
            return target
        except (OSError, RuntimeError) as error:
            reason = f"could not be downloaded ({error})"
    origin = f", from {weights.url}," if weights.url else ""
    raise ValueError(f"{weights.title} {reason}: {place}{origin} or give the file's path")


def last_line(error: Exception) -> str:
    """Of an error's message, which is where torch says what it is about."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else "no message"


@contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Puts torch's global random state back afterwards, from which building a network draws initial weights."""
    with torch.random.fork_rng(devices=[]):
        yield


Frozen = TypeVar("Frozen", bound="FrozenNetwork")


class FrozenNetwork(nn.Module):
    """A network that is used and never trained: always in evaluation mode, no parameter asks for a gradient.

    `train()`, called on it or on a module around it, changes nothing: batch statistics in an evaluation network would
    change every number.
    """

    name: str
    """As it appears in the names of results."""
    sha256: str
    """Digest of the weights."""
    canonical: bool
    """Whether these are the weights that published numbers of the usual name (FID, LPIPS) are computed with."""

    def freeze(self: Frozen) -> Frozen:
        """To be called once the weights are in place."""
        self.requires_grad_(False)
        return self.eval()

    def train(self: Frozen, mode: bool = True) -> Frozen:
        """Stays in evaluation mode."""
        return super().train(False)

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {"name": self.name, "sha256": self.sha256, "canonical": self.canonical}


def as_rgb(images: Tensor) -> Tensor:
    """Three channels (N, 3, H, W), grey images repeated, float32.

    Raises:
        TypeError: if they are not of a floating-point type.
        ValueError: if there are neither one nor three channels, or `images.check_range` refuses the values.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"evaluation networks take images with 1 or 3 channels, got {images.shape[1]}")
    check_range(images, "images to be evaluated")
    return images.float().expand(-1, 3, -1, -1)
