"""`latent-lab export`: what is needed to make and encode images, without the rest of the training state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.models.base import CHECKPOINT_KEY, LatentModel, training_only_parts
from latent_lab.models.loading import build, load, read_checkpoint, resolve_checkpoint
from latent_lab.models.saving import write_atomically


def export(arguments: Arguments) -> None:
    """Writes tensors as safetensors, or a checkpoint that loads by itself but cannot be continued."""
    out = arguments.text("out")
    if len(arguments.words) != 1 or out is None:
        raise InputError("export takes one checkpoint and --out: latent-lab export FILE --out X.safetensors")
    path = Path(out)
    if path.suffix not in (".safetensors", ".ckpt"):
        raise InputError(f"--out must end with .safetensors or .ckpt, got {out}")
    content = read_checkpoint(arguments.words[0])
    if path.exists() and path.samefile(resolve_checkpoint(arguments.words[0])):
        raise InputError(
            f"--out {out} is the checkpoint itself, which could not be continued then: write to another file"
        )
    model = load(arguments.words[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    write = write_checkpoint if path.suffix == ".ckpt" else _write_safetensors
    count = write(model, content, path, half="half" in arguments.options)
    print(f"{path}: {count:,} numbers, after {content[CHECKPOINT_KEY]['images_seen']:,} images")


def _write_safetensors(model: LatentModel, content: Mapping[str, Any], path: Path, *, half: bool) -> int:
    """What `decode` and `encode` use in evaluation mode, as `generator.*`, `encoder.*` ..., recipes as metadata."""
    described = content[CHECKPOINT_KEY]
    left_out = tuple(f"{part}." for part in training_only_parts(model))
    tensors = {
        f"{part.removesuffix('_average')}.{name}": value.contiguous()
        for part, module in model.named_children()
        for name, value in module.state_dict().items()
        if not f"{part}.{name}".startswith(left_out)
    }
    tensors = _in_half_precision(tensors) if half else tensors
    facts = {
        "format": "latent-lab",
        "version": described["version"],
        "model": json.dumps(described["model"]),
        "data": json.dumps(described["data"]),
        "images_seen": str(described["images_seen"]),
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(tensors, temporary, metadata=facts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return sum(value.numel() for value in tensors.values())


def write_checkpoint(model: LatentModel, content: Mapping[str, Any], path: Path, *, half: bool) -> int:
    """Weights and recipes, to be given to others: no optimisers, no random states, no buffer of samples, no paths.

    Args:
        model: of the content.
        content: of the whole checkpoint.
        path: of the file to write.
        half: whether weights are rounded to float16.

    Returns:
        How many numbers `decode` and `encode` use.
    """
    described = content[CHECKPOINT_KEY]
    kept = {
        "version": described["version"],
        # As built now, with a value for every option.
        "model": model.recipe,
        "data": described["data"] and without_folders(build(described["data"]).recipe),
        "images_seen": described["images_seen"],
    }
    used = _used(model, content["state_dict"])
    state = _in_half_precision(used) if half else used
    write_atomically({"state_dict": _with_stand_ins(model, state), CHECKPOINT_KEY: kept}, path)
    return sum(value.numel() for value in state.values())


def _used(model: LatentModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state without the networks that only training needs; settings among such parts have no parameters, and stay."""
    left_out = tuple(f"{part}." for part in _networks_of_training(model))
    return {name: value for name, value in state.items() if not name.startswith(left_out)}


def _networks_of_training(model: LatentModel) -> dict[str, nn.Module]:
    parts = training_only_parts(model)
    return {name: part for name, part in parts.items() if next(part.parameters(), None) is not None}


def _with_stand_ins(model: LatentModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor under its name, so that loading stays strict, but without room for what only training needs.

    A network that has an average shares that one's tensors, which are written once. Others, such as discriminators,
    are NaN throughout, so that nobody takes them for trained ones: one number, expanded to the tensor's shape.
    """
    whole = dict(state)
    for part, module in _networks_of_training(model).items():
        average = f"{part.rpartition('.')[0]}.generator_average.network.".lstrip(".")
        tensors = module.state_dict()
        is_averaged = all(
            average + name in state and state[average + name].shape == value.shape for name, value in tensors.items()
        )
        for name, value in tensors.items():
            nothing = torch.full((), torch.nan) if value.is_floating_point() else value.new_zeros(())
            whole[f"{part}.{name}"] = state[average + name] if is_averaged else nothing.expand(value.shape)
    return whole


def _in_half_precision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors rounded to float16; `load` makes float32 of them again."""
    largest = torch.finfo(torch.float16).max
    for name, value in tensors.items():
        if value.dtype == torch.float32 and value.numel() and value.abs().max() > largest:
            raise InputError(f"{name} holds numbers beyond {largest:g}, the largest of float16: export without --half")
    return {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}


def without_folders(value: Any) -> Any:
    """Plain data whose absolute paths keep their last part: the folders above it belong to one machine.

    Args:
        value: recipe of data, or settings that hold one.
    """
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    is_path = isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~"))
    return Path(value).name if is_path else value
