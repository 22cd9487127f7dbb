"""Directions of attributes in several latent spaces: how they are found, what they tell and change, how they transfer.

Within one space directions come from labels (difference of means, normals of linear classifiers), from the codes alone
(principal axes) or from the decoder's weights. From the first model they are carried into the others' spaces by a
linear map y = x M + b: a displacement d becomes d M, a normal n becomes B n, by the map x = y B + a fitted backwards,
or M⁺ n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latent_lab.analyses.base import Result, Table, file_stem
from latent_lab.analyses.direction_edits import DirectionEdits, Way
from latent_lab.analyses.direction_finding import (
    SUPERVISED,
    UNSUPERVISED,
    Attribute,
    Carried,
    DirectionFinder,
    Learnt,
    Method,
    Sides,
    cosine,
)
from latent_lab.analyses.directions import division_by
from latent_lab.analyses.label_regression import NAMES_IN_NUMBERS, are_binary, separate
from latent_lab.analyses.set_numbers import Numbers, count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, Which, number_name
from latent_lab.latent.directions import Direction, Hyperplane, mean_difference
from latent_lab.metrics.functional.bootstrap import Interval, bootstrap
from latent_lab.metrics.functional.prediction import area_under_curve
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.plotting import heat_map
from latent_lab.progress import tracked
from latent_lab.types import Images, Latents, Scores

NUMBERED = ("mean", "svm")
"""Methods with numbers of their own; the tables have all."""
RARE = 0.05
"""Labels with a smaller share of either kind are not looked at unless they are named."""
_COMPARED = (("mean", "svm"), ("mean", "logistic"), ("svm", "logistic"), ("svm", "conditional"))


class _Judged(NamedTuple):
    """How well a hyperplane divides held-out images."""

    auc: float
    accuracy: float
    interval: Interval | None


@dataclass(frozen=True)
class Directions(AbstractSpacesAnalysis):
    """Directions of attributes, judged on held-out images, and carried from the first model into the others' spaces.

    Directions are fitted to codes of labelled training images: mean (difference of mean codes), svm and logistic
    (normals of linear classifiers), conditional (the svm's normal without what changes other attributes); beside them
    stand the principal axis of the codes (pca) and the axis of the decoder's weights (sefa) that tell the attribute
    best. Strength 1 moves codes as far along a direction as the mean codes of both kinds are apart. Directions are
    written to files that `latent-lab edit --direction` takes.
    """

    name = "directions"

    attributes: tuple[str, ...] = ()
    """Labels, separated by commas; none: those that the first model's codes tell best by a difference of means."""
    num_attributes: int = 6
    """How many, where none are named."""
    conditions: tuple[str, ...] = ()
    """Labels that conditional directions leave alone; none: the attributes whose normals are most like its own."""
    num_conditions: int = 3
    """How many, where none are named; 0: no conditional directions."""
    quantile: float = 0.25
    """Share of the training images that counts as high, and as low, in labels that are no yes or no."""
    svm_loss: Literal["squared_hinge", "hinge"] = "squared_hinge"
    """hinge is InterFaceGAN's, whose time grows with the square of the number of images."""
    penalty: float = 1.0
    """C of both classifiers, of centred codes in units of their deviation."""
    normals_by: Literal["reverse_map", "pseudo_inverse"] = "reverse_map"
    """How normals are carried over: by the map fitted from the other model to the first, or by the pseudo-inverse of
    the map from the first to the other, which is the same only where the map is exact."""
    num: int | None = 1_000
    """Held-out images by which directions are judged, evenly spaced; none: all."""
    num_reference: int | None = 10_000
    """Training images to which directions and maps are fitted, evenly spaced; none: all."""
    edited: Method = "mean"
    """Whose directions images are edited along: mean, svm, logistic or conditional."""
    strengths: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    """What steps are multiplied by, from left to right on the sheets."""
    rows: int = 3
    """Images on the sheets for each model and way."""
    regressor: str | None = None
    """File of `latent-lab train-regressor`: with it the change of every label by edits is measured."""
    num_edited: int = 64
    """Held-out images by which that is measured."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    level: float = 0.95
    """Share of the resampled values inside an interval."""
    seed: int = 0
    """Of resamples."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        for option, least in (
            ("num", 2),
            ("num_reference", 4),
            ("num_attributes", 1),
            ("num_conditions", 0),
            ("rows", 1),
            ("num_edited", 1),
            ("num_resamples", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"directions needs {option} of at least {least}, got {value}")
        if self.num_resamples == 1:
            raise ValueError("directions needs num_resamples of at least 2, or 0 for no intervals, got 1")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"directions needs a level between 0 and 1, got {self.level}")
        if not 0.0 < self.quantile <= 0.5:
            raise ValueError(f"directions needs a quantile in (0, 0.5], got {self.quantile}")
        if not self.penalty > 0.0:
            raise ValueError(f"directions needs a penalty above 0, got {self.penalty}")
        if self.edited not in SUPERVISED:
            raise ValueError(f"directions edits by {', '.join(SUPERVISED)}, got {self.edited!r}")
        if not self.strengths or not all(math.isfinite(one) for one in self.strengths):
            raise ValueError(f"directions needs at least one finite strength, got {list(self.strengths)}")

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers, for each attribute A and the methods mean and svm, behind the model's name where there are several:

            auc_svm_A_1k: chance that a held-out image with the attribute lies further along than one without it

        of the first model's directions in each other one's space, behind FIRST_to_OTHER:

            cosine_svm_A: between what is carried over and what the other model's own codes give
            correlation_svm_A_1k: of what both normals say of its held-out codes; where spaces have coordinates that
                hardly vary, normals may differ there at will and still say the same
            auc_svm_A_1k: of the carried normal, on the other model's own codes
            auc_mapped_svm_A_1k: of the other model's own normal, on the first model's codes as they are mapped

        with a regressor, of strength +1 along the model's own direction, and behind FIRST_to_OTHER the carried one:

            change_A: mean change of the attribute's estimate, in its units (a yes or no: probability)
            right_way_A: share of images whose estimate moves up
            leakage_A: the largest change of another label over its own, both in standard deviations

        Raises:
            ValueError: if images have no labels, a label is not there, or divides no training images.
        """
        found = Numbers()
        regressor = None if self.regressor is None else load_regressor(self.regressor)
        attributes, others = self._attributes(participants, found)
        if participants[0].reference is participants[0].held_out:
            found.notes.append(
                "there are no training images: directions are judged by the images that they were found by"
            )
        finder = DirectionFinder(
            self.svm_loss,
            self.penalty,
            separate(self.conditions),
            self.num_conditions,
            by_inverse=self.normals_by == "pseudo_inverse",
        )
        learnt: dict[str, dict[str, Learnt]] = {}
        for one in tracked([(one,) for one in participants], len(participants), "directions"):
            learnt[one[0].name] = finder.learn(one[0], self._codes(one[0], "reference"), attributes, others, found)
        carried = [finder.carry(participants[0], target, self._codes, learnt, found) for target in participants[1:]]
        judged = self._judge(participants, attributes, learnt, found)
        tables: dict[str, Table] = {
            "probes on held-out images": self._probes(participants, attributes, learnt, judged),
            "cosines of directions": self._cosines(participants, attributes, learnt),
        }
        pictures: dict[str, Images] = {}
        if judged:
            pictures["auc"] = self._heat(
                {one.name: [_auc(judged, one, attribute) for attribute in attributes] for one in participants},
                attributes,
                "AUC of the svm's normal on held-out images",
            )
        if carried:
            tables[f"carried from {participants[0].name}"] = self._transfer(
                participants[0], carried, attributes, learnt, judged, found
            )
            title = f"Cosine of {self.edited} directions from {participants[0].name} with the model's own"
            shown = {
                one.target.name: [
                    cosine(
                        one.learnt[attribute.name].direction(self.edited),
                        learnt[one.target.name][attribute.name].direction(self.edited),
                    )
                    for attribute in attributes
                ]
                for one in carried
            }
            pictures["carried"] = self._heat(shown, attributes, title)
        ways = list(self._ways(participants, carried, learnt))
        edits = DirectionEdits(
            self.edited, self.strengths, self.rows, self.num, self.num_edited, self.batch_size, self._codes
        )
        pictures |= edits.sheets(ways, attributes)
        if regressor is not None:
            tables |= edits.measured(ways, attributes, regressor, found)
        protocol = self._protocol(participants, attributes, carried, regressor, found)
        files = dict(self._files(participants, carried, attributes, learnt))
        return Result(self.name, found.values, protocol, pictures, tables, found.intervals, files)

    # ------------------------------------------------------------------------------------------------ attributes

    def _attributes(
        self, participants: Sequence[Participant], found: Numbers
    ) -> tuple[list[Attribute], list[Attribute]]:
        """What is asked of the images, and further labels that conditional directions leave alone."""
        first = participants[0]
        labels = {which: first.labels(which, num) for which, num in self._counts().items()}
        reference, held_out = labels["reference"], labels["held_out"]
        if reference is None or held_out is None:
            raise ValueError(
                "directions needs labelled images: name data with labels, such as ImageFolder with --data.labels"
            )
        names = separate(self.attributes)
        for name in (*names, *separate(self.conditions)):
            for which, (known, _) in (("training", reference), ("held-out", held_out)):
                if name not in known:
                    raise ValueError(f"the {which} images have no label {name}: there are {', '.join(known)}")

        def attribute(name: str) -> Attribute:
            values, others = (table[:, known.index(name)] for known, table in (reference, held_out))
            division = division_by(values, name, self.quantile)
            return Attribute(name, division.rule, Sides(*division.sides(values)), Sides(*division.sides(others)))

        chosen = [attribute(name) for name in names] if names else self._easiest(first, reference, held_out, attribute)
        for one in chosen:
            if not one.reference.complete:
                raise ValueError(f"label {one.name} is the same for all training images: choose another")
            if not one.held_out.complete:
                found.notes.append(f"{one.name} is the same for all held-out images, so nothing is judged by it")
        return chosen, [attribute(name) for name in separate(self.conditions) if name not in names]

    def _easiest(
        self,
        first: Participant,
        reference: tuple[tuple[str, ...], Tensor],
        held_out: tuple[tuple[str, ...], Tensor],
        attribute: Callable[[str], Attribute],
    ) -> list[Attribute]:
        """The labels, neither constant nor rare, that a difference of the first model's mean codes tells best."""
        codes = self._codes(first, "reference")
        quality: dict[str, float] = {}
        for name, values in zip(reference[0], reference[1].T, strict=True):
            if name not in held_out[0] or name in NAMES_IN_NUMBERS or values.isnan().all():
                continue
            sides = attribute(name).reference
            share_of_positives = sides.labels.double().mean().item() if sides.complete else 0.0
            if RARE <= share_of_positives <= 1.0 - RARE or not are_binary(values[:, None]).item():
                scores = codes @ mean_difference(codes[sides.present], codes[sides.absent])[0]
                quality[name] = area_under_curve(scores[sides.rows], sides.labels.double())
        best = sorted(quality, key=lambda name: -quality[name])[: self.num_attributes]
        if not best:
            raise ValueError("no label divides the training images into two kinds: name data with other labels")
        return [attribute(name) for name in best]

    def _counts(self) -> dict[Which, int | None]:
        return {"reference": self.num_reference, "held_out": self.num}

    def _codes(self, one: Participant, which: Which) -> Latents:
        return one.codes(which, self._counts()[which], self.batch_size)

    # --------------------------------------------------------------------------------------------------- judging

    def _judge_one(self, plane: Hyperplane, codes: Latents, sides: Sides) -> _Judged:
        scores, labels = plane.distance(codes[sides.rows]), sides.labels
        accuracy = ((scores > 0) == labels).double().mean().item()
        auc = area_under_curve(scores, labels.double())
        interval = None
        if self.num_resamples:
            interval = bootstrap(
                lambda rows: _auc_of(scores[rows], labels[rows]),
                (len(scores),),
                level=self.level,
                num_resamples=self.num_resamples,
                seed=self.seed,
            )
        return _Judged(auc, accuracy, interval)

    def _judge(
        self,
        participants: Sequence[Participant],
        attributes: Sequence[Attribute],
        learnt: Mapping[str, Mapping[str, Learnt]],
        found: Numbers,
    ) -> dict[tuple[str, str, str], _Judged]:
        """Of every model, attribute and method."""
        judged = {}
        for one in participants:
            codes = self._codes(one, "held_out")
            for attribute in attributes:
                if not attribute.held_out.complete:
                    continue
                for method, plane in learnt[one.name][attribute.name].planes.items():
                    result = self._judge_one(plane, codes, attribute.held_out)
                    judged[one.name, attribute.name, method] = result
                    if method in NUMBERED:
                        number = f"auc_{method}_{attribute.name}_{count_name(len(codes))}"
                        found.add(number_name(participants, one, number), result.auc, result.interval)
        return judged

    def _probes(
        self,
        participants: Sequence[Participant],
        attributes: Sequence[Attribute],
        learnt: Mapping[str, Mapping[str, Learnt]],
        judged: Mapping[tuple[str, str, str], _Judged],
    ) -> Table:
        methods = (*SUPERVISED, *UNSUPERVISED)
        rows: list[Sequence[str | float]] = [
            (
                "model",
                "attribute",
                "with",
                *(f"AUC {method}" for method in methods),
                *(f"accuracy {method}" for method in SUPERVISED),
                "accuracy of the majority",
                "conditional leaves alone",
                "axes (pca, sefa)",
            )
        ]
        for one in participants:
            for attribute in attributes:
                if not attribute.held_out.complete:
                    continue
                found = {method: judged.get((one.name, attribute.name, method)) for method in methods}
                positives = attribute.held_out.labels.double().mean().item()
                here = learnt[one.name][attribute.name]
                rows.append(
                    (
                        one.name,
                        attribute.name,
                        positives,
                        *("" if result is None else result.auc for result in found.values()),
                        *("" if (result := found[method]) is None else result.accuracy for method in SUPERVISED),
                        max(positives, 1.0 - positives),
                        ", ".join(here.conditions),
                        ", ".join(str(place) for place in here.axes.values()),
                    )
                )
        return rows

    def _cosines(
        self,
        participants: Sequence[Participant],
        attributes: Sequence[Attribute],
        learnt: Mapping[str, Mapping[str, Learnt]],
    ) -> Table:
        pairs = (*_COMPARED, *(("mean", method) for method in UNSUPERVISED))
        rows: list[Sequence[str | float]] = [
            (
                "model",
                "attribute",
                *(" · ".join(pair) for pair in pairs),
                "mean · mean of other images",
                "svm · svm of other images",
                "by chance (deviation)",
            )
        ]
        for one in participants:
            for attribute in attributes:
                here = learnt[one.name][attribute.name]
                cells: list[str | float] = []
                for a, b in pairs:
                    first, second = here.direction(a), here.direction(b)
                    cells.append("" if first is None or second is None else cosine(first, second))
                cells += [here.halves.get(method, "") for method in NUMBERED]
                rows.append((one.name, attribute.name, *cells, one.dim**-0.5))
        return rows

    def _transfer(
        self,
        source: Participant,
        carried: Sequence[Carried],
        attributes: Sequence[Attribute],
        learnt: Mapping[str, Mapping[str, Learnt]],
        judged: Mapping[tuple[str, str, str], _Judged],
        found: Numbers,
    ) -> Table:
        """How like what is carried over is to what the targets' own codes give, and how well it tells attributes."""
        other = "pseudo_inverse" if self.normals_by == "reverse_map" else "reverse_map"
        rows: list[Sequence[str | float]] = [
            (
                "to",
                "attribute",
                *(f"cosine {method}" for method in SUPERVISED),
                "correlation (svm)",
                "AUC in the source (svm)",
                f"AUC carried by {self.normals_by} (svm)",
                f"AUC carried by {other} (svm)",
                "AUC own (svm)",
                "AUC own, on mapped codes (svm)",
                "accuracy carried (svm)",
                "accuracy own (svm)",
                "accuracy own, on mapped codes (svm)",
            )
        ]
        for one in carried:
            name, codes = one.target.name, self._codes(one.target, "held_out")
            pair, suffix = f"{source.name}_to_{name}", count_name(len(codes))
            for attribute in attributes:
                moved, own = one.learnt[attribute.name], learnt[name][attribute.name]
                cosines: list[str | float] = []
                for method in SUPERVISED:
                    first, second = moved.direction(method), own.direction(method)
                    cosines.append("" if first is None or second is None else cosine(first, second))
                    if method in NUMBERED and first is not None and second is not None:
                        found.add(f"{pair}/cosine_{method}_{attribute.name}", cosine(first, second))
                cells: list[str | float] = [""] * 9
                if attribute.held_out.complete and attribute.name in one.other_way:
                    other_auc = self._judge_one(one.other_way[attribute.name], codes, attribute.held_out).auc
                    there = self._judge_one(moved.planes["svm"], codes, attribute.held_out)
                    on_mapped = self._judge_one(own.planes["svm"], one.codes, attribute.held_out)
                    native = judged[name, attribute.name, "svm"]
                    at_home = judged[source.name, attribute.name, "svm"]
                    agreement = _correlation(*(here.planes["svm"].distance(codes) for here in (moved, own)))
                    found.add(f"{pair}/correlation_svm_{attribute.name}_{suffix}", agreement)
                    found.add(f"{pair}/auc_svm_{attribute.name}_{suffix}", there.auc, there.interval)
                    found.add(f"{pair}/auc_mapped_svm_{attribute.name}_{suffix}", on_mapped.auc, on_mapped.interval)
                    cells = [agreement, at_home.auc, there.auc, other_auc, native.auc, on_mapped.auc]
                    cells += [there.accuracy, native.accuracy, on_mapped.accuracy]
                rows.append((name, attribute.name, *cosines, *cells))
        return rows

    def _heat(self, rows: Mapping[str, Sequence[float]], attributes: Sequence[Attribute], title: str) -> Images:
        return heat_map(
            list(rows.values()), list(rows), [one.name for one in attributes], title=title, low=0.0, high=1.0
        )

    def _ways(
        self,
        participants: Sequence[Participant],
        carried: Sequence[Carried],
        learnt: Mapping[str, Mapping[str, Learnt]],
    ) -> Iterator[Way]:
        """How the sheets call them: a model and the directions along which its images are edited."""
        first = participants[0]
        yield first.name, first, learnt[first.name]
        for one in carried:
            yield one.target.name, one.target, learnt[one.target.name]
            yield f"{first.name} to {one.target.name}", one.target, one.learnt

    # --------------------------------------------------------------------------------------------- what is kept

    def _files(
        self,
        participants: Sequence[Participant],
        carried: Sequence[Carried],
        attributes: Sequence[Attribute],
        learnt: Mapping[str, Mapping[str, Learnt]],
    ) -> Iterator[tuple[str, Callable[[Path], None]]]:
        """Every direction from labels, under MODEL_ATTRIBUTE_METHOD or FIRST_to_OTHER_ATTRIBUTE_METHOD."""
        spaces = [(one.name, learnt[one.name]) for one in participants]
        spaces += [(f"{participants[0].name}_to_{one.target.name}", one.learnt) for one in carried]
        for space, here in spaces:
            for attribute in attributes:
                for method in SUPERVISED:
                    direction = here[attribute.name].direction(method)
                    if direction is not None:
                        name = file_stem(f"{space}_{attribute.name}_{method}")
                        yield f"directions/{name}.npy", functools.partial(_write, direction)

    def _protocol(
        self,
        participants: Sequence[Participant],
        attributes: Sequence[Attribute],
        carried: Sequence[Carried],
        regressor: LabelRegressor | None,
        found: Numbers,
    ) -> dict[str, Any]:
        protocol: dict[str, Any] = {
            "num": len(participants[0].places("held_out", self.num)),
            "num_reference": len(participants[0].places("reference", self.num_reference)),
            "chosen": "evenly spaced over the source",
            "attributes": {one.name: one.rule for one in attributes},
            "classifiers": f"svm with {self.svm_loss} loss and logistic, C = {self.penalty:g}, of centred codes "
            "over their deviation",
            "normals": "carried over by "
            + ("the map fitted backwards" if self.normals_by == "reverse_map" else "the pseudo-inverse of the map"),
            "strength": "1: as far along the direction as the mean codes of both kinds are apart",
            "columns": ["image", "reconstruction", *(f"{one:+g}" for one in self.strengths)],
            "regressor": None if regressor is None else regressor.describe(),
            "seed": self.seed,
        }
        if carried:
            protocol["maps"] = {
                one.target.name: {"rank": one.fit.rank, "condition": one.fit.condition, "r2": one.fit.explained_share}
                for one in carried
            }
        if found.intervals:
            protocol["intervals"] = {
                "level": self.level,
                "num_resamples": self.num_resamples,
                "seed": self.seed,
                "kind": "bootstrap intervals over held-out images, directions being what they are",
            }
        protocol["notes"] = found.notes
        return protocol


def _auc(judged: Mapping[tuple[str, str, str], _Judged], one: Participant, attribute: Attribute) -> float:
    """By the svm; NaN where nothing was judged."""
    found = judged.get((one.name, attribute.name, "svm"))
    return float("nan") if found is None else found.auc


def _correlation(a: Scores, b: Scores) -> float:
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].item()


def _auc_of(scores: Scores, labels: Tensor) -> float:
    """As far as a resample has both kinds; else a guess's."""
    auc = area_under_curve(scores, labels.double())
    return 0.5 if math.isnan(auc) else auc


def _write(direction: Direction, path: Path) -> None:
    """A direction as an array (1, D) float32, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, direction.numpy(), allow_pickle=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["Directions"]
