"""Ends of a run: its last image, a signal, or a state that is not worth training on from."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from latent_lab import distributed
from latent_lab.callbacks.checkpointing import SaveCheckpoints

if TYPE_CHECKING:
    from latent_lab.callbacks.run_analysis import RunAnalysis


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


class StopEarly(Callback):
    """Ends a run whose quality, by a number of an analysis that is run while training, has ceased to improve.

    Every evaluation that is due while training counts; one that is made because the run ends does not, so that a run
    in several parts stops where an uninterrupted one does. At each new best value, however little better, everything is
    kept in `best.ckpt`; patience begins anew only where the value is better than the last such one by `min_delta`.

    Args:
        analyses: all that are run while training, this callback's predecessors.
        checkpoints: keep the best state.
        metric: name of a number as in metrics.jsonl, or the beginning of exactly one.
        mode: whether smaller or larger values are better.
        min_delta: a difference that counts.
        patience: evaluations without such a difference after which the run ends.
    """

    def __init__(
        self,
        analyses: Sequence[RunAnalysis],
        checkpoints: SaveCheckpoints,
        *,
        metric: str,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 0.0,
        patience: int = 3,
    ) -> None:
        self.analyses = analyses
        self.checkpoints = checkpoints
        self.metric = metric
        self.mode = mode
        self.min_delta = min_delta
        self.patience = patience
        self.best: float | None = None
        """The best value so far, of which `best.ckpt` is."""
        self.best_kimg = 0.0
        self.to_beat: float | None = None
        """The value against which `min_delta` is measured."""
        self.waited = 0
        """Evaluations since `to_beat`."""

    @property
    def state_key(self) -> str:
        """What was best by another number does not count for this one."""
        return f"StopEarly({self.metric!r}, {self.mode!r})"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was stopped stays so, unless patience has been lengthened."""
        self.stop_if_out_of_patience(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """After every step."""
        self.look(trainer, pl_module)

    def look(self, trainer: Any, model: Any) -> None:
        """Judges the number if an analysis has just found it.

        Args:
            trainer: is told to stop.
            model: for the clock.

        Raises:
            TrainingStopped: if the metric fits several numbers, or none once every analysis has shown its own.
        """
        fresh = [analysis for analysis in self.analyses if analysis.done_at == model.images_seen]
        if not fresh:
            return
        name = self._name_among({name for analysis in fresh for name in analysis.numbers})
        if name is not None:
            value = next(analysis.numbers[name] for analysis in fresh if name in analysis.numbers)
            self._judge(value, trainer, model)
            self.stop_if_out_of_patience(trainer, name)

    def _name_among(self, names: set[str]) -> str | None:
        """The one number that is meant, or none if it is still to come."""
        if self.metric in names:
            return self.metric
        fitting = sorted(name for name in names if name.startswith(self.metric))
        if len(fitting) > 1:
            raise TrainingStopped(
                f"run.early_stopping.metric {self.metric} fits {len(fitting)} numbers, {', '.join(fitting)}: write one "
                "of them in full"
            )
        if fitting:
            return fitting[0]
        known = sorted({name for analysis in self.analyses for name in analysis.numbers})
        still_to_come = any(analysis.interval.images and analysis.done_at < 0 for analysis in self.analyses)
        if not still_to_come and not any(name.startswith(self.metric) for name in known):
            raise TrainingStopped(
                f"run.early_stopping.metric {self.metric} is no number of the analyses of this run, which give "
                f"{', '.join(known) or 'none'}: write one of these, or add the analysis to run.analyses"
            )
        return None

    def _judge(self, value: float, trainer: Any, model: Any) -> None:
        # The first process decides: values on the others may differ in the last bit.
        if distributed.any_rank(distributed.rank() == 0 and self._is_better(value, self.to_beat, self.min_delta)):
            self.to_beat, self.waited = value, 0
        else:
            self.waited += 1
        if distributed.any_rank(distributed.rank() == 0 and self._is_better(value, self.best, 0.0)):
            self.best, self.best_kimg = value, model.images_seen / 1000
            self.checkpoints.save_best(trainer, model)

    def _is_better(self, value: float, than: float | None, by: float) -> bool:
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value < than - by if self.mode == "min" else value > than + by

    def stop_if_out_of_patience(self, trainer: Any, name: str | None = None) -> None:
        """Ends the run where it is due, and says why."""
        if self.waited < self.patience:
            return
        trainer.should_stop = True
        if distributed.rank() == 0:
            best = "never was a number" if self.best is None else f"was best, {self.best:g}, at {self.best_kimg:g} kimg"
            print(
                f"latent-lab: stopped early: {name or self.metric} {best} and has not improved by {self.min_delta:g} "
                f"in {self.waited} evaluations; {self.checkpoints.best} holds the best state",
                file=sys.stderr,
            )

    def state_dict(self) -> dict[str, Any]:
        """What was best, and the patience that is left."""
        return {"best": self.best, "best_kimg": self.best_kimg, "to_beat": self.to_beat, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.best, self.best_kimg = state_dict["best"], state_dict["best_kimg"]
        self.to_beat, self.waited = state_dict["to_beat"], state_dict["waited"]


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


_ACCURACIES = ("train/discriminator/accuracy_real", "train/discriminator/accuracy_fake")
_SURE = 0.99
"""A discriminator is sure when it is right about this share of the images, real ones and generated ones each."""


class Guard(Callback):
    """Stops a run whose losses are no longer numbers, or whose samples have become all alike.

    Collapse: the deviation of a batch of samples stays below `collapse_ratio` of the real images' for
    `collapse_patience_kimg`. An untrained, spectrally normalised generator is that flat as well, hence the patience.

    A discriminator that is right about nearly every image for that long teaches its generator little: said once, in one
    sentence, each time it begins. The run goes on, for it may recover.

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
        self.sure_since: int | None = None
        self.warned = False

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
        self._warn_of_a_sure_discriminator(averages, images_seen)
        fake, real = averages.get("train/images/fake_deviation"), averages.get("train/images/real_deviation")
        if fake is None or real is None or fake >= self.collapse_ratio * real:
            self.flat_since = None
            return
        self.flat_since = images_seen if self.flat_since is None else self.flat_since
        if images_seen - self.flat_since >= self.patience_images:
            raise TrainingStopped(
                f"the samples have been all alike (deviation {fake:.4f}, real images {real:.4f}) since "
                f"{self.flat_since / 1000:.1f} kimg; {self._last_good()}: try another seed, a smaller learning_rate, a "
                "longer last resolution, or a tighter margin"
            )

    def _warn_of_a_sure_discriminator(self, averages: Mapping[str, float], images_seen: int) -> None:
        found = [averages[name] for name in _ACCURACIES if name in averages]
        if not found or min(found) < _SURE:
            self.sure_since, self.warned = None, False
            return
        self.sure_since = images_seen if self.sure_since is None else self.sure_since
        if self.warned or images_seen - self.sure_since < self.patience_images:
            return
        self.warned = True
        if distributed.rank() == 0:
            print(
                f"latent-lab: the discriminator has been right about {100 * min(found):.1f} % of real and generated "
                f"images since {self.sure_since / 1000:.1f} kimg, so the generator learns little from it: try another "
                "seed, a smaller learning_rate, narrower discriminator_widths, or dropout",
                file=sys.stderr,
            )

    def state_dict(self) -> dict[str, Any]:
        """Since when samples have been flat and the discriminator sure."""
        return {"flat_since": self.flat_since, "sure_since": self.sure_since, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned; a run that was begun without it may lack the second part."""
        self.flat_since = state_dict["flat_since"]
        self.sure_since, self.warned = state_dict.get("sure_since"), state_dict.get("warned", False)

    def _last_good(self) -> str:
        if self.checkpoints.saved_kimg is None:
            return "nothing was saved before"
        return f"the last good state, of {self.checkpoints.saved_kimg:.1f} kimg, is {self.checkpoints.last}"
