"""Which translator makes which step of a chain: a greedy search that can be interrupted, without any training in it.

Heljakka, Solin, Kannala: "Recursive Chaining of Reversible Image-to-Image Translators for Face Aging" (ACIVS 2018).
From left to right, for every step from the second on, two translators are trained: a specialised one on this step
alone, and a re-used one, the last that was kept, trained on together with the steps that it has learned. The re-used
one is kept for all of these steps if it is no worse. What "no worse" is, was a matter of looking in the publication;
here it is a number of years, stated with the chain.

Everything that was trained, measured and decided stands in a ledger, a JSON file that is written after each event.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from latent_lab.growth import Stage
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, bootstrap, mean_interval
from latent_lab.types import Scores

LEDGER = "ledger.json"
"""Name of the file in a chain's folder."""
_FORMAT = "latent-lab translator chain 1"

Kind = Literal["specialised", "reused"]
Inputs = Literal["real", "chain"]
Rehearsal = Literal["all", "last"]


@dataclass(frozen=True)
class ChainOptions:
    """Section `chain` of a configuration: which domains are chained, and how translators for their steps are chosen."""

    domains: Sequence[str] = ()
    """Names of the domains in their order; none: all of the data."""
    reuse: Sequence[Stage] = ()
    """Rows of the schedule by which a kept translator is trained on; none: those of model.schedule once more.
    Published: half as many steps as at first, each of which updates two pairs."""
    rehearse: Rehearsal = "all"
    """Which earlier steps a kept translator goes on learning beside the next one: all that it serves, or only the last
    of them (published: the program knows triplets only)."""
    tolerance: float = 1.0
    """Years by which a re-used translator's error may exceed the specialised one's, and its error in each earlier step
    what it was before. Published: none, the comparison was made by hand."""
    decide_on: Inputs = "real"
    """Whose translations decide: of real images of the step's first domain, or of what the chain makes of images of its
    very first; both are measured."""
    target: Literal["nominal", "estimated"] = "nominal"
    """What the mean estimated age is compared with: the domain's nominal value, or the mean estimate of its real
    held-out images, which an estimator's bias does not touch."""
    estimator: str = "drawn"
    """What estimates ages: drawn (drawn discs), dlib_age, regressor, or the import path of a network of your own."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is: celeba, celeba_narrow, ffhq or utkface."""
    split: Literal["val", "test"] = "val"
    """Held-out images by which translators are chosen; reports show the test images unless told otherwise."""
    num: int = 100
    """Images of each domain by which they are chosen; fewer if there are fewer. Published: 50 to 100."""
    level: float = LEVEL
    """Of the bootstrap intervals."""
    num_resamples: int = NUM_RESAMPLES
    """Of the bootstrap intervals."""
    seed: int = 0
    """Of the bootstrap intervals."""

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance} years")
        if self.num < 2 or self.num_resamples < 2:
            raise ValueError(f"num and num_resamples must be at least 2, got {self.num} and {self.num_resamples}")


@dataclass(frozen=True)
class Candidate:
    """A translator that is, or is to be, trained."""

    name: str
    """Of its training, and of that one's folder."""
    kind: Kind
    step: int
    """Number of the step for which it was made, from 0."""
    domains: tuple[str, ...]
    """On which it is trained, in order."""
    parent: str | None = None
    """Name of the kept translator with whose networks and optimisers a re-used one begins."""


@dataclass(frozen=True)
class Score:
    """Estimated ages of translations into a domain."""

    num: int
    mean: float
    mean_interval: tuple[float, float]
    deviation: float
    """Standard deviation over images (of the population, as published)."""
    target: float
    error: float
    """|mean - target|."""
    error_interval: tuple[float, float]
    """Errors of the means in `mean_interval`."""


def score_of(ages: Scores, target: float, options: ChainOptions) -> Score:
    """Mean, deviation and error to a target, with bootstrap intervals.

    Args:
        ages: (N,) estimates in years.
        target: age that their mean should have.
        options: of the intervals.
    """
    ages = ages.double().cpu()
    mean = ages.mean().item()
    of_mean = mean_interval(ages, **_resampling(options))
    # Resampled errors themselves would be folded at 0 and might leave the estimate outside.
    off = sorted(abs(end - target) for end in of_mean[:2])
    nearest = 0.0 if of_mean.low <= target <= of_mean.high else off[0]
    return Score(
        num=len(ages),
        mean=mean,
        mean_interval=of_mean[:2],
        deviation=ages.std(correction=0).item(),
        target=target,
        error=abs(mean - target),
        error_interval=(nearest, off[1]),
    )


