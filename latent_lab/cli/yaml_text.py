"""YAML as configurations are written in: floats without a dot (1e-3) are numbers, and no key may occur twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from latent_lab.cli.errors import InputError


class _Loader(yaml.SafeLoader):
    """Safe, with the numbers of YAML 1.2."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"the key {twice} occurs twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        InputError: with file and line, if it is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}{_place_and_problem(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file") from error


def parse_yaml(text: str) -> Any:
    """What a piece of a command line says; text that is not YAML stands for itself."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


def write_yaml(content: Any) -> str:
    """Text of plain data, in the order of its keys, short lists in one line."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _place_and_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    return f", line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f": {problem}"


class _Dumper(yaml.SafeDumper):
    """Numbers in short form, lists of plain values and rows of plain values in one line."""


def _dump_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    in_one_line = all(not isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=in_one_line)


_Dumper.add_representer(list, _dump_list)
_Dumper.add_representer(tuple, lambda dumper, values: _dump_list(dumper, list(values)))
