"""Everything about how several latent spaces relate, in one result: the question of Tonelli's thesis as one command."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latent_lab.analyses.attribute_directions import Directions
from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.distances import Distances
from latent_lab.analyses.map_matrix import MapMatrix
from latent_lab.analyses.mapping import Kind
from latent_lab.analyses.nearest_neighbours import NearestNeighbours
from latent_lab.analyses.normality import Normality
from latent_lab.analyses.similarity import Similarity
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant

PARTS: Mapping[str, tuple[str, type[AbstractSpacesAnalysis]]] = {
    "normality": ("Are codes distributed as the prior?", Normality),
    "distances": ("How far apart are codes?", Distances),
    "neighbours": ("Who is next to whom?", NearestNeighbours),
    "similarity": ("Are images laid out alike?", Similarity),
    "map-matrix": ("Does a linear map lead from one space to another?", MapMatrix),
    "directions": ("Do directions of attributes agree?", Directions),
}
"""Name of an analysis -> what it answers, and its class; in the order of the report."""


@dataclass(frozen=True)
class CompareSpaces(AbstractSpacesAnalysis):
    """All analyses of several latent spaces, of the same images, which are encoded once.

    Options that are not here have the defaults of the analyses; each can be run alone with others.
    """

    name = "compare-spaces"
    least = 2

    parts: tuple[str, ...] = tuple(PARTS)
    """Analyses: normality, distances, neighbours, similarity, map-matrix, directions (where images have labels)."""
    num: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    num_reference: int | None = 10_000
    """Training images to which maps, axes and directions are fitted, evenly spaced; none: all."""
    kind: Kind = "affine"
    """Kind of the maps; see `latent-lab map --help`."""
    attributes: tuple[str, ...] = ()
    """Labels of which directions are sought; none: those that the first model's codes tell best."""
    regressor: str | None = None
    """File of `latent-lab train-regressor`: with it the effect of directions is measured."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of everything random."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "attributes", tuple(self.attributes))
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}")
        for part in self.parts:
            self.analysis(part)

    def analysis(self, part: str) -> AbstractSpacesAnalysis:
        """One of the analyses, with this one's options as far as it has them."""
        kind = PARTS[part][1]
        shared: dict[str, Any] = {
            "num": self.num,
            "num_held_out": self.num,
            "num_reference": self.num_reference,
            "num_fit": self.num_reference,
            "kind": self.kind,
            "attributes": self.attributes,
            "regressor": self.regressor,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        if part == "neighbours":
            # Its neighbours are searched among training images, of which `num` is how many.
            shared["num"] = self.num_reference
        own = {field.name for field in dataclasses.fields(kind)}
        return kind(**{name: value for name, value in shared.items() if name in own})

    def compare(self, participants: Sequence[Participant]) -> Result:
        """Runs the parts one after another; codes are kept between them."""
        notes: list[str] = []
        sections: dict[str, Result] = {}
        for part in self.parts:
            title = PARTS[part][0]
            if part == "directions" and not participants[0].held_out.label_names:
                notes.append("the images have no labels, so no directions were sought: give them with --data.labels")
                continue
            sections[title] = self.analysis(part)(list(participants))
        tables = {"Models": models_table(participants)}
        return Result(self.name, {}, {"notes": notes} if notes else {}, tables=tables, sections=sections)


def models_table(participants: Sequence[Participant]) -> Table:
    """Who takes part."""
    head = ("model", "kind", "latents", "pixels", "images seen")
    return [
        head,
        *(
            (one.name, one.kind, str(one.dim), str(one.model.resolution), f"{getattr(one.model, 'images_seen', 0):,}")
            for one in participants
        ),
    ]
