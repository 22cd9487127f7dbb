"""Checkpoint files: written whole or not at all, and made of models that no run of this package trained."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast

import torch
from typing_extensions import Buffer

from latent_lab.models.base import CHECKPOINT_KEY, LatentModel


def write_atomically(content: Any, path: Path) -> None:
    """torch.save to a temporary name in the same folder, then a rename: readers see the old file or the whole new one.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the temporary file is gone then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Unbuffered, so that a write fails where it is made.
        with temporary.open("wb", buffering=0) as file:
            written = _Remembering(file)
            try:
                torch.save(content, cast("IO[bytes]", written))
            except RuntimeError as error:
                # torch's zip writer turns a failed write into an error of its own, which does not say why.
                raise written.failure or OSError(errno.EIO, str(error).splitlines()[0]) from error
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


class _Remembering:
    """A file that knows why it could not be written.

    Args:
        file: open for writing, unbuffered.
    """

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Writes everything; a short write of the system is continued, so that it ends in success or in its error."""
        rest = memoryview(data).cast("B")
        total = len(rest)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.failure = error
            raise
        return total

    def flush(self) -> None:
        """Nothing is held back."""


def save_model(model: LatentModel, path: Path, *, imported: Mapping[str, Any]) -> None:
    """Writes a checkpoint of a model that did not come out of a run: weights and recipe, no state of training.

    Args:
        model: with its final weights.
        path: of the file; its folder is made if it is absent.
        imported: plain data on where the weights come from.

    Raises:
        OSError: if it cannot be written.
    """
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    checkpoint[CHECKPOINT_KEY]["imported"] = dict(imported)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(checkpoint, path)
