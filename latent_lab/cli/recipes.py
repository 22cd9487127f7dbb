"""From configurations to objects: layers become one configuration, its sections become model, data, run and trainer."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import Trainer

import latent_lab.data
from latent_lab.callbacks import RunOptions
from latent_lab.callbacks.precision import AUTO, resolve_precision
from latent_lab.cli.configuration import (
    OBJECT_SECTIONS,
    CommandLineText,
    Configuration,
    differences,
    merge,
    shown,
)
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.schema import conform_arguments, conform_dataclass, fields_of
from latent_lab.data import AbstractImageData, OrderedDomains
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.models import MODELS, LatentModel

_BASES: dict[str, type] = {"model": LatentModel, "data": AbstractImageData}

TAKEN_CARE_OF: dict[str, str] = {
    "accumulate_grad_batches": "batch sizes are the schedule's (model.schedule)",
    "callbacks": "see `latent-lab help run`",
    "default_root_dir": "write run.dir",
    "enable_checkpointing": "write run.checkpoint_kimg",
    "enable_progress_bar": "write run.progress",
    "gradient_clip_algorithm": "the models' objectives are not clipped",
    "gradient_clip_val": "the models' objectives are not clipped",
    "logger": "TensorBoard and metrics.jsonl are always written to the run's folder",
    "max_epochs": "write run.max_kimg",
    "max_steps": "write run.max_kimg",
    "min_epochs": "write run.max_kimg",
    "min_steps": "write run.max_kimg",
    "plugins": "checkpoints are written by this package",
    "reload_dataloaders_every_n_epochs": "the loader follows the schedule",
    "use_distributed_sampler": "the data shards itself",
}
"""Options of Lightning's Trainer that a run sets itself, and what to write instead."""

ADDED_TO_TRAINER: dict[str, str] = {
    "precision": "Also auto: bf16-mixed where the device multiplies bfloat16 by itself, else 32-true.",
}
"""What options of Lightning's Trainer may say beyond Lightning."""


# --------------------------------------------------------------------------------------------------------- classes


def data_classes() -> dict[str, type[AbstractImageData]]:
    """Short name -> class of every data set of the package."""
    exported = {name: value for name, value in vars(latent_lab.data).items() if inspect.isclass(value)}
    return {
        name: value
        for name, value in sorted(exported.items())
        if issubclass(value, AbstractImageData) and not inspect.isabstract(value)
    }


def model_classes() -> dict[str, type[LatentModel]]:
    """Short name -> class of every model of the package."""
    return dict(sorted(MODELS.items()))


def resolve_class(section: str, name: str) -> type:
    """The class that a section names by its short name or import path.

    Raises:
        InputError: with the closest names, if there is none, or with what it is instead of a model or data set.
    """
    known: Mapping[str, type] = model_classes() if section == "model" else data_classes()
    if name in known:
        return known[name]
    what = "model" if section == "model" else "data set"
    module, _, short = str(name).rpartition(".")
    if not module:
        raise InputError(f"there is no {what} {name}: {closest(str(name), known)}")
    try:
        found = getattr(importlib.import_module(module), short)
    except (ImportError, AttributeError) as error:
        raise InputError(f"there is no class {name} ({error}): {closest(short, known)}") from error
    if not (inspect.isclass(found) and issubclass(found, _BASES[section])):
        raise InputError(f"{name} is not a {what}: {closest(short, known)}")
    return found


def import_path(target: type) -> str:
    """As in recipes."""
    return f"{target.__module__}.{target.__qualname__}"


# ------------------------------------------------------------------------------------------------------- composing


def compose(layers: Sequence[Configuration]) -> Configuration:
    """One configuration of several; later ones win key by key.

    Where a layer names another class, it keeps those earlier arguments that the new class takes, too.
    """
    whole: Configuration = {}
    for layer in layers:
        for section in OBJECT_SECTIONS:
            name = layer.get(section, {}).get("class_path")
            if name is not None:
                target = resolve_class(section, str(name))
                whole = _with_class(whole, section, target)
                layer = merge(layer, {section: {"class_path": import_path(target)}})
        whole = merge(whole, layer)
    return whole


def _with_class(whole: Configuration, section: str, target: type) -> Configuration:
    before = whole.get(section, {})
    if before.get("class_path", import_path(target)) == import_path(target):
        return whole
    taken = fields_of(target)
    kept = {name: value for name, value in (before.get("init_args") or {}).items() if name in taken}
    return {**whole, section: {"init_args": kept}}


def with_seed(configuration: Configuration, seed: str | None) -> Configuration:
    """The seed of model and data, as far as they have one."""
    if seed is None:
        return configuration
    for section in OBJECT_SECTIONS:
        if "seed" in fields_of(_class_of(configuration, section)):
            configuration = merge(configuration, {section: {"init_args": {"seed": CommandLineText(seed)}}})
    return configuration


def with_resolution_of_schedule(configuration: Configuration, model: LatentModel) -> Configuration:
    """Data of the schedule's last resolution, where the configuration does not say another."""
    init_args = configuration.get("data", {}).get("init_args") or {}
    if "resolution" in init_args or "resolution" not in fields_of(_class_of(configuration, "data")):
        return configuration
    return merge(configuration, {"data": {"init_args": {"resolution": model.schedule.resolution}}})


