"""Ends of a run: its last image, a signal, or a state that is not worth training on from."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from latent_lab import distributed
from latent_lab.callbacks.checkpointing import SaveCheckpoints


class GracefulStop(Exception):
    """A signal ended the run after its state was saved.

    Args:
        number: of the signal.
        checkpoint: what was saved.
        kimg: progress.
    """

    def __init__(self, number: int, checkpoint: Path, kimg: float) -> None:
        self.signal = signal.Signals(number)
        self.checkpoint = checkpoint
        super().__init__(
            f"stopped by {self.signal.name} at {kimg:.1f} kimg; everything is in {checkpoint}, "
            "continue with --resume auto"
        )


class TrainingStopped(Exception):
    """A guard ended the run; the message says why, where the last good state is and what to try."""


class StopAtTheEnd(Callback):
    """Ends the run once the model has seen `max_images`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that resumes at its end has nothing left to do."""
        self._check(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """After every step."""
        self._check(trainer, pl_module)

    @staticmethod
    def _check(trainer: Trainer, model: Any) -> None:
        if model.images_seen >= model.max_images:
            trainer.should_stop = True


class StopOnSignal(Callback):
    """On SIGTERM or Ctrl-C: finish the step, save everything, leave.

    Args:
        checkpoints: saves the state.
    """

    # With several processes the flag is exchanged, which costs a synchronisation: not in every step.
    EXCHANGE_EVERY = 8

    def __init__(self, checkpoints: SaveCheckpoints) -> None:
        self.checkpoints = checkpoints
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the signals; Lightning has set its own handlers by now."""
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:  # not in the main thread, as in some notebooks: signals are then the host's business
                return

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """After every step."""
        batch_idx = args[-1]
        if distributed.is_distributed():
            if batch_idx % self.EXCHANGE_EVERY or not distributed.any_rank(self.received is not None):
                return
        elif self.received is None:
            return
        self.checkpoints.save(trainer, pl_module)
        model: Any = pl_module
        raise GracefulStop(self.received or signal.SIGTERM, self.checkpoints.last, model.images_seen / 1000)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the step to end
        self.received = number

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class Guard(Callback):
    """Stops a run whose losses are no longer numbers, or whose samples have become all alike.

    Collapse: the deviation of a batch of samples stays below `collapse_ratio` of the real images' for
    `collapse_patience_kimg`. An untrained, spectrally normalised generator is that flat as well, hence the patience.

    Args:
        checkpoints: knows the last good state.
        collapse_ratio: of the deviations over a batch, in [0, 1); 0 switches the test off.
        collapse_patience_kimg: how long that must last.
    """

    def __init__(
        self, checkpoints: SaveCheckpoints, *, collapse_ratio: float = 0.03, collapse_patience_kimg: float = 30.0
    ) -> None:
        self.checkpoints = checkpoints
        self.collapse_ratio = collapse_ratio
        self.patience_images = 1000 * collapse_patience_kimg
        self.flat_since: int | None = None

    def judge(self, averages: Mapping[str, float], images_seen: int) -> None:
        """Looks at the statistics of a stretch of training.

        Args:
            averages: by name, over ranks and steps.
            images_seen: now.

        Raises:
            TrainingStopped: with one sentence.
        """
        broken = [name for name, value in averages.items() if not math.isfinite(value)]
        if broken:
            raise TrainingStopped(
                f"{broken[0]} is no longer a number at {images_seen / 1000:.1f} kimg; {self._last_good()}: try a "
                "smaller learning_rate, another seed, or full_precision_below at a higher resolution"
            )
        fake, real = averages.get("train/images/fake_deviation"), averages.get("train/images/real_deviation")
        if fake is None or real is None or fake >= self.collapse_ratio * real:
            self.flat_since = None
            return
        self.flat_since = images_seen if self.flat_since is None else self.flat_since
        if images_seen - self.flat_since >= self.patience_images:
            raise TrainingStopped(
                f"the samples have been all alike (deviation {fake:.4f}, real images {real:.4f}) since "
                f"{self.flat_since / 1000:.1f} kimg; {self._last_good()}: try another seed, a longer last resolution, "
                "or a tighter margin"
            )

    def state_dict(self) -> dict[str, Any]:
        """Since when samples have been flat."""
        return {"flat_since": self.flat_since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.flat_since = state_dict["flat_since"]

    def _last_good(self) -> str:
        if self.checkpoints.saved_kimg is None:
            return "nothing was saved before"
        return f"the last good state, of {self.checkpoints.saved_kimg:.1f} kimg, is {self.checkpoints.last}"
