"""What every data module shares: packing once, sources, and loaders for training and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from latent_lab import distributed
from latent_lab.data.packing import cached_pack, default_cache
from latent_lab.data.plans import PackingPlan
from latent_lab.data.pyramid import Pack, PackedImages, is_pack, open_pack
from latent_lab.data.sampling import EvaluationImages, EvaluationSampler, GrowingImages, GrowthSampler
from latent_lab.growth import GrowthSchedule, phase_of
from latent_lab.recipes import recipe_of
from latent_lab.types import ImageBatch


class AbstractImageData(LightningDataModule, ABC):
    """Base of all data sets. Subclasses say in `plan` what is to be packed, and nothing else.

    A subclass calls `record_recipe(locals())` first thing in its constructor. Where `root` is a folder that
    `latent-lab prepare` has made, that is used as it is, with its own crop, splits and labels.

    Args:
        root: folder or file of the data; none for data that is made.
        resolution: of the largest level that is packed, 4 * 2^k pixels.
        mirror: whether training images are mirrored with probability 1/2.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        max_bad_share: share of unreadable images up to which they are skipped; one is always tolerated, unless it is 0.
    """

    channels: int = 3
    """Of its images: 3 for colour, 1 for grey."""

    def __init__(
        self,
        *,
        root: str | Path | None,
        resolution: int,
        mirror: bool,
        seed: int,
        epoch_kimg: float,
        eval_batch_size: int,
        num_workers: int,
        cache_dir: str | Path | None,
        max_bad_share: float = 0.01,
    ) -> None:
        super().__init__()
        phase_of(resolution)
        if epoch_kimg <= 0:
            raise ValueError(f"epoch_kimg must be positive, got {epoch_kimg}")
        if eval_batch_size < 1:
            raise ValueError(f"eval_batch_size must be at least 1, got {eval_batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be a share between 0 and 1, got {max_bad_share}")
        self.root = None if root is None else Path(root).expanduser()
        self.resolution = resolution
        self.mirror = mirror
        self.seed = seed
        self.epoch_images = max(1, round(1000 * epoch_kimg))
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.cache_dir = default_cache() if cache_dir is None else Path(cache_dir).expanduser()
        self.max_bad_share = max_bad_share
        self._pack: Pack | None = None

    recipe: dict[str, Any]
    """Class and constructor arguments as plain data, for checkpoints."""

    def record_recipe(self, arguments: Mapping[str, Any]) -> None:
        """Keeps the constructor's arguments as plain data.

        Args:
            arguments: `locals()` at the start of the constructor.
        """
        self.recipe = recipe_of(self, arguments)

    # -------------------------------------------------------------------------------------------------- packing

    @abstractmethod
    def plan(self) -> PackingPlan:
        """What is to be packed.

        Raises:
            ValueError: if the data is not there or not as expected.
        """

    def prepare_data(self) -> None:
        """Packs the images if that was not done yet; Lightning calls it on one process only."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Opens the packed images."""
        del stage
        if self._pack is None:
            self._pack = self._open_pack()

    @property
    def pack(self) -> Pack:
        """The packed images, made now if need be."""
        self.setup()
        assert self._pack is not None
        return self._pack

    def source(self, split: str) -> PackedImages:
        """The images of "train", "val" or "test", never mirrored.

        Raises:
            ValueError: if there is no such split.
        """
        return self.pack.source(split)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the columns of `ImageBatch.labels`; empty if there are no labels."""
        return self.pack.label_names

    def describe(self) -> str:
        """One paragraph: what there is, how it is cropped and split, and what is odd about it."""
        made = self.pack
        sizes = ", ".join(f"{len(rows)} {name}" for name, rows in made.splits.items())
        labels = f"{len(made.label_names)} labels" if made.label_names else "no labels"
        mirrored = "mirrored at random" if self.mirror else "never mirrored"
        first = (
            f"{type(self).__name__}: {sizes} images up to {made.resolutions[-1]} px, {labels}; training images are "
            f"{mirrored}; content {made.recipe['hash']}."
        )
        return " ".join([first, *made.report()])

    def _open_pack(self) -> Pack:
        if self.root is None or not is_pack(self.root):
            return cached_pack(self.plan(), self.cache_dir, max_bad_share=self.max_bad_share)
        made = open_pack(self.root)
        if made.channels != self.channels:
            raise ValueError(
                f"{type(self).__name__} has images with {self.channels} channels, and the pack {str(self.root)!r} "
                f"holds some with {made.channels}: name the data set that it was made from"
            )
        if made.resolutions[-1] < self.resolution:
            raise ValueError(
                f"resolution {self.resolution} is more than the {made.resolutions[-1]} px that {str(self.root)!r} was "
                f"prepared for: run `latent-lab prepare` with --resolution {self.resolution}, or use less"
            )
        return made

    # -------------------------------------------------------------------------------------------------- loaders

    def training_loader(
        self, schedule: GrowthSchedule, start: int | Callable[[], int] = 0, max_images: int | None = None
    ) -> DataLoader[ImageBatch]:
        """Training batches from `start` to the end of the epoch; each iteration asks `start` again if it is a function.

        Args:
            schedule: batch size and resolution at every number of images seen.
            start: images seen.
            max_images: where training ends; none: never.

        Raises:
            ValueError: if the schedule grows beyond the packed resolution, or a batch cannot be shared by the devices.
        """
        if schedule.resolution > self.resolution:
            raise ValueError(
                f"the schedule grows to {schedule.resolution} px, but the data's resolution is {self.resolution}: set "
                f"that to {schedule.resolution}, or shorten the schedule"
            )
        source = self.source("train")
        sampler = GrowthSampler(
            schedule,
            len(source),
            start,
            seed=self.seed,
            mirror=self.mirror,
            epoch_images=self.epoch_images,
            max_images=max_images,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        return self._loader(GrowingImages(source), sampler)

    def evaluation_loader(
        self, split: str, resolution: int | Callable[[], int] | None = None
    ) -> DataLoader[ImageBatch]:
        """All images of a split in order, each once over all devices; see `EvaluationSampler` for padding.

        Args:
            split: "train", "val" or "test".
            resolution: pixels per side or a function that returns them; none: the largest.
        """
        source = self.source(split)
        sampler = EvaluationSampler(
            len(source),
            self.eval_batch_size,
            self.resolution if resolution is None else resolution,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        return self._loader(EvaluationImages(source), sampler)

    def train_dataloader(self) -> DataLoader[ImageBatch]:
        """Batches for the trainer's model, from the number of images it has seen."""
        model: Any = self._model()
        return self.training_loader(model.schedule, lambda: int(model.images_seen), model.max_images)

    def val_dataloader(self) -> DataLoader[ImageBatch]:
        """The split "val" at the model's current resolution."""
        return self.evaluation_loader("val", self._current_resolution)

    def test_dataloader(self) -> DataLoader[ImageBatch]:
        """The split "test" at the model's current resolution."""
        return self.evaluation_loader("test", self._current_resolution)

    def predict_dataloader(self) -> DataLoader[ImageBatch]:
        """The split "test" at the model's current resolution."""
        return self.test_dataloader()

    def _model(self) -> Any:
        return self.trainer.lightning_module if self.trainer else None

    def _current_resolution(self) -> int:
        return getattr(self._model(), "resolution", self.resolution)

    def _loader(self, dataset: Dataset[Any], sampler: Sampler[Any]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            # The sampler's items are whole batches, which the data set returns ready-made.
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.num_workers > 0 and torch.cuda.is_available(),
        )


__all__ = ["AbstractImageData"]
