"""What is to be packed: names, splits, labels, and a function that reads images as levels of a resolution pyramid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from latent_lab.data.framing import Framing, Level, resolutions_up_to
from latent_lab.data.labels import read_labels
from latent_lab.data.readers import OddFile, UnreadableImage, list_images, read_image
from latent_lab.data.splits import Split, split_names

PACKING_VERSION = 1
"""Raised whenever the same plan would give other pixels, so that old packs are not mistaken for new ones."""


@dataclass(frozen=True)
class PackedRow:
    """One image as it goes into a pack."""

    levels: Mapping[int, Level]
    codec: str
    """Format of the source file, since metrics see compression: "JPEG", "PNG", "H5", ..."""
    enlarged: bool = False
    """Whether the source has fewer pixels than the largest level."""


@dataclass(frozen=True)
class PackingPlan:
    """Everything that decides what a pack contains."""

    names: Sequence[str]
    """One for each image, in order."""
    split: Split
    resolutions: tuple[int, ...]
    """Pixels per side, ascending."""
    read: Callable[[range], Sequence[PackedRow | OddFile]]
    """Reads images by their places; called from several threads at once."""
    settings: Mapping[str, Any]
    """Plain data: what was read and how it is processed. Goes into the recipe, so no path of a machine."""
    fingerprint: str
    """Changes when the source's files change."""
    channels: int = 3
    """Of every level: 3 for colour, 1 for grey."""
    label_names: tuple[str, ...] = ()
    labels: Float32[np.ndarray, "N K"] | None = None
    pose: Float32[np.ndarray, "N 4 4"] | None = None
    """Camera-to-object matrices."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the report."""

    @property
    def key(self) -> str:
        """Name of the pack in the cache: a digest of settings, files, splits, labels and channels."""
        plain = {
            "version": PACKING_VERSION,
            "settings": dict(self.settings),
            "fingerprint": self.fingerprint,
            "resolutions": self.resolutions,
            "label_names": self.label_names,
            "split": {name: list(places) for name, places in self.split.items()},
        }
        if self.channels != 3:  # colour packs keep the names that they had before there were others
            plain["channels"] = self.channels
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for array in (self.labels, self.pose):
            digest.update(b"" if array is None else array.tobytes())
        return digest.hexdigest()[:16]


def fingerprint_of(root: Path, names: Sequence[str]) -> str:
    """Digest of the files' names, sizes and times of change."""
    digest = hashlib.sha256()
    for name in names:
        status = (root / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_reader(
    root: Path, names: Sequence[str], framing: Framing, resolutions: tuple[int, ...]
) -> Callable[[range], Sequence[PackedRow | OddFile]]:
    """A plan's `read` for image files below a folder."""

    def read_one(name: str) -> PackedRow | OddFile:
        try:
            pixels, codec = read_image(root / name)
            levels = framing.levels(pixels, resolutions)
        except UnreadableImage as error:
            return OddFile(name, str(error))
        return PackedRow(levels, codec, enlarged=framing.enlarges(pixels, resolutions[-1]))

    return lambda places: [read_one(names[place]) for place in places]


def files_plan(
    root: Path,
    names: Sequence[str],
    split: Split,
    resolution: int,
    framing: Framing,
    *,
    settings: Mapping[str, Any],
    label_names: tuple[str, ...] = (),
    labels: Float32[np.ndarray, "N K"] | None = None,
    pose: Float32[np.ndarray, "N 4 4"] | None = None,
    notes: Sequence[str] = (),
) -> PackingPlan:
    """The plan for named image files below a folder; those that belong to no split are left out, and a note says so.

    Args:
        root: folder of the names.
        names: relative file names.
        split: places in `names`.
        resolution: of the largest level, 4 * 2^k pixels.
        framing: crop and reduction.
        settings: plain data for the recipe, beside the framing's.
        label_names: columns of `labels`.
        labels: a row for each name.
        pose: a camera-to-object matrix for each name.
        notes: sentences for the report.
    """
    used = sorted(set().union(*split.values()))
    row_of = {place: row for row, place in enumerate(used)}
    kept = [names[place] for place in used]
    resolutions = resolutions_up_to(resolution)
    left_out = len(names) - len(kept)
    return PackingPlan(
        names=kept,
        split={part: [row_of[place] for place in places] for part, places in split.items()},
        resolutions=resolutions,
        read=file_reader(root, kept, framing, resolutions),
        settings={**settings, **framing.settings},
        fingerprint=fingerprint_of(root, kept),
        label_names=label_names,
        labels=labels[used] if labels is not None and label_names else None,
        pose=None if pose is None else pose[used],
        notes=(*notes, f"{left_out} images belong to no split and are left out.") if left_out else tuple(notes),
    )


def folder_plan(
    root: Path,
    resolution: int,
    framing: Framing,
    *,
    labels: Path | None = None,
    split: str = "auto",
    holdout: int | float = 1000,
    max_images: int | None = None,
) -> PackingPlan:
    """The plan for any folder of image files.

    Args:
        root: folder; images may lie in folders below it.
        resolution: of the largest level, 4 * 2^k pixels.
        framing: crop and reduction.
        labels: CSV file with a column `file`; see `read_labels`.
        split: see `split_names`.
        holdout: number of images held out by the split "last", or their share if it is below 1.
        max_images: use only the first so many names.

    Raises:
        ValueError: if folder, labels or split do not fit; the sentence says what to write instead.
    """
    names = list_images(root)[:max_images]
    table = None if labels is None else read_labels(labels, names)
    return files_plan(
        root,
        names,
        split_names(names, split, holdout=holdout, column=table.split if table else None),
        resolution,
        framing,
        settings={"source": root.resolve().name, "split_rule": split},
        label_names=table.label_names if table else (),
        labels=table.values if table else None,
        notes=table.notes if table else (),
    )


__all__ = [
    "PACKING_VERSION",
    "PackedRow",
    "PackingPlan",
    "file_reader",
    "files_plan",
    "fingerprint_of",
    "folder_plan",
]
