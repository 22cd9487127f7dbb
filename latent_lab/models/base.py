"""What every model shares: progress counted in images, indexed randomness, its recipe, and safe checkpoints."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from latent_lab import distributed
from latent_lab.growth import GrowthSchedule, GrowthState, images_of
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.recipes import recipe_of
from latent_lab.types import ImageBatch, Images, Latents, Scalar
from latent_lab.version import __version__

CHECKPOINT_KEY = "latent_lab"
"""Where a checkpoint keeps the recipes of model and data and the progress of the run."""


@dataclasses.dataclass(frozen=True)
class AdamSettings:
    """Adam's moments; the learning rate comes from the schedule."""

    beta1: float = 0.0
    """0 lets no momentum leak into RGB layers that stop being used."""
    beta2: float = 0.99
    """0.9 reproduces the Balanced Pioneer program."""
    epsilon: float = 1e-8
    """Keras, and what was published in it, takes 1e-7."""

    def build(self, parameters: Any, learning_rate: float) -> torch.optim.Adam:
        """The optimiser."""
        betas = (float(self.beta1), float(self.beta2))
        return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, eps=float(self.epsilon))


def single_resolution(schedule: GrowthSchedule, model: type) -> int:
    """The resolution of a schedule for a model that does not grow.

    Raises:
        ValueError: if the schedule has several.
    """
    if len(schedule.resolutions) > 1:
        sizes = ", ".join(map(str, schedule.resolutions))
        raise ValueError(
            f"{model.__name__} does not grow, but its schedule has {sizes} px: give all rows one resolution"
        )
    return schedule.resolution


def deviation_over_batch(images: Images) -> Scalar:
    """Mean over pixels of the standard deviation over the whole batch, of all devices; near 0 where all are alike."""
    return distributed.gather(images.detach()).float().std(0).mean()


