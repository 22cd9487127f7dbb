"""What there is: models, data sets, configurations, checkpoints, and every option of each."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.help import wrapped
from latent_lab.shipped import shipped_folder


def models(arguments: Arguments) -> None:
    """One line each."""
    del arguments
    from latent_lab.cli.recipes import model_classes

    _print_classes(model_classes())


def data(arguments: Arguments) -> None:
    """One line each."""
    del arguments
    from latent_lab.cli.recipes import data_classes

    _print_classes(data_classes())


def configs(arguments: Arguments) -> None:
    """One line each: name and the first sentence of the header."""
    del arguments
    folder = shipped_folder("configs")
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.relative_to(folder).parts), path))
    _print_rows((path.relative_to(folder).as_posix(), _header(path)) for path in paths)


def checkpoints(arguments: Arguments) -> None:
    """One line each: name and what the manifest says; first the project's own, then those that others publish."""
    del arguments
    from latent_lab.models.loading import is_published, read_manifest

    manifest = sorted(read_manifest().items())
    shipped = [(name, _facts(entry)) for name, entry in manifest if not is_published(entry)]
    published = [(name, _facts(entry)) for name, entry in manifest if is_published(entry)]
    _print_rows(shipped)
    if published:
        print("\nPublished by others, to be had by `latent-lab download NAME --out DIR` and `latent-lab import`:\n")
        _print_rows(published)


def _facts(entry: Mapping[str, Any]) -> str:
    """An entry of the manifest on one line."""
    shown = ("data", "resolution", "licence")
    return "; ".join([entry["summary"], *(f"{fact} {entry[fact]}" for fact in shown if fact in entry)])


def explain(arguments: Arguments) -> None:
    """`latent-lab help NAME`: each option with type, default and what its docstring says."""
    from lightning import Trainer

    from latent_lab.analyses import ANALYSES
    from latent_lab.callbacks import RunOptions
    from latent_lab.cli.commands import BY_NAME
    from latent_lab.cli.recipes import ADDED_TO_TRAINER, TAKEN_CARE_OF, data_classes, model_classes

    name = arguments.words[0]
    known: dict[str, tuple[Any, str]] = {one: (target, "model.") for one, target in model_classes().items()}
    known |= {one: (target, "data.") for one, target in data_classes().items()}
    known |= {one: (target, "") for one, target in ANALYSES.items()}
    known |= {"run": (RunOptions, "run."), "trainer": (Trainer, "trainer.")}
    by_lower_case = {one.lower(): one for one in known}
    if name.lower() not in by_lower_case:
        raise InputError(f"there is no help on {name}: {closest(name, [*known, *BY_NAME])}")
    target, prefix = known[by_lower_case[name.lower()]]
    without, added = (TAKEN_CARE_OF, ADDED_TO_TRAINER) if target is Trainer else ((), {})
    print("\n".join(_explained(target, prefix, without, added)))


def _explained(
    target: Any, prefix: str, without: Collection[str] = (), added: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    from latent_lab.cli.schema import fields_of, in_words, is_list, summary_of

    lines = [f"{target.__name__}: {summary_of(target)}.", ""]
    nested = []
    for field in fields_of(target).values():
        if field.name in without:
            continue
        rows = _rows_of(field.annotation)
        nested += [(f"{field.name}.0" if is_list(field.annotation) else field.name, row) for row in rows]
        kind = ", ".join(row.__name__ for row in rows) or in_words(field.annotation)
        default = "required" if field.required else f"default {_shown_default(field.default)}"
        flag = f"--{prefix}{field.name}" if prefix else f"--{field.name.replace('_', '-')}"
        lines += [
            f"  {flag}  ({kind}; {default})",
            *(f"      {line}" for line in wrapped(added.get(field.name, field.text))),
        ]
    for name, row in nested:
        lines += ["", *_explained(row, f"{prefix}{name}.")]
    return lines


def _rows_of(annotation: Any) -> list[Any]:
    """Dataclasses inside an annotation."""
    from typing import get_args

    if dataclasses.is_dataclass(annotation):
        return [annotation]
    return [row for part in get_args(annotation) for row in _rows_of(part)]


def _shown_default(default: Any) -> str:
    from latent_lab.cli.configuration import shown

    if dataclasses.is_dataclass(default) or (isinstance(default, list) and any(map(dataclasses.is_dataclass, default))):
        return "see below"
    return shown(default)


def _print_classes(classes: dict[str, Any]) -> None:
    from latent_lab.cli.schema import summary_of

    _print_rows((name, summary_of(target)) for name, target in classes.items())


def _print_rows(rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    print("\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows) or "there are none")


def _header(path: Path) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.removeprefix("#").strip() for line in lines)
    return re.split(r"\.(?: (?=[A-Z])|$)", text, maxsplit=1)[0]
