"""The data layer inside a trainer: epochs, interruptions, and what the loaders read from the model."""

from __future__ import annotations

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from latent_lab.data import ImageFolder
from latent_lab.growth import GrowthSchedule, Stage

# Growth, a change of batch size and several epochs within 200 images.
SCHEDULE = GrowthSchedule([Stage(4, 0.06, 12), Stage(8, 0.14, 10)])


class Recorder(LightningModule):
    """A model that learns nothing and notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = SCHEDULE
        self.max_images = 200
        self.images_seen = 0
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, torch.Tensor]] = []
        self.validated: list[int] = []

    @property
    def resolution(self) -> int:
        return self.schedule.at(self.images_seen).resolution

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())

    def training_step(self, batch, batch_idx):
        assert int(batch.index[0]) == self.images_seen
        self.seen.append((self.images_seen, batch.images))
        self.images_seen += len(batch.images)
        self.trainer.should_stop = self.images_seen >= self.max_images
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch.images.shape[-1])

    def on_save_checkpoint(self, checkpoint):
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint):
        self.images_seen = checkpoint["images_seen"]


class SaveAndStop(Callback):
    """Ends a run after so many images, as an interruption would."""

    def __init__(self, images: int, path) -> None:
        self.images = images
        self.path = path

    def on_train_batch_end(self, trainer, model, *_):
        if model.images_seen >= self.images:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True
            trainer.limit_train_batches = 0


def trained(data, *callbacks, checkpoint=None) -> Recorder:
    model = Recorder()
    trainer = Trainer(
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    )
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model


@pytest.fixture
def root(make_images):
    return make_images([f"{number:02d}.png" for number in range(30)])


def data_of(root, **options) -> ImageFolder:
    return ImageFolder(root, **{"resolution": 8, "split": "last", "holdout": 5, "epoch_kimg": 0.05, **options})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_model_sees_the_stream_without_gap_or_repetition_over_epochs(root, num_workers):
    model = trained(data_of(root, num_workers=num_workers))
    assert [position for position, _ in model.seen] == [*range(0, 60, 12), *range(60, 200, 10)]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_validation_runs_once_per_epoch_at_the_resolution_reached(root):
    # Epochs end at 60, 100, 150 and 200 images; the larger resolution begins at 60.
    assert trained(data_of(root, eval_batch_size=8)).validated == [8, 8, 8, 8]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("images", [24, 60, 70, 100, 190])
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(root, tmp_path, images):
    whole = trained(data_of(root)).seen
    path = tmp_path / "stopped.ckpt"
    first = trained(data_of(root), SaveAndStop(images, path)).seen
    second = trained(data_of(root), checkpoint=path).seen
    first = [one for one in first if one[0] < second[0][0]]
    assert [position for position, _ in first + second] == [position for position, _ in whole]
    for (_, one), (_, other) in zip(first + second, whole, strict=True):
        assert torch.equal(one, other)
