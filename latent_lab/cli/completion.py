"""`latent-lab completion SHELL`: a script with which a shell completes commands, options and names.

Everything is looked up when the script is made, so that pressing TAB starts no Python. It is made anew after an update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from latent_lab.cli.arguments import Arguments, Option
from latent_lab.cli.commands import COMMANDS, Command
from latent_lab.cli.errors import InputError, closest

SHELLS = ("bash", "fish", "zsh")


@dataclass(frozen=True)
class Line:
    """What can follow `latent-lab COMMAND [FIRST]`."""

    command: str
    first: str | None
    """First word, where it decides which options there are: `analyze split`."""
    options: tuple[Option, ...]
    sections: tuple[str, ...]
    firsts: tuple[str, ...]
    """What the first word may be; none: a file, or nothing."""
    names: tuple[str, ...] = ()
    """What any other word may be besides a file: names of what comes with the project."""


def completion(arguments: Arguments) -> None:
    """Prints the script of a shell."""
    shells = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
    if len(arguments.words) != 1 or arguments.words[0] not in shells:
        given = " ".join(arguments.words)
        raise InputError(
            f"completion takes one of {', '.join(SHELLS)}, got {given or 'none'}: {closest(given, SHELLS)}"
        )
    print(shells[arguments.words[0]](all_lines()))


# ----------------------------------------------------------------------------------------------------- what there is


def all_lines() -> list[Line]:
    """Of all commands; where the first word of one decides its options, one line for each."""
    found = []
    for command in COMMANDS:
        firsts, names = _first_words(command), _names(command)
        found.append(Line(command.name, None, _options(command, []), command.sections, firsts, names))
        if command.options_from is not None:
            found += [Line(command.name, one, _options(command, [one]), command.sections, ()) for one in firsts]
        for action in command.actions:
            options = _options(action, [action.name])
            found.append(Line(command.name, action.name, options, action.sections, (), _names(action)))
    return found


def _options(command: Command, words: Sequence[str]) -> tuple[Option, ...]:
    from latent_lab.cli import options_of_command

    return tuple(options_of_command(command, words))


def _first_words(command: Command) -> tuple[str, ...]:
    named: dict[str, Callable[[], Iterable[str]]] = {
        "analyze": _analyses,
        "completion": lambda: SHELLS,
        "download": _published,
        "help": _explained,
        "import": _formats,
        "weights": lambda: ("list", "pack"),
    }
    if command.actions:
        return tuple(action.name for action in command.actions)
    return tuple(named[command.name]()) if command.name in named else ()


def _names(command: Command) -> tuple[str, ...]:
    named = {"checkpoints": _shipped_checkpoints, "chains": _shipped_chains}
    return named[command.names]() if command.names else ()


def _analyses() -> list[str]:
    from latent_lab.analyses import ANALYSES

    return sorted(ANALYSES)


def _formats() -> list[str]:
    from latent_lab.importers import FORMATS

    return sorted(FORMATS)


def _explained() -> list[str]:
    from latent_lab.cli.recipes import data_classes, model_classes

    return [*model_classes(), *data_classes(), *_analyses(), "run", "trainer", *(command.name for command in COMMANDS)]


def _published() -> list[str]:
    from latent_lab.models.loading import is_published, read_manifest

    return [name for name, entry in read_manifest().items() if is_published(entry)]


@functools.cache
def _shipped_checkpoints() -> tuple[str, ...]:
    from latent_lab.models.loading import is_shipped, read_manifest

    return tuple(name for name, entry in read_manifest().items() if is_shipped(entry))


@functools.cache
def _shipped_chains() -> tuple[str, ...]:
    from latent_lab.models.loading import is_chain, read_manifest

    return tuple(name for name, entry in read_manifest().items() if is_chain(entry))


@functools.cache
def _shipped_configurations() -> tuple[str, ...]:
    from latent_lab.shipped import shipped_folder

    folder = shipped_folder("configs")
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")))


def values_of(option: Option) -> tuple[str, ...]:
    """What an option's value may be, besides a file; empty: nothing is known."""
    if option.name == "config":
        return _shipped_configurations()
    if option.name in ("ckpt", "target", "recoder"):
        return _shipped_checkpoints()
    # The help writes choices as a|b|c.
    return tuple(option.value.split("|")) if option.value and "|" in option.value else ()