# -------------------------------------------------------------------------------------------------------- building


def build_model(configuration: Configuration) -> LatentModel:
    """The model of a configuration; the same configuration gives the same initial weights."""
    model: LatentModel = _class_of(configuration, "model")(**_checked(configuration, "model"))
    return model


def build_data(configuration: Configuration) -> AbstractImageData:
    """The data set of a configuration; nothing is read yet."""
    data: AbstractImageData = _class_of(configuration, "data")(**_checked(configuration, "data"))
    return data


def run_options(configuration: Configuration) -> RunOptions:
    """Section `run`."""
    options: RunOptions = conform_dataclass(configuration.get("run", {}), RunOptions, "run", name="section run")
    return options


def trainer_options(configuration: Configuration) -> dict[str, Any]:
    """Section `trainer`, checked, with the precision that `auto` means here, so that a run's records name it."""
    given = configuration.get("trainer", {})
    for name in given:
        if name in TAKEN_CARE_OF:
            raise InputError(f"trainer.{name} is set by latent-lab: {TAKEN_CARE_OF[name]}")
    if given.get("precision") == AUTO:
        given = {**given, "precision": resolve_precision(str(given.get("accelerator", "auto")))}
    return conform_arguments(given, Trainer, "trainer", name="Lightning's Trainer")


def _class_of(configuration: Configuration, section: str) -> type:
    path = configuration.get(section, {}).get("class_path")
    if path is None:
        names = ", ".join(model_classes() if section == "model" else data_classes())
        raise InputError(f"no {section} is named: give --config NAME.yaml or --{section} with one of {names}")
    return resolve_class(section, str(path))


def _checked(configuration: Configuration, section: str) -> dict[str, Any]:
    target = _class_of(configuration, section)
    return conform_arguments(configuration[section].get("init_args") or {}, target, section)


def check_same_channels(model: LatentModel, data: AbstractImageData) -> None:
    """Refuses grey images for a model of colour images, and the reverse.

    Raises:
        InputError: with both numbers.
    """
    if model.channels == data.channels:
        return
    option = "image_channels"
    remedy = f"set model.{option} to {data.channels}" if option in fields_of(type(model)) else "choose another model"
    raise InputError(
        f"{type(data).__name__} has images with {data.channels} {'channel' if data.channels == 1 else 'channels'}, but "
        f"this {type(model).__name__} is for {model.channels}: {remedy}, or name other data"
    )


def check_same_domains(model: LatentModel, data: AbstractImageData) -> None:
    """Refuses plain images for a translator, domains for any other model, and domains that are not the model's.

    Raises:
        InputError: with what to write instead.
    """
    translates, has_domains = isinstance(model, AbstractTranslator), isinstance(data, OrderedDomains)
    if translates and not has_domains:
        raise InputError(
            f"a {type(model).__name__} is trained on domains, which {type(data).__name__} has not: name the data set "
            "OrderedDomains, and this one in its option images"
        )
    if has_domains and not translates:
        raise InputError(
            f"OrderedDomains gives images of several domains at a time, and a {type(model).__name__} takes one: name "
            "the data set that is in its option images"
        )
    if isinstance(model, AbstractTranslator) and isinstance(data, OrderedDomains) and model.domains != data.train_on:
        raise InputError(
            f"the model translates between the domains {', '.join(model.domains)}, the data gives "
            f"{', '.join(data.train_on)}: make model.domains and data.train_on the same"
        )


# ----------------------------------------------------------------------------------------------- against a checkpoint


def changes(section: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """What differs between the recipe in a checkpoint and the one in use, one line each."""
    if before is None:
        return []
    if before["class_path"] != after["class_path"]:
        return [f"{section}: {after['class_path'].rpartition('.')[2]}, was {before['class_path'].rpartition('.')[2]}"]
    return differences(before["init_args"], after["init_args"], section)


def check_same_model(recipe: Mapping[str, Any], configuration: Configuration) -> None:
    """Refuses a configuration that names another model than the checkpoint's.

    Raises:
        InputError: with both names.
    """
    asked = configuration.get("model", {}).get("class_path", recipe["class_path"])
    if asked != recipe["class_path"]:
        raise InputError(
            f"the checkpoint holds a {recipe['class_path'].rpartition('.')[2]}, the configuration asks for a "
            f"{asked.rpartition('.')[2]}: name the configuration that the checkpoint was trained with, or none"
        )


def check_same_structure(model: LatentModel, state: Mapping[str, Any], changed: Sequence[str]) -> None:
    """Refuses options that make other networks than those whose weights are in the checkpoint.

    Args:
        model: as configured now.
        state: state dict of the checkpoint.
        changed: what was changed of the model, one line each.

    Raises:
        InputError: with names and both values.
    """
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in state.items()}
    if here == there:
        return
    if changed:
        raise InputError(f"the checkpoint's weights do not fit these networks ({'; '.join(changed)}): undo the change")
    different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    raise InputError(
        f"the checkpoint's weights do not fit the model ({different[0]} is {shown(here.get(different[0]))} here, "
        f"{shown(there.get(different[0]))} there): it was written by another version of latent-lab"
    )
