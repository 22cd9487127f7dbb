"""`latent-lab check`: what a configuration will need, measured in a minute before hours are spent on it."""

from __future__ import annotations

import itertools
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from latent_lab import images
from latent_lab.analyses import HeldOut
from latent_lab.analyses.base import Table
from latent_lab.callbacks import AnalysisPlan
from latent_lab.callbacks.run import build_analysis
from latent_lab.callbacks.stopping import StopAtTheEnd
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten, say
from latent_lab.cli.devices import check_accelerator
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.training import Run, prepare_run, schedule_table
from latent_lab.growth import GrowthSchedule, images_of
from latent_lab.plotting import schedule_panels
from latent_lab.types import Images

_WARM_UP = 2
_LEAST_STEPS = 3


@dataclass(frozen=True)
class CheckOptions:
    """What `check` measures."""

    seconds: float = 3.0
    """Measured time for each row of the schedule."""
    analyses: bool = True
    """Whether every analysis of the run is tried once, at the last resolution, with weights that know nothing."""

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")


@dataclass(frozen=True)
class Row:
    """One row of the schedule, measured in its middle."""

    resolution: int
    batch_size: int
    images: int
    """Length of the row."""
    images_per_second: float
    loaded_per_second: float
    """Images per second of the data alone."""
    memory: int
    """Bytes: the most that was allocated on the device; on a CPU, the most that the process has held so far."""

    @property
    def seconds(self) -> float:
        """Time of the whole row."""
        return self.images / self.images_per_second


class _Clock(Callback):
    """Notes when steps end, and ends the run after enough of them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ticks: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.ticks.append(time.perf_counter())
        measured = self.ticks[_WARM_UP:]
        if len(measured) > _LEAST_STEPS and measured[-1] - measured[0] >= self.seconds:
            trainer.should_stop = True

    def seconds_per_step(self) -> float:
        """Median over the steps after the first ones."""
        measured = self.ticks[_WARM_UP:]
        return statistics.median(after - before for before, after in itertools.pairwise(measured))


def check_options(words: Sequence[str]) -> type[CheckOptions]:
    """Whose fields are options of the command."""
    del words
    return CheckOptions


def check(arguments: Arguments) -> int:
    """Measures, prints, and draws the schedule. Nothing of a run is written."""
    if arguments.words:
        raise InputError(f"check takes no bare word, got {arguments.words[0]}: write --config {arguments.words[0]}")
    options = CheckOptions(**arguments_from(arguments.options, CheckOptions))
    quieten()
    run = prepare_run(arguments)
    check_accelerator(str(run.trainer_options.get("accelerator", "auto")), "--trainer.accelerator")
    for remark in run.remarks:
        say(f"note: {remark}")
    if int(run.trainer_options.get("num_nodes", 1)) > 1 or run.trainer_options.get("devices", 1) not in (1, "1"):
        say("note: one device is measured; several share each batch, and images per second grow at most as many times")
    run.data.prepare_data()
    run.data.setup()
    print(run.data.describe(), end="\n\n")
    print(schedule_table(run.model.schedule), end="\n\n")
    with tempfile.TemporaryDirectory() as scratch:
        rows, checkpoint = _measure(run, options, Path(scratch))
    limit = run.model.schedule.total_kimg if run.options.max_kimg is None else run.options.max_kimg
    print("\n".join(aligned(rows_table(rows))), end="\n\n")
    training = seconds_until(run.model.schedule, rows, images_of(limit))
    costs = _analysis_costs(run, limit) if options.analyses and run.options.analyses else []
    if costs:
        head = ("analysis", "once", "times", "together")
        print("\n".join(aligned([head, *((c.name, duration(c.once), str(c.times), duration(c.total)) for c in costs)])))
        print()
    analysing = sum(cost.total for cost in costs)
    print(f"time to {limit:g} kimg: {duration(training + analysing)}, of which analyses {duration(analysing)}")
    free = shutil.disk_usage(_existing(run.folder)).free
    kept = 1 + len(run.model.schedule.resolutions)
    print(f"a checkpoint: {size(checkpoint)}; a run keeps up to {kept}: {size(kept * checkpoint)}; free: {size(free)}")
    out = Path(arguments.text("out") or Path("results") / f"check-{run.folder.name}").expanduser()
    out.mkdir(parents=True, exist_ok=True)
    images.save_png(out / "schedule.png", schedule_picture(run.model.schedule), description="growth schedule")
    say(f"written to {out / 'schedule.png'}")
    if free < kept * checkpoint:
        raise InputError(
            f"{run.folder} has {size(free)} free, its checkpoints need {size(kept * checkpoint)}: make room"
        )
    return 0


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _measure(run: Run, options: CheckOptions, scratch: Path) -> tuple[list[Row], int]:
    """Rows of the schedule up to the run's end, and bytes of a checkpoint with the state of training."""
    schedule = run.model.schedule
    limit = images_of(schedule.total_kimg if run.options.max_kimg is None else run.options.max_kimg)
    found: list[Row] = []
    begin, checkpoint = 0, 0
    for number, stage in enumerate(schedule.stages):
        length = min(images_of(stage.kimg), limit - begin)
        if length <= 0:
            break
        middle = begin + length // 2
        if middle > run.model.images_seen:
            run.model.advance(middle - run.model.images_seen)
        # Steps of the next row would be measured as this one's.
        run.model.max_images = begin + length
        clock = _Clock(options.seconds)
        trainer = _trainer(run, clock)
        _forget_peak()
        trainer.fit(run.model, datamodule=run.data)
        if len(clock.ticks) < _WARM_UP + 2:
            raise InputError(
                f"row {number + 1} of the schedule ends after {len(clock.ticks)} steps, too few to be measured: it is "
                f"{length} images long, in batches of {stage.batch_size}"
            )
        rate = stage.batch_size / clock.seconds_per_step()
        loaded = _loading(run, middle, min(1.0, options.seconds))
        found.append(Row(stage.resolution, stage.batch_size, length, rate, loaded, _peak()))
        trainer.save_checkpoint(scratch / "checkpoint.ckpt")
        checkpoint = max(checkpoint, (scratch / "checkpoint.ckpt").stat().st_size)
        begin += length
    return found, checkpoint


