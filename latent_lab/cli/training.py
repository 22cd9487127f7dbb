"""`latent-lab fit`."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from latent_lab import distributed
from latent_lab.analyses import ANALYSES
from latent_lab.callbacks import AnalysisPlan, GracefulStop, RunOptions, TrainingStopped, build_trainer
from latent_lab.callbacks.precision import warning_of
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.configuration import (
    Configuration,
    differences,
    find_configuration,
    overrides_as_configuration,
    read_configuration,
)
from latent_lab.cli.console import is_first_process, quieten, say
from latent_lab.cli.devices import check_accelerator
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import conform_dataclass
from latent_lab.cli.yaml_text import parse_yaml, write_yaml
from latent_lab.data import AbstractImageData
from latent_lab.data.pyramid import is_pack
from latent_lab.growth import GrowthSchedule
from latent_lab.models import LatentModel
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint, resolve_checkpoint
from latent_lab.plotting import plot_curves, read_records

STOPPED_BY_GUARD = 3
"""Exit code when a guard ended the run."""


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    checkpoint: Path | None = None
    content: Mapping[str, Any] | None = None
    """Of the checkpoint."""

    @property
    def recipes(self) -> Configuration:
        """Model and data of the checkpoint."""
        if self.content is None:
            return {}
        described = self.content[CHECKPOINT_KEY]
        return {section: described[section] for section in ("model", "data") if described[section] is not None}


@dataclass(frozen=True)
class Run:
    """Everything that `fit` needs, built and checked."""

    model: LatentModel
    data: AbstractImageData
    options: RunOptions
    trainer_options: dict[str, Any]
    folder: Path
    start: Start
    remarks: Sequence[str] = ()
    """What analyses say that will be run while training."""

    @property
    def configuration(self) -> Configuration:
        """Complete: it alone reproduces the run."""
        return {
            "model": self.model.recipe,
            "data": self.data.recipe,
            "run": dataclasses.asdict(self.options) | {"dir": str(self.folder)},
            "trainer": self.trainer_options,
        }

    @property
    def changes(self) -> list[str]:
        """What differs from the checkpoint that is resumed."""
        there = self.start.recipes
        return [
            *recipes.changes("model", there.get("model"), self.model.recipe),
            *recipes.changes("data", there.get("data"), self.data.recipe),
        ]


def fit(arguments: Arguments) -> int:
    """Trains, or resumes, or only says what it would do."""
    if arguments.words:
        raise InputError(f"fit takes no bare word, got {arguments.words[0]}: write --config {arguments.words[0]}")
    run = prepare_run(arguments)
    if arguments.options.get("dry-run"):
        if run.data.root is None or not is_pack(run.data.root):
            run.data.plan()
        _say_remarks(run)
        print(write_yaml(run.configuration))
        print(schedule_table(run.model.schedule))
        return 0
    last = run.folder / "checkpoints" / "last.ckpt"
    # The further processes of a distributed run start when the first one may have saved already.
    if run.start.checkpoint is None and last.exists() and is_first_process():
        raise InputError(f"{run.folder} holds a run: continue it with --resume auto, or choose another --run-dir")
    return train(run)


def train(run: Run) -> int:
    """Runs to the end, a signal or a guard; returns the exit code."""
    quieten()
    check_accelerator(str(run.trainer_options.get("accelerator", "auto")), "--trainer.accelerator")
    if is_first_process():
        # What is wrong with the data shows before anything is written.
        run.data.prepare_data()
    trainer = build_trainer(run.trainer_options, run.options, run.folder)
    slow = warning_of(run.trainer_options.get("precision"), str(run.trainer_options.get("accelerator", "auto")))
    if slow is not None and is_first_process():
        say(slow)
    _say_changes(run)
    _say_remarks(run)
    _write_records(run)
    try:
        # Of analyses, above the bar of training.
        with progress_on_console(bars=False):
            trainer.fit(run.model, datamodule=run.data, ckpt_path=run.start.checkpoint, weights_only=True)
    except GracefulStop as stop:
        say(str(stop))
        return 128 + int(stop.signal)
    except TrainingStopped as stop:
        say(str(stop))
        return STOPPED_BY_GUARD
    distributed.leave()
    _draw_curves(run)
    say(f"finished at {run.model.images_seen / 1000:g} kimg: {run.folder / 'checkpoints' / 'last.ckpt'}")
    return 0


def prepare_run(arguments: Arguments) -> Run:
    """Reads, merges, checks and builds everything.

    Raises:
        InputError: for whatever is wrong with it, before anything is written.
    """
    names = arguments.options.get("config", [])
    layers = [read_configuration(find_configuration(name)) for name in names]
    layers.append(overrides_as_configuration(arguments.overrides))
    resume = arguments.text("resume") or "no"
    folder = _folder_of(layers, names, resume)
    if resume == "auto" and not names:
        layers = [*(read_configuration(path) for path in _recorded(folder)[-1:]), *layers]
    start = find_start(resume, folder)
    configuration = recipes.with_seed(recipes.compose([start.recipes, *layers]), arguments.text("seed"))
    if start.content is not None:
        recipes.check_same_model(start.content[CHECKPOINT_KEY]["model"], configuration)
    options, trainer_options = recipes.run_options(configuration), recipes.trainer_options(configuration)
    model = recipes.build_model(configuration)
    data = recipes.build_data(recipes.with_resolution_of_schedule(configuration, model))
    target = model.schedule.resolution
    if target > data.resolution:
        raise InputError(
            f"the schedule grows to {target} px, but data.resolution is {data.resolution}: set it to {target}, or "
            "shorten model.schedule"
        )
    recipes.check_same_channels(model, data)
    recipes.check_same_domains(model, data)
    run = Run(model, data, options, trainer_options, folder, start, remarks_of(options.analyses, model))
    if start.content is not None:
        changed = recipes.changes("model", start.recipes["model"], model.recipe)
        recipes.check_same_structure(model, start.content["state_dict"], changed)
    return run


def remarks_of(plans: Sequence[AnalysisPlan], model: LatentModel) -> list[str]:
    """What analyses say before a model is trained, such as which networks they measure with.

    Raises:
        InputError: if there is no such analysis, or it has no such option.
        TypeError: if the model does not offer what one of them needs.
        ValueError: if weights or files of one of them are absent.
    """
    remarks: list[str] = []
    for number, plan in enumerate(plans):
        if plan.name not in ANALYSES:
            raise InputError(f"run.analyses.{number}: there is no analysis {plan.name}: {closest(plan.name, ANALYSES)}")
        key = f"run.analyses.{number}.options"
        analysis = conform_dataclass(plan.options, ANALYSES[plan.name], key, name=f"analysis {plan.name}")
        remarks += analysis.look_ahead(model)
    return remarks


def _folder_of(layers: list[Configuration], names: list[str], resume: str) -> Path:
    """The folder that the last layer names, else runs/ and the first configuration's name."""
    named = [layer["run"]["dir"] for layer in layers if layer.get("run", {}).get("dir") is not None]
    if named:
        return Path(named[-1]).expanduser()
    if names:
        return Path("runs") / Path(names[0]).stem
    if resume not in ("auto", "no") and Path(resume).parent.name == "checkpoints":
        return Path(resume).parents[1]
    raise InputError("nothing says what to train: give --config NAME.yaml (`latent-lab configs` lists them)")


