"""`latent-lab chain`: translators of neighbouring domains, chosen step by step, applied one after another."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab import images as conversions
from latent_lab.analyses.base import Result, file_stem
from latent_lab.analyses.chain_building import (
    LEDGER,
    Candidate,
    ChainBuilder,
    ChainOptions,
    Ledger,
    read_ledger,
)
from latent_lab.analyses.chain_report import (
    BuiltChain,
    ChainReport,
    Direction,
    Looks,
    chain_report,
    cycle_errors,
    strip,
    translated,
)
from latent_lab.analyses.feeding import spread
from latent_lab.callbacks import RunOptions
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.configuration import (
    Configuration,
    differences,
    find_configuration,
    merge,
    overrides_as_configuration,
    read_configuration,
)
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.exporting import without_folders, write_checkpoint
from latent_lab.cli.labelling import Labelling, label
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from, conform_dataclass, fields_of
from latent_lab.cli.trained import SPLITS, join_devices
from latent_lab.cli.training import Run, Start, find_start, train
from latent_lab.data import OrderedDomains
from latent_lab.data.domains import DomainImages
from latent_lab.data.own_images import OwnImages
from latent_lab.growth import Stage
from latent_lab.latent.chain import Chain, way_between
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.metrics.functional.bootstrap import mean_interval
from latent_lab.models import Translator
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import link_of_chain, load, read_checkpoint, resolve_chain
from latent_lab.networks.age_estimation import AbstractAgeEstimator, AgeEstimator, find_age_estimator
from latent_lab.networks.pretrained import sha256_of
from latent_lab.recipes import plain
from latent_lab.types import Images, Scores

ACTIONS = ("build", "apply", "report", "export", "label")
_INDIFFERENT = ("root", "cache_dir", "num_workers", "eval_batch_size", "origin", "estimator_path", "compile")
"""Settings with which a chain that was begun may be continued although they changed."""


@dataclass(frozen=True)
class Applying(Looks):
    """Options of `chain apply`."""

    direction: Direction = "forward"
    """forward: from the first domain to the last; backward: the reverse; round-trip: forward, then back."""
    from_domain: str | None = None
    """Domain of the images; left out: where the direction begins."""
    to_domain: str | None = None
    """Domain where the way ends, or turns; left out: where the direction ends."""
    estimator: str | None = None
    """What estimates ages: drawn, dlib_age, regressor, a dotted path, or none; left out: what the chain was built with,
    if its weights are there."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is."""


@dataclass(frozen=True)
class Reporting(ChainReport):
    """Options of `chain report`."""

    split: str = "test"
    """Which held-out images: test or val."""
    estimator: str | None = None
    """What estimates ages: drawn, dlib_age, regressor, or a dotted path; left out: what the chain was built with."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is."""


def action_options(words: Sequence[str]) -> type[Any] | None:
    """Whose fields are options of the action that is named first."""
    kinds: dict[str, type[Any]] = {
        "build": ChainOptions,
        "apply": Applying,
        "report": Reporting,
        "label": Labelling,
    }
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
    if arguments.overrides and action in ("apply", "export"):
        raise InputError(f"chain {action} takes no keys of a configuration: the chain is used as it was built")
    if len(rest) != 1:
        raise InputError(f"chain {action} needs the folder or the name of one chain: latent-lab chain {action} CHAIN")
    built = OpenedChain(resolve_chain(rest[0]), arguments)
    {"apply": apply, "report": report, "export": export_chain}[action](built, arguments)
    return 0


# --------------------------------------------------------------------------------------------------------------- build


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
        recipe = {
            "model": {"init_args": changes},
            "data": {"init_args": {"train_on": list(candidate.domains)}},
        }
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
    device = join_devices(Arguments(options={"accelerator": trainer_options.get("accelerator", "auto")})).device
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


# ------------------------------------------------------------------------------------------------------ finished chains


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

    def estimator(self, asked: Any) -> AbstractAgeEstimator:
        """The one that is asked for, or the one that the chain was built with."""
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

    def estimator_if_there(self, asked: Applying) -> AbstractAgeEstimator | None:
        """As `estimator`; nothing if none is wanted, or if the chain's own is not on this machine, which is said."""
        if asked.estimator == "none":
            return None
        try:
            return self.estimator(asked)
        except ValueError as error:
            if asked.estimator is not None or asked.estimator_path is not None:
                raise
            say(f"note: ages are not estimated: {error}")
            return None

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


