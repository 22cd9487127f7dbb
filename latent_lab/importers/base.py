"""The contract of an importer: a file of another program in, a model of this package out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import LatentModel
from latent_lab.models.saving import save_model


class AbstractImporter(ABC):
    """Reads one format. Subclasses are frozen dataclasses of their options."""

    name: ClassVar[str]
    """As on the command line: `latent-lab import NAME FILE --out X.ckpt`."""

    @abstractmethod
    def read(self, path: Path) -> LatentModel:
        """The model in the file, strictly: every array is used and every weight comes from the file.

        Raises:
            ValueError: with one sentence, if the file is of another format or holds another network.
        """

    def __call__(self, path: Path, out: Path) -> LatentModel:
        """Writes a native checkpoint and returns its model.

        Args:
            path: of the published file.
            out: of the checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: with one sentence, if the file is of another format or holds another network.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path} to import")
        model = self.read(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        save_model(model.eval(), out, imported={"format": self.name, "file": path.name, "sha256": digest})
        return model


def schedule_of(resolution: int) -> GrowthSchedule:
    """What an imported recipe says of its training, which its file does not tell: only the resolution counts."""
    return GrowthSchedule([Stage(resolution, kimg=1.0, batch_size=100, learning_rate=1e-4)])