# ---------------------------------------------------------------------------------------------------------- resume


def find_start(resume: str, folder: Path) -> Start:
    """The checkpoint to go on from.

    Args:
        resume: "no", "auto", or a checkpoint.
        folder: of the run.

    Raises:
        InputError: if there are checkpoints and none can be read.
    """
    if resume == "no":
        return Start()
    if resume != "auto":
        content = read_checkpoint(resume)
        if "optimizer_states" not in content:
            raise InputError(f"{resume} holds weights without a state of training, so it cannot be continued")
        return Start(resolve_checkpoint(resume), content)
    last = folder / "checkpoints" / "last.ckpt"
    candidates = sorted(last.parent.glob("*.ckpt"), key=lambda path: (path == last, path.stat().st_mtime), reverse=True)
    for candidate in candidates:
        try:
            return Start(candidate, read_checkpoint(candidate))
        except ValueError as error:
            say(str(error))
    if candidates:
        raise InputError(f"no checkpoint in {last.parent} can be read: choose another --run-dir to begin again")
    return Start()


# --------------------------------------------------------------------------------------------------------- records


def schedule_table(schedule: GrowthSchedule) -> str:
    """The rows of a schedule with where they begin and end."""
    rows = [("kimg", "pixels", "batch", "rate", "margin", "fade")]
    begin = 0.0
    for stage in schedule.stages:
        end = begin + stage.kimg
        rate_end = "" if stage.learning_rate_end is None else f" to {stage.learning_rate_end:g}"
        rows.append(
            (
                f"{begin:g} - {end:g}",
                str(stage.resolution),
                str(stage.batch_size),
                f"{stage.learning_rate:g}{rate_end}",
                "none" if stage.margin is None else f"{stage.margin:g}",
                f"{stage.fade_kimg:g} kimg" if stage.fade_kimg else "none",
            )
        )
        begin = end
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def _say_remarks(run: Run) -> None:
    for remark in run.remarks:
        say(f"note: {remark}")


