"""Signatures as schemas: which options a class or dataclass takes, of which types, and what its docstring says of them.

Every key and value of a configuration is checked here before an object is built, so that a sentence names the key that
is wrong. Single values are converted by jsonargparse; everything around them is plain recursion over annotations.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser

from latent_lab.cli.arguments import YES_OR_NO, Option
from latent_lab.cli.configuration import CommandLineText, shown
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.yaml_text import parse_yaml, read_yaml

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Field:
    """One option."""

    name: str
    annotation: Any
    default: Any = REQUIRED
    text: str = ""
    """From the docstring."""

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is REQUIRED


def fields_of(target: Any) -> dict[str, Field]:
    """Options of a class, dataclass or function, in the order of its signature."""
    constructor = inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
    hints = _hints(constructor) | (_hints(target) if dataclasses.is_dataclass(target) else {})
    texts = _texts(target)
    parameters = inspect.signature(constructor).parameters.values()
    named = [
        one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name != "self"
    ]
    defaults = _dataclass_defaults(target) if dataclasses.is_dataclass(target) else {}
    return {
        one.name: Field(
            one.name, hints.get(one.name, Any), defaults.get(one.name, one.default), texts.get(one.name, "")
        )
        for one in named
    }


def conform(value: Any, annotation: Any, key: str) -> Any:
    """A value of the annotated type, dataclasses built.

    Args:
        value: plain data, with `CommandLineText` where it was typed.
        annotation: of the option.
        key: of the value in the configuration, for messages.

    Raises:
        InputError: with the key, what was expected and what was found.
    """
    members = _members(annotation)
    if isinstance(value, CommandLineText):
        value = _interpret(value, members)
    if value is None:
        if type(None) in members or Any in members:
            return None
        raise InputError(f"{key} must be {in_words(annotation)}, got null")
    row = next((dataclass_type for dataclass_type in members if dataclasses.is_dataclass(dataclass_type)), None)
    if row is not None and isinstance(value, str) and value.endswith((".yaml", ".yml")):
        value = read_yaml(Path(value))
    if row is not None and (isinstance(value, Mapping) or len(members) == 1):
        return conform_dataclass(value, row, key)
    items = next((member for member in members if is_list(member)), None)
    if items is not None and isinstance(value, list | tuple):
        return _conform_list(value, items, key)
    return _convert(_interpreted(value) if isinstance(value, Mapping) else value, annotation, key)


def conform_dataclass(value: Any, target: Any, key: str, name: str | None = None) -> Any:
    """An instance of a dataclass from a mapping of its fields; for the other arguments see `conform_arguments`."""
    if dataclasses.is_dataclass(value) and isinstance(value, target):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{key} must be {in_words(target)}, got {shown(value)}")
    values = conform_arguments(value, target, key, name)
    try:
        return target(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: {error}") from error


def conform_arguments(values: Mapping[str, Any], target: Any, key: str, name: str | None = None) -> dict[str, Any]:
    """Checked and converted arguments for a call of `target`.

    Args:
        values: plain data by option.
        target: class, dataclass or function.
        key: of the mapping in the configuration, for messages.
        name: what messages call the target; none: its own name.

    Raises:
        InputError: for an unknown or missing option or a wrong value.
    """
    fields = fields_of(target)
    name = name or target.__name__
    for given in values:
        if given not in fields:
            raise InputError(f"{name} has no option {given} ({key}.{given}): {closest(str(given), fields)}")
    missing = [field.name for field in fields.values() if field.required and field.name not in values]
    if missing:
        raise InputError(f"{key}.{missing[0]} is missing: {name} needs {', '.join(missing)}")
    return {given: conform(value, fields[given].annotation, f"{key}.{given}") for given, value in values.items()}


def options_of(target: Any) -> list[Option]:
    """The parameters of a dataclass or function as flags of a command; those that hold objects are left out."""
    return [
        Option(field.name.replace("_", "-"), with_default(field), value_word(field.annotation))
        for field in fields_of(target).values()
        if not field.required
    ]


def arguments_from(options: Mapping[str, Any], target: Any) -> dict[str, Any]:
    """The values of flags that `options_of` made, checked and converted.

    Args:
        options: text by flag; flags of other origin are ignored.
        target: the same dataclass or function.
    """
    fields = fields_of(target)
    given = {name.replace("-", "_"): text for name, text in options.items()}
    return {
        name: conform(CommandLineText(text), fields[name].annotation, f"--{name.replace('_', '-')}")
        for name, text in given.items()
        if name in fields
    }


def with_default(field: Field) -> str:
    """What an option's docstring says, with its default where there is one to show."""
    if field.required or field.default is None or dataclasses.is_dataclass(field.default):
        return field.text
    return f"{field.text.rstrip('.')} (default {shown(field.default)})".strip()


def value_word(annotation: Any) -> str:
    """What a help text calls the value of a flag."""
    members = [member for member in _members(annotation) if member is not type(None)]
    if get_origin(members[0]) is Literal:
        return "|".join(str(choice) for choice in get_args(members[0]))
    words: dict[Any, str] = {int: "N", float: "X", bool: YES_OR_NO, str: "TEXT", Path: "PATH"}
    return "LIST" if is_list(members[0]) else words.get(members[0], "VALUE")


