"""Maps between all ordered pairs of several models: the table of the comparison of latent spaces."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.mapping import AbstractMapping
from latent_lab.analyses.set_numbers import Numbers
from latent_lab.analyses.spaces import Participant
from latent_lab.metrics.functional.mapping import explained_variance
from latent_lab.plotting import heat_map
from latent_lab.progress import phase
from latent_lab.types import Images, Latents

_COLUMNS = ("L-MSE", "R2", "R2 shuffled", "R-MSE", "M-MSE", "M-MSE shuffled", "mean image", "M-MSE / mean image")


@dataclass(frozen=True)
class MapMatrix(AbstractMapping):
    """The map from every model to every other one, judged on held-out images beside what no map would give.

    Its second table averages over instances: models of one kind. Where a kind has several, the row from it to itself is
    of its distinct pairs of instances, as in Tonelli's thesis, Table 4.3.
    """

    name = "map-matrix"

    num_shuffles: int = 1
    """Maps fitted to pairs that do not belong together, as a baseline; 0: none."""

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers: of each model NAME/r_mse, NAME/mean_image_mse and NAME/random_image_mse, and of each map A_to_B of
        KIND, as `MapSpaces` has them: l_mse_KIND, r2_KIND, r2_shuffled_KIND, m_mse_KIND, m_mse_relative_KIND,
        m_mse_to_ideal_KIND and m_mse_shuffled_KIND.

        Raises:
            ValueError: if there are fewer pairs than coordinates, or as `AbstractMapping.pairs`.
        """
        found = Numbers()
        protocol = self.protocol(participants, found)
        means = self.mean_images(participants)
        for target in participants:
            sources = [one for one in participants if one is not target]
            estimates: dict[str, Latents] = {}
            patterns: dict[str, str] = {}
            for source in sources:
                name = f"{source.name}_to_{target.name}"
                estimates |= self._estimates(found, participants, source, target)
                patterns[name] = f"{name}/{{}}_{self.kind}"
            errors = self.decoded_errors(target, estimates, means[target.name])
            self.add_image_numbers(found, participants, target, errors, patterns)
            for name in patterns:
                shuffled = [errors[f"{one} to original"].mean() for one in self._shuffled(name)]
                if shuffled:
                    found.add(f"{name}/m_mse_shuffled_{self.kind}", torch.stack(shuffled).mean().item())
        rows = [
            (source, target, self._row(found, source, target))
            for source, target in itertools.permutations(participants, 2)
        ]
        kinds = list(dict.fromkeys(one.kind for one in participants))
        listed: list[Sequence[str | float]] = [("from", "to", *_COLUMNS)]
        listed += [(source.name, target.name, *row) for source, target, row in rows]
        tables: dict[str, Table] = {"maps": listed, "means over instances": self._means(rows)}
        names = [one.name for one in participants]
        pictures = self._pictures(rows, names, lambda one: one.name, "")
        if len(kinds) < len(participants):
            pictures |= self._pictures(rows, kinds, lambda one: one.kind, "_of_kinds")
        protocol["notes"] = found.notes
        return Result(self.name, found.values, protocol, pictures, tables, found.intervals)

    def _estimates(
        self, found: Numbers, participants: Sequence[Participant], source: Participant, target: Participant
    ) -> dict[str, Latents]:
        """Held-out codes as the map of a pair of models gives them, and as maps fitted to shuffled pairs do."""
        name, settings = f"{source.name}_to_{target.name}", self.settings()
        given, wanted = self.held_out(source), self.held_out(target)
        pairs = self.pairs(participants, source, target)
        with phase(f"maps from {source.name} to {target.name}"):
            estimates = {name: settings.fit(self.kind, pairs).map(given)}
            self.judge_codes(found, name, self.kind, wanted, estimates[name])
            for number, label in enumerate(self._shuffled(name)):
                estimates[label] = settings.fit(self.kind, pairs.shuffled(self.seed + number)).map(given)
        shares = [explained_variance(wanted, estimates[label]).pooled for label in self._shuffled(name)]
        if shares:
            found.add(f"{name}/r2_shuffled_{self.kind}", statistics.fmean(shares))
        return estimates

    def _shuffled(self, name: str) -> list[str]:
        """What the estimates of one map's baseline are called."""
        return [f"{name} shuffled {number}" for number in range(self.num_shuffles)]

    def _row(self, found: Numbers, source: Participant, target: Participant) -> tuple[float, ...]:
        """Numbers of one map in the order of the tables' columns; NaN where there is no such number."""
        name = f"{source.name}_to_{target.name}"
        numbers = (
            f"{name}/l_mse_{self.kind}",
            f"{name}/r2_{self.kind}",
            f"{name}/r2_shuffled_{self.kind}",
            f"{source.name}/r_mse",
            f"{name}/m_mse_{self.kind}",
            f"{name}/m_mse_shuffled_{self.kind}",
            f"{target.name}/mean_image_mse",
            f"{name}/m_mse_relative_{self.kind}",
        )
        return tuple(found.values.get(number, float("nan")) for number in numbers)

    def _means(self, rows: Sequence[tuple[Participant, Participant, tuple[float, ...]]]) -> Table:
        grouped: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
        for source, target, row in rows:
            grouped[source.kind, target.kind].append(row)
        table: list[Sequence[str | float]] = [("from", "to", "maps", *_COLUMNS, "R2 least", "R2 most")]
        for (source_kind, target_kind), members in grouped.items():
            means = [statistics.fmean(column) for column in zip(*members, strict=True)]
            shares = [row[1] for row in members]
            table.append((source_kind, target_kind, str(len(members)), *means, min(shares), max(shares)))
        return table

    def _pictures(
        self,
        rows: Sequence[tuple[Participant, Participant, tuple[float, ...]]],
        names: Sequence[str],
        name_of: Callable[[Participant], str],
        suffix: str,
    ) -> dict[str, Images]:
        """Heat maps of R^2 and of M-MSE over the mean image's error; rows are sources, columns targets."""

        def cells(column: int) -> list[list[float]]:
            grouped: dict[tuple[str, str], list[float]] = defaultdict(list)
            for source, target, row in rows:
                grouped[name_of(source), name_of(target)].append(row[column])
            return [[statistics.fmean(grouped[a, b]) if grouped[a, b] else float("nan") for b in names] for a in names]

        return {
            f"r2{suffix}": heat_map(
                cells(1), names, names, title="Held-out R² of maps (row to column)", low=0.0, high=1.0
            ),
            f"m_mse_relative{suffix}": heat_map(
                cells(7),
                names,
                names,
                title="M-MSE over the mean image's error (row to column)",
                low=0.0,
                high=1.0,
                reverse=True,
            ),
        }


__all__ = ["MapMatrix"]
