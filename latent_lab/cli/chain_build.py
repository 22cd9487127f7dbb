"""`latent-lab chain build`: trains, compares and decides, step by step, from wherever the ledger stands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from latent_lab.analyses.chain_building import LEDGER, Candidate, ChainBuilder, ChainOptions, Ledger, read_ledger
from latent_lab.analyses.chain_report import translated
from latent_lab.analyses.feeding import spread
from latent_lab.callbacks import RunOptions
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.chain_opened import OpenedChain, Translators, finished_checkpoint
from latent_lab.cli.chain_report import report
from latent_lab.cli.configuration import (
    Configuration,
    differences,
    find_configuration,
    merge,
    overrides_as_configuration,
    read_configuration,
)
from latent_lab.cli.console import say
from latent_lab.cli.devices import check_accelerator
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import conform_dataclass, fields_of
from latent_lab.cli.trained import join_devices
from latent_lab.cli.training import Run, Start, find_start, train
from latent_lab.data import OrderedDomains
from latent_lab.growth import Stage
from latent_lab.latent.chain import Chain
from latent_lab.models import Translator
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from latent_lab.networks.age_estimation import AbstractAgeEstimator, find_age_estimator
from latent_lab.networks.pretrained import sha256_of
from latent_lab.recipes import plain
from latent_lab.types import Images, Scores

_INDIFFERENT = ("root", "cache_dir", "num_workers", "eval_batch_size", "origin", "estimator_path", "compile")
"""Settings with which a chain that was begun may be continued although they changed."""


def build(arguments: Arguments) -> int:
    """Trains, compares and decides, from wherever the ledger stands; returns the exit code."""
    work = _prepare(arguments)
    with progress_on_console():
        domains, targets = work.check_data_and_estimator()
    work.ledger.domains = domains
    for line in _decided(work.ledger):
        say(line)
    try:
        ChainBuilder(work.ledger, work.options, targets, work.train, work.ages, say).build()
    except _Interrupted as interruption:
        say("what is finished is in the ledger: the same command goes on from there")
        return interruption.code
    say(f"the chain is {work.ledger.structure}: {', '.join(work.ledger.chain)}")
    accelerator = str(work.trainer_options.get("accelerator", "auto"))
    plainly = Arguments(options={"accelerator": accelerator})
    report(OpenedChain(work.folder, plainly, work.translators), plainly)
    return 0


class _Interrupted(Exception):
    """A training that was not finished.

    Args:
        code: exit code of its run.
    """

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass
class _Work:
    """Everything that building needs."""

    configuration: Configuration
    options: ChainOptions
    run_options: RunOptions
    trainer_options: dict[str, Any]
    data: OrderedDomains
    estimator: AbstractAgeEstimator
    folder: Path
    ledger: Ledger
    device: torch.device
    translators: Translators = field(init=False)
    """Those whose images were judged since the last training."""

    def __post_init__(self) -> None:
        self.translators = Translators(self.ledger, self.device)

    def check_data_and_estimator(self) -> tuple[tuple[str, ...], list[float]]:
        """Names of the domains, and the ages that translations into them should have.

        Whatever is wrong with the images or the estimator shows here, before anything is trained.
        """
        self.data.prepare_data()
        names = self.data.train_on
        nominal = {domain.name: domain.target for domain in self.data.domains}
        for name in names:
            self.data.source("train").domain(name)
        targets = []
        for name in names:
            estimated = self.estimator(self._real(name)).double().mean().item()
            targets.append(nominal[name] if self.options.target == "nominal" else estimated)
        return names, targets

    def train(self, candidate: Candidate) -> dict[str, Any]:
        """A run folder of its own, begun or continued; see `Trainer`.

        Raises:
            _Interrupted: if a signal or a guard ends the run.
        """
        self.translators.forget()
        folder = self.folder / "trainings" / candidate.name
        say(f"{candidate.name}: {' and '.join(candidate.domains)}, in {folder}")
        start = find_start("auto", folder)
        changes: dict[str, Any] = {"domains": list(candidate.domains)}
        if candidate.parent is not None:
            parent = self.checkpoint(candidate.parent)
            content = read_checkpoint(parent)
            rows = content[CHECKPOINT_KEY]["model"]["init_args"]["schedule"]["stages"]
            changes["schedule"] = {"stages": [*rows, *plain(self._rows_of_reuse())]}
            if start.checkpoint is None:
                start = Start(parent, content)
        recipe = {"model": {"init_args": changes}, "data": {"init_args": {"train_on": list(candidate.domains)}}}
        whole = merge(self.configuration, recipe)
        model, data = recipes.build_model(whole), recipes.build_data(whole)
        if start.content is not None:
            changed = recipes.changes("model", start.recipes["model"], model.recipe)
            recipes.check_same_structure(model, start.content["state_dict"], changed)
        run = Run(model, data, self.run_options, dict(self.trainer_options), folder, start)
        before = time.monotonic()
        code = train(run)
        if code:
            raise _Interrupted(code)
        path = folder / "checkpoints" / "last.ckpt"
        return {
            "checkpoint": path.relative_to(self.folder).as_posix(),
            "sha256": sha256_of(path),
            "images_seen": model.images_seen,
            "seconds_of_last_part": round(time.monotonic() - before, 1),
        }

    def _rows_of_reuse(self) -> Sequence[Stage]:
        return self.options.reuse or recipes.build_model(self.configuration).schedule.stages

    def checkpoint(self, name: str) -> Path:
        """The file of a finished training, known to be the one that was finished."""
        return finished_checkpoint(self.ledger, name)

    def ages(self, translators: Sequence[str], first: int) -> Scores:
        """See `Estimation`."""
        names = self.ledger.domains[first : first + len(translators) + 1]
        way = Chain(names, self.translators.some(translators))
        return self.estimator(translated(way, self._real(names[0]), names, 64)[-1])

    def _real(self, name: str) -> Images:
        source = self.data.source(self.options.split).domain(name)
        return source.batch(spread(len(source), self.options.num), self.data.resolution).images


def _prepare(arguments: Arguments) -> _Work:
    """Reads, merges, checks and builds everything but the data's pack.

    Raises:
        InputError: for whatever is wrong with it, before anything is written.
    """
    names = arguments.options.get("config", [])
    if not names:
        raise InputError("nothing says what to build: give --config chain_synthetic.yaml or another one")
    given = {key.replace("-", "_"): text for key, text in arguments.options.items()}
    flags = [(f"chain.{name}", given[name]) for name in fields_of(ChainOptions) if name in given]
    layers = [read_configuration(find_configuration(name)) for name in names]
    layers.append(overrides_as_configuration([*arguments.overrides, *flags]))
    configuration = recipes.compose(layers)
    options = chain_options(configuration)
    run_options, trainer_options = recipes.run_options(configuration), recipes.trainer_options(configuration)
    if run_options.max_kimg is not None or run_options.early_stopping is not None:
        raise InputError(
            "a chain's trainings are as long as the schedule and chain.reuse say: leave out run.max_kimg and "
            "run.early_stopping"
        )
    if trainer_options.get("devices", "auto") not in ("auto", 1, "1"):
        raise InputError(f"a chain is built on one device, got trainer.devices {trainer_options['devices']}: write 1")
    trainer_options["devices"] = 1
    if "accelerator" in arguments.options:
        trainer_options["accelerator"] = arguments.text("accelerator")
    accelerator = str(trainer_options.get("accelerator", "auto"))
    check_accelerator(accelerator, "--accelerator")
    configuration = _on_its_domains(configuration, options)
    model, data = recipes.build_model(configuration), recipes.build_data(configuration)
    recipes.check_same_domains(model, data)
    recipes.check_same_channels(model, data)
    if not isinstance(model, Translator) or not isinstance(data, OrderedDomains):
        raise InputError(f"a chain is built of Translators, got the model {type(model).__name__}")
    if model.schedule.resolution > data.resolution:
        raise InputError(
            f"the schedule has {model.schedule.resolution} px, but the data's resolution is {data.resolution}: set "
            f"data.images.init_args.resolution to {model.schedule.resolution}"
        )
    estimator = find_age_estimator(options.estimator, options.estimator_path, box=options.estimator_box)
    out = arguments.text("out") or run_options.dir or str(Path("runs") / Path(names[0]).stem)
    folder = Path(out).expanduser()
    settings = plain({"model": model.recipe, "data": data.recipe, "chain": options, "estimator": estimator.describe()})
    ledger = _ledger(folder, settings, data.train_on)
    device = join_devices(Arguments(options={"accelerator": accelerator})).device
    return _Work(
        configuration, options, run_options, trainer_options, data, estimator.to(device), folder, ledger, device
    )


def chain_options(configuration: Configuration) -> ChainOptions:
    """Section `chain`."""
    options: ChainOptions = conform_dataclass(
        configuration.get("chain", {}), ChainOptions, "chain", name="section chain"
    )
    return options


def _on_its_domains(configuration: Configuration, options: ChainOptions) -> Configuration:
    """The configuration with all of the chain's domains as those of model and data."""
    named = configuration.get("data", {}).get("class_path", "")
    if named and recipes.resolve_class("data", named) is not OrderedDomains:
        raise InputError(
            f"a chain is built on domains, which {named.rpartition('.')[2]} has not: name the data set OrderedDomains, "
            "and this one in its option images"
        )
    data = recipes.build_data(merge(configuration, {"data": {"init_args": {"train_on": []}}}))
    assert isinstance(data, OrderedDomains)
    names = list(options.domains) or list(data.domain_names)
    unknown = [name for name in names if name not in data.domain_names]
    if unknown:
        raise InputError(f"chain.domains names {unknown[0]!r}, which the data has not: {', '.join(data.domain_names)}")
    of_model = {"init_args": {"domains": names}}
    return merge(configuration, {"model": of_model, "data": {"init_args": {"train_on": names}}})


def _ledger(folder: Path, settings: Mapping[str, Any], domains: tuple[str, ...]) -> Ledger:
    """The one that is there, if it was made with the same settings, or a new one."""
    if not (folder / LEDGER).is_file():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} holds something that is no chain: choose another --out")
        return Ledger(folder, dict(settings), domains)
    ledger = read_ledger(folder)
    changed = differences(_decisive(ledger.settings), _decisive(settings))
    if changed:
        raise InputError(
            f"{folder} holds a chain that was begun with other settings ({'; '.join(changed[:3])}): undo the change, "
            "or choose another --out"
        )
    return ledger


def _decisive(settings: Any) -> Any:
    """Settings without what changes no result: where things are, and how they are loaded."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: _decisive(value) for key, value in settings.items() if key not in _INDIFFERENT}


def _decided(ledger: Ledger) -> list[str]:
    return [f"decided before: {decision['reason']}" for decision in ledger.decisions]
