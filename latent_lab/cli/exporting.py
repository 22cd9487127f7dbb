"""`latent-lab export`: what is needed to make and encode images, without the rest of the training state."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import load, read_checkpoint

_PARTS = ("generator_average", "encoder")
"""Submodules that `decode` and `encode` use in evaluation mode."""


def export(arguments: Arguments) -> None:
    """Writes the tensors, named `generator.*` and `encoder.*`, with the recipes as metadata."""
    out = arguments.text("out")
    if len(arguments.words) != 1 or out is None:
        raise InputError("export takes one checkpoint and --out: latent-lab export FILE --out X.safetensors")
    if not out.endswith(".safetensors"):
        raise InputError(f"--out must end with .safetensors, got {out}")
    content = read_checkpoint(arguments.words[0])
    described = content[CHECKPOINT_KEY]
    model = load(arguments.words[0])
    parts = {name: getattr(model, name) for name in _PARTS if isinstance(getattr(model, name, None), nn.Module)}
    tensors = {
        f"{part.removesuffix('_average')}.{name}": value.contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    facts = {
        "format": "latent-lab",
        "version": described["version"],
        "model": json.dumps(described["model"]),
        "data": json.dumps(described["data"]),
        "images_seen": str(described["images_seen"]),
    }
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(tensors, temporary, metadata=facts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    count = sum(value.numel() for value in tensors.values())
    print(f"{path}: {' and '.join(parts)}, {count:,} numbers, after {described['images_seen']:,} images")
