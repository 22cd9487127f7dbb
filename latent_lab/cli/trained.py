"""A checkpoint as commands use it: model and data as recorded, with what the command line changes, on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric

from latent_lab import distributed
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.configuration import Configuration, overrides_as_configuration
from latent_lab.cli.console import say
from latent_lab.cli.devices import check_accelerator
from latent_lab.cli.errors import InputError, closest
from latent_lab.data import AbstractImageData
from latent_lab.data.own_images import OwnImages
from latent_lab.data.view_splits import UNSEEN_VIEWS
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.inversion import Recoded
from latent_lab.latent.mapped import mapped
from latent_lab.latent.maps import load_map
from latent_lab.latent.views import LayersView, Truncated, WSpaceView
from latent_lab.models import LatentModel, Recoder
from latent_lab.models.base import CHECKPOINT_KEY, training_only_parts
from latent_lab.models.loading import load, read_checkpoint, resolve_checkpoint
from latent_lab.networks.pretrained import sha256_of
from latent_lab.types import ImageSource

SPACES = ("z", "w", "w+")
SPLITS = ("train", "val", "test")
VIEWS = ("space", "truncation", "truncated-layers", "map", "target")
"""Options that `viewed` reads."""


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode and what belongs to it."""

    model: LatentModel
    path: Path
    described: Mapping[str, Any]
    """What the checkpoint says of itself."""
    configuration: Configuration
    """Recipes of model and data with the changes of the command line."""

    @property
    def kimg(self) -> float:
        """Progress of the run."""
        return self.described["images_seen"] / 1000

    @cached_property
    def data(self) -> AbstractImageData:
        """The data set, ready to be read; the first process packs it if that was not done yet.

        Raises:
            InputError: if the checkpoint has none and none is named, or its images have other channels than the model.
        """
        if "data" not in self.configuration:
            raise InputError(f"{self.path} does not say what it was trained on: name it with --data, or give --images")
        data = recipes.build_data(self.configuration)
        recipes.check_same_channels(self.model, data)
        for line in recipes.changes("data", self.described["data"], data.recipe):
            say(f"changed: {line}")
        if distributed.rank() == 0:
            data.prepare_data()
        distributed.barrier()
        data.setup()
        return data

    @property
    def provenance(self) -> dict[str, Any]:
        """For a result's protocol: plain data without paths of a machine."""
        return {
            "file": self.path.name,
            "sha256": sha256_of(self.path),
            "images_seen": self.described["images_seen"],
            "model": dict(self.model.recipe),
        }

    def results_folder(self, name: str) -> Path:
        """Where results go if nothing else is said: into the run's folder, else results/ here."""
        run = self.path.parent
        if run.name == "checkpoints" and (run.parent / "config.yaml").is_file():
            return run.parent / f"{name}-{self.kimg:g}k"
        return Path("results") / f"{self.path.stem}-{name}"


def load_trained(arguments: Arguments, command: str) -> Trained:
    """The checkpoint that a command names, on the devices that it asks for.

    Raises:
        InputError: if there is no checkpoint, or an option makes other networks than those in it.
    """
    if arguments.words:
        word = arguments.words[0]
        raise InputError(f"{command} takes no bare word, got {word}: write --ckpt {word}")
    name = arguments.text("ckpt")
    if name is None:
        raise InputError(f"{command} needs --ckpt FILE, a checkpoint or a name that `latent-lab checkpoints` lists")
    return on_devices([read_trained(name, arguments.overrides)], arguments)[0]


def read_trained(name: str, overrides: Sequence[tuple[str, str | bool]]) -> Trained:
    """A checkpoint's model on the CPU.

    Args:
        name: file, or name of a shipped checkpoint.
        overrides: configuration keys and their texts.

    Raises:
        InputError: if there is no such checkpoint, or an option makes other networks than those in it.
    """
    path = resolve_checkpoint(name)
    content = read_checkpoint(path)
    described = content[CHECKPOINT_KEY]
    recorded = {section: described[section] for section in ("model", "data") if described[section] is not None}
    configuration = recipes.compose([recorded, overrides_as_configuration(overrides)])
    recipes.check_same_model(described["model"], configuration)
    model = recipes.build_model(configuration)
    changed = recipes.changes("model", described["model"], model.recipe)
    recipes.check_same_structure(model, content["state_dict"], changed)
    model.load_state_dict(content["state_dict"])
    return Trained(model.eval(), path, described, configuration)


def on_devices(trained: Sequence[Trained], arguments: Arguments) -> list[Trained]:
    """The same models where the command line wants them to compute; what was changed of them is said once."""
    fabric = join_devices(arguments)
    for one in trained:
        for line in recipes.changes("model", one.described["model"], one.model.recipe):
            say(f"changed: {line}")
    return [dataclasses.replace(one, model=one.model.to(fabric.device)) for one in trained]


