"""Recipes: how an object was built, as plain data, so that a checkpoint can build it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Constructor arguments as numbers, strings, lists and dicts, fit for YAML and for `torch.load(weights_only=True)`.

    Raises:
        TypeError: for anything that cannot be written so.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"a recipe holds plain data only, got {type(value).__name__}")


def recipe_of(built: object, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """{"class_path": ..., "init_args": {...}} of an object.

    Args:
        built: the object.
        arguments: `locals()` at the start of its constructor.
    """
    names = (name for name in arguments if name not in ("self", "__class__"))
    class_path = f"{type(built).__module__}.{type(built).__qualname__}"
    return {"class_path": class_path, "init_args": {name: plain(arguments[name]) for name in names}}
