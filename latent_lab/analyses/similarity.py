"""How alike several models lay out the same images in their latent spaces, whatever their axes, beside chance."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latent_lab.analyses.base import Result, Table, file_stem
from latent_lab.analyses.feeding import spread
from latent_lab.analyses.label_regression import separate
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import Numbers, count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, number_name
from latent_lab.distributed import IndexedRandom
from latent_lab.images import resize
from latent_lab.latent.maps import LinearMap, save_map
from latent_lab.metrics.functional.bootstrap import Interval
from latent_lab.metrics.functional.significance import MonteCarloTest
from latent_lab.metrics.functional.similarity import (
    MEASURES,
    Consensus,
    consensus_shares,
    consensus_shares_intervals,
    consensus_space,
    permutation_tests,
    similarity_intervals,
)
from latent_lab.plotting import Ranged, heat_map, heat_maps, labelled_rows, ranges
from latent_lab.progress import tracked
from latent_lab.types import Images, Latents

SYMMETRIC = tuple(name for name, measure in MEASURES.items() if measure.symmetric)
"""Measures of pairs; what depends on the order of the two is `map`'s."""
LEVEL = 0.05
"""p-values up to this one count as more than chance."""


class _Pair(NamedTuple):
    """Two models and what was found of them by each measure."""

    first: Participant
    second: Participant
    tests: dict[str, MonteCarloTest]

    @property
    def name(self) -> str:
        return f"{self.first.name}_and_{self.second.name}"


