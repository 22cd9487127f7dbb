"""From a checkpoint file back to a model: safely, and with nothing but the file."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from latent_lab.latent.chain import Chain
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.models.base import CHECKPOINT_KEY, LatentModel
from latent_lab.networks.pretrained import sha256_of
from latent_lab.shipped import shipped_folder


def resolve_checkpoint(name: str | Path) -> Path:
    """The file of a path, or of a name of a checkpoint that comes with the project.

    Raises:
        FileNotFoundError: with one sentence, if there is neither such a file nor such a name, if the name is of a
            chain or of a checkpoint that others publish, or the manifest's file is not there.
        ValueError: if the manifest's file differs from its sha256.
    """
    path = Path(name)
    if path.is_file():
        return path
    manifest = read_manifest()
    if str(name) not in manifest:
        known = ", ".join(sorted(name for name, entry in manifest.items() if is_shipped(entry))) or "none"
        raise FileNotFoundError(f"no checkpoint at {name}, and no shipped checkpoint of that name (there are: {known})")
    entry = manifest[str(name)]
    if is_chain(entry):
        raise FileNotFoundError(f"{name} is a chain of translators: use it with `latent-lab chain apply {name}`")
    if not is_shipped(entry):
        raise FileNotFoundError(
            f"{name} was published by others and does not come with the project: {how_to_obtain(str(name), entry)}"
        )
    path = shipped_folder("checkpoints") / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"the shipped checkpoint {name} should be at {path}, which is not there")
    _check_digest(path, entry)
    return path


def resolve_chain(name: str | Path) -> Path:
    """The folder of a chain of translators: a path, or the name of a chain that comes with the project.

    Raises:
        ValueError: if there is neither, the manifest's chain is not there, or its ledger, which has the digests of its
            checkpoints, differs from the manifest's sha256.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    manifest = read_manifest()
    entry = manifest.get(str(name), {})
    if not is_chain(entry):
        known = ", ".join(sorted(name for name, entry in manifest.items() if is_chain(entry))) or "none"
        raise ValueError(
            f"{name} is no chain: name a folder that `latent-lab chain build` has written, or one that comes with the "
            f"project (there is: {known})"
        )
    folder = shipped_folder("checkpoints") / entry["folder"]
    ledger = folder / "ledger.json"
    if not ledger.is_file():
        raise ValueError(f"the shipped chain {name} should be in {folder}, which has no ledger.json")
    _check_digest(ledger, entry)
    return folder


def _check_digest(path: Path, entry: Mapping[str, Any]) -> None:
    digest = sha256_of(path)
    if digest != entry["sha256"]:
        raise ValueError(f"{path} has sha256 {digest[:12]}..., its manifest says {entry['sha256'][:12]}...")


def read_manifest() -> dict[str, dict[str, Any]]:
    """Name -> entry of checkpoints/manifest.toml."""
    manifest = shipped_folder("checkpoints") / "manifest.toml"
    return tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}


def is_shipped(entry: Mapping[str, Any]) -> bool:
    """Whether a manifest entry is of a checkpoint that comes with the project: of a single one, not of a chain."""
    return "file" in entry


def is_chain(entry: Mapping[str, Any]) -> bool:
    """Whether a manifest entry is of a chain of translators that comes with the project."""
    return "folder" in entry


def is_published(entry: Mapping[str, Any]) -> bool:
    """Whether a manifest entry is of a checkpoint that others publish."""
    return "importer" in entry


def how_to_obtain(name: str, entry: Mapping[str, Any], folder: str | Path = "DIR") -> str:
    """What to do for a checkpoint that others publish: the end of a sentence.

    Args:
        name: in the manifest.
        entry: of the manifest.
        folder: where the files are to be put.
    """
    files = [file["name"] for file in entry["files"]]
    if all("url" in file for file in entry["files"]):
        get = f"run `latent-lab download {name} --out {folder}`"
    else:
        get = f"get {' and '.join(files)} with a browser from {entry['page']} into {folder}"
    return f"{get}, then `{import_command(entry, folder)}`, and name the file that this makes"


