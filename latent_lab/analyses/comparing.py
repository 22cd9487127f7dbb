"""Results side by side: which numbers of several result.json may stand in one column, and what parts the others.

A number can be compared with another if everything that it depends on is the same, apart from the model. What it
depends on follows from two tables: `FAMILIES` says what goes into the numbers of a family (an extractor, reference
images, paths ...), `SUBJECTS` which entries of a protocol speak of what. An entry that no table knows may matter to
every number, so it does; a number that no table knows depends on everything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from latent_lab.analyses.report import number_text

RESULT_FILE = "result.json"
NOT_RECORDED = "not recorded"
"""What stands where a protocol lacks an entry that another one has."""


@dataclass(frozen=True)
class Family:
    """Numbers that are made of the same things."""

    pattern: str
    """Regular expression that their names begin with."""
    made_of: frozenset[str]
    """Subjects of a protocol that they depend on."""
    better: Literal["lower", "higher"] | None = None
    """Which value is the better one; none: neither."""


def _family(pattern: str, made_of: str, better: Literal["lower", "higher"] | None = None) -> Family:
    return Family(pattern, frozenset(made_of.split()), better)


FAMILIES = (
    _family(r"k(d|id)_.*_standard_error$", "extractor samples reference seed kernel"),
    _family(r"f(d|id)_.*_standard_error$", "extractor samples reference seed infinity"),
    _family(r"(is|inception_score)_.*_std$", "extractor samples seed inception_score"),
    _family(r"rec_[fk](d|id)_", "extractor held_out", "lower"),
    _family(r"rec_swd_", "wasserstein held_out seed", "lower"),
    _family(r"k(d|id)_", "extractor samples reference seed kernel", "lower"),
    _family(r"f(d|id)_.*_infinity", "extractor samples reference seed infinity", "lower"),
    _family(r"f(d|id)_", "extractor samples reference seed", "lower"),
    _family(r"(mi_?f(d|id)|memorisation_informed)", "extractor samples reference seed memorisation", "lower"),
    _family(r"(auth|memorisation)", "extractor samples reference seed memorisation", "higher"),
    _family(r"(precision|recall|density|coverage)_", "extractor samples reference seed neighbours", "higher"),
    _family(r"(is|inception_score)_", "extractor samples seed inception_score", "higher"),
    _family(r"swd_", "wasserstein samples reference seed", "lower"),
    _family(r"ppl", "perceptual paths seed", "lower"),
    _family(r"(rec_)?(psnr|ssim|ms_ssim)", "held_out similarity", "higher"),
    _family(r"rec_", "held_out", "lower"),
    _family(r"(lpips|st_lpips|random_l2)", "perceptual held_out", "lower"),
    _family(r"(rec_)?id_dlib", "identity held_out", "lower"),
    _family(r"(i_mse|latent_)", "recovery seed", "lower"),
)
"""Of `evaluate`; the first one whose pattern fits counts."""

EVERYTHING = "everything"
NOTHING = "nothing"
SUBJECTS: Mapping[str, str] = {
    # What the model under test is, and what was remarked.
    "checkpoint": NOTHING,
    "model": NOTHING,
    "encoder": NOTHING,
    "view": NOTHING,
    "notes": NOTHING,
    "raw": NOTHING,
    "intervals": NOTHING,
    "options": NOTHING,
    # What it was measured on and with.
    "resolution": EVERYTHING,
    "alpha": EVERYTHING,
    "quantised": EVERYTHING,
    "extractor": "extractor",
    "perceptual": "perceptual",
    "reference": "reference",
    "num_reference": "reference",
    "data": "held_out",
    "num_reconstructions": "held_out",
    "num_samples": "samples",
    "stream": "samples",
    "mixed": "samples",
    "kept": "samples",
    "seed": "seed",
    "swd": "wasserstein",
    "paths": "paths",
    "kernel": "kernel",
    "infinity": "infinity",
    "neighbours": "neighbours",
    "inception_score": "inception_score",
    "memorisation": "memorisation",
    "similarity": "similarity",
    "identity": "identity",
    "recovery": "recovery",
}
"""Entry of a protocol -> what it is about. An entry that is the beginning of a number's name is about that number."""
MODELS = "models"
"""Entry of analyses of latent spaces: who took part, under names, of which only sizes decide on numbers."""
RECIPES = frozenset({"data", "reference"})
"""Entries that describe images: under "hash" they have a digest of all that decides on the content."""
WITHOUT_EFFECT = frozenset(
    {"batch_size", "columns", "rows", "num_pictures", "download", "extractor_path", "perceptual_path", "identity_path"}
)
"""Options that change no number, in any analysis."""


