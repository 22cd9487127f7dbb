"""Configurations: where they are found, how they are merged, and how two of them differ.

A configuration is plain data with four sections: `model` and `data` (each a class and its arguments), `run` (the fields
of `RunOptions`), `trainer` (arguments of Lightning's Trainer); that of a chain has a fifth, `chain` (`ChainOptions`).
Later ones win over earlier ones, key by key; what was typed wins over all; a checkpoint's recipes lie below all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.yaml_text import parse_yaml, read_yaml
from latent_lab.shipped import shipped_folder

OBJECT_SECTIONS = ("model", "data")
"""Sections that name a class and its arguments."""
SECTIONS = (*OBJECT_SECTIONS, "run", "trainer", "chain")

Configuration = dict[str, Any]


class CommandLineText(str):
    """A value as it was typed; only the option that it is for knows whether 2024 is a number or a folder."""

    __slots__ = ()


def find_configuration(name: str) -> Path:
    """The file of a path, or a shipped configuration of that name (with or without .yaml).

    Raises:
        InputError: with the closest names, if there is neither.
    """
    shipped = shipped_folder("configs")
    for candidate in (Path(name), Path(f"{name}.yaml"), shipped / name, shipped / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    names = [str(path) for path in Path().glob("*.yaml")]
    names += [path.relative_to(shipped).as_posix() for path in shipped.rglob("*.yaml")]
    raise InputError(
        f"there is no configuration {name}, neither here nor among the shipped ones: {closest(name, names)}"
    )


def read_configuration(path: Path) -> Configuration:
    """One file, with the short forms of its sections written out.

    Raises:
        InputError: if it is not YAML, not a mapping, or has other sections.
    """
    content = read_yaml(path) or {}
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} must be a mapping with the sections {', '.join(SECTIONS)}, got {type(content).__name__}"
        )
    for section, value in content.items():
        if section not in SECTIONS:
            raise InputError(f"{path} has an unknown section {section}: {closest(str(section), SECTIONS)}")
        if section in OBJECT_SECTIONS and isinstance(value, Mapping):
            _check_object_section(value, f"{path}: {section}")
        elif value is not None and not isinstance(value, Mapping) and section not in OBJECT_SECTIONS:
            raise InputError(f"{path}: {section} must be a mapping of options, got {value!r}")
    return {section: _written_out(section, value) for section, value in content.items()}


def _written_out(section: str, value: Any) -> Any:
    if value is None:
        return {}
    return {"class_path": value} if section in OBJECT_SECTIONS and not isinstance(value, Mapping) else dict(value)


def _check_object_section(value: Mapping[str, Any], where: str) -> None:
    unknown = [str(key) for key in value if key not in ("class_path", "init_args")]
    if unknown:
        raise InputError(
            f"{where} has an unknown key {unknown[0]}: it takes class_path and init_args (options go there)"
        )
    if not isinstance(value.get("init_args") or {}, Mapping):
        raise InputError(f"{where}.init_args must be a mapping of options, got {value['init_args']!r}")


def overrides_as_configuration(overrides: Sequence[tuple[str, str | bool]]) -> Configuration:
    """`--data.root X` and the like as a configuration; `data.root` means `data.init_args.root`."""
    configuration: Configuration = {}
    for key, text in overrides:
        content: Any = _as_typed(text)
        for part in reversed(_full_path(key)):
            content = {part: content}
        configuration = merge(configuration, content)
    return configuration


def _as_typed(text: str | bool) -> Any:
    if isinstance(text, bool):
        return text
    value = parse_yaml(text)
    return value if isinstance(value, list | dict) else CommandLineText(text)


def _full_path(key: str) -> list[str]:
    section, *rest = key.replace("-", "_").split(".")
    if "" in rest:
        raise InputError(f"--{key} has an empty part: write --{section}.OPTION")
    if section not in OBJECT_SECTIONS:
        if not rest:
            raise InputError(f"--{section} needs the name of an option: --{section}.OPTION VALUE")
        return [section, *rest]
    if not rest:
        return [section, "class_path"]
    return [section, *rest] if rest[0] in ("class_path", "init_args") else [section, "init_args", *rest]


def merge(below: Any, above: Any) -> Any:
    """Deep merge of plain data; `above` wins. Lists are replaced, except by mappings of row numbers (stages.0.kimg)."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: merge(below.get(key), value) for key, value in above.items()}}
    if isinstance(below, list) and isinstance(above, Mapping) and above and all(str(key).isdigit() for key in above):
        rows = {int(key): value for key, value in above.items()}
        if max(rows) >= len(below):
            raise InputError(f"there is no row {max(rows)}: the list has rows 0 to {len(below) - 1}")
        return [merge(value, rows[row]) if row in rows else value for row, value in enumerate(below)]
    return above


def differences(before: Any, after: Any, key: str = "") -> list[str]:
    """One line for each value that two pieces of plain data do not share: "latent_dim: 64, was 512"."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = [*before, *(name for name in after if name not in before)]
        lines = [differences(before.get(name), after.get(name), f"{key}.{name}" if key else str(name)) for name in keys]
        return [line for part in lines for line in part]
    if isinstance(before, list) and isinstance(after, list) and _are_rows(before) and _are_rows(after):
        if len(before) != len(after):
            return [f"{key}: {len(after)} rows, was {len(before)}"]
        rows = enumerate(zip(before, after, strict=True))
        return [line for row, (old, new) in rows for line in differences(old, new, f"{key}.{row}")]
    return [] if before == after else [f"{key}: {shown(after)}, was {shown(before)}"]


def _are_rows(values: list[Any]) -> bool:
    return any(isinstance(value, Mapping) for value in values)


def shown(value: Any) -> str:
    """A value as YAML has it, cut to what fits a line."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, list | tuple):
        text = f"[{', '.join(shown(item) for item in value)}]"
    else:
        text = words[value] if value is None or isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