def viewed(trained: Trained, arguments: Arguments) -> tuple[Any, dict[str, Any]]:
    """The model as --space, --truncation and --map ask for it, and what a result's protocol says about that.

    Raises:
        InputError: if an option is impossible, the model does not map its latents into W, or the map is of other
            spaces.
    """
    space = arguments.text("space") or SPACES[0]
    if space not in SPACES:
        raise InputError(f"--space must be {', '.join(SPACES[:-1])} or {SPACES[-1]}, got {space}")
    psi, layers = arguments.text("truncation"), arguments.text("truncated-layers")
    if layers is not None and (psi is None or not layers.isdigit()):
        raise InputError(f"--truncated-layers goes with --truncation and is a number of layers, got {layers}")
    facts: dict[str, Any] = {}
    seen: Any = trained.model
    try:
        if psi is not None:
            facts["truncation"] = float(psi)
            facts["truncated_layers"] = "all" if layers is None else int(layers)
            seen = Truncated(seen, facts["truncation"], None if layers is None else int(layers))
        if space != SPACES[0]:
            facts["space"] = space
            seen = WSpaceView(seen)
            seen = LayersView(seen) if space == "w+" else seen
    except TypeError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"--truncation must be a number, got {psi}") from error
    seen, of_map = _through_map(seen, trained, arguments)
    facts |= of_map
    return seen, {"view": facts} if facts else {}


def _through_map(seen: Any, trained: Trained, arguments: Arguments) -> tuple[Any, dict[str, Any]]:
    """The model with its latents decoded by another one through a map, if --map and --target ask for that.

    Args:
        seen: view of the model whose latents the map takes.
        trained: the model without a view.
        arguments: of the command line.
    """
    file, name = arguments.text("map"), arguments.text("target")
    if file is None and name is None:
        return seen, {}
    if file is None or name is None:
        raise InputError("--map and --target go together: a file of `latent-lab map`, and the model to which it maps")
    path = resolve_checkpoint(name)
    target = load(path, device=trained.model.device)
    if target.channels != trained.model.channels:
        raise InputError(
            f"{path.name} is for {target.channels} channels, the mapped model for {trained.model.channels}"
        )
    fitted, facts = load_map(file)
    try:
        joined = mapped(seen, fitted.to(target.device), target)
    except (TypeError, ValueError) as error:
        raise InputError(f"{Path(file).name}: {error}") from error
    for role, one in (("source", trained.path), ("target", path)):
        if facts.get(f"{role}_sha256") not in (None, sha256_of(one)):
            say(f"note: the {role} of {Path(file).name} was another checkpoint than {one.name}")
    target_facts = {
        "file": path.name,
        "sha256": sha256_of(path),
        "images_seen": target.images_seen,
        "model": dict(target.recipe),
    }
    return joined, {"map": {"file": Path(file).name, **facts}, "target": target_facts}


def with_encoder(model: LatentModel, name: str) -> tuple[Recoded, dict[str, Any]]:
    """The model with the encoder of another checkpoint, and what a result's protocol says about that one.

    Args:
        model: a decoder.
        name: checkpoint of an autoencoder, of a recoder of this decoder most of all.

    Raises:
        InputError: if it does not encode, or into another space or from another size.
    """
    path = resolve_checkpoint(name)
    other = load(path, device=model.device)
    if not isinstance(model, AbstractDecoder) or not isinstance(other, AbstractAutoencoder):
        raise InputError(
            f"{path.name} holds a {type(other).__name__}, which does not encode: name a recoder's checkpoint"
        )
    there, here = (repr(one.latent_space) for one in (other, model))
    if (there, other.resolution) != (here, model.resolution):
        raise InputError(
            f"the encoder in {path.name} is for {other.resolution} px and {there}, the model has {model.resolution} px "
            f"and {here}: name one that was trained for this model"
        )
    if isinstance(other, Recoder) and not _equal_weights(other.decoder, model):
        say(f"note: {path.name} was trained for other weights than these, so its latents are those of another decoder")
    facts = {
        "file": path.name,
        "sha256": sha256_of(path),
        "images_seen": other.images_seen,
        "model": dict(other.recipe),
    }
    return Recoded(model, other.encode), {"encoder": facts}


def _equal_weights(one: LatentModel, other: LatentModel) -> bool:
    """Whether both decode and encode alike, apart from weights that an export has rounded to half precision."""
    left_out = tuple(f"{part}." for part in training_only_parts(one))
    first, second = (
        {name: value for name, value in model.state_dict().items() if not name.startswith(left_out)}
        for model in (one, other)
    )
    return first.keys() == second.keys() and all(
        torch.allclose(value, second[name], rtol=1e-3, atol=1e-7) for name, value in first.items()
    )


def source_of(arguments: Arguments, trained: Trained, default_split: str = "test") -> ImageSource:
    """The real images that a command names: --images PATH, else a split of the data."""
    own = arguments.text("images")
    if own is not None:
        return OwnImages(Path(own).expanduser(), grey=trained.model.channels == 1)
    split = arguments.text("split") or default_split
    known = (*SPLITS, UNSEEN_VIEWS)
    if split not in known:
        raise InputError(f"--split must be one of {', '.join(known)}, got {split}: {closest(split, known)}")
    return trained.data.source(split)


def join_devices(arguments: Arguments) -> Fabric:
    """Joins or starts the processes that share the work; one device if nothing else is said."""
    devices, accelerator = arguments.text("devices") or "1", arguments.text("accelerator") or "auto"
    if not devices.isdigit() or int(devices) < 1:
        raise InputError(f"--devices must be a positive whole number, got {devices}")
    check_accelerator(accelerator, "--accelerator")
    strategy = "ddp" if int(devices) > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=int(devices), strategy=strategy)
    fabric.launch()
    return fabric