def in_words(annotation: Any) -> str:
    """A type for people: "a whole number or null"."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    members = _members(annotation)
    if len(members) > 1:
        words = [
            in_words(member)
            for member in members
            if member is not type(None) and not (member is str and Path in members)
        ]
        return " or ".join(dict.fromkeys(words)) + (" or null" if type(None) in members else "")
    if is_list(annotation):
        item = in_words(_item_type(annotation)).removeprefix("a ").removeprefix("an ")
        plural = item if item in ("text", "anything") or (" " in item and not item.endswith("number")) else f"{item}s"
        return f"a list of {plural}"
    if dataclasses.is_dataclass(annotation):
        return "a mapping with " + ", ".join(fields_of(annotation))
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        Any: "anything",
    }
    if annotation in names:
        return names[annotation]
    return "a mapping" if (get_origin(annotation) or annotation) in (dict, Mapping) else _bare_name(annotation)


def summary_of(target: Any) -> str:
    """First line of a docstring, without what belongs to its own class only."""
    return (inspect.getdoc(target) or "").split("\n", 1)[0].rstrip(".")


# ----------------------------------------------------------------------------------------------------- conversion


def _interpret(text: CommandLineText, members: Sequence[Any]) -> Any:
    """What was typed, as YAML where that fits the type, else as it stands: a folder may be called 2024."""
    parsed = parse_yaml(text)
    takes_text = str in members or Path in members
    if text == "none" and type(None) in members and not takes_text and not any("none" in get_args(m) for m in members):
        return None  # as help texts call it; YAML says null
    if any(is_list(member) for member in members) and not takes_text and isinstance(parsed, str):
        return [parse_yaml(part.strip()) for part in text.split(",")]
    fits = parsed is None or type(parsed) in members or isinstance(parsed, list | dict)
    return str(text) if takes_text and not fits else parsed


def _interpreted(value: Any) -> Any:
    """Plain data of a mapping without annotations, such as a recipe in a recipe: what was typed is read as YAML."""
    if isinstance(value, Mapping):
        return {key: _interpreted(item) for key, item in value.items()}
    return parse_yaml(value) if isinstance(value, CommandLineText) else value


def _conform_list(values: Sequence[Any], annotation: Any, key: str) -> Any:
    if get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        return _convert(list(values), annotation, key)
    items = [conform(value, _item_type(annotation), f"{key}.{row}") for row, value in enumerate(values)]
    return tuple(items) if get_origin(annotation) is tuple else items


def _convert(value: Any, annotation: Any, key: str) -> Any:
    if annotation is Any:
        return value
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=annotation)
    try:
        converted = parser.parse_object({"value": value}).value
    except ArgumentError as error:
        if get_origin(annotation) is Literal and isinstance(value, str):
            choices = [str(choice) for choice in get_args(annotation)]
            raise InputError(f"{key} must be {in_words(annotation)}, got {value}: {closest(value, choices)}") from error
        raise InputError(f"{key} must be {in_words(annotation)}, got {shown(value)}") from error
    members = _members(annotation)
    # jsonargparse leaves a whole number alone where `float | None` is asked for.
    return float(converted) if type(converted) is int and float in members and int not in members else converted


# ---------------------------------------------------------------------------------------------------- annotations


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target)
    except NameError:  # a name that exists for type checkers only
        return {}


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def is_list(annotation: Any) -> bool:
    """Whether an annotation is some sequence other than text."""
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, str)


def _item_type(annotation: Any) -> Any:
    return next((item for item in get_args(annotation) if item is not Ellipsis), Any)


def _bare_name(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation).rpartition(".")[2])


def _dataclass_defaults(target: Any) -> dict[str, Any]:
    return {
        field.name: field.default_factory()
        for field in dataclasses.fields(target)
        if field.default_factory is not dataclasses.MISSING
    }


# ------------------------------------------------------------------------------------------------------ docstrings


def _texts(target: Any) -> dict[str, str]:
    if dataclasses.is_dataclass(target):
        return _attribute_texts(cast("type", target))
    return _argument_texts(inspect.getdoc(target) or "")


def _argument_texts(docstring: str) -> dict[str, str]:
    """The section "Args:" of a Google-style docstring."""
    texts: dict[str, str] = {}
    current = None
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    for line in section.group(1).splitlines() if section else ():
        entry = re.match(r"^ {4}(\w+):\s*(.*)$", line)
        if entry:
            current = entry.group(1)
            texts[current] = entry.group(2)
        elif current and line.strip():
            texts[current] += f" {line.strip()}"
    return texts


def _attribute_texts(target: type) -> dict[str, str]:
    """The string below each field of a dataclass."""
    texts: dict[str, str] = {}
    for owner in (one for one in reversed(target.__mro__) if dataclasses.is_dataclass(one)):
        definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for statement, below in itertools.pairwise(definition.body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts
