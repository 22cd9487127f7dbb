"""The contract of an importer: a file of another program in, a model of this package out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import LatentModel
from latent_lab.models.saving import save_model
from latent_lab.networks.pretrained import sha256_of


class AbstractFormat(ABC):
    """One kind of file of another program. Subclasses are frozen dataclasses of their options."""

    name: ClassVar[str]
    """As on the command line: `latent-lab import NAME FILE --out X`."""
    suffix: ClassVar[str]
    """How the name of what is written ends."""

    @abstractmethod
    def run(self, path: Path, out: Path) -> list[str]:
        """Writes the file in this package's form and says in a line or two what is in it and what was left out.

        Args:
            path: of the published file.
            out: of the new one.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: with one sentence, if the file is of another format or holds something else.
        """


@dataclass(frozen=True)
class Converted:
    """A model that was read from a published file."""

    model: LatentModel
    dropped: Sequence[str] = ()
    """Names of what else is in the file, and why the model does not need it."""
    further_files: Sequence[Path] = ()
    """Files beside the published one that were read, too."""
    absent: Sequence[str] = ()
    """What of the model is not in the file, and what stands there instead."""


class AbstractImporter(AbstractFormat):
    """A format whose files hold a model."""

    suffix: ClassVar[str] = ".ckpt"

    @abstractmethod
    def read(self, path: Path) -> LatentModel:
        """The model in the file, strictly: every array is used, and every weight on which its images depend comes from
        the file.

        Raises:
            ValueError: with one sentence, if the file is of another format or holds another network.
        """

    def convert(self, path: Path) -> Converted:
        """The model and what of the file it does without; by default that is nothing."""
        return Converted(self.read(path))

    def __call__(self, path: Path, out: Path) -> LatentModel:
        """Writes a native checkpoint and returns its model; otherwise as `run`."""
        return self._write(path, out).model

    def run(self, path: Path, out: Path) -> list[str]:
        """See `AbstractFormat`."""
        converted = self._write(path, out)
        model = converted.model
        count = sum(parameter.numel() for parameter in model.parameters())
        progress = f", after {model.images_seen:,} images" if model.images_seen else ""
        summary = (
            f"{out}: {type(model).__name__}, {model.resolution} px, {model.channels} channels, "
            f"{model.latent_space.dim} latents, {count:,} parameters{progress}"
        )
        return [
            summary,
            *(f"dropped: {what}" for what in converted.dropped),
            *(f"not in the file: {what}" for what in converted.absent),
        ]

    def _write(self, path: Path, out: Path) -> Converted:
        check_is_there(path)
        converted = self.convert(path)
        imported = {
            "format": self.name,
            "file": path.name,
            "sha256": sha256_of(path),
            "further_files": {file.name: sha256_of(file) for file in converted.further_files},
            "dropped": list(converted.dropped),
            "absent": list(converted.absent),
        }
        save_model(converted.model.eval(), out, imported=imported)
        return converted


def check_is_there(path: Path) -> None:
    """Raises FileNotFoundError with one sentence unless the path is a file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to import")


def schedule_of(resolution: int) -> GrowthSchedule:
    """What an imported recipe says of its training, which its file does not tell: only the resolution counts."""
    return GrowthSchedule([Stage(resolution, kimg=1.0, batch_size=100, learning_rate=1e-4)])