# -------------------------------------------------------------------------------------------------------------- report


def report(opened: OpenedChain, arguments: Arguments) -> None:
    """Measures all links on held-out images of the data, which keys of the command line may change."""
    options = Reporting(**arguments_from(arguments.options, Reporting))
    if options.split not in SPLITS[1:]:
        raise InputError(f"--split must be val or test, got {options.split}")
    built = opened.built(rounded=options.rounded)
    recorded = {"data": opened.ledger.settings["data"]}
    data = recipes.build_data(recipes.compose([recorded, overrides_as_configuration(arguments.overrides)]))
    if not isinstance(data, OrderedDomains):
        raise InputError(f"a chain is measured on domains, which {type(data).__name__} has not")
    data.prepare_data()
    held_out: DomainImages = data.source(options.split)
    estimator = opened.estimator(options)
    nominal = {domain.name: domain.target for domain in data.domains}
    with progress_on_console():
        targets = {
            name: nominal[name]
            if opened.options.target == "nominal"
            else _mean_estimate(estimator, held_out, name, options.num, data.resolution)
            for name in opened.ledger.domains
        }
        result = chain_report(
            options,
            built,
            held_out,
            data.source("train"),
            label=data.label,
            # mypy takes a read-only label for less than the protocol asks for.
            estimator=cast("AgeEstimator", estimator),
            targets=targets,
        )
    result = dataclasses.replace(result, protocol={**result.protocol, "chain": opened.provenance()})
    out = arguments.text("out")
    finish(result, Path(out).expanduser() if out else opened.folder / "report")


def _mean_estimate(
    estimator: AbstractAgeEstimator, source: DomainImages, name: str, num: int, resolution: int
) -> float:
    images = source.domain(name)
    return estimator(images.batch(spread(len(images), num), resolution).images).double().mean().item()


# -------------------------------------------------------------------------------------------------------------- export