def _trainer(run: Run, clock: _Clock) -> Trainer:
    """As the run's, on one device, writing nothing."""
    given = {**run.trainer_options, "devices": 1, "num_nodes": 1}
    given.pop("strategy", None)
    return Trainer(
        **{
            **given,
            "callbacks": [clock, StopAtTheEnd()],
            "max_epochs": -1,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
        }
    )


def _loading(run: Run, start: int, seconds: float) -> float:
    """Images per second of the data alone."""
    batches = iter(run.data.training_loader(run.model.schedule, start))
    next(batches)
    begin, made = time.perf_counter(), 0
    for batch in batches:
        made += len(batch.images)
        if time.perf_counter() - begin >= seconds:
            break
    return made / (time.perf_counter() - begin)


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True)
class _Cost:
    name: str
    once: float
    times: int

    @property
    def total(self) -> float:
        return self.once * self.times


def _analysis_costs(run: Run, limit_kimg: float) -> list[_Cost]:
    """Every analysis of the run, tried once."""
    model = run.model.eval()
    costs = []
    for plan in run.options.analyses:
        analysis = build_analysis(plan.name, plan.options)
        source = HeldOut(run.data.source(plan.split), run.data.source("train")) if analysis.needs_images else None
        begin = time.perf_counter()
        with progress_on_console():
            analysis(model, source)
        costs.append(_Cost(plan.name, time.perf_counter() - begin, times_of(plan, limit_kimg)))
    return costs


def times_of(plan: AnalysisPlan, limit_kimg: float) -> int:
    """How often a run does an analysis: at every multiple of its interval, and at the end."""
    if plan.every_kimg is None:
        return 1
    whole = int(limit_kimg // plan.every_kimg)
    return whole if whole * plan.every_kimg == limit_kimg else whole + 1


def seconds_until(schedule: GrowthSchedule, rows: Sequence[Row], limit: int) -> float:
    """Time of training to a number of images; the last row goes on as long as need be."""
    beyond = max(0, limit - images_of(schedule.total_kimg))
    return sum(row.seconds for row in rows) + beyond / rows[-1].images_per_second


def schedule_picture(schedule: GrowthSchedule) -> Images:
    """The whole schedule as a figure (1, 3, H, W)."""
    total = images_of(schedule.total_kimg)
    states = [schedule.at(min(total - 1, step * total // 1000)) for step in range(1001)]
    return schedule_panels(
        [state.images_seen / 1000 for state in states],
        [state.resolution for state in states],
        [state.alpha < 1.0 and state.phase > states[0].phase for state in states],
        {
            "batch": [float(state.batch_size) for state in states],
            "learning rate": [state.learning_rate for state in states],
        },
    )


def rows_table(rows: Sequence[Row]) -> Table:
    """For people."""
    head = ("pixels", "batch", "kimg", "images/s", "data alone", "peak memory", "time")
    return [
        head,
        *(
            (
                str(row.resolution),
                str(row.batch_size),
                f"{row.images / 1000:g}",
                f"{row.images_per_second:.3g}",
                f"{row.loaded_per_second:.3g}",
                size(row.memory),
                duration(row.seconds),
            )
            for row in rows
        ),
    ]


def aligned(rows: Table) -> list[str]:
    """Lines with columns that stand to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell!s:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def duration(seconds: float) -> str:
    """What a person plans with: "3.2 s", "4 min", "2.5 h", "3.1 days"."""
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.2g} {unit}" if seconds / divisor < 10 else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.2g} days" if seconds < 864000 else f"{seconds / 86400:.0f} days"


def size(count: int) -> str:
    """Bytes in units of 1000: "3.5 MB"."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count} B"