@dataclass(frozen=True)
class Similarity(AbstractSpacesAnalysis):
    """Similarity of every two latent spaces by codes of the same held-out images; the space that all have in common.

    Measures ignore translation, rotation and scale, those of CCA's kind any invertible linear map; none is fitted to
    other images. Of three or more models there is a consensus, too: a space to which all are rotated, fitted to
    training images, and the share of each model's variance on held-out images that it accounts for.
    """

    name = "similarity"
    least = 2

    measures: tuple[str, ...] = ()
    """Names, separated by commas: cka_linear, cka_debiased, cka_minibatch, cka_rbf, cca, svcca, pwcca, procrustes,
    shape_angle, relative, mutual_neighbours, rsa; none: all."""
    num: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    num_permutations: int = 200
    """Shuffles of the pairing of images, which give each measure's values by chance."""
    num_resamples: int = 50
    """Random halves of the images from which intervals are made; 0: no intervals."""
    num_reference: int | None = 10_000
    """Training images, evenly spaced, to which the consensus is fitted; none: all."""
    num_pictures: int = 8
    """Columns of the sheet of the consensus."""
    figure: str = "cka_debiased"
    """Measure of the large heat map."""
    level: float = 0.95
    """Share of the values inside an interval."""
    seed: int = 0
    """Of shuffles and halves."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        for one in (*self.chosen, self.figure):
            if one not in SYMMETRIC:
                raise ValueError(f"there is no similarity {one}: there are {', '.join(SYMMETRIC)}")
        for option, least in (
            ("num", 4),
            ("num_permutations", 2),
            ("num_reference", 4),
            ("num_pictures", 1),
            ("num_resamples", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"similarity needs {option} of at least {least}, got {value}")
        if self.num_resamples == 1:
            raise ValueError("similarity needs num_resamples of at least 2, or 0 for no intervals, got 1")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"similarity needs a level between 0 and 1, got {self.level}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The measures one by one."""
        return separate(self.measures) or SYMMETRIC

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers, of every pair of models A_and_B: each measure with the count of images, A_and_B/cka_debiased_1k.

        Of three models or more, for each:

            consensus_share_1k: of the variance of its codes, in the mean of all models' codes in the common space
            consensus_share_of_others_1k: in the mean of the others, which unrelated models have nothing of

        Raises:
            ValueError: if there are fewer than 4 images.
        """
        codes = [one.codes("held_out", self.num, self.batch_size) for one in participants]
        count = len(codes[0])
        if count < 4:
            raise ValueError(f"similarity needs at least 4 images, got {count}: name a larger folder or split")
        found = Numbers()
        pairs = [_Pair(first, second, {}) for first, second in itertools.combinations(participants, 2)]
        for one in participants:
            if count < 4 * one.dim:
                found.notes.append(
                    f"{count} images are few for the {one.dim} dimensions of {one.name}: measures are far from 0 by "
                    "chance alone, so compare them with what shuffled pairs give; cka_debiased is the safest"
                )
        for measure in tracked([(name,) for name in self.chosen], len(self.chosen), "similarities"):
            try:
                self._measure(found, measure[0], pairs, participants, codes)
            except ValueError as error:
                found.notes.append(f"{measure[0]} was left out: {error}")
        for pair in pairs:
            if unsure := [name for name, test in pair.tests.items() if test.p_value > LEVEL]:
                found.notes.append(
                    f"{pair.first.name} and {pair.second.name} are no more alike than chance (p > {LEVEL}) by "
                    f"{', '.join(unsure)}"
                )
        tables = self._tables(participants, pairs)
        pictures = self._figures(participants, pairs, found)
        protocol: dict[str, Any] = {
            "num": count,
            "chosen": "evenly spaced over the source",
            "num_permutations": self.num_permutations,
            "smaller_is_more_alike": [name for name in self.chosen if MEASURES[name].alternative == "smaller"],
            "seed": self.seed,
        }
        files = {}
        if len(participants) > 2:
            if participants[0].reference is participants[0].held_out:
                found.notes.append("there are no training images, so the consensus is judged by those it was fitted to")
            consensus = consensus_space(
                [one.codes("reference", self.num_reference, self.batch_size) for one in participants]
            )
            mapped = [fitted(rows.double()) for fitted, rows in zip(consensus.maps, codes, strict=True)]
            tables["consensus"] = self._shares(participants, consensus, mapped, codes, found)
            pictures["consensus"], protocol["consensus"] = self._sheet(participants, consensus, mapped, codes)
            files = {
                f"consensus_{file_stem(one.name)}.safetensors": functools.partial(_save, fitted, one.name)
                for one, fitted in zip(participants, consensus.maps, strict=True)
            }
        if found.intervals:
            protocol["intervals"] = {
                "level": self.level,
                "num_resamples": self.num_resamples,
                "seed": self.seed,
                "kind": "intervals from random halves of the images (consensus: bootstrap)",
            }
        protocol["notes"] = found.notes
        return Result(self.name, found.values, protocol, pictures, tables, found.intervals, files)

    def _measure(
        self,
        found: Numbers,
        name: str,
        pairs: Sequence[_Pair],
        participants: Sequence[Participant],
        codes: Sequence[Tensor],
    ) -> None:
        """One measure of all pairs of models for which it exists, with its interval and its values by chance."""
        count = len(codes[0])
        alone = MEASURES[name].needs_more_samples

        def able(samples: int) -> list[int]:
            return [place for place, rows in enumerate(codes) if not alone or samples > rows.shape[1]]

        places, halved = able(count), able(count // 2)
        if missing := [one.name for place, one in enumerate(participants) if place not in places]:
            found.notes.append(
                f"{name} needs more images than dimensions, and there are {count} images: {', '.join(missing)} left out"
            )
        if len(places) < 2:
            return
        tests = permutation_tests(
            name, [codes[place] for place in places], num_permutations=self.num_permutations, seed=self.seed
        )
        intervals: Mapping[tuple[int, int], Interval] = {}
        if self.num_resamples and count >= 8 and len(halved) > 1:
            intervals = similarity_intervals(
                name,
                [codes[place] for place in halved],
                level=self.level,
                num_resamples=self.num_resamples,
                seed=self.seed,
            )
        ends = {(halved[i], halved[j]): interval for (i, j), interval in intervals.items()}
        by_places = {(places[i], places[j]): test for (i, j), test in tests.items()}
        for both, pair in zip(itertools.combinations(range(len(participants)), 2), pairs, strict=True):
            if both in by_places:
                pair.tests[name] = by_places[both]
                number = f"{pair.name}/{name}_{count_name(count)}"
                found.add(number, by_places[both].statistic, ends.get(both))

    def _tables(self, participants: Sequence[Participant], pairs: Sequence[_Pair]) -> dict[str, Table]:
        """Values of all pairs, what chance gives, and means over the instances of kinds."""
        read = {
            "similarity": lambda test: test.statistic,
            "mean of shuffled pairs": lambda test: test.null_mean,
            f"p-value ({self.num_permutations} shuffles)": lambda test: test.p_value,
            "deviations from the mean of shuffled pairs": lambda test: test.deviations,
        }
        tables: dict[str, Table] = {}
        for title, value in read.items():
            rows: list[Sequence[str | float]] = [("models", "", *self.chosen)]
            for pair in pairs:
                cells = [value(pair.tests[name]) if name in pair.tests else "" for name in self.chosen]
                rows.append((pair.first.name, pair.second.name, *cells))
            tables[title] = rows
        if len({one.kind for one in participants}) < len(participants):
            tables["means over instances"] = [
                ("kinds", "", "pairs", *self.chosen),
                *(
                    (*kinds, str(len(members)), *(_mean_of(members, name) for name in self.chosen))
                    for kinds, members in _by_kinds(pairs)
                ),
            ]
        return tables

    def _figures(
        self, participants: Sequence[Participant], pairs: Sequence[_Pair], found: Numbers
    ) -> dict[str, Images]:
        shown = [name for name in self.chosen if any(name in pair.tests for pair in pairs)]
        if not shown:
            return {}
        if len(participants) == 2:
            return {"similarity": self._against_chance(pairs[0], found)}
        names = [one.name for one in participants]
        values = {(pair.first.name, pair.second.name): pair.tests for pair in pairs}
        kinds = list(dict.fromkeys(one.kind for one in participants))
        of_kinds = dict(_by_kinds(pairs))

        def cell(tests: Mapping[str, MonteCarloTest], measure: str) -> float:
            return tests[measure].statistic if measure in tests else float("nan")

        def of_models(measure: str) -> list[list[float]]:
            return [[cell(values.get((a, b), values.get((b, a), {})), measure) for b in names] for a in names]

        def means(measure: str) -> list[list[float]]:
            table = [[_mean_of(of_kinds.get((a, b), of_kinds.get((b, a), [])), measure) for b in kinds] for a in kinds]
            return [[one if isinstance(one, float) else float("nan") for one in row] for row in table]

        smaller = [name for name in shown if MEASURES[name].alternative == "smaller"]
        title = f"on {len(participants[0].places('held_out', self.num))} held-out images"
        pictures = {}
        if self.figure in shown:
            large = functools.partial(heat_map, low=0.0, reverse=self.figure in smaller)
            pictures[self.figure] = large(of_models(self.figure), names, names, title=f"{self.figure} {title}")
            if len(kinds) < len(names):
                head = f"mean {self.figure} over instances"
                pictures[f"{self.figure}_of_kinds"] = large(means(self.figure), kinds, kinds, title=head)
        panels = {measure: of_models(measure) for measure in shown}
        pictures["similarity"] = heat_maps(panels, names, title=f"Similarity {title}; light is alike", reverse=smaller)
        return pictures

    def _against_chance(self, pair: _Pair, found: Numbers) -> Images:
        """All measures of one pair beside what they are by chance."""
        shown = {}
        suffix = count_name(len(pair.first.places("held_out", self.num)))
        for name, test in pair.tests.items():
            number = f"{pair.name}/{name}_{suffix}"
            reach = 2.0 * test.null_deviation
            ends = (test.null_mean - reach, test.null_mean + reach)
            shown[name] = Ranged(test.statistic, found.intervals.get(number), ends)
        return ranges(
            shown,
            title=f"{pair.first.name} and {pair.second.name}",
            x="procrustes, shape_angle (radians): 0 is alike; others: 1 is alike",
            label="value and interval",
            other="mean ± 2 deviations of shuffled pairs",
        )

    def _shares(
        self,
        participants: Sequence[Participant],
        consensus: Consensus,
        mapped: Sequence[Tensor],
        codes: Sequence[Tensor],
        found: Numbers,
    ) -> Table:
        """Each model's shares in the consensus, beside those in a consensus of shuffled pairs."""
        estimate = consensus_shares(mapped)
        intervals = None
        if self.num_resamples:
            intervals = consensus_shares_intervals(
                mapped, level=self.level, num_resamples=self.num_resamples, seed=self.seed
            )
        chance = self._by_chance(participants, codes)
        suffix = count_name(len(codes[0]))
        rows: list[Sequence[str | float]] = [
            ("model", "kind", "fitted", "share", "share of others", "share by chance", "share of others by chance")
        ]
        for place, (one, fitted) in enumerate(zip(participants, consensus.agreements, strict=True)):
            share, of_others = estimate.of_all[place].item(), estimate.of_others[place].item()
            ends = (None, None) if intervals is None else (intervals[0][place], intervals[1][place])
            found.add(number_name(participants, one, f"consensus_share_{suffix}"), share, ends[0])
            found.add(number_name(participants, one, f"consensus_share_of_others_{suffix}"), of_others, ends[1])
            by_chance = chance[0][place].item(), chance[1][place].item()
            rows.append((one.name, one.kind, fitted, share, of_others, *by_chance))
        return rows

    def _by_chance(self, participants: Sequence[Participant], codes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Both shares where each model's codes are of other images than the others'."""

        def shuffled(rows: Latents, place: int, what: str) -> Latents:
            rng = IndexedRandom(self.seed, f"similarity/consensus/{what}").generator(place)
            return rows[torch.randperm(len(rows), generator=rng)]

        fitted = consensus_space(
            [
                shuffled(one.codes("reference", self.num_reference, self.batch_size), place, "fit")
                for place, one in enumerate(participants)
            ]
        )
        mapped = [
            map_(shuffled(rows, place, "held_out").double())
            for place, (map_, rows) in enumerate(zip(fitted.maps, codes, strict=True))
        ]
        return consensus_shares(mapped)

    def _sheet(
        self,
        participants: Sequence[Participant],
        consensus: Consensus,
        mapped: Sequence[Tensor],
        codes: Sequence[Tensor],
    ) -> tuple[Images, dict[str, Any]]:
        """Originals, and of each model the decoding of its own code and of the point of the consensus."""
        shown = spread(len(codes[0]), self.num_pictures)
        points = torch.stack([rows[shown] for rows in mapped]).mean(0)
        largest = max(participants, key=lambda one: one.model.resolution)
        places = largest.places("held_out", self.num)
        parts = {"image": largest.images("held_out", [places[row] for row in shown]).cpu()}
        for one, fitted, rows in zip(participants, consensus.maps, codes, strict=True):
            parts[one.name] = one.decode(rows[shown], self.batch_size)
            back = one.model.latent_space.project(fitted.inverse()(points).float())
            parts[f"{one.name}, consensus"] = one.decode(back, self.batch_size)
        side = largest.model.resolution
        tiles = {label: resize(part.float(), side, "bilinear") for label, part in parts.items()}
        facts = {
            "num_reference": len(participants[0].places("reference", self.num_reference)),
            "width": consensus.codes.shape[1],
            "iterations": consensus.iterations,
            "rows": list(parts),
        }
        return labelled_rows(tiles, len(shown), factor=magnification(side)), facts


def _by_kinds(pairs: Sequence[_Pair]) -> Iterator[tuple[tuple[str, str], list[_Pair]]]:
    """Pairs of instances of the same two kinds, whichever comes first."""
    grouped: dict[frozenset[str], list[_Pair]] = {}
    for pair in pairs:
        grouped.setdefault(frozenset((pair.first.kind, pair.second.kind)), []).append(pair)
    for members in grouped.values():
        yield (members[0].first.kind, members[0].second.kind), members


def _mean_of(pairs: Sequence[_Pair], measure: str) -> float | str:
    values = [pair.tests[measure].statistic for pair in pairs if measure in pair.tests]
    return statistics.fmean(values) if values else ""


def _save(fitted: LinearMap, name: str, path: Path) -> None:
    save_map(path, fitted, {"map": "consensus", "source": name})


__all__ = ["SYMMETRIC", "Similarity"]
