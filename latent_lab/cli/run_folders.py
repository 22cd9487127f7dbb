"""What a run has left in its folder: checkpoints, curves, pictures made while training, results measured later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from latent_lab.analyses.comparing import RESULT_FILE, Recorded, read_result
from latent_lab.cli.configuration import Configuration, read_configuration
from latent_lab.cli.errors import InputError
from latent_lab.images import cut_grid, double, halve, load_png
from latent_lab.plotting import labelled_rows, read_records
from latent_lab.types import Images, OtherImages

_SIDE = 64
"""Pixels of an image in the pictures over time."""
_PICTURE = re.compile(r"(?P<stem>.+)-(?P<kimg>\d{6}\.\d)k\.png")
_PAIRED = "reconstructions"
"""Stem of the sheets whose rows come in pairs."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, begun by `fit`."""

    path: Path

    @property
    def name(self) -> str:
        """What people call the run."""
        return self.path.resolve().name

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint.

        Raises:
            InputError: if there is none.
        """
        last = self.path / "checkpoints" / "last.ckpt"
        if last.is_file():
            return last
        others = sorted(last.parent.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        if not others:
            raise InputError(
                f"{self.path} holds no checkpoint yet: train with `latent-lab fit --run-dir {self.path} --resume auto`"
            )
        return others[-1]

    @cached_property
    def curves(self) -> Mapping[str, tuple[list[float], list[float]]]:
        """Name -> (kimg, values) of what was recorded; empty if nothing was."""
        records = self.path / "metrics.jsonl"
        return read_records(records) if records.is_file() else {}

    @property
    def configuration(self) -> Configuration:
        """What the run was begun with, or last continued with."""
        resumed = sorted(self.path.glob("config.resume-*.yaml"), key=lambda path: int(path.stem.rpartition("-")[2]))
        return read_configuration([self.path / "config.yaml", *resumed][-1])

    @property
    def environment(self) -> str:
        """environment.txt: command, versions, machine; empty if there is none."""
        path = self.path / "environment.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def pictures(self) -> Mapping[str, Sequence[tuple[float, Path]]]:
        """Stem -> (kimg, file) of the pictures that analyses made while training, in their order."""
        found: dict[str, list[tuple[float, Path]]] = {}
        for path in sorted((self.path / "pictures").glob("*.png")):
            match = _PICTURE.fullmatch(path.name)
            if match is not None:
                found.setdefault(match["stem"], []).append((float(match["kimg"]), path))
        return found


def run_folder_of(path: Path) -> RunFolder | None:
    """The run that a folder or a checkpoint in it belongs to, if any."""
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else None
    return RunFolder(folder) if folder is not None and (folder / "config.yaml").is_file() else None


def results_in(folder: Path) -> list[tuple[Path, Recorded]]:
    """Results in the folders of a folder, with these, the latest written last; damaged ones are left out."""
    found = []
    for path in sorted(folder.glob(f"*/{RESULT_FILE}"), key=lambda path: path.stat().st_mtime):
        try:
            found.append((path.parent, read_result(path.parent)))
        except ValueError:
            continue
    return found


def over_time(pictures: Sequence[tuple[float, Path]], stem: str, most: int = 8) -> OtherImages | None:
    """The first row of sheets of the same latents or images at several moments, one below the other.

    Args:
        pictures: (kimg, file) in their order.
        stem: of the files; of reconstructions the first two rows are taken.
        most: moments that are shown, evenly spaced, with the first and the last.

    Returns:
        A picture (1, 3, H, W); none if the pictures are no sheets of images.

    Raises:
        ValueError: if a file is damaged.
    """
    last = len(pictures) - 1
    places = sorted({round(place * last / (most - 1)) for place in range(most)}) if last >= most else range(last + 1)
    rows = 2 if stem == _PAIRED else 1
    blocks: dict[str, Images] = {}
    widths = set()
    for place in places:
        kimg, path = pictures[place]
        cut = cut_grid(load_png(path))
        if cut is None:
            return None
        images, columns = cut
        widths.add(columns)
        blocks[f"{kimg:g} kimg"] = _at_side(images[: columns * rows])
    # Somebody changed the options of the analysis on the way: such rows do not belong under each other.
    return labelled_rows(blocks, widths.pop()) if len(widths) == 1 else None


def _at_side(images: Images) -> OtherImages:
    """Enlarged by repetition, or reduced by means, to `_SIDE` pixels."""
    while images.shape[-1] < _SIDE:
        images = double(images)
    while images.shape[-1] > _SIDE:
        images = halve(images)
    return images


def some_of(pictures: Mapping[str, Sequence[tuple[float, Path]]], most: int) -> list[str]:
    """At most so many stems: samples and reconstructions first."""
    first = [stem for stem in ("samples", _PAIRED) if stem in pictures]
    return [*first, *(stem for stem in pictures if stem not in first)][:most]


__all__ = ["RunFolder", "over_time", "results_in", "run_folder_of", "some_of"]
