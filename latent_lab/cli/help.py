"""Help texts, made from the table of commands."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from latent_lab.cli.arguments import Option
from latent_lab.cli.commands import COMMANDS, GROUPS, Command

_EXAMPLES = (
    "latent-lab demo",
    "latent-lab fit --config pioneer_celebahq.yaml --data.root ~/celeba-hq",
    "latent-lab test --ckpt runs/pioneer_celebahq/checkpoints/last.ckpt",
)


def overview() -> str:
    """`latent-lab --help`."""
    lines = ["latent-lab trains, measures and shows latent-space generative models of images.", ""]
    lines += ["usage: latent-lab COMMAND [--OPTION VALUE ...]"]
    for group in GROUPS:
        lines += ["", group]
        lines += [f"  {one.name:<17}{one.summary}" for one in COMMANDS if one.group == group]
    lines += ["", "Examples", *(f"  {example}" for example in _EXAMPLES), ""]
    lines += ["`latent-lab COMMAND --help` shows a command's options, `latent-lab help Pioneer` a model's."]
    return "\n".join(lines)


def command_help(command: Command, options: Sequence[Option]) -> str:
    """`latent-lab COMMAND --help`."""
    lines = [f"usage: latent-lab {command.name} {command.usage}".rstrip(), ""]
    lines += wrapped(f"{command.summary[0].upper()}{command.summary[1:]}. {command.details}")
    if options:
        lines += ["", "Options", *table((_flag(option), option.text) for option in options)]
    if command.sections:
        lines += ["", "Keys of a configuration", *table(_sections(command.sections))]
    if command.examples:
        lines += ["", "Examples", *(f"  {example}" for example in command.examples)]
    return "\n".join(lines)


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns, the second one wrapped."""
    rows = list(rows)
    width = min(28, max((len(left) for left, _ in rows), default=0) + 2)
    lines = []
    for left, right in rows:
        first, *rest = textwrap.wrap(right, _columns() - width - 2) or [""]
        if len(left) + 2 > width:
            lines += [f"  {left}", f"  {'':<{width}}{first}"]
        else:
            lines += [f"  {left:<{width}}{first}".rstrip()]
        lines += [f"  {'':<{width}}{line}" for line in rest]
    return lines


def wrapped(text: str) -> list[str]:
    """A paragraph as lines."""
    return textwrap.wrap(text, _columns())


def _columns() -> int:
    return min(120, max(60, shutil.get_terminal_size((120, 24)).columns))


def _flag(option: Option) -> str:
    return f"--{option.name} {option.value}" if option.value else f"--{option.name}"


def _sections(sections: Sequence[str]) -> list[tuple[str, str]]:
    texts = {
        "model": "options of the model; `latent-lab help Pioneer` explains them, `latent-lab models` lists models",
        "data": "options of the data; `latent-lab help ImageFolder` explains them, `latent-lab data` lists them",
        "chain": "which translators compete for the steps of a chain; see `latent-lab chain build --help`",
        "run": "folder, length, checkpoints, pictures; see `latent-lab help run`",
        "trainer": "Lightning's Trainer: devices, precision, strategy; see `latent-lab help trainer`",
    }
    return [(f"--{section}.OPTION VALUE", texts[section]) for section in sections]
