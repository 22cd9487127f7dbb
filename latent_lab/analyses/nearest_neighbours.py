"""Which images are neighbours in a latent space: do they share attributes, are some of them everybody's neighbour, and
do two models agree?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.feeding import spread
from latent_lab.analyses.image_space import as_images, image_axes, pixel_resolution, pixel_vectors
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, number_name
from latent_lab.metrics.functional import (
    Hubness,
    agreement_beyond_chance,
    attribute_retention,
    binomial_hubness,
    distinct_neighbours,
    hubness,
    hubness_interval,
    mean_interval,
    neighbour_occurrence,
    neighbour_overlap,
    neighbour_overlap_interval,
)
from latent_lab.metrics.functional.bootstrap import LEVEL
from latent_lab.metrics.functional.hubness import NeighbourIndices
from latent_lab.plotting import labelled_rows
from latent_lab.progress import phase
from latent_lab.types import Features, Images, OtherImages

Among = Literal["reference", "held_out"]
STREAM = "neighbours/prior"
"""Name of the random stream of the samples of the prior."""
_HUBNESS = {
    "skewness": "hubness_skewness",
    "antihub_share": "antihubs",
    "hub_share": "hubs",
    "hub_occurrence": "hub_occurrence",
    "largest": "largest_occurrence",
    "robin_hood": "robin_hood",
}
"""Field of `Hubness` -> how its number is called."""
_HUBNESS_HEAD = (
    "skewness of occurrence",
    "never a neighbour",
    "hubs (twice the mean)",
    "neighbours that are hubs",
    "most frequent one",
    "Robin Hood index",
)


@dataclass(frozen=True)
class NearestNeighbours(AbstractSpacesAnalysis):
    """Exact nearest neighbours of every image among the others, by codes, and by principal components of the images.

    Neighbours that turn up again and again are hubs. High-dimensional spaces have some whatever is in them, so samples
    of each prior stand beside the codes, and neighbours drawn at random beside both.
    """

    name = "neighbours"

    among: Among = "reference"
    """Images whose neighbours are searched among one another: reference (training) or held_out."""
    num: int | None = 5_000
    """Of these, evenly spaced; none: all. Work grows with the square."""
    k: int = 10
    """Neighbours of each image; the image itself and exact copies do not count."""
    num_components: int = 64
    """Principal components of the images that stand for image space."""
    most_pixels: int = 64
    """Pixels per side at which images are compared, if the first model has more."""
    num_pictures: int = 8
    """Images whose neighbours are shown, evenly spaced."""
    num_shown: int = 3
    """Neighbours shown of each in every space, nearest first."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of resamples and samples of the prior."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.among not in get_args(Among):
            raise ValueError(f"neighbours are searched among reference or held_out images, got {self.among!r}")
        for option, least in (
            ("num", 3),
            ("k", 1),
            ("num_components", 1),
            ("most_pixels", 1),
            ("num_pictures", 1),
            ("num_shown", 1),
            ("num_resamples", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"neighbours needs {option} of at least {least}, got {value}")
        if self.num_resamples == 1:
            raise ValueError("neighbours needs num_resamples of at least 2, or 0 for no intervals, got 1")
        if self.num_shown > self.k:
            raise ValueError(f"neighbours shows at most k = {self.k} neighbours of each image, got {self.num_shown}")

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers of every space (image_pca64, and the models), with k and the count of images as in _k10_5k:

            hubness_skewness, antihubs, hubs, hub_occurrence, largest_occurrence, robin_hood: see
                `metrics.functional.Hubness`; prior_ before those of as many samples of the prior
            label_agreement: how much more often neighbours share a yes-or-no label than random images, mean over
                labels; 0 by chance, 1 if they share all
            overlap_..._with_OTHER: share of an image's neighbours that are its neighbours in the other space, too;
                k / (images - 1) by chance

        Raises:
            ValueError: if there are not more images than neighbours, or codes are not finite or all equal.
        """
        first = participants[0]
        places = first.places(self.among, self.num)
        if len(places) < self.k + 2:
            raise ValueError(
                f"{self.k} neighbours need at least {self.k + 2} images, got {len(places)}: name a larger data set, or "
                "ask for fewer"
            )
        resolution = pixel_resolution(participants, self.most_pixels)
        notes: list[str] = []
        with phase("reading images"):
            pixels = pixel_vectors(first.source(self.among), places, resolution, self.batch_size)
        points: dict[str, Features] = {}
        components = min(self.num_components, len(pixels) - 1, pixels.shape[1])
        if components < self.num_components:
            notes.append(f"{len(pixels)} images have {components} principal components, not {self.num_components}")
        axes = image_axes(pixels, [components])
        assert axes is not None
        image_space = f"image_pca{components}"
        points[image_space] = axes.project(pixels)
        points |= {one.name: one.codes(self.among, self.num, self.batch_size) for one in participants}
        found = {space: self._neighbours(rows) for space, rows in points.items()}
        of_prior = self._neighbours_of_priors(participants, len(places))

        counts = f"k{self.k}_{count_name(len(places))}"
        prefixes = {one.name: number_name(participants, one, "") for one in participants}
        prefixes[image_space] = f"{image_space}/"
        numbers: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        for prior, neighbours in (("", found), ("prior_", of_prior)):
            for space, indices in neighbours.items():
                called = {field: f"{prefixes[space]}{prior}{name}_{counts}" for field, name in _HUBNESS.items()}
                values = hubness(neighbour_occurrence(indices, len(places)))._asdict()
                numbers |= {called[field]: float(value) for field, value in values.items()}
                if self.num_resamples:
                    ends = hubness_interval(indices, len(places), num_resamples=self.num_resamples, seed=self.seed)
                    intervals |= {called[field]: (one.low, one.high) for field, one in ends.items()}
        tables: dict[str, Table] = {"Hubness": self._hubness_table(found, of_prior, points, len(places))}
        tables |= self._overlaps(found, prefixes, counts, len(places), numbers, intervals)
        tables |= self._attributes(first, found, prefixes, counts, numbers, intervals, notes)
        protocol: dict[str, Any] = {
            "among": self.among,
            "num": len(places),
            "chosen": "evenly spaced over the source",
            "searched": dict(first.source(self.among).recipe),
            "distance": "Euclidean, exact; the image itself and its copies left out",
            "image_space": {
                "resolution": resolution,
                "components": components,
                "explained": axes.explained.sum().item(),
                "fitted_to": "the same images",
                "seen_by": first.name,
            },
            "prior": {"stream": STREAM, "seed": self.seed},
            "pictures": {"first_row": "images", "then": f"their {self.num_shown} nearest in each space, nearest first"},
            "notes": notes,
        }
        if self.num_resamples:
            protocol["intervals"] = {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed}
        pictures = {"neighbours": self._sheet(as_images(pixels, resolution), found)}
        return Result(self.name, numbers, protocol, pictures, tables, intervals)

    # ------------------------------------------------------------------------------------------------ neighbours

    def _neighbours(self, points: Features) -> NeighbourIndices:
        return distinct_neighbours(points, self.k).indices

    def _neighbours_of_priors(self, participants: Sequence[Participant], count: int) -> dict[str, NeighbourIndices]:
        """Of samples of each model's prior; priors of one known law and dimension give the same samples."""
        known: dict[Any, NeighbourIndices] = {}
        found = {}
        for one in participants:
            space = one.model.latent_space
            key = one.name if space.prior_law == "other" else (space.prior_law, space.dim)
            if key not in known:
                known[key] = self._neighbours(one.prior(count, self.seed, STREAM))
            found[one.name] = known[key]
        return found

    # ---------------------------------------------------------------------------------------------------- tables

    def _hubness_table(
        self,
        found: Mapping[str, NeighbourIndices],
        of_prior: Mapping[str, NeighbourIndices],
        points: Mapping[str, Features],
        count: int,
    ) -> Table:
        def row(space: str, what: str, dim: int | str, values: Hubness) -> list[str | float]:
            return [space, what, dim, *map(float, values)]

        table: list[list[str | float]] = [["space", "points", "D", *_HUBNESS_HEAD]]
        for space, indices in found.items():
            dim = points[space].shape[1]
            table.append(row(space, "images", dim, hubness(neighbour_occurrence(indices, count))))
            if space in of_prior:
                occurrence = neighbour_occurrence(of_prior[space], count)
                table.append(row(space, "samples of the prior", dim, hubness(occurrence)))
        table.append(row("neighbours drawn at random", "", "", binomial_hubness(count, count - 1, self.k)))
        return table

    def _overlaps(
        self,
        found: Mapping[str, NeighbourIndices],
        prefixes: Mapping[str, str],
        counts: str,
        count: int,
        numbers: dict[str, float],
        intervals: dict[str, tuple[float, float]],
    ) -> dict[str, Table]:
        """Every pair of spaces once, as numbers, and all of them as a table."""
        spaces = list(found)
        values: dict[tuple[str, str], float] = {}
        for place, one in enumerate(spaces):
            for other in spaces[:place]:
                called = f"{prefixes[one]}overlap_{counts}_with_{other}"
                overlap = neighbour_overlap(found[one], found[other], num_candidates=count - 1)
                numbers[called] = values[one, other] = values[other, one] = overlap.value
                if self.num_resamples:
                    ends = neighbour_overlap_interval(
                        found[one],
                        found[other],
                        num_candidates=count - 1,
                        num_resamples=self.num_resamples,
                        seed=self.seed,
                    )
                    intervals[called] = (ends.low, ends.high)
        rows: list[list[str | float]] = [["space", *spaces]]
        rows += [[one, *(values.get((one, other), "") for other in spaces)] for one in spaces]
        chance = self.k / (count - 1)
        return {f"Share of the {self.k} nearest that two spaces have in common (by chance {chance:.3g})": rows}

    def _attributes(
        self,
        first: Participant,
        found: Mapping[str, NeighbourIndices],
        prefixes: Mapping[str, str],
        counts: str,
        numbers: dict[str, float],
        intervals: dict[str, tuple[float, float]],
        notes: list[str],
    ) -> dict[str, Table]:
        """What neighbours share of the yes-or-no labels, as numbers, and label by label as tables."""
        labelled = first.labels(self.among, self.num)
        if labelled is None:
            notes.append("there are no labels, so that retention of attributes is not measured")
            return {}
        names, values = labelled
        binary = [column for column in range(len(names)) if _is_binary(values[:, column])]
        if len(binary) < len(names):
            others = ", ".join(name for column, name in enumerate(names) if column not in binary)
            notes.append(f"labels that are no yes or no, or the same for all images, are left out: {others}")
        if not binary:
            return {}
        values = values[:, binary]
        kept, rates = {}, {}
        for space, indices in found.items():
            retention = attribute_retention(indices, values)
            kept[space], rates[space] = retention.retention, retention.neighbour_rate / retention.point_rate
            chance = retention.point_rate
            agreement = agreement_beyond_chance(indices, values)
            called = f"{prefixes[space]}label_agreement_{counts}"
            numbers[called] = agreement.value
            if self.num_resamples:
                of_queries = agreement.of_queries[~agreement.of_queries.isnan()]
                ends = mean_interval(of_queries, num_resamples=self.num_resamples, seed=self.seed)
                intervals[called] = (ends.low, ends.high)

        def table(columns: Mapping[str, Tensor]) -> Table:
            head = ["attribute", "share of images (chance)", *columns]
            body: list[list[str | float]] = [
                [names[column], chance[row].item(), *(one[row].item() for one in columns.values())]
                for row, column in enumerate(binary)
            ]
            return [head, *body]

        return {
            "Retention: share of neighbours with the attribute, of images that have it": table(kept),
            "Frequency among all neighbours over that among images (below 1: gets lost)": table(rates),
        }

    # ---------------------------------------------------------------------------------------------------- figure

    def _sheet(self, images: Images, found: Mapping[str, NeighbourIndices]) -> OtherImages:
        """Images, and under them their neighbours in every space."""
        chosen = torch.tensor(spread(len(images), self.num_pictures))
        blocks = {"images": images[chosen]}
        blocks |= {space: images[indices[chosen, : self.num_shown].T.flatten()] for space, indices in found.items()}
        return labelled_rows(blocks, len(chosen), factor=magnification(images.shape[-1]))


def _is_binary(column: Float[Tensor, "N"]) -> bool:
    """Whether the known values are two, one of them for no (0 or -1) and 1 for yes."""
    known = sorted(set(column[~column.isnan()].tolist()))
    return known in ([0.0, 1.0], [-1.0, 1.0])


__all__ = ["NearestNeighbours"]
