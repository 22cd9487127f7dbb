"""`latent-lab chain label`: ages of a folder's images, estimated, as the table of labels by which domains are told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import images as conversions
from latent_lab.analyses.feeding import batches, device_of
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import say
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import join_devices
from latent_lab.data.domains import PUBLISHED_AGES
from latent_lab.data.framing import Framing
from latent_lab.data.readers import OddFile, UnreadableImage, list_images, read_image
from latent_lab.networks.age_estimation import AbstractAgeEstimator, find_age_estimator

COLUMNS = ("file", "age")
_NAMED = 3

Square: TypeAlias = Float[Tensor, "1 3 _ _"]
"""An image of any size."""


@dataclass(frozen=True)
class Labelling:
    """Options of `chain label`."""

    estimator: str = "dlib_age"
    """What estimates ages: dlib_age, regressor, drawn (drawn discs), or the import path of a network of your own."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is in the central square: celeba, celeba_narrow, ffhq or utkface."""
    largest: int = 512
    """Pixels per side to which larger images are reduced first; smaller ones are seen at their own size."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        if self.largest < 1 or self.batch_size < 1:
            raise ValueError(f"largest and batch_size must be at least 1, got {self.largest} and {self.batch_size}")


@dataclass(frozen=True)
class Labels:
    """Estimated ages of the images that could be read, NaN where the estimator gave none."""

    names: Sequence[str]
    """Relative to their folder, sorted."""
    ages: np.ndarray
    """Years, (N,) float64."""
    odd_files: Sequence[OddFile]
    """Files that could not be read."""

    @property
    def unknown(self) -> list[str]:
        """Images without an age."""
        return [name for name, age in zip(self.names, self.ages.tolist(), strict=True) if np.isnan(age)]


def label(words: Sequence[str], arguments: Arguments) -> None:
    """Estimates the age of every image below a folder and writes the table; says how many each published domain gets.

    Raises:
        InputError: if there is not one folder, no --out FILE.csv or one that exists, or no image has an age.
    """
    if len(words) != 1:
        raise InputError("chain label needs the folder of the images: latent-lab chain label FOLDER --out labels.csv")
    out = arguments.text("out")
    if out is None or not out.endswith(".csv"):
        raise InputError(f"chain label needs --out FILE.csv, got {out or 'none'}")
    path = Path(out).expanduser()
    if path.exists():
        raise InputError(f"{path} exists, and its labels may be known and not estimated: write to another file")
    options = Labelling(**arguments_from(arguments.options, Labelling))
    found = find_age_estimator(options.estimator, options.estimator_path, box=options.estimator_box)
    estimator = found.to(join_devices(arguments).device)
    root = Path(words[0]).expanduser()
    with progress_on_console():
        labels = estimated_labels(root, estimator, options)
    for odd in labels.odd_files:
        say(f"skipped {odd}")
    known = labels.ages[~np.isnan(labels.ages)]
    if not len(known):
        raise InputError(
            f"the age estimator {estimator.label} gave no age for any of the {len(labels.names)} images that can be "
            f"read in {root}: there is nothing to be written"
        )
    if labels.unknown:
        named = ", ".join(labels.unknown[:_NAMED]) + (", ..." if len(labels.unknown) > _NAMED else "")
        say(
            f"note: the age estimator {estimator.label} gave no age for {len(labels.unknown)} of {len(labels.names)} "
            f"images ({named}): their age is left empty, so they are in no domain"
        )
    write_labels(path, labels, estimator, options)
    print(domains_table(known))
    say(f"{len(known)} ages by {estimator.label}: written to {path}, use it with --data.images.init_args.labels {path}")


def estimated_labels(root: Path, estimator: AbstractAgeEstimator, options: Labelling) -> Labels:
    """Ages of all images below a folder, each seen as its largest centred square.

    Args:
        root: folder; images may lie in folders below it.
        estimator: of ages, on the device where it computes.
        options: of the command.

    Raises:
        ValueError: if there is no image file, or none can be read.
    """
    files = list_images(root)
    names: list[str] = []
    ages: list[float] = []
    odd_files: list[OddFile] = []
    for piece in batches(range(len(files)), options.batch_size, "ages estimated"):
        squares: dict[str, Square] = {}
        for name in files[piece.start : piece.stop]:
            try:
                squares[name] = _square(root / name, options.largest)
            except UnreadableImage as error:
                odd_files.append(OddFile(name, str(error)))
        ages += _ages(list(squares.values()), estimator)
        names += squares
    if not names:
        raise ValueError(f"{root} holds no readable image, the first file is {odd_files[0]}")
    return Labels(names, np.array(ages, dtype=np.float64), odd_files)


def write_labels(path: Path, labels: Labels, estimator: AbstractAgeEstimator, options: Labelling) -> None:
    """The table with columns file and age, and beside it how the ages came about, each whole or not at all.

    Args:
        path: of the table; the other file's name has the further ending .json.
        labels: to be written, ages with two decimals.
        estimator: that made them.
        options: of the command.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (name, "" if np.isnan(age) else f"{age:.2f}") for name, age in zip(labels.names, labels.ages, strict=True)
    )
    known = labels.ages[~np.isnan(labels.ages)]
    facts = {
        "estimator": estimator.describe(),
        "framing": Framing().settings,
        "largest": options.largest,
        "num_images": len(labels.names),
        "num_without_age": len(labels.unknown),
        "num_unreadable": len(labels.odd_files),
        "mean": known.mean(),
        "deviation": known.std(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.json")
    for file, text in ((beside, json.dumps(facts, indent=2) + "\n"), (path, table.getvalue())):
        temporary = file.with_name(f".{file.name}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8", newline="")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def domains_table(ages: np.ndarray) -> str:
    """How many of the ages (N,) are in each of the published domains, and their means, one line for each.

    Args:
        ages: years, finite.
    """
    rows = [("domain", "images", "mean age")]
    left = np.ones(len(ages), dtype=bool)
    for domain in PUBLISHED_AGES:
        inside = (ages >= domain.lower) & (ages < domain.upper)
        left &= ~inside
        rows.append((str(domain), str(inside.sum()), f"{ages[inside].mean():.1f}" if inside.any() else ""))
    rows.append(("in none of them", str(left.sum()), f"{ages[left].mean():.1f}" if left.any() else ""))
    rows.append(("all", str(len(ages)), f"{ages.mean():.1f}"))
    first = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{first}}  {count:>6}  {mean:>8}".rstrip() for name, count, mean in rows)


def _square(path: Path, largest: int) -> Square:
    """An image's largest centred square (1, 3, S, S) in [-1, 1]."""
    pixels = read_image(path)[0]
    side = min(*pixels.shape[:2], largest)
    return conversions.from_bytes(torch.from_numpy(Framing().levels(pixels, [side])[side].copy())[None])


def _ages(squares: Sequence[Square], estimator: AbstractAgeEstimator) -> list[float]:
    """Of squares of any sizes, those of one size together."""
    found = [float("nan")] * len(squares)
    for size in dict.fromkeys(square.shape for square in squares):
        places = [place for place, square in enumerate(squares) if square.shape == size]
        stacked = torch.cat([squares[place] for place in places]).to(device_of(estimator))
        for place, age in zip(places, estimator.estimates(stacked).tolist(), strict=True):
            found[place] = age
    return found


__all__ = ["Labelling", "Labels", "domains_table", "estimated_labels", "label", "write_labels"]
