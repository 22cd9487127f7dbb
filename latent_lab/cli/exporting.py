"""`latent-lab export`: what is needed to make and encode images, without the rest of the training state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.models.base import CHECKPOINT_KEY, LatentModel
from latent_lab.models.loading import build, load, read_checkpoint
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
    model = load(arguments.words[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    write = _write_checkpoint if path.suffix == ".ckpt" else _write_safetensors
    count = write(model, content, path)
    print(f"{path}: {count:,} numbers, after {content[CHECKPOINT_KEY]['images_seen']:,} images")


def _write_safetensors(model: LatentModel, content: Mapping[str, Any], path: Path) -> int:
    """What `decode` and `encode` use in evaluation mode, as `generator.*`, `encoder.*` ..., recipes as metadata."""
    described = content[CHECKPOINT_KEY]
    tensors = {
        f"{part.removesuffix('_average')}.{name}": value.contiguous()
        for part, module in model.named_children()
        if part not in model.training_only
        for name, value in module.state_dict().items()
    }
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


def _write_checkpoint(model: LatentModel, content: Mapping[str, Any], path: Path) -> int:
    """Weights and recipes, to be given to others: no optimisers, no random states, no buffer of samples, no paths."""
    described = content[CHECKPOINT_KEY]
    kept = {
        "version": described["version"],
        # As built now, with a value for every option.
        "model": model.recipe,
        "data": described["data"] and _without_folders(build(described["data"]).recipe),
        "images_seen": described["images_seen"],
    }
    state = dict(content["state_dict"])
    write_atomically({"state_dict": state, CHECKPOINT_KEY: kept}, path)
    return sum(value.numel() for value in state.values())


def _without_folders(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of data whose paths keep their last part: the folders above it belong to one machine."""

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: without(item) for name, item in value.items()}
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {**recipe, "init_args": without(recipe["init_args"])}
