"""The one callback that runs any analysis while a model trains."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from latent_lab import distributed, images
from latent_lab.analyses import AbstractAnalysis, AbstractSpacesAnalysis, Evaluate, HeldOut
from latent_lab.callbacks.pacing import EveryKimg
from latent_lab.callbacks.records import Records
from latent_lab.models import LatentModel
from latent_lab.models.loading import load


class RunAnalysis(Callback):
    """Runs an analysis every so many images and at the end; keeps its numbers and pictures.

    Args:
        analysis: what to run, on every process.
        records: where numbers and pictures go.
        folder: PNG files go here, one per picture and moment, and what else an analysis writes.
        every_kimg: how often; None: only at the end.
        split: of the data, for analyses that read real images.
    """

    def __init__(
        self,
        analysis: AbstractAnalysis,
        records: Records,
        folder: Path,
        *,
        every_kimg: float | None = None,
        split: Literal["train", "val", "test", "unseen_views"] = "val",
    ) -> None:
        self.analysis = analysis
        self.records = records
        self.folder = folder
        self.interval = EveryKimg(every_kimg)
        self.split = split
        self.numbers: dict[str, float] = {}
        """What the latest run found, by name; the name begins with the split, or with "prior"."""
        self.done_at = -1
        """Images seen at the latest run."""
        self._before = 0
        self._loaded: list[LatentModel] | None = None
        self._said: set[str] = set()

    @property
    def state_key(self) -> str:
        """Two analyses with different options keep apart."""
        return f"RunAnalysis({self.analysis!r})"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses before training what would fail in the midst of it."""
        self.analysis.look_ahead(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting."""
        model: Any = pl_module
        self._before = model.images_seen

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Runs when due."""
        model: Any = pl_module
        before, self._before = self._before, model.images_seen
        if self.interval.due(before, model.images_seen):
            self.run(trainer, model)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs for the final model."""
        model: Any = pl_module
        if self.done_at != model.images_seen:
            self.run(trainer, model)

    def run(self, trainer: Trainer, model: Any) -> None:
        """Runs the analysis now."""
        self.done_at = model.images_seen
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        source = None
        if self.analysis.needs_images:
            source = HeldOut(datamodule.source(self.split), reference=datamodule.source("train"))
        models: Any = model
        if isinstance(self.analysis, AbstractSpacesAnalysis):
            models = [model, *self._others(model)]
        analysis = self.analysis
        if isinstance(analysis, Evaluate):
            # Records hold no intervals, and that of a sliced Wasserstein distance takes twenty times its own time.
            analysis = dataclasses.replace(analysis, num_resamples=0)
        result = analysis(models, source)
        self.numbers = {f"{self.split if source is not None else 'prior'}/{k}": v for k, v in result.numbers.items()}
        if self.numbers:
            self.records.numbers(trainer, self.numbers, model.images_seen)
        self._say(result.protocol.get("notes", ()), model.images_seen)
        moment = f"{model.images_seen / 1000:08.1f}k"
        for stem, sheet in result.pictures.items():
            self.records.picture(trainer, stem, sheet, model.images_seen)
            if distributed.rank() == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                images.save_png(self.folder / f"{stem}-{moment}.png", sheet)
        if distributed.rank() == 0:
            for name, write in result.files.items():
                path = self.folder / name
                path = path.with_name(f"{path.stem}-{moment}{path.suffix}")
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path)

    def _say(self, notes: Sequence[str], images_seen: int) -> None:
        """On the console, each note when it comes up first: records hold numbers alone."""
        for note in notes:
            if note not in self._said and distributed.rank() == 0:
                print(f"latent-lab: note: {self.analysis.name} at {images_seen / 1000:g} kimg: {note}", file=sys.stderr)
            self._said.add(note)

    def _others(self, model: Any) -> list[LatentModel]:
        """The trained models that this one is compared with, read once."""
        assert isinstance(self.analysis, AbstractSpacesAnalysis)
        if self._loaded is None:
            self._loaded = [load(name) for name in self.analysis.others]
        return [other.to(model.device) for other in self._loaded]