def export_chain(opened: OpenedChain, arguments: Arguments) -> None:
    """The kept translators as small checkpoints and the ledger, without folder names of this machine.

    Raises:
        InputError: if there is no folder to write to, or something is in it.
    """
    out = arguments.text("out")
    if out is None:
        raise InputError("chain export needs --out DIR: latent-lab chain export CHAIN --out DIR")
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: choose another --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept = {}
    # In a folder of its own until all of it is there.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / "chain"
        unfinished.mkdir()
        for name in dict.fromkeys(opened.ledger.chain):
            path = unfinished / f"{name}.ckpt"
            source = finished_checkpoint(opened.ledger, name)
            write_checkpoint(load(source), read_checkpoint(source), path, half="half" in arguments.options)
            kept[name] = {**opened.ledger.trainings[name], "checkpoint": path.name, "sha256": sha256_of(path)}
        settings = without_folders(opened.ledger.settings)
        # The file of this machine; without it, the estimator's weights are looked for where weights usually are.
        settings["chain"]["estimator_path"] = None
        dataclasses.replace(opened.ledger, folder=unfinished, trainings=kept, settings=settings).save()
        unfinished.replace(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{folder}: {opened.ledger.structure}, {len(kept)} translators, {size / 1e6:.1f} MB")


# --------------------------------------------------------------------------------------------------------------- apply


def apply(opened: OpenedChain, arguments: Arguments) -> None:
    """Moves images of a folder along the chain; writes them at every station under their own names, and a report."""
    options = Applying(**arguments_from(arguments.options, Applying))
    folder, out = arguments.text("images"), arguments.text("out")
    if folder is None or out is None:
        missing = "--images DIR" if folder is None else "--out DIR"
        raise InputError(f"chain apply needs {missing}: latent-lab chain apply CHAIN --images DIR --out DIR")
    root, target = Path(folder).expanduser(), Path(out).expanduser()
    if target.resolve().is_relative_to(root.resolve()):
        raise InputError(f"--out {out} lies in the folder of the images, which would be read again: choose another")
    way = way_of(opened.ledger.domains, options)
    chain = opened.chain(rounded=options.rounded)
    source = OwnImages(root, grey=opened.channels == 1)
    changes = source.describe_changes(chain.resolution)
    estimator, identity = opened.estimator_if_there(options), options.identity()
    digits = len(str(len(way) - 1))
    folders = [target / f"{number:0{digits}}_{file_stem(name)}" for number, name in enumerate(way)]
    names = png_names(source.names)
    shown = spread(len(source), options.num_shown)
    found: dict[str, list[Tensor]] = {}
    pictured: list[list[Tensor]] = [[] for _ in way]
    with progress_on_console():
        for first in range(0, len(source), options.batch_size):
            places = range(first, min(first + options.batch_size, len(source)))
            stations = translated(chain, source.batch(places, chain.resolution).images, way, options.batch_size)
            for number, images in enumerate(stations):
                _write(folders[number], [names[place] for place in places], images)
                pictured[number] += [images[place - first][None] for place in shown if place in places]
                if estimator is not None:
                    _add(found, f"{estimator.label}_{number}_{way[number]}", estimator(images))
                if identity is not None and number:
                    _add(found, f"{identity.name}_{number}_{way[number]}", identity(stations[0], images))
            for number, errors in enumerate(cycle_errors(chain, stations, way, options.batch_size)):
                _add(found, f"cycle_error_{number + 1}_{way[number]}_{way[number + 1]}", errors)
            if way[0] == way[-1]:
                _add(found, "cycle_error_whole", (stations[-1] - stations[0]).abs().mean((1, 2, 3)))
    values = {file_stem(name): torch.cat(pieces) for name, pieces in found.items()}
    notes = [f"way: {' > '.join(way)}; a row of the strip for each image, a column for each station"]
    result = Result(
        "chain apply",
        {name: value.mean().item() for name, value in values.items()},
        {
            "options": dataclasses.asdict(options),
            "way": list(way),
            "num": len(source),
            "data": dict(source.recipe),
            **({"estimator": estimator.describe()} if estimator is not None else {}),
            **({"identity": identity.describe()} if identity is not None else {}),
            "chain": opened.provenance(),
            "intervals": {"level": opened.options.level, "num_resamples": opened.options.num_resamples},
            "notes": [*notes, changes] if changes else notes,
            "curated": False,
        },
        {"strip": strip({str(i): torch.cat(row) for i, row in enumerate(pictured)}, chain.resolution)},
        {"Each image": _each_image(source.names, values)},
        {name: mean_interval(value)[:2] for name, value in values.items()},
    )
    finish(result, target)


def way_of(domains: Sequence[str], options: Applying) -> tuple[str, ...]:
    """Domains in the order in which images pass them.

    Args:
        domains: of the chain, in order.
        options: direction and ends.

    Raises:
        InputError: if a domain is unknown, or the ends do not fit the direction.
    """
    ends = (domains[0], domains[-1])
    begin, end = ends[::-1] if options.direction == "backward" else ends
    try:
        way = way_between(domains, options.from_domain or begin, options.to_domain or end)
    except ValueError as error:
        raise InputError(str(error)) from error
    rises = domains.index(way[-1]) - domains.index(way[0])
    if rises == 0 or (rises > 0) == (options.direction == "backward"):
        raise InputError(
            f"{options.direction} leads {'from older' if options.direction == 'backward' else 'from younger'} domains "
            f"to {'younger' if options.direction == 'backward' else 'older'} ones, got {way[0]} to {way[-1]}: change "
            "--from-domain, --to-domain or --direction"
        )
    return (*way, *way[-2::-1]) if options.direction == "round-trip" else way


def png_names(names: Sequence[str]) -> list[str]:
    """Names of PNG files that keep whose images they are: a.jpg becomes a.png, or a.jpg.png beside another a."""
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    return [f"{stem if stems.count(stem) == 1 else name}.png" for name, stem in zip(names, stems, strict=True)]


def _write(folder: Path, names: Sequence[str], images: Images) -> None:
    if distributed.rank() != 0:
        return
    for name, image in zip(names, images, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        conversions.save_png(path, image[None])


def _add(found: dict[str, list[Tensor]], name: str, values: Scores) -> None:
    found.setdefault(name, []).append(values.cpu())


def _each_image(names: Sequence[str], values: Mapping[str, Tensor]) -> list[list[str | float]]:
    """A row for each image: its name and its numbers."""
    rows: list[list[str | float]] = [["image", *values]]
    return [*rows, *([name, *(value[row].item() for value in values.values())] for row, name in enumerate(names))]