@dataclass(frozen=True)
class Recorded:
    """A result.json as it was read."""

    label: str
    """What it is called in tables."""
    analysis: str
    numbers: Mapping[str, float]
    protocol: Mapping[str, Any]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model under test: class, progress, and how it is looked at."""
        facts = [str(self.protocol.get("model", ""))]
        seen = _mapping(self.protocol.get("checkpoint")).get("images_seen")
        if isinstance(seen, int | float):
            facts.append(f"{seen / 1000:g} kimg")
        facts += [f"{name} {value}" for name, value in _leaves(_mapping(self.protocol.get("view")))]
        return ", ".join(fact for fact in facts if fact)


@dataclass(frozen=True)
class Column:
    """One number by one protocol."""

    title: str
    """The number's name, with a letter if it was measured by several protocols."""
    values: Mapping[int, float]
    """Place of a result -> its value."""
    intervals: Mapping[int, tuple[float, float]]
    best: frozenset[int]
    """Places of the best value; empty where there is nothing to choose between, or no better and worse."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    results: Sequence[Recorded]
    columns: Sequence[Column]
    differences: Sequence[str]
    """One sentence for each reason why a number has several columns."""
    remarks: Sequence[str]
    """What else a reader should know."""

    def cell(self, column: Column, place: int, *, mark: str = "{}*") -> str:
        """A value, with its interval, marked if it is the best; empty if the result lacks it."""
        if place not in column.values:
            return ""
        text = number_text(column.values[place], column.intervals.get(place))
        return mark.format(text) if place in column.best else text


def read_result(path: Path) -> Recorded:
    """A result.json, or that of a folder.

    Raises:
        ValueError: if there is none, it is damaged, or it is something else.
    """
    file = path / RESULT_FILE if path.is_dir() else path
    if not file.is_file():
        where = f"{path} holds no {RESULT_FILE}" if path.is_dir() else f"there is no file {path}"
        raise ValueError(f"{where}: name a {RESULT_FILE} that an analysis wrote, or its folder")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged and cannot be read as JSON ({error}): write it anew") from error
    if not isinstance(content, dict) or not {"analysis", "numbers", "protocol"} <= content.keys():
        raise ValueError(f"{file} is no result of an analysis: it lacks analysis, numbers and protocol")
    numbers, protocol, intervals = content["numbers"], content["protocol"], content.get("intervals", {})
    are_numbers = isinstance(numbers, dict) and all(_is_number(value) for value in numbers.values())
    are_intervals = isinstance(intervals, dict) and all(
        isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends)) for ends in intervals.values()
    )
    if not are_numbers or not are_intervals or not isinstance(protocol, dict):
        raise ValueError(f"{file} is damaged: its numbers, intervals or protocol are of another form than results have")
    return Recorded(
        label=str(path.parent if path.name == RESULT_FILE and path.parent != Path() else path),
        analysis=str(content["analysis"]),
        numbers={name: float(value) for name, value in numbers.items()},
        protocol=protocol,
        intervals={name: (float(low), float(high)) for name, (low, high) in intervals.items()},
    )


def family_of(name: str) -> Family | None:
    """Which numbers a number belongs to, if the table knows it."""
    return next((family for family in FAMILIES if re.match(family.pattern, name)), None)


def facts_of(name: str, result: Recorded) -> dict[str, Any]:
    """What a number depends on, apart from the model: the entries of the protocol, leaves with dotted names.

    Args:
        name: of the number.
        result: that has it.
    """
    family = family_of(name) if result.analysis == "evaluate" else None
    facts: dict[str, Any] = {}
    for entry, value in result.protocol.items():
        subject = SUBJECTS.get(entry, EVERYTHING)
        if entry not in SUBJECTS and _names_another_number(entry, name, result):
            continue
        if entry == MODELS:
            facts |= {f"{entry}.{place}.{key}": one[key] for place, one, key in _sizes(value)}
            continue
        if family is None and entry == "options":
            options = _mapping(value)
            facts |= {f"options.{key}": _plain(options[key]) for key in options if key not in WITHOUT_EFFECT}
        elif subject != NOTHING and (family is None or subject == EVERYTHING or subject in family.made_of):
            facts |= dict(_leaves(value, entry))
    return facts


def compare(results: Sequence[Recorded], beginnings: Sequence[str] = ("",)) -> Comparison:
    """Puts the numbers that several results share into columns, one for each protocol.

    Args:
        results: at least two, of one analysis.
        beginnings: only numbers whose names begin with one of these.

    Raises:
        ValueError: with fewer than two, results of different analyses, or none with such a number in common.
    """
    if len(results) < 2:
        raise ValueError(f"a comparison needs at least 2 results, got {len(results)}")
    first = results[0]
    for other in results[1:]:
        if other.analysis != first.analysis:
            raise ValueError(
                f"{other.label} is a result of {other.analysis}, {first.label} of {first.analysis}: compare results of "
                "one analysis"
            )
    owners: dict[str, list[int]] = {}
    for place, result in enumerate(results):
        for name in (name for name in result.numbers if name.startswith(tuple(beginnings))):
            owners.setdefault(name, []).append(place)
    common = {name: places for name, places in owners.items() if len(places) > 1}
    if not common:
        found = "; ".join(f"{result.label}: {_some(list(result.numbers))}" for result in results)
        which = "" if "" in beginnings else f" that begins with {' or '.join(beginnings)}"
        raise ValueError(f"these results have no number in common{which} ({found}): measure them by the same options")

    columns: list[Column] = []
    reasons: dict[str, list[str]] = {}
    for name, places in common.items():
        groups = _by_protocol(name, results, places)
        for number, members in enumerate(groups):
            title = name if len(groups) == 1 else f"{name} [{_letters(number)}]"
            columns.append(_column(title, name, results, members))
        if len(groups) > 1:
            reasons.setdefault(_difference(name, results, groups), []).append(name)
    differences = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return Comparison(results, columns, differences, list(_remarks(results, owners, columns)))


def _by_protocol(name: str, results: Sequence[Recorded], places: Sequence[int]) -> list[list[int]]:
    groups: list[tuple[dict[str, Any], list[int]]] = []
    for place in places:
        facts = facts_of(name, results[place])
        for known, members in groups:
            if not _differing(known, facts):
                members.append(place)
                break
        else:
            groups.append((facts, [place]))
    return [members for _, members in groups]


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the facts that differ; of images with the same digest, only those that the digest may leave out."""
    names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
    for recipe in RECIPES:
        digest = f"{recipe}.hash"
        if one.get(digest) is None or other.get(digest) is None:
            continue
        own = [name for name in names if name.startswith(f"{recipe}.")]
        if one[digest] == other[digest]:
            names = [name for name in names if name not in own or name == f"{recipe}.split"]
        elif own != [digest]:
            # The digest differs because something else does, which says more.
            names.remove(digest)
    return names


