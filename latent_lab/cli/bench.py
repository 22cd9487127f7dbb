"""`make bench`: images per second of a training step, of the data path and of the renderer, and speed of metrics.

Figures of one run on one machine belong side by side as ratios; absolute ones drift.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, IterableDataset

from latent_lab.callbacks.precision import multiplies_bfloat16
from latent_lab.cli.bench_latent import map_table, normality_table
from latent_lab.cli.bench_metrics import evaluation_table, extractor_table, statistics_table
from latent_lab.cli.console import quieten
from latent_lab.data import SyntheticFaces
from latent_lab.data.synthetic_renderer import render, sample_factors
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Pioneer
from latent_lab.types import ImageBatch


class _Timer(IterableDataset[ImageBatch]):
    """Yields the same random batch again and again, and notes when."""

    def __init__(self, batch_size: int, resolution: int, seconds: float) -> None:
        images = torch.rand(batch_size, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.batch = ImageBatch(images, torch.arange(batch_size))
        self.seconds = seconds
        self.ticks: list[float] = []

    def __iter__(self) -> Iterator[ImageBatch]:
        # Two steps to warm up, then at least three.
        while len(self.ticks) < 6 or self.ticks[-1] - self.ticks[2] < self.seconds:
            self.ticks.append(time.perf_counter())
            yield self.batch

    def images_per_second(self) -> float:
        steps = [after - before for before, after in zip(self.ticks[2:], self.ticks[3:], strict=False)]
        return len(self.batch.images) / statistics.median(steps)


def training_step(
    resolution: int, width: int, batch_size: int, *, bf16: bool, channels_last: bool, seconds: float
) -> float:
    """Images per second of Balanced Pioneer's step (encoder, generator, average) at full alpha."""
    schedule = GrowthSchedule([Stage(resolution, 1e6, batch_size, learning_rate=5e-4, margin=0.05)])
    phases = resolution.bit_length() - 2
    model = Pioneer(
        schedule, latent_dim=width, widths=[width] * phases, channels_last=channels_last, full_precision_below=4
    )
    timer = _Timer(batch_size, resolution, seconds)
    trainer = Trainer(accelerator="cpu", max_epochs=1, precision="bf16-mixed" if bf16 else "32-true", barebones=True)
    trainer.fit(model, DataLoader(timer, batch_size=None))
    return timer.images_per_second()


def _rate(step: Callable[[int], int], seconds: float) -> float:
    """Items per second of a function of the call's number that returns how many it made."""
    step(0)
    begin, made, call = time.perf_counter(), 0, 1
    while time.perf_counter() - begin < seconds:
        made += step(call)
        call += 1
    return made / (time.perf_counter() - begin)


def rendering(resolution: int, seconds: float) -> float:
    """Drawn faces per second, factors included, in batches of 64."""
    return _rate(lambda n: len(render(sample_factors(0, range(64 * n, 64 * n + 64)), resolution)), seconds)


def loading(resolution: int, seconds: float) -> float:
    """Images per second of the packed data path: shuffled, mirrored, as float batches of 64."""
    with tempfile.TemporaryDirectory() as cache:
        data = SyntheticFaces(num_images=2000, resolution=resolution, cache_dir=cache, epoch_kimg=1e6, mirror=True)
        batches = iter(data.training_loader(GrowthSchedule([Stage(resolution, 1e6, 64)])))
        return _rate(lambda _: len(next(batches).images), seconds)


def _layouts(precisions: Sequence[bool]) -> Iterator[tuple[bool, bool]]:
    """Whether a training step is in bfloat16, and whether its images are in the layout channels_last."""
    return itertools.product(precisions, (False, True))


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="measured time of each figure")
    parser.add_argument("--width", type=int, default=64, help="channels at every resolution")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file, too")
    arguments = parser.parse_args()
    quieten()
    lines: list[str] = []

    def say(*more: str) -> None:
        """At once, since the whole takes many minutes."""
        lines.extend(more)
        print(*more, sep="\n", flush=True)

    say(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads; Python "
        f"{platform.python_version()}, torch {torch.__version__}, lightning {lightning.__version__}. Images a second, "
        f"median step; width {arguments.width}, batch 64.",
        "",
    )
    precisions = (False, True) if multiplies_bfloat16("cpu") else (False,)
    names = [f"{'bf16' if bf16 else 'fp32'}{' channels_last' if last else ''}" for bf16, last in _layouts(precisions)]
    if len(precisions) == 1:
        say("This processor emulates bfloat16, many times slower than float32, so that bf16 is left out.", "")
    say(f"| training step | {' | '.join(names)} | best / fp32 |", "|---" * (len(names) + 2) + "|")
    for resolution in (4, 8, 16, 32):
        rates = [
            training_step(resolution, arguments.width, 64, bf16=bf16, channels_last=last, seconds=arguments.seconds)
            for bf16, last in _layouts(precisions)
        ]
        cells = " | ".join(f"{rate:.0f}" for rate in rates)
        say(f"| {resolution} px | {cells} | {max(rates) / rates[0]:.2f} |")
    say("", "| | 32 px | 64 px | 128 px |", "|---|---|---|---|")
    for name, measure in (("packed images loaded", loading), ("faces drawn", rendering)):
        cells = " | ".join(f"{measure(resolution, arguments.seconds):.0f}" for resolution in (32, 64, 128))
        say(f"| {name} | {cells} |")
    for of_metrics in (statistics_table, extractor_table, evaluation_table, normality_table, map_table):
        say("", *of_metrics(arguments.seconds))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
