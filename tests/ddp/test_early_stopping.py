"""Two processes stop early together, though only the first one's values decide."""

from __future__ import annotations

from pathlib import Path

from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.ddp.test_two_processes import run_workers

WORKER = """
import dataclasses, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from lightning import Trainer
from latent_lab import distributed
from latent_lab.analyses import AbstractAnalysis, Result
from latent_lab.callbacks.checkpointing import AtomicCheckpointIO, SaveCheckpoints
from latent_lab.callbacks.records import Records
from latent_lab.callbacks.run_analysis import RunAnalysis
from latent_lab.callbacks.stopping import StopAtTheEnd, StopEarly
from tests.contract.recipes import build_data, build_model

@dataclasses.dataclass(frozen=True)
class Scripted(AbstractAnalysis):
    name = "scripted"
    def run(self, model, source):
        # The second process would go on for ever.
        values = (5.0, 3.0, 3.5, 3.5) if distributed.rank() == 0 else (9.0, 8.0, 7.0, 6.0)
        return Result(self.name, {"quality": values[model.images_seen // 16 - 1]}, {})

folder = Path(sys.argv[1])
analysis = RunAnalysis(Scripted(), Records(folder), folder, every_kimg=0.016)
checkpoints = SaveCheckpoints(folder / "checkpoints", None)
early = StopEarly([analysis], checkpoints, metric="prior/quality", patience=2)
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", logger=False, plugins=[AtomicCheckpointIO()], max_epochs=-1,
    callbacks=[analysis, early, checkpoints, StopAtTheEnd()], limit_val_batches=0, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
)
trainer.fit(build_model("WAE"), datamodule=build_data(Path(sys.argv[2])))
distributed.leave()
"""


def test_both_processes_end_at_the_same_image_and_keep_the_same_best(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    run_workers(WORKER, str(folder), str(tmp_path / "cache"))
    seen = {
        name: read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")[CHECKPOINT_KEY]["images_seen"]
        for name in ("last", "best")
    }
    assert seen == {"last": 64, "best": 32}