def _difference(name: str, results: Sequence[Recorded], groups: Sequence[Sequence[int]]) -> str:
    facts = [facts_of(name, results[members[0]]) for members in groups]
    differing = list(dict.fromkeys(key for other in facts[1:] for key in _differing(facts[0], other)))
    names = [", ".join(results[place].label for place in members) for members in groups]
    who = " and ".join(f"({name})" if len(members) > 1 else name for name, members in zip(names, groups, strict=True))
    what = [f"{key}: {' | '.join(_shown(one.get(key, NOT_RECORDED)) for one in facts)}" for key in differing]
    return f"{who} differ in {_some(what, '; ', 6)}"


def _column(title: str, name: str, results: Sequence[Recorded], places: Sequence[int]) -> Column:
    values = {place: results[place].numbers[name] for place in places}
    intervals = {place: results[place].intervals[name] for place in places if name in results[place].intervals}
    family = family_of(name)
    finite = [value for value in values.values() if math.isfinite(value)]
    best: frozenset[int] = frozenset()
    if family is not None and family.better is not None and len(finite) > 1:
        target = min(finite) if family.better == "lower" else max(finite)
        best = frozenset(place for place, value in values.items() if value == target)
    return Column(title, values, intervals, best if len(best) < len(values) else frozenset())


def _remarks(
    results: Sequence[Recorded], owners: Mapping[str, Sequence[int]], columns: Sequence[Column]
) -> Iterator[str]:
    for place, result in enumerate(results):
        alone = [name for name, places in owners.items() if places == [place]]
        if alone:
            yield f"only in {result.label}: {_some(alone, limit=8)}"
    if any(column.intervals for column in columns):
        levels: dict[str, list[str]] = {}
        for result in results:
            if result.intervals:
                level = _mapping(result.protocol.get("intervals")).get("level")
                words = f"at level {level:g}" if _is_number(level) else "at a level that is not recorded"
                levels.setdefault(words, []).append(result.label)
        whose = "; ".join(f"{words} ({', '.join(labels)})" for words, labels in levels.items())
        yield f"in brackets: intervals {next(iter(levels)) if len(levels) == 1 else whose}"


def _names_another_number(entry: str, name: str, result: Recorded) -> bool:
    """Whether an entry bears the name of other numbers than this one."""
    named = [number for number in result.numbers if number == entry or number.startswith(f"{entry}_")]
    return bool(named) and name not in named


def _sizes(models: Any) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Place, facts and key of what decides on a number of a model, apart from its weights."""
    for place, one in enumerate(map(_mapping, _mapping(models).values())):
        yield from ((place, one, key) for key in ("dim", "resolution") if key in one)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, _plain(value)


def _plain(value: Any) -> Any:
    """Lists as tuples at every depth, so that what came from a file equals what came from a program."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return value[:12]
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return "none" if value is None else str(value)


def _letters(number: int) -> str:
    """Letters that count: a, b ... z, aa, ab ... for 0, 1, 2 ..."""
    before = _letters(number // 26 - 1) if number >= 26 else ""
    return before + chr(ord("a") + number % 26)


def _some(words: Sequence[str], separator: str = ", ", limit: int = 4) -> str:
    shown = separator.join(words[:limit])
    return shown if len(words) <= limit else f"{shown}{separator}and {len(words) - limit} more"


__all__ = ["FAMILIES", "SUBJECTS", "Column", "Comparison", "Family", "Recorded", "compare", "facts_of", "read_result"]
