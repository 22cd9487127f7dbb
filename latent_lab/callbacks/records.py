"""What a run tells while it goes: averaged statistics to TensorBoard, metrics.jsonl and the console."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from latent_lab import distributed
from latent_lab.callbacks.pacing import EveryKimg
from latent_lab.callbacks.stopping import Guard
from latent_lab.types import Images


class Records:
    """Where numbers and pictures of a run go; the x axis is real images seen, everywhere.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "metrics.jsonl"

    def forget_after(self, images_seen: int) -> None:
        """Drops lines that a resumed run will write again."""
        if not self.path.is_file() or distributed.rank() != 0:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _images_of(line) is not None and (_images_of(line) or 0) <= images_seen]
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)

    def numbers(self, trainer: Trainer, values: Mapping[str, float], images_seen: int) -> None:
        """One line of metrics.jsonl and one point of each curve."""
        if distributed.rank() != 0:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"images": images_seen, "kimg": images_seen / 1000, **values}) + "\n")
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step=images_seen)

    def picture(self, trainer: Trainer, name: str, sheet: Images, images_seen: int) -> None:
        """A sheet (1, C, H, W) for TensorBoard; the PNG is the caller's business."""
        if distributed.rank() != 0:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, sheet[0].clamp(-1, 1).add(1).div(2), images_seen)


def _images_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):
        return None  # the half line of a killed process


class RecordStatistics(Callback):
    """Averages what training steps return over `every_kimg`, hands it to the guard, writes it and shows it.

    Args:
        records: where numbers go.
        every_kimg: length of a stretch.
        guard: judges every stretch before it is written.
        progress: whether the console shows progress.
    """

    def __init__(self, records: Records, every_kimg: float, guard: Guard, *, progress: bool = True) -> None:
        self.records = records
        self.interval = EveryKimg(every_kimg)
        self.guard = guard
        self.console = _ConsoleProgress() if progress else None
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._before = 0
        self._clock = (0.0, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        model: Any = pl_module
        self._before = model.images_seen
        self._clock = (time.monotonic(), model.images_seen)
        self.records.forget_after(model.images_seen)
        if self.console and distributed.rank() == 0:
            self.console.start(model.images_seen, model.max_images)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the step; at the end of a stretch, judges, writes and shows."""
        model: Any = pl_module
        for name, value in outputs.items():
            total = value.detach().double() if value.device.type != "mps" else value.detach().float()
            self._sums[name] = self._sums[name] + total if name in self._sums else total.clone()
        self._steps += 1
        before, self._before = self._before, model.images_seen
        if self.interval.due(before, model.images_seen) or model.images_seen >= model.max_images:
            self._finish_stretch(trainer, model)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation is not training time."""
        model: Any = pl_module
        self._clock = (time.monotonic(), model.images_seen)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the progress display."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the progress display."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """The unfinished stretch, so that a resumed run writes the same averages."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self._sums, self._steps = dict(state_dict["sums"]), state_dict["steps"]

    def _finish_stretch(self, trainer: Trainer, model: Any) -> None:
        names = sorted(self._sums)
        device = model.device
        total = torch.stack([self._sums[name].to(device) for name in names]) / self._steps
        averages = dict(zip(names, distributed.mean_over_ranks(total).tolist(), strict=True))
        self._sums, self._steps = {}, 0
        self.guard.judge(averages, model.images_seen)
        now, (since, images_then) = time.monotonic(), self._clock
        speed = (model.images_seen - images_then) / max(now - since, 1e-9)
        self._clock = (now, model.images_seen)
        state = model.now
        values = averages | {
            "growth/resolution": float(state.resolution),
            "growth/alpha": state.alpha,
            "growth/level_of_detail": state.level_of_detail,
            "speed/images_per_second": speed,
        }
        self.records.numbers(trainer, values, model.images_seen)
        if self.console and distributed.rank() == 0:
            self.console.show(model, averages, speed)

    def _close(self) -> None:
        if self.console:
            self.console.close()


class _ConsoleProgress:
    """One line: a bar in a terminal, a printed line per stretch elsewhere."""

    def __init__(self) -> None:
        self._interactive = sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0

    def start(self, images_seen: int, max_images: int) -> None:
        if not self._interactive:
            return
        self._bar = Progress(
            TextColumn("{task.fields[text]}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True)
        )
        self._task = self._bar.add_task("", total=max_images, completed=images_seen, text="starting")
        self._bar.start()

    def show(self, model: Any, averages: Mapping[str, float], speed: float) -> None:
        state = model.now
        losses = "  ".join(
            f"{name.removeprefix('train/').replace('/', ' ')} {averages[name]:.3f}"
            for name in model.progress_names
            if name in averages
        )
        left = (model.max_images - model.images_seen) / max(speed, 1e-9)
        text = (
            f"{model.images_seen / 1000:.1f}/{model.max_images / 1000:g} kimg  {state.resolution} px  "
            f"alpha {state.alpha:.2f}  {losses}  {speed:.0f} images/s  {_duration(left)} left"
        )
        if self._bar:
            self._bar.update(self._task, completed=model.images_seen, text=text)
        elif time.monotonic() - self._last_line >= 5 or model.images_seen >= model.max_images:
            print(text, file=sys.stderr, flush=True)
            self._last_line = time.monotonic()

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}m{rest:02d}"