def difference_of_errors(
    reused: Scores, specialised: Scores, target: float, options: ChainOptions
) -> tuple[float, tuple[float, float]]:
    """|mean reused - target| - |mean specialised - target| and its interval; rows are translations of the same images.

    Args:
        reused: (N,) ages of what the re-used translator made.
        specialised: (N,) ages of what the specialised one made.
        target: age that their means should have.
        options: of the interval.
    """
    one, other = reused.double().cpu(), specialised.double().cpu()

    def difference(rows: Any = slice(None)) -> float:
        return ((one[rows].mean() - target).abs() - (other[rows].mean() - target).abs()).item()

    return difference(), bootstrap(difference, [len(one)], **_resampling(options))[:2]


def _resampling(options: ChainOptions) -> dict[str, Any]:
    return {"level": options.level, "num_resamples": options.num_resamples, "seed": options.seed}


# ---------------------------------------------------------------------------------------------------------- the ledger


@dataclass
class Ledger:
    """What was trained, measured and decided; every change is written at once, whole or not at all."""

    folder: Path
    """Of the chain."""
    settings: dict[str, Any]
    """Plain data on which everything in the ledger depends."""
    domains: tuple[str, ...]
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a candidate -> what it is and, once it is trained, its checkpoint and that one's digest."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """One for each step, in order."""
    chain: list[str] = field(default_factory=list)
    """Name of the translator kept for each step."""

    @property
    def complete(self) -> bool:
        """Whether every step has its translator."""
        return len(self.chain) == len(self.domains) - 1

    @property
    def structure(self) -> str:
        """How many steps in a row each translator serves: "1+3+1"."""
        return "+".join(str(len(list(group))) for _, group in groupby(self.chain))

    def save(self) -> None:
        """Writes ledger.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": _FORMAT, "structure": self.structure, "complete": self.complete}
        content |= {name: getattr(self, name) for name in ("domains", "chain", "decisions", "trainings", "settings")}
        path = self.folder / LEDGER
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a chain's folder.

    Raises:
        ValueError: if there is none, or the file is not what `Ledger.save` writes.
    """
    path = folder / LEDGER
    if not path.is_file():
        raise ValueError(
            f"{folder} is no chain, it has no {LEDGER}: name a folder that `latent-lab chain build` has written"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"{path} has the format {content['format']}, this latent-lab reads {_FORMAT}")
        return Ledger(
            folder,
            content["settings"],
            tuple(content["domains"]),
            content["trainings"],
            content["decisions"],
            content["chain"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: restore it, or build the chain in another folder") from error


# --------------------------------------------------------------------------------------------------------- the search


@runtime_checkable
class Trainer(Protocol):
    """Who trains candidates."""

    def __call__(self, candidate: Candidate) -> Mapping[str, Any]:
        """Trains to the end, from wherever an earlier attempt stopped; plain data on the finished model."""


@runtime_checkable
class Estimation(Protocol):
    """Who translates held-out images and estimates ages."""

    def __call__(self, translators: Sequence[str], first: int) -> Scores:
        """Ages (N,) of real images of the domain number `first` after these translators, one step each."""


@dataclass(frozen=True)
class ChainBuilder:
    """The search itself; whatever the ledger holds already is not done again."""

    ledger: Ledger
    options: ChainOptions
    targets: Sequence[float]
    """Age that translations into each domain should have."""
    train: Trainer
    estimate: Estimation
    tell: Callable[[str], None] = lambda sentence: None
    """Hears of each decision."""

    def build(self) -> None:
        """Decides step after step, until every one has its translator."""
        for step in range(len(self.ledger.decisions), len(self.ledger.domains) - 1):
            specialised = self._trained(self._specialised(step))
            if step == 0:
                decision = self._first(specialised)
            else:
                decision = self._compare(specialised, self._trained(self._reused(step)))
            self._keep(decision)
            self.tell(decision["reason"])

    # ------------------------------------------------------------------------------------------------- candidates

    def _specialised(self, step: int) -> Candidate:
        return Candidate(f"step{step + 1}_specialised", "specialised", step, self.ledger.domains[step : step + 2])

    def _reused(self, step: int) -> Candidate:
        """The last kept translator, to be trained on this step and on what it rehearses."""
        parent = self.ledger.chain[-1]
        served = self._served(parent)
        first = served[0] if self.options.rehearse == "all" else served[-1]
        return Candidate(f"step{step + 1}_reused", "reused", step, self.ledger.domains[first : step + 2], parent)

    def _served(self, name: str) -> list[int]:
        """Steps that a kept translator makes now."""
        return [step for step, kept in enumerate(self.ledger.chain) if kept == name]

    def _trained(self, candidate: Candidate) -> Candidate:
        record = self.ledger.trainings.setdefault(candidate.name, dataclasses.asdict(candidate) | {"finished": False})
        if not record["finished"]:
            self.ledger.save()
            record.update(self.train(candidate))
            record["finished"] = True
            self.ledger.save()
        return candidate

    # -------------------------------------------------------------------------------------------------- decisions

    def _first(self, only: Candidate) -> dict[str, Any]:
        """There is nothing to re-use yet."""
        target = self.targets[1]
        score = score_of(self.estimate([only.name], 0), target, self.options)
        found = {inputs: _plain(score) for inputs in ("real", "chain")}
        reason = f"{self._step(0)}: {only.name} is the first translator, with an error of {score.error:.2f} years"
        return {**self._head(0), "kept": "specialised", "translator": only.name, "reason": reason, "specialised": found}

    def _compare(self, specialised: Candidate, reused: Candidate) -> dict[str, Any]:
        """The re-used one is kept if it is no worse in this step, and not worse than it was in its earlier ones."""
        step, target = reused.step, self.targets[reused.step + 1]
        assert reused.parent is not None
        before = list(self.ledger.chain)
        replaced = [reused.name if name == reused.parent else name for name in before]
        ages = {
            ("specialised", "real"): self.estimate([specialised.name], step),
            ("reused", "real"): self.estimate([reused.name], step),
            ("specialised", "chain"): self.estimate([*before, specialised.name], 0),
            ("reused", "chain"): self.estimate([*replaced, reused.name], 0),
        }
        scores = {key: score_of(found, target, self.options) for key, found in ages.items()}
        differences = {
            inputs: difference_of_errors(ages["reused", inputs], ages["specialised", inputs], target, self.options)
            for inputs in ("real", "chain")
        }
        old_steps = [self._regression(reused, place) for place in self._served(reused.parent)]
        difference, (low, high) = differences[self.options.decide_on]
        tolerance = self.options.tolerance
        forgotten = [one for one in old_steps if not one["passed"]]
        is_kept = difference <= tolerance and not forgotten
        decide_on = self.options.decide_on
        errors = {kind: scores[kind, decide_on].error for kind in ("specialised", "reused")}
        reason = (
            f"{self._step(step)}: re-used error {errors['reused']:.2f}, specialised {errors['specialised']:.2f} years "
            f"(difference {difference:+.2f}, interval {low:+.2f} to {high:+.2f}, tolerance {tolerance:g})"
        )
        if forgotten:
            worst = max(forgotten, key=lambda one: float(one["after"]["error"]))
            reason += (
                f", and the re-used one has forgotten {worst['from']} to {worst['to']} (error "
                f"{worst['after']['error']:.2f}, was {worst['before']['error']:.2f})"
            )
        winner = reused if is_kept else specialised
        return {
            **self._head(step),
            "kept": winner.kind,
            "translator": winner.name,
            "reason": f"{reason}: {winner.name} is kept",
            "clear": not low <= tolerance <= high,
            "tolerance": tolerance,
            "decide_on": decide_on,
            **{
                kind: {inputs: _plain(scores[kind, inputs]) for inputs in ("real", "chain")}
                for kind in ("specialised", "reused")
            },
            "difference": {
                inputs: {"value": value, "interval": list(interval)}
                for inputs, (value, interval) in differences.items()
            },
            "old_steps": old_steps,
        }

    def _regression(self, reused: Candidate, place: int) -> dict[str, Any]:
        """An earlier step as the kept translator made it before, and as the re-used one makes it now."""
        assert reused.parent is not None
        target = self.targets[place + 1]
        before, after = (
            score_of(self.estimate([name], place), target, self.options) for name in (reused.parent, reused.name)
        )
        return {
            **self._head(place),
            "before": _plain(before),
            "after": _plain(after),
            "passed": after.error <= before.error + self.options.tolerance,
        }

    def _keep(self, decision: dict[str, Any]) -> None:
        name = decision["translator"]
        if decision["kept"] == "reused":
            parent = self.ledger.chain[-1]
            self.ledger.chain[:] = [name if kept == parent else kept for kept in self.ledger.chain]
        self.ledger.chain.append(name)
        self.ledger.decisions.append(decision)
        self.ledger.save()

    def _head(self, step: int) -> dict[str, Any]:
        return {"from": self.ledger.domains[step], "to": self.ledger.domains[step + 1]}

    def _step(self, step: int) -> str:
        return f"{self.ledger.domains[step]} to {self.ledger.domains[step + 1]}"


def _plain(score: Score) -> dict[str, Any]:
    plain = dataclasses.asdict(score)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


__all__ = [
    "LEDGER",
    "Candidate",
    "ChainBuilder",
    "ChainOptions",
    "Ledger",
    "Score",
    "difference_of_errors",
    "read_ledger",
    "score_of",
]