def _say_changes(run: Run) -> None:
    if run.start.content is not None:
        seen = run.start.content[CHECKPOINT_KEY]["images_seen"]
        say(f"continuing {run.start.checkpoint} from {seen / 1000:g} kimg")
        for line in run.changes:
            say(f"changed: {line}")


def _write_records(run: Run) -> None:
    """config.yaml and environment.txt; what a resumed run changes goes beside them, nothing is overwritten."""
    if not is_first_process():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    text = write_yaml(run.configuration)
    (run.folder / "environment.txt").write_text(environment(), encoding="utf-8")
    path = run.folder / "config.yaml"
    if run.start.checkpoint is None or not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    earlier = _recorded(run.folder)
    before, after = read_configuration(earlier[-1]), parse_yaml(text)
    if before == after:
        return
    for section in ("run", "trainer"):
        for line in differences(before.get(section, {}), after[section], section):
            say(f"changed: {line}")
    (run.folder / f"config.resume-{len(earlier)}.yaml").write_text(text, encoding="utf-8")


def _recorded(folder: Path) -> list[Path]:
    """The configurations with which a run was begun and continued, in that order."""
    begun = [path for path in (folder / "config.yaml",) if path.is_file()]
    return [*begun, *sorted(folder.glob("config.resume-*.yaml"), key=lambda path: int(path.stem.rpartition("-")[2]))]


def _draw_curves(run: Run) -> None:
    """curves.png of metrics.jsonl, by the first process."""
    records = run.folder / "metrics.jsonl"
    if is_first_process() and records.is_file():
        plot_curves(read_records(records), run.model.curve_panels, run.folder / "curves.png")


def environment() -> str:
    """Versions, machine and source revision, for whoever wants the same numbers again."""
    packages = ("latent-lab", "torch", "torchvision", "lightning", "numpy", "scipy")
    lines = [f"command: {' '.join(sys.argv)}", f"python: {platform.python_version()}", f"system: {platform.platform()}"]
    lines += [f"{name}: {metadata.version(name)}" for name in packages if _is_installed(name)]
    return "\n".join([*lines, f"revision: {_revision()}"]) + "\n"


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _revision() -> str:
    checkout = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        if not (checkout / ".git").exists():
            return "none (not a source checkout)"
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
