"""Checkpoints that are whole or absent, say what they are, and let a run go on exactly."""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning_utilities.core.rank_zero import rank_zero_only, rank_zero_warn

from latent_lab import distributed
from latent_lab.callbacks.pacing import EveryKimg
from latent_lab.models.saving import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin with atomic writes and without unpickling."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes one file."""
        del storage_options
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(checkpoint, target)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads one file; plain data only, whatever the caller asks for."""
        del weights_only
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class SaveCheckpoints(Callback):
    """Keeps `last.ckpt`, one file for the end of each resolution, and `best.ckpt` for early stopping.

    Args:
        folder: of the checkpoints.
        every_kimg: how often `last.ckpt` is renewed; it also is at the start, at every new resolution and at the end.
    """

    def __init__(self, folder: Path, every_kimg: float | None) -> None:
        self.folder = folder
        self.interval = EveryKimg(every_kimg)
        self.saved_kimg: float | None = None
        self._before = 0
        self._resolution = 0

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best value of the number that early stopping watches."""
        return self.folder / "best.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the untrained model of a fresh run, which also shows a full disk before hours are spent."""
        model: Any = pl_module
        self._before, self._resolution = model.images_seen, model.resolution
        self._remove_leftovers()
        if model.images_seen == 0:
            self.save(trainer, pl_module, must_succeed=True)
        else:
            self.saved_kimg = model.images_seen / 1000

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves when a multiple of the interval or the end of a resolution is passed."""
        model: Any = pl_module
        before, self._before = self._before, model.images_seen
        grown = model.resolution != self._resolution
        if grown or self.interval.due(before, model.images_seen):
            self.save(trainer, pl_module)
        if grown:
            self._keep(f"{self._resolution}px.ckpt")
            self._resolution = model.resolution

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the end of the run."""
        self.save(trainer, pl_module, must_succeed=True)

    def save(self, trainer: Trainer, model: Any, *, must_succeed: bool = False) -> None:
        """Renews `last.ckpt`; a disk that is full leaves the old one as it is.

        Args:
            trainer: with the state.
            model: for the clock.
            must_succeed: raise instead of warn; there is no later chance.

        Raises:
            OSError: if `must_succeed` and the file cannot be written.
        """
        failure: OSError | None = None
        try:
            trainer.save_checkpoint(self.last)
        except OSError as error:
            failure = error
        if not distributed.any_rank(failure is not None):
            self.saved_kimg = model.images_seen / 1000
            return
        reason = (failure.strerror or str(failure)) if failure else "another process could not write"
        kimg = model.images_seen / 1000
        sentence = f"the checkpoint at {kimg:.1f} kimg could not be saved to {self.folder}: {reason}"
        if must_succeed:
            raise OSError(failure.errno if failure else errno.EIO, f"{sentence}; free some space and use --resume auto")
        rank_zero_warn(f"{sentence}; training goes on, and the next save is tried as planned")

    def save_best(self, trainer: Trainer, model: Any) -> None:
        """Renews `last.ckpt` and keeps it as `best.ckpt`, too; every process calls it."""
        self.save(trainer, model)
        if self.saved_kimg == model.images_seen / 1000:
            self._keep(self.best.name)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the random states; drops Lightning's loop counters.

        The clock is the number of images seen. Lightning's own counters would make a run that resumes within an epoch
        skip or repeat its end.
        """
        checkpoint.pop("loops", None)
        checkpoint["random_states"] = _gather_random_states()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes the random states back, each rank its own."""
        states = checkpoint.get("random_states", [])
        if distributed.rank() < len(states):
            _set_random_state(states[distributed.rank()])

    @rank_zero_only
    def _keep(self, name: str) -> None:
        if self.last.is_file():
            temporary = self.folder / f".{name}.tmp"
            try:
                shutil.copyfile(self.last, temporary)
                temporary.replace(self.folder / name)
            except OSError as error:
                rank_zero_warn(f"{name} could not be kept: {error.strerror or error}; training goes on")

    @rank_zero_only
    def _remove_leftovers(self) -> None:
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)


def _random_state() -> dict[str, Any]:
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 (the global state, for whoever uses it)
    kind, keys, position, has_gauss, cached = legacy
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _gather_random_states() -> list[dict[str, Any]]:
    own = _random_state()
    if not distributed.is_distributed():
        return [own]
    states: list[Any] = [None] * distributed.world_size()
    torch.distributed.all_gather_object(states, own)
    return states