class LatentModel(LightningModule, ABC):
    """Base of all models. Subclasses are final; what they share beyond this are functions.

    A subclass calls `record_recipe(locals())` first thing in its constructor, implements an interface of the latent
    protocol (a decoder's with its latent space, or a translator's, which has none), `configure_optimizers` and
    `training_step`, which ends with `count_images` and returns the step's statistics.

    Args:
        schedule: what varies with the number of images seen.
        seed: of everything random in the model.

    Raises:
        ValueError: if a batch of the schedule is too small for the model's objective.
    """

    progress_names: tuple[str, ...] = ()
    """Statistics of a training step that the console shows."""
    curve_panels: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Title -> statistics that are drawn together in curves.png."""
    training_only: tuple[str, ...] = ()
    """Submodules that neither `decode` nor `encode` uses in evaluation mode; see `training_only_parts`."""
    channels: int = 3
    """Of the images that the model takes and makes: 3 for colour, 1 for grey."""
    smallest_batch: int = 2
    """Images that a step needs over all devices: most objectives compare statistics over the batch."""

    _images_seen: Tensor

    def __init__(self, schedule: GrowthSchedule, seed: int) -> None:
        super().__init__()
        for row, stage in enumerate(schedule.stages):
            if stage.batch_size < self.smallest_batch:
                raise ValueError(
                    f"schedule.stages.{row}: batch_size must be at least {self.smallest_batch} for "
                    f"{type(self).__name__}, got {stage.batch_size}: its objective compares statistics over the batch"
                )
        # Several optimisers take turns within one batch.
        self.automatic_optimization = False
        self.schedule = schedule
        self.seed = seed
        self.max_images = images_of(schedule.total_kimg)
        self.recipe: dict[str, Any] = {}
        self.data_recipe: dict[str, Any] | None = None
        # The buffer is what is saved; the integer spares a device synchronisation in every step.
        self.images_seen = 0
        self.register_buffer("_images_seen", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_post_hook(_read_images_seen)

    # ------------------------------------------------------------------------------------------------- recipe

    def record_recipe(self, arguments: Mapping[str, Any]) -> None:
        """Keeps the constructor's arguments as plain data, for the checkpoint.

        Args:
            arguments: `locals()` at the start of the constructor.
        """
        self.recipe = recipe_of(self, arguments)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what makes the file describe itself."""
        datamodule = getattr(self._trainer, "datamodule", None) if self._trainer else None
        checkpoint[CHECKPOINT_KEY] = {
            "version": __version__,
            "model": self.recipe,
            "data": getattr(datamodule, "recipe", None),
            "images_seen": self.images_seen,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the checkpoint of another model before anything is changed."""
        recipe = checkpoint.get(CHECKPOINT_KEY, {}).get("model", {})
        if recipe.get("class_path", self.recipe["class_path"]) != self.recipe["class_path"]:
            raise ValueError(
                f"the checkpoint holds a {recipe['class_path'].rpartition('.')[2]}, the configuration asks for a "
                f"{type(self).__name__}: name the configuration that the checkpoint was trained with, or none"
            )

    # ----------------------------------------------------------------------------------------------- progress

    @property
    def now(self) -> GrowthState:
        """Where training stands."""
        return self.schedule.at(self.images_seen)

    @property
    def resolution(self) -> int:
        """Pixels per side of what the model encodes and decodes now."""
        return self.now.resolution

    def count_images(self, images: Images) -> int:
        """Number of images of this step over all devices."""
        return len(images) * distributed.world_size()

    def advance(self, images: int) -> None:
        """Moves the clock; called once at the end of a training step."""
        self.images_seen += images
        self._images_seen.fill_(self.images_seen)

    def set_learning_rate(self, now: GrowthState) -> None:
        """Gives every optimiser the schedule's rate."""
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] = now.learning_rate

    def descend(self, loss: Tensor, optimizer: Any = None) -> None:
        """One step of an optimiser, by default of the only one, down a loss.

        Args:
            loss: a scalar with gradient.
            optimizer: one of `self.optimizers()`.
        """
        optimizer = self.optimizers() if optimizer is None else optimizer
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    # --------------------------------------------------------------------------------------------- randomness

    def training_normals(self, like: Images, stream: str, width: int) -> Latents:
        """Standard normal rows (n, width), one for each image of this rank's part of the current global batch.

        They are a function of (seed, stream, position), so no two ranks draw the same, and W ranks together draw what
        one process would.

        Args:
            like: this rank's images (n, ...).
            stream: what the numbers are for; two streams are independent.
            width: numbers for each image.
        """
        random = distributed.IndexedRandom(self.seed, f"train/{stream}")
        return random.normal(self._positions(like), width).to(like)

    def training_uniforms(self, like: Images, stream: str, width: int) -> Latents:
        """Rows (n, width) of numbers uniform on [0, 1), indexed like `training_normals`."""
        random = distributed.IndexedRandom(self.seed, f"train/{stream}")
        return random.uniform(self._positions(like), width).to(like)

    def _positions(self, like: Images) -> range:
        """Places of this rank's images in the endless stream of training images."""
        first = self.images_seen + distributed.rank() * len(like)
        return range(first, first + len(like))

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Initial weights drawn within depend on the model's seed alone; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            yield

    # ---------------------------------------------------------------------------------------------- precision

    def full_precision(self, needed: bool = True) -> AbstractContextManager[Any]:
        """Switches autocast off where half precision would lose what a step is about."""
        return torch.autocast(self.device.type, enabled=False) if needed else nullcontext()

    # ---------------------------------------------------------------------------------------------- prediction

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """Codes and reconstructions of the real images of a batch, with their indices."""
        del batch_idx
        real = batch.index >= 0
        if not isinstance(self, AbstractAutoencoder):
            raise TypeError(f"predict writes codes and reconstructions, which {type(self).__name__} does not offer")
        codes = self.encode(batch.images[real])
        return {"index": batch.index[real], "latents": codes, "images": self.decode(codes)}


def training_only_parts(model: LatentModel) -> dict[str, nn.Module]:
    """Dotted name -> submodule of what only training needs, in models inside the model (a recoder's decoder) too."""
    return {
        f"{prefix}.{part}" if prefix else part: child
        for prefix, module in model.named_modules()
        if isinstance(module, LatentModel)
        for part, child in module.named_children()
        if part in module.training_only
    }


def _read_images_seen(model: LatentModel, incompatible: Any) -> None:
    del incompatible
    model.images_seen = int(model._images_seen.item())
