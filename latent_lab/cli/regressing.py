"""`latent-lab train-regressor`: the instrument that measures what edits and mixtures change."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from latent_lab.analyses.label_regression import RegressorTraining, train_regressor
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.configuration import (
    Configuration,
    find_configuration,
    overrides_as_configuration,
    read_configuration,
)
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import join_devices
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from latent_lab.networks.label_regressor import LabelRegressor

_SECONDS_BETWEEN_LINES = 5.0


def regressor_training(words: Sequence[str]) -> type[RegressorTraining]:
    """Whose fields are options of the command."""
    del words
    return RegressorTraining


def train(arguments: Arguments) -> None:
    """Trains on the training split, measures on the validation split, writes one file and prints a table."""
    quieten()
    if arguments.words:
        raise InputError(f"train-regressor takes no bare word, got {arguments.words[0]}: write --config NAME.yaml")
    out = arguments.text("out")
    if out is None or not out.endswith(".safetensors"):
        raise InputError(f"train-regressor needs --out FILE.safetensors, got {out or 'none'}")
    settings = RegressorTraining(**arguments_from(arguments.options, RegressorTraining))
    device = join_devices(arguments).device
    data = recipes.build_data(_data_of(arguments))
    data.prepare_data()
    data.setup()
    train_images, held_out = data.source("train"), data.source("val")
    progress = _Progress(settings.kimg)
    regressor = train_regressor(train_images, held_out, data.resolution, settings, device=device, report=progress)
    progress.end()
    path = Path(out).expanduser()
    regressor.save(path)
    print(quality_table(regressor))
    say(f"written to {path}")


def quality_table(regressor: LabelRegressor) -> str:
    """Label, what it is, and how well it is estimated on held-out images."""
    rows = [("label", "kind", "held-out", "images", "")]
    for name, binary in zip(regressor.names, regressor.binary.tolist(), strict=True):
        figures = regressor.facts["quality"][name]
        measure = "auc" if binary else "r2"
        figure = f"{'AUC' if binary else 'R^2'} {figures[measure]:6.3f}" if measure in figures else "all are the same"
        remark = "" if name in regressor.reliable else "poor, left out of leakage"
        rows.append((name, "yes or no" if binary else "number", figure, str(figures["count"]), remark))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _data_of(arguments: Arguments) -> Configuration:
    """The data of the configurations or of the checkpoint, with what the command line changes.

    Raises:
        InputError: if neither or both are named, or there is no data.
    """
    names, checkpoint = arguments.options.get("config", []), arguments.text("ckpt")
    if bool(names) == (checkpoint is not None):
        raise InputError("train-regressor needs the data of one of --config NAME.yaml and --ckpt FILE")
    if checkpoint is not None:
        described = read_checkpoint(checkpoint)[CHECKPOINT_KEY]
        layers: list[Configuration] = [{"data": described["data"]}] if described["data"] is not None else []
    else:
        layers = [read_configuration(find_configuration(name)) for name in names]
    configuration = recipes.compose([*layers, overrides_as_configuration(arguments.overrides)])
    if "model" in configuration:
        configuration = recipes.with_resolution_of_schedule(configuration, recipes.build_model(configuration))
    return configuration


class _Progress:
    """A line that says how far the training is, every few seconds.

    Args:
        kimg: thousands of images until the end.
    """

    def __init__(self, kimg: float) -> None:
        self.kimg = kimg
        self.begin = self.latest = time.perf_counter()
        self.shown = False

    def __call__(self, images: int, loss: float) -> None:
        """After a step."""
        now = time.perf_counter()
        if now - self.latest < _SECONDS_BETWEEN_LINES:
            return
        self.latest, self.shown = now, True
        pace = images / (now - self.begin)
        left = max(0.0, 1000 * self.kimg - images) / pace
        line = f"{images / 1000:.1f} of {self.kimg:g} kimg, loss {loss:.3f}, {pace:.0f} images/s, {left:.0f} s left"
        print(f"\rlatent-lab: {line}   ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line."""
        if self.shown:
            print(file=sys.stderr)


__all__ = ["quality_table", "regressor_training", "train"]
