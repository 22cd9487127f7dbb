"""The command line. Importing it costs nothing; each command loads what it needs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from latent_lab import __version__
from latent_lab.cli import errors
from latent_lab.cli.arguments import Option, parse
from latent_lab.cli.commands import BY_NAME, Command
from latent_lab.cli.help import command_help, overview


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: words after the program's name; none: those of this process.

    Returns:
        The exit code: 0, 2 after bad input, 3 after a guard stopped training, 128 + signal after a signal, 1 after a
        mistake of the program.
    """
    try:
        code = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read along (`| head`) has seen enough. The interpreter flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.PIPE_CLOSED
    except KeyboardInterrupt:
        print("latent-lab: interrupted", file=sys.stderr)
        return errors.INTERRUPTED
    except Exception as error:
        return errors.report(error)


def dispatch(argv: list[str]) -> int:
    """Finds the command and runs it."""
    if not argv or (argv[0] in ("--help", "-h", "help") and len(argv) == 1):
        print(overview())
        return 0
    if argv[0] in ("--version", "version"):
        print(__version__)
        return 0
    name, *words = argv
    if name not in BY_NAME:
        raise errors.InputError(f"there is no command {name}: {errors.closest(name, BY_NAME)}")
    command = BY_NAME[name]
    if name == "help" and words[0] in BY_NAME and len(words) == 1 and words[0] != "data":
        command, words = BY_NAME[words[0]], ["--help"]
    command = command.action(words)
    options = options_of_command(command, words)
    if "--help" in words or "-h" in words:
        print(command_help(command, options))
        return 0
    if command.actions and words and words[0].startswith("-"):
        actions = ", ".join(action.name for action in command.actions)
        raise errors.InputError(f"{command.name} needs one of {actions} as its first word, got {words[0]}")
    arguments = parse(words, options, command.sections, command.name)
    return _load(command.run)(arguments) or 0


def options_of_command(command: Command, words: Sequence[str]) -> list[Option]:
    """Its own and those of what it runs, which the words after its name may decide."""
    return [*command.options, *_further_options(command, words)]


def _further_options(command: Command, words: Sequence[str]) -> list[Option]:
    if command.options_from is None:
        return []
    target = _load(command.options_from)(words)
    if target is None:
        return []
    from latent_lab.cli.schema import options_of

    taken = {option.name for option in command.options}
    return [option for option in options_of(target) if option.name not in taken]


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
