"""From the words of a command line to options and overrides of configuration keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from latent_lab.cli.errors import InputError, closest

YES_OR_NO = "true|false"
"""What the help calls the value of a flag that may also stand alone."""


@dataclass(frozen=True)
class Option:
    """One flag of a command."""

    name: str
    """Without dashes, with hyphens: "run-dir"."""
    text: str
    """For the help."""
    value: str | None = None
    """What the help calls the value: "DIR"; none for a switch."""
    key: str | None = None
    """Configuration key that the flag is a short spelling of: "run.dir"."""
    repeated: bool = False
    """Whether the flag may occur several times and collects a list."""


@dataclass
class Arguments:
    """What a command was given."""

    words: list[str] = field(default_factory=list)
    """What is no flag, in order."""
    options: dict[str, Any] = field(default_factory=dict)
    """Flag (without dashes) -> text, list of texts if repeated, True for a switch."""
    overrides: list[tuple[str, str | bool]] = field(default_factory=list)
    """Configuration key and its text, in order; True where no value followed."""

    def text(self, name: str) -> str | None:
        """The value of a flag, if it was given."""
        value = self.options.get(name)
        return None if value is None else str(value)


def parse(argv: Sequence[str], options: Iterable[Option], sections: Sequence[str], command: str) -> Arguments:
    """Sorts the words after the command.

    Args:
        argv: `--flag value`, `--flag=value`, `--section.key value`, or plain words.
        options: flags of the command.
        sections: first parts of dotted keys that the command accepts.
        command: for messages.

    Raises:
        InputError: for an unknown flag or a missing value.
    """
    known = {option.name: option for option in options}
    arguments = Arguments()
    pending = list(argv)
    while pending:
        word = pending.pop(0)
        if not word.startswith("--") or word == "--":
            if word.startswith("-") and word[1:].isalpha():
                raise InputError(f"{command} has no option {word}: options begin with two dashes")
            arguments.words.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        section = name.partition(".")[0]
        if section in sections and section not in known:
            arguments.overrides.append((name, text if equals else _next_value(pending)))
            continue
        option = known.get(name.replace("_", "-"))
        if option is None:
            raise InputError(_unknown(name, section, known, sections, command))
        if option.value is None:
            if equals:
                raise InputError(f"--{name} is a switch and takes no value, got {text!r}: write --{name} alone")
            arguments.options[option.name] = True
            continue
        value = text if equals else _next_value(pending)
        if value is True and option.value == YES_OR_NO:
            value = "true"
        if value is True:
            raise InputError(f"--{name} needs a value: --{name} {option.value}")
        if option.key is not None:
            arguments.overrides.append((option.key, value))
        elif option.repeated:
            arguments.options.setdefault(option.name, []).append(value)
        else:
            arguments.options[option.name] = value
    return arguments


def _next_value(pending: list[str]) -> str | bool:
    return pending.pop(0) if pending and not pending[0].startswith("--") else True


def _unknown(name: str, section: str, known: Iterable[str], sections: Sequence[str], command: str) -> str:
    if "." in name:
        whose = f"keys begin with {', '.join(f'--{one}.' for one in sections)}" if sections else "it takes no such keys"
        return f"{command} has no option --{name}: {whose}"
    candidates = [f"--{one}" for one in (*known, "help")]
    return f"{command} has no option --{name}: {closest('--' + name, candidates)}"