def import_command(entry: Mapping[str, Any], folder: str | Path = "DIR") -> str:
    """The command that makes a file of this package of a published one.

    Args:
        entry: of the manifest.
        folder: where the published files are.
    """
    published = Path(folder) / entry["files"][0]["name"]
    return f"latent-lab import {entry['importer']} {published} --out {entry['becomes']}"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Everything in a checkpoint of this package, on the CPU; no code in the file is ever run.

    Raises:
        FileNotFoundError: if there is no such file or shipped name.
        ValueError: if the file is damaged, holds more than plain data, or comes from another program.
    """
    path = resolve_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is not a checkpoint of plain tensors and data, so it was not opened ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, LookupError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or only half written: use an earlier checkpoint of the run") from error
    if not isinstance(checkpoint, Mapping) or CHECKPOINT_KEY not in checkpoint:
        raise ValueError(
            f"{path} is not a checkpoint of latent-lab: published weights of other programs need `latent-lab import`"
        )
    for part in ("model", "data"):
        _check_origin(path, checkpoint[CHECKPOINT_KEY].get(part))
    return dict(checkpoint)


def _check_origin(path: str | Path, recipe: Any) -> None:
    """Refuses recipes that name a class from elsewhere, nested ones included: importing a module runs it."""
    if isinstance(recipe, Mapping):
        class_path = recipe.get("class_path")
        module = class_path.rpartition(".")[0] if isinstance(class_path, str) else ""
        if module and not module.startswith("latent_lab.") and module not in sys.modules:
            raise ValueError(
                f"{path} names the class {class_path}, which is not latent-lab's, so it was not opened: import "
                f"{module} first if you trust it"
            )
    if isinstance(recipe, Mapping | list):
        for part in recipe.values() if isinstance(recipe, Mapping) else recipe:
            _check_origin(path, part)


def class_of(class_path: str) -> type:
    """The class of an import path, or of a model's short name."""
    from latent_lab.models import MODELS

    if class_path in MODELS:
        return MODELS[class_path]
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no class {class_path}: known models are {', '.join(sorted(MODELS))}") from error


def build(recipe: Mapping[str, Any]) -> Any:
    """The object of a recipe {"class_path": ..., "init_args": {...}} of plain data.

    Raises:
        ValueError: if the class does not exist or does not take these arguments.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(class_of(recipe["class_path"]), "object", fail_untyped=False)
    arguments = parser.parse_object({"object": copy.deepcopy(dict(recipe["init_args"]))})
    return parser.instantiate(arguments).object


def build_model(recipe: Mapping[str, Any], origin: str | Path) -> LatentModel:
    """The model of a recipe, with fresh weights.

    Args:
        recipe: of plain data, perhaps from a file that nobody vouches for.
        origin: where the recipe stands, for messages.

    Raises:
        ValueError: if it names a class that is no model, or one of another package that was not imported before.
    """
    _check_origin(origin, recipe)
    class_path = recipe.get("class_path")
    if not isinstance(class_path, str) or not isinstance(recipe.get("init_args"), Mapping):
        raise ValueError(f"{origin} has no recipe of a model: it takes a mapping with class_path and init_args")
    found = class_of(class_path)
    if not (isinstance(found, type) and issubclass(found, LatentModel)):
        raise ValueError(f"{origin} names {class_path} as its model, which is none: it was not opened")
    model: LatentModel = build(recipe)
    return model


def link_of_chain(folder: Path, record: Mapping[str, Any]) -> Path:
    """The checkpoint of one of a chain's translators.

    Args:
        folder: of the chain.
        record: of the translator, in the chain's ledger.

    Raises:
        ValueError: if the file is gone, or is another one than the ledger knows.
    """
    path = folder / record["checkpoint"]
    if not path.is_file():
        raise ValueError(f"{path} is gone, which the chain needs: restore it")
    if sha256_of(path) != record["sha256"]:
        raise ValueError(f"{path} is not the file that the chain's ledger knows: restore it")
    return path


def load_chain(chain: str | Path, *, rounded: bool = False, device: str | torch.device = "cpu") -> Chain:
    """The translators of a finished chain, one after another, in evaluation mode.

    Args:
        chain: folder of `latent-lab chain build` or `chain export`, or the name of one that comes with the project.
        rounded: whether images are rounded to 8 bits between steps, as in the published program.
        device: where the translators go.

    Raises:
        ValueError: if it is no chain, is not finished, or a file is gone or was exchanged.
    """
    folder = resolve_chain(chain)
    try:
        ledger = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
        domains, names = ledger["domains"], ledger["chain"]
        records = {name: {key: ledger["trainings"][name][key] for key in ("checkpoint", "sha256")} for name in names}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, LookupError, TypeError) as error:
        raise ValueError(f"{folder} is no chain of translators, it has no ledger.json that could be read") from error
    if len(names) != len(domains) - 1:
        raise ValueError(f"the chain in {folder} is not finished: go on with latent-lab chain build")
    loaded = {}
    for name, record in records.items():
        path = link_of_chain(folder, record)
        model = load(path, device=device)
        if not isinstance(model, AbstractTranslator):
            raise ValueError(f"{path} holds a {type(model).__name__}, which is no translator: restore the chain's file")
        loaded[name] = model
    return Chain(domains, [loaded[name] for name in names], rounded=rounded)


def load(checkpoint: str | Path, *, device: str | torch.device = "cpu") -> LatentModel:
    """A trained model in evaluation mode, from a file or a shipped name.

    Args:
        checkpoint: path of a checkpoint, or a name listed by `latent-lab checkpoints`.
        device: where the model goes.

    Raises:
        FileNotFoundError: if there is no such file or shipped name.
        ValueError: if the file is damaged or not a checkpoint of this package.
    """
    content = read_checkpoint(checkpoint)
    model = build_model(content[CHECKPOINT_KEY]["model"], checkpoint)
    model.load_state_dict(content["state_dict"])
    model.data_recipe = content[CHECKPOINT_KEY]["data"]
    return model.to(device).eval()