# ----------------------------------------------------------------------------------------------------------- scripts


def bash_script(lines: Sequence[Line]) -> str:
    """For bash 3.2 and later. Where nothing is known, readline completes file names."""
    commands = " ".join(command.name for command in COMMANDS)
    # A pattern for one first word stands before that for all others.
    cases = [_bash_case(line) for line in sorted(lines, key=lambda line: line.first is None)]
    return "\n".join(
        [
            "# Completion of latent-lab, by `latent-lab completion bash`.",
            "_latent_lab() {",
            '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '    local command="${COMP_WORDS[1]}" first="${COMP_WORDS[2]}" choices=""',
            "    COMPREPLY=()",
            '    if [ "$COMP_CWORD" -eq 1 ]; then',
            f'        choices="{commands} --help --version"',
            '    elif [[ "$word" == -* ]]; then',
            '        case "$command $first" in',
            *(f"            {case}" for case in cases),
            "        esac",
            '    elif [[ "$before" == --* ]]; then',
            '        case "$command $before" in',
            *(f"            {case}" for case in _bash_values(lines)),
            "        esac",
            "    else",
            '        case "$command $COMP_CWORD" in',
            *(
                f'            "{line.command} 2") choices="{" ".join(line.firsts)}" ;;'
                for line in lines
                if line.first is None and line.firsts
            ),
            "        esac",
            '        case "$command $first $COMP_CWORD" in',
            *(_bash_names(line) for line in lines if line.names),
            "        esac",
            "    fi",
            '    COMPREPLY=($(compgen -W "$choices" -- "$word"))',
            "    # A section such as --data. goes on.",
            '    if [ "${#COMPREPLY[@]}" -eq 1 ] && [[ "${COMPREPLY[0]}" == *. ]]; then',
            "        compopt -o nospace 2> /dev/null",
            "    fi",
            "}",
            "complete -o default -o bashdefault -F _latent_lab latent-lab",
        ]
    )


def _bash_case(line: Line) -> str:
    pattern = f'"{line.command} {line.first}"' if line.first else f'"{line.command} "*'
    return f'{pattern}) choices="{" ".join(_flags(line))}" ;;'


def _bash_names(line: Line) -> str:
    """Names are offered from the first word on, of an action from the second on."""
    pattern = f'"{line.command} {line.first} "[3-9]' if line.first else f'"{line.command} "*'
    return f'{pattern}) choices="{" ".join(line.names)}" ;;'


def _bash_values(lines: Sequence[Line]) -> list[str]:
    found = {}
    for line in lines:
        for option in line.options:
            if values := values_of(option):
                found[f'"{line.command} --{option.name}"'] = f'choices="{" ".join(values)}" ;;'
    return [f"{pattern}) {choices}" for pattern, choices in found.items()]


def _flags(line: Line) -> list[str]:
    return [*(f"--{option.name}" for option in line.options), *(f"--{one}." for one in line.sections), "--help"]


def zsh_script(lines: Sequence[Line]) -> str:
    """For zsh, which runs completions of bash."""
    return "\n".join(
        ["autoload -U +X compinit && compinit", "autoload -U +X bashcompinit && bashcompinit", bash_script(lines)]
    )


def fish_script(lines: Sequence[Line]) -> str:
    """With descriptions, as fish shows them."""
    rows = ["# Completion of latent-lab, by `latent-lab completion fish`."]
    rows += [
        f"complete -c latent-lab -n __fish_use_subcommand -a {command.name} -d {_quoted(command.summary)}"
        for command in COMMANDS
    ]
    for line in lines:
        # The word itself: `__fish_seen_subcommand_from report` would be true of `chain report`, too.
        condition = f"test (commandline -opc)[2] = {line.command}"
        if line.first is not None:
            condition += f"; and __fish_seen_subcommand_from {line.first}"
        begin = f"complete -c latent-lab -n {_quoted(condition)}"
        if line.firsts:
            rows.append(f"{begin} -a {_quoted(' '.join(line.firsts))}")
        if line.names:
            rows.append(f"{begin} -a {_quoted(' '.join(line.names))}")
        for option in line.options:
            values = values_of(option)
            takes = " -r" if option.value else ""
            takes += f" -a {_quoted(' '.join(values))}" if values else ""
            rows.append(f"{begin} -l {option.name}{takes} -d {_quoted(option.text)}")
    return "\n".join(rows)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
