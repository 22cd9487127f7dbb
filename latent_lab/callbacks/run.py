"""The options of a run, and the trainer and callbacks made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from latent_lab.analyses import ANALYSES
from latent_lab.callbacks.checkpointing import AtomicCheckpointIO, SaveCheckpoints
from latent_lab.callbacks.records import Records, RecordStatistics
from latent_lab.callbacks.run_analysis import RunAnalysis
from latent_lab.callbacks.stopping import Guard, StopAtTheEnd, StopEarly, StopOnSignal
from latent_lab.growth import images_of


@dataclass(frozen=True)
class AnalysisPlan:
    """An analysis that is run while training."""

    name: str
    """As in `latent-lab analyze NAME`."""
    every_kimg: float | None = None
    """How often; null: only at the end."""
    split: Literal["train", "val", "test", "unseen_views"] = "val"
    """Of the data, for analyses that read real images; unseen_views where the data holds out whole views."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the analysis."""


def default_pictures() -> list[AnalysisPlan]:
    """Samples, reconstructions and interpolations, always of the same latents and inputs."""
    return [AnalysisPlan(name, every_kimg=50) for name in ("sample", "reconstruct", "interpolate")]


@dataclass(frozen=True)
class EarlyStopping:
    """When a run ends because a number of one of its analyses no longer improves."""

    metric: str
    """Name of the number as in metrics.jsonl (val/fid_clean_1k), or the beginning of exactly one (val/fid)."""
    mode: Literal["min", "max"] = "min"
    """Whether smaller or larger is better."""
    min_delta: float = 1.0
    """An improvement that counts; 1 is the latent comparison's, for FID on validation images."""
    patience: int = 3
    """Evaluations without one after which the run ends; 3 is the latent comparison's."""

    def __post_init__(self) -> None:
        if not self.metric:
            raise ValueError("early_stopping.metric is empty: write the name of a number, such as val/fid")
        if self.min_delta < 0:
            raise ValueError(f"early_stopping.min_delta must not be negative, got {self.min_delta}")
        if self.patience < 1:
            raise ValueError(f"early_stopping.patience must be at least 1 evaluation, got {self.patience}")


@dataclass(frozen=True)
class RunOptions:
    """Section `run` of a configuration."""

    dir: str | None = None
    """Folder of the run; null: runs/ and the first configuration's name."""
    max_kimg: float | None = None
    """Thousands of real images after which the run ends; null: the schedule's total."""
    checkpoint_kimg: float | None = 50.0
    """How often checkpoints/last.ckpt is renewed; it also is at every new resolution and at the end."""
    record_kimg: float = 2.0
    """Length of the stretches over which statistics are averaged."""
    analyses: Sequence[AnalysisPlan] = field(default_factory=default_pictures)
    """What is run while training."""
    early_stopping: EarlyStopping | None = None
    """Whether the run ends when a number of an analysis no longer improves; null: it goes on to max_kimg."""
    collapse_ratio: float = 0.03
    """The run stops when samples vary less than this share of the real images ...; 0: never."""
    collapse_patience_kimg: float = 30.0
    """... for this long."""
    progress: bool = True
    """Show progress on the console."""


def build_callbacks(options: RunOptions, folder: Path) -> list[Callback]:
    """All callbacks of a run, in the order in which they act.

    Raises:
        ValueError: if a plan names no analysis, or early stopping has none to watch.
    """
    checkpoints = SaveCheckpoints(folder / "checkpoints", options.checkpoint_kimg)
    guard = Guard(
        checkpoints,
        collapse_ratio=options.collapse_ratio,
        collapse_patience_kimg=options.collapse_patience_kimg,
    )
    records = Records(folder)
    analyses = [
        RunAnalysis(
            build_analysis(plan.name, plan.options),
            records,
            folder / "pictures",
            every_kimg=plan.every_kimg,
            split=plan.split,
        )
        for plan in options.analyses
    ]
    early: list[Callback] = []
    if options.early_stopping is not None:
        if not any(plan.every_kimg for plan in options.analyses):
            raise ValueError(
                "run.early_stopping watches a number of an analysis that is run while training, and run.analyses has "
                "none with every_kimg: add one, such as {name: evaluate, every_kimg: 500}"
            )
        early.append(StopEarly(analyses, checkpoints, **dataclasses.asdict(options.early_stopping)))
    # The guard judges before a checkpoint is renewed, and a signal is obeyed after everything else.
    statistics = RecordStatistics(records, options.record_kimg, guard, progress=options.progress)
    return [statistics, guard, *analyses, *early, checkpoints, StopAtTheEnd(), StopOnSignal(checkpoints)]


def build_analysis(name: str, options: Mapping[str, Any]) -> Any:
    """The analysis of a name with some of its options.

    Raises:
        ValueError: with one sentence, for an unknown name or option.
    """
    if name not in ANALYSES:
        raise ValueError(f"there is no analysis {name!r}: there are {', '.join(sorted(ANALYSES))}")
    # Configurations have lists where options are tuples.
    values = {option: tuple(value) if isinstance(value, list) else value for option, value in options.items()}
    try:
        return ANALYSES[name](**values)
    except TypeError as error:
        raise ValueError(f"analysis {name}: {str(error).replace('__init__() ', '')}") from error


class _LimitImages(Callback):
    """Tells the model where the run ends, before loaders are made."""

    def __init__(self, max_kimg: float | None) -> None:
        self.max_kimg = max_kimg

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.max_kimg is not None:
            model: Any = pl_module
            model.max_images = images_of(self.max_kimg)


def build_trainer(trainer_options: Mapping[str, Any], options: RunOptions, folder: Path) -> Trainer:
    """A Lightning trainer that counts images.

    Args:
        trainer_options: section `trainer`; what the package takes care of itself cannot be set there.
        options: section `run`.
        folder: of the run.
    """
    return Trainer(
        **{
            "logger": TensorBoardLogger(folder, name="", version="tensorboard"),
            "callbacks": [_LimitImages(options.max_kimg), *build_callbacks(options, folder)],
            "plugins": [AtomicCheckpointIO()],
            "max_epochs": -1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "default_root_dir": folder,
            **trainer_options,
        }
    )
