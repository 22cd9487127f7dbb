"""`latent-lab chain`: translators of neighbouring domains, chosen step by step, applied one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latent_lab.analyses.chain_building import ChainOptions
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.chain_apply import Applying, apply
from latent_lab.cli.chain_build import build
from latent_lab.cli.chain_export import export_chain
from latent_lab.cli.chain_opened import OpenedChain
from latent_lab.cli.chain_report import Reporting, report
from latent_lab.cli.commands import BY_NAME
from latent_lab.cli.console import quieten
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.labelling import Labelling, label
from latent_lab.models.loading import resolve_chain

ACTIONS = tuple(action.name for action in BY_NAME["chain"].actions)


def action_options(words: Sequence[str]) -> type[Any] | None:
    """Whose fields are options of the action that is named first."""
    kinds: dict[str, type[Any]] = {"build": ChainOptions, "apply": Applying, "report": Reporting, "label": Labelling}
    return kinds.get(words[0]) if words else None


def chain(arguments: Arguments) -> int:
    """Does what the first word says."""
    quieten()
    action, *rest = arguments.words or [""]
    if action not in ACTIONS:
        raise InputError(
            f"chain needs one of {', '.join(ACTIONS)} as its first word, got {action or 'none'}: "
            f"{closest(action, ACTIONS)}"
        )
    if action == "build":
        if rest:
            raise InputError(f"chain build takes no further word, got {rest[0]}: write --config {rest[0]}")
        return build(arguments)
    if action == "label":
        label(rest, arguments)
        return 0
    if len(rest) != 1:
        raise InputError(f"chain {action} needs the folder or the name of one chain: latent-lab chain {action} CHAIN")
    built = OpenedChain(resolve_chain(rest[0]), arguments)
    {"apply": apply, "report": report, "export": export_chain}[action](built, arguments)
    return 0
