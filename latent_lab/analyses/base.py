"""The contract of an analysis: what it needs, what it returns, how a result is kept.

An analysis says what is fed to which metric and which figures come out. It is a frozen dataclass whose fields are its
options, so one definition gives the Python call, the callback, the command line and the help text.
"""

from __future__ import annotations

import dataclasses
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from latent_lab import distributed, images
from latent_lab.latent.interfaces import AbstractDecoder, require
from latent_lab.progress import phase
from latent_lab.types import Images, ImageSource

Table: TypeAlias = Sequence[Sequence[str | float]]
"""Rows of cells, the first row its heads; numbers where something was measured."""


@dataclass(frozen=True)
class Result:
    """Numbers and pictures of one analysis, with the protocol that makes them comparable."""

    analysis: str
    numbers: Mapping[str, float]
    """Names state the protocol: `fd_efflite0_clean_5k`, `ppl_z_end`."""
    protocol: Mapping[str, Any]
    """Plain data: sample counts, resize, extractor and its sha256, data recipe and split, seed, checkpoint."""
    pictures: Mapping[str, Images] = field(default_factory=dict)
    """File stem -> sheet (1, C, H, W) in [-1, 1]."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    """Title -> rows, for what is read better in columns than one number below the other."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Name of a number -> (low, high); how they came about stands in the protocol under "intervals"."""
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """File name -> writer of that path, for what other programs or later commands open: maps, directions."""
    sections: Mapping[str, Result] = field(default_factory=dict)
    """Title -> result of an analysis that this one consists of; saved in a folder of that analysis's name."""

    def save(self, folder: Path) -> None:
        """Writes result.json, one PNG per picture, and further files; only the first process writes."""
        if distributed.rank() != 0:
            return
        folder.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"analysis": self.analysis, "numbers": dict(self.numbers)}
        if self.intervals:
            record["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        record["protocol"] = dict(self.protocol)
        if self.tables:
            record["tables"] = {title: [list(row) for row in rows] for title, rows in self.tables.items()}
        temporary = folder / "result.json.tmp"
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder / "result.json")
        for stem, sheet in self.pictures.items():
            images.save_png(folder / f"{stem}.png", sheet, description=json.dumps(record["protocol"]))
        for name, write in self.files.items():
            write(folder / name)
        for section in self.sections.values():
            section.save(folder / section.analysis)


def file_stem(name: str) -> str:
    """A name without what file names cannot have."""
    return re.sub(r"[^\w.+-]+", "_", name)


class AbstractAnalysis(ABC):
    """Something that can be done with any model of a certain kind. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    """As on the command line: `latent-lab analyze NAME`."""
    requires: ClassVar[type] = AbstractDecoder
    """The interface that a model must offer."""
    needs_images: ClassVar[bool] = False
    """Whether `run` reads real images."""
    needs_reference: ClassVar[bool] = False
    """Whether `run` reads training images, too: the source is then a `HeldOut` wherever there are some."""
    reference_beside_own_images: ClassVar[bool] = False
    """Whether it does so even where somebody names images of their own."""

    def __call__(self, model: Any, source: ImageSource | None = None) -> Result:
        """Checks the inputs, runs, and adds the options to the protocol.

        Args:
            model: offers `requires`; it is used in evaluation mode, on its own device, and left as it was found.
            source: real images, for analyses that need them.

        Raises:
            TypeError: if the model does not offer what the analysis needs.
            ValueError: if images are needed and none were given.
        """
        require(model, self.requires, by=self.name)
        if self.needs_images and source is None:
            raise ValueError(f"{self.name} compares with real images and was given none: name a data set or a folder")
        was_training = getattr(model, "training", False)
        if was_training:
            model.eval()
        try:
            with phase(self.name):
                result = self.run(model, source)
        finally:
            if was_training:
                model.train()
        protocol = {"options": dataclasses.asdict(self), **result.protocol}  # type: ignore[call-overload]
        if source is not None:
            protocol["data"] = dict(source.recipe)
        return dataclasses.replace(result, protocol=protocol)

    def look_ahead(self, model: Any) -> tuple[str, ...]:
        """Finds out before long work begins what would fail after it; computes nothing.

        Args:
            model: with which the analysis will be called, or a later state of it.

        Returns:
            Sentences for whoever waits, such as which networks take the place of absent ones.

        Raises:
            TypeError: if the model does not offer what the analysis needs.
            ValueError: if weights or other files that it needs are absent or damaged.
        """
        require(model, self.requires, by=self.name)
        return ()

    @abstractmethod
    def run(self, model: Any, source: ImageSource | None) -> Result:
        """Does the work; called on every process, each of which does its share."""
