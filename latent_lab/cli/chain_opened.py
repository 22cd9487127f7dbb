"""A finished chain as commands use it: its ledger, its translators, its estimator of ages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latent_lab.analyses.chain_building import ChainOptions, Ledger, read_ledger
from latent_lab.analyses.chain_report import BuiltChain
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.cli.schema import conform_dataclass
from latent_lab.cli.trained import join_devices
from latent_lab.latent.chain import Chain
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.models.loading import link_of_chain, load
from latent_lab.networks.age_estimation import AbstractAgeEstimator, find_age_estimator


def finished_checkpoint(ledger: Ledger, name: str) -> Path:
    """The file of a finished training, known to be the one that was finished."""
    return link_of_chain(ledger.folder, ledger.trainings[name])


class Translators:
    """Finished translators of a chain, each read when it is first asked for.

    Args:
        ledger: of the chain.
        device: where they compute.
    """

    def __init__(self, ledger: Ledger, device: torch.device) -> None:
        self._ledger = ledger
        self._device = device
        self._loaded: dict[str, AbstractTranslator] = {}

    def one(self, name: str) -> AbstractTranslator:
        """The translator of a training.

        Raises:
            ValueError: as `link_of_chain`.
        """
        if name not in self._loaded:
            path = finished_checkpoint(self._ledger, name)
            model = load(path, device=self._device)
            if not isinstance(model, AbstractTranslator):
                raise InputError(f"{path} holds a {type(model).__name__}, which is no translator: restore the file")
            self._loaded[name] = model
        return self._loaded[name]

    def some(self, names: Sequence[str]) -> list[AbstractTranslator]:
        """Those of several trainings; the same object where a name is repeated."""
        return [self.one(name) for name in names]

    def forget(self) -> None:
        """Frees their memory."""
        self._loaded.clear()


@dataclass(frozen=True)
class EstimatorChoice:
    """Which estimator of ages is used instead of the one that a chain was built with."""

    estimator: str | None = None
    """What estimates ages: drawn, dlib_age, regressor, an import path, or, to apply a chain, none; left out: what the
    chain was built with."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is."""


@dataclass
class OpenedChain:
    """A finished chain as commands use it.

    Raises:
        InputError: if it is not finished.
    """

    folder: Path
    arguments: Arguments
    translators: Translators | None = None
    """Those that are in memory already; none: they are read when they are asked for."""

    def __post_init__(self) -> None:
        self.ledger = read_ledger(self.folder)
        if not self.ledger.complete:
            raise InputError(
                f"the chain in {self.folder} has translators for {len(self.ledger.chain)} of "
                f"{len(self.ledger.domains) - 1} steps: finish it with latent-lab chain build"
            )
        self.device = join_devices(self.arguments).device
        self.options: ChainOptions = conform_dataclass(self.ledger.settings["chain"], ChainOptions, "chain")
        self._translators = self.translators or Translators(self.ledger, self.device)

    @property
    def channels(self) -> int:
        """Of the images that its translators take."""
        return self._translators.one(self.ledger.chain[0]).channels  # type: ignore[attr-defined]

    def chain(self, *, rounded: bool) -> Chain:
        """Its translators in order."""
        return Chain(self.ledger.domains, self._translators.some(self.ledger.chain), rounded=rounded)

    def built(self, *, rounded: bool) -> BuiltChain:
        """The chain with all candidates.

        Raises:
            InputError: if some of them were left out by `export_chain`.
        """
        compared = {
            (kind, step)
            for step, decision in enumerate(self.ledger.decisions)
            for kind in ("specialised", "reused")
            if kind in decision
        }
        if compared - {(one["kind"], one["step"]) for one in self.ledger.trainings.values()}:
            raise InputError(
                f"the chain in {self.folder} was exported without the translators that were not kept, with which a "
                "report compares: report on the folder where it was built"
            )
        candidates: dict[tuple[str, int], AbstractTranslator] = {
            (one["kind"], one["step"]): self._translators.one(name) for name, one in self.ledger.trainings.items()
        }
        steps = range(len(self.ledger.domains) - 1)
        return BuiltChain(
            self.chain(rounded=rounded),
            self.ledger.chain,
            [candidates["specialised", step] for step in steps],
            [candidates.get(("reused", step)) for step in steps],
        )

    def estimator(self, asked: EstimatorChoice) -> AbstractAgeEstimator:
        """The one that is asked for, or the one that the chain was built with.

        Raises:
            InputError: if the chain's own is somebody's class, which is not imported unless it is named.
            ValueError: if there is no such estimator, or its weights are absent.
        """
        own = self.options
        if asked.estimator in (None, own.estimator):
            name = own.estimator
            path = own.estimator_path if asked.estimator_path is None else asked.estimator_path
            box = own.estimator_box if asked.estimator_box is None else asked.estimator_box
        else:
            name, path, box = asked.estimator, asked.estimator_path, asked.estimator_box
        module = name.rpartition(".")[0]
        if asked.estimator is None and module and module not in sys.modules:
            # Importing a module runs it, and a chain may come from anybody.
            raise InputError(
                f"the chain was built with the estimator {name}: write --estimator {name} if you trust it, or another"
            )
        return find_age_estimator(name, path, box=box).to(self.device)

    def provenance(self) -> dict[str, Any]:
        """For a result's protocol."""
        kept = dict.fromkeys(self.ledger.chain)
        return {
            "structure": self.ledger.structure,
            "translators": {
                name: {key: self.ledger.trainings[name][key] for key in ("sha256", "images_seen", "domains")}
                for name in kept
            },
        }
