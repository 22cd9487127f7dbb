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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab.analyses.base import Result, Table, file_stem
from latent_lab.analyses.directions import division_by
from latent_lab.analyses.feeding import as_tensor, batches, device_of, share, spread
from latent_lab.analyses.label_changes import Estimates, LabelChange, label_change
from latent_lab.analyses.label_regression import NAMES_IN_NUMBERS, are_binary, separate
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import Numbers, count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, Which, number_name
from latent_lab.distributed import IndexedRandom
from latent_lab.images import quantise, resize
from latent_lab.latent.directions import (
    Axes,
    Direction,
    Hyperplane,
    factorised_directions,
    logistic_normal,
    mean_difference,
    midway_hyperplane,
    orthogonalised,
    principal_directions,
    pull_back_hyperplane,
    reading_weights,
    support_vector_normal,
    transport_direction,
    transport_hyperplane,
)
from latent_lab.latent.maps import Fit, NormalEquations, fit_least_squares
from latent_lab.latent.spaces import AbstractLatentSpace, PerLayer
from latent_lab.metrics.functional.bootstrap import Interval, bootstrap
from latent_lab.metrics.functional.prediction import area_under_curve
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.plotting import heat_map, labelled_rows
from latent_lab.progress import phase, tracked
from latent_lab.types import Images, Latents, Scores

Method = Literal["mean", "svm", "logistic", "conditional"]
SUPERVISED: tuple[Method, ...] = get_args(Method)
"""Methods whose directions come from labels, are carried over, and are written to files."""
NORMALS = SUPERVISED[1:]
UNSUPERVISED = ("pca", "sefa")
NUMBERED = ("mean", "svm")
"""Methods with numbers of their own; the tables have all."""
MEASURED_AT = 1.0
"""Strength at which changes are reported as numbers."""
RARE = 0.05
"""Labels with a smaller share of either kind are not looked at unless they are named."""
_COMPARED = (("mean", "svm"), ("mean", "logistic"), ("svm", "logistic"), ("svm", "conditional"))


class _Sides(NamedTuple):
    """Which of N images have an attribute, and which have it not; images between are neither."""

    present: Tensor
    absent: Tensor

    @property
    def rows(self) -> Tensor:
        """Places of those that are either."""
        return (self.present | self.absent).nonzero()[:, 0]

    @property
    def labels(self) -> Tensor:
        """Whether those have it."""
        return self.present[self.rows]

    @property
    def complete(self) -> bool:
        """Whether there are images of both kinds."""
        return bool(self.present.any()) and bool(self.absent.any())

    def part(self, begin: int) -> _Sides:
        """Every second image."""
        chosen = torch.zeros_like(self.present)
        chosen[begin::2] = True
        return _Sides(self.present & chosen, self.absent & chosen)


class _Attribute(NamedTuple):
    """A label as a question."""

    name: str
    rule: str
    reference: _Sides
    held_out: _Sides


@dataclass
class _Learnt:
    """What is known of one attribute in one space."""

    difference: Direction
    """Mean code with the attribute minus mean code without it."""
    planes: dict[str, Hyperplane]
    """Method -> hyperplane; the attribute is on the side to which the normal looks."""
    conditions: tuple[str, ...] = ()
    """Attributes that the conditional direction leaves alone."""
    axes: dict[str, int] = field(default_factory=dict)
    """Number, from 0, of the unsupervised axis that tells the attribute best."""
    halves: dict[str, float] = field(default_factory=dict)
    """Method -> cosine between what two halves of the images give: the most that any other cosine can be."""

    def direction(self, method: str) -> Direction | None:
        """As it is written to files: the difference of means as long as it is, normals of unit length."""
        if method == "mean":
            return self.difference
        return self.planes[method].normal if method in self.planes else None

    def step(self, method: str) -> Direction | None:
        """What strength 1 adds: as far along the direction as the mean codes of both kinds are apart."""
        direction = self.direction(method)
        if direction is None or method == "mean":
            return direction
        return (self.difference * direction).sum() * direction


class _Carried(NamedTuple):
    """The first model's attributes in another model's space."""

    target: Participant
    fit: Fit
    learnt: dict[str, _Learnt]
    other_way: dict[str, Hyperplane]
    """Attribute -> the svm's hyperplane, carried in the way that was not asked for."""
    codes: Latents
    """The first model's held-out codes as the map gives them."""


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
        learnt: dict[str, dict[str, _Learnt]] = {}
        for one in tracked([(one,) for one in participants], len(participants), "directions"):
            learnt[one[0].name] = self._learn(one[0], attributes, others, found)
        carried = [self._carry(participants[0], target, learnt, found) for target in participants[1:]]
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
                    _cosine(
                        one.learnt[attribute.name].direction(self.edited),
                        learnt[one.target.name][attribute.name].direction(self.edited),
                    )
                    for attribute in attributes
                ]
                for one in carried
            }
            pictures["carried"] = self._heat(shown, attributes, title)
        ways = list(self._ways(participants, carried, learnt))
        pictures |= self._sheets(ways, attributes)
        if regressor is not None:
            tables |= self._edits(ways, attributes, regressor, found)
        protocol = self._protocol(participants, attributes, carried, regressor, found)
        files = dict(self._files(participants, carried, attributes, learnt))
        return Result(self.name, found.values, protocol, pictures, tables, found.intervals, files)

    # ------------------------------------------------------------------------------------------------ attributes

    def _attributes(
        self, participants: Sequence[Participant], found: Numbers
    ) -> tuple[list[_Attribute], list[_Attribute]]:
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

        def attribute(name: str) -> _Attribute:
            values, others = (table[:, known.index(name)] for known, table in (reference, held_out))
            division = division_by(values, name, self.quantile)
            return _Attribute(name, division.rule, _Sides(*division.sides(values)), _Sides(*division.sides(others)))

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
        attribute: Callable[[str], _Attribute],
    ) -> list[_Attribute]:
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

    # -------------------------------------------------------------------------------------------- finding directions

    def _learn(
        self, one: Participant, attributes: Sequence[_Attribute], others: Sequence[_Attribute], found: Numbers
    ) -> dict[str, _Learnt]:
        """All directions of all attributes in one space."""
        codes = self._codes(one, "reference")
        if len(codes) <= codes.shape[1]:
            found.notes.append(
                f"{len(codes)} training images for {codes.shape[1]} dimensions of {one.name}: any labels are divided "
                "by some hyperplane, so only held-out numbers mean anything"
            )
        axes = {"pca": principal_directions(codes)}
        if (factors := _factorised(one)) is not None:
            axes["sefa"] = factors
        else:
            found.notes.append(f"no layer of {one.name} reads its latents as they are, so it has no sefa directions")
        normals = {other.name: self._svm(codes, other.reference).normal for other in others}
        learnt: dict[str, _Learnt] = {}
        for attribute in attributes:
            sides = attribute.reference
            learnt[attribute.name] = self._of_attribute(codes, sides)
            normals[attribute.name] = learnt[attribute.name].planes["svm"].normal
            for method, spectrum in axes.items():
                place, axis = _best_axis(spectrum, codes, sides)
                learnt[attribute.name].axes[method] = place
                learnt[attribute.name].planes[method] = _across(axis, codes, sides)
        for attribute in attributes:
            self._condition(learnt[attribute.name], attribute, normals, codes, one, found)
        return learnt

    def _of_attribute(self, codes: Latents, sides: _Sides) -> _Learnt:
        """Directions from labels."""
        difference = mean_difference(codes[sides.present], codes[sides.absent])
        svm = self._svm(codes, sides)
        planes = {
            "mean": _across(difference, codes, sides),
            "svm": svm,
            "logistic": self._scaled(logistic_normal, codes, sides, penalty=self.penalty),
        }
        learnt = _Learnt(difference, planes)
        halves = [sides.part(begin) for begin in (0, 1)]
        if all(half.complete for half in halves):
            means = [mean_difference(codes[half.present], codes[half.absent]) for half in halves]
            learnt.halves["mean"] = _cosine(*means)
            learnt.halves["svm"] = _cosine(*(self._svm(codes, half).normal for half in halves))
        return learnt

    def _svm(self, codes: Latents, sides: _Sides) -> Hyperplane:
        return self._scaled(support_vector_normal, codes, sides, penalty=self.penalty, loss=self.svm_loss)

    def _scaled(self, fit: Callable[..., Hyperplane], codes: Latents, sides: _Sides, **options: Any) -> Hyperplane:
        """A classifier of centred codes in units of their deviation, so that penalties mean the same in all spaces."""
        centre = codes.double().mean(0)
        scale = codes.double().var(0).mean().sqrt().item()
        plane = fit(((codes[sides.rows] - centre) / scale).float(), sides.labels, **options)
        return Hyperplane(plane.normal, plane.offset * scale - (plane.normal[0].double() @ centre).item())

    def _condition(
        self,
        learnt: _Learnt,
        attribute: _Attribute,
        normals: Mapping[str, Direction],
        codes: Latents,
        one: Participant,
        found: Numbers,
    ) -> None:
        """Adds the direction that leaves the conditions alone, where there are any."""
        normal = normals[attribute.name]
        named = separate(self.conditions)
        if named:
            wanted = [name for name in named if name != attribute.name]
        else:
            others = {name: abs(_cosine(normal, other)) for name, other in normals.items() if name != attribute.name}
            wanted = sorted(others, key=lambda name: -others[name])[: self.num_conditions]
        if not wanted:
            return
        try:
            direction = orthogonalised(normal, torch.cat([normals[name] for name in wanted]))
        except ValueError as error:
            found.notes.append(f"{attribute.name} of {one.name} has no conditional direction: {error}")
            return
        learnt.conditions = tuple(wanted)
        learnt.planes["conditional"] = _across(direction, codes, attribute.reference)

    # ------------------------------------------------------------------------------------------ carrying them over

    def _carry(
        self,
        source: Participant,
        target: Participant,
        learnt: Mapping[str, Mapping[str, _Learnt]],
        found: Numbers,
    ) -> _Carried:
        """The source's directions in the target's space, by the affine least-squares map of training codes."""
        equations = NormalEquations.of(self._codes(source, "reference"), self._codes(target, "reference"))
        fit, back = (
            fit_least_squares(one, affine=True, minimum_norm=True) for one in (equations, equations.reversed())
        )
        by_inverse = self.normals_by == "pseudo_inverse"

        def carry(plane: Hyperplane, inverse: bool) -> Hyperplane:
            return transport_hyperplane(plane, fit.map) if inverse else pull_back_hyperplane(plane, back.map)

        if equations.num_pairs <= equations.source_dim:
            found.notes.append(
                f"{equations.num_pairs} training images do not determine the map from {source.name} to {target.name}: "
                "what is carried over means little"
            )
        carried: dict[str, _Learnt] = {}
        other_way: dict[str, Hyperplane] = {}
        for name, one in learnt[source.name].items():
            planes: dict[str, Hyperplane] = {}
            for method in NORMALS:
                if method in one.planes:
                    try:
                        planes[method] = carry(one.planes[method], by_inverse)
                        if method == "svm":
                            other_way[name] = carry(one.planes[method], not by_inverse)
                    except ValueError as error:
                        found.notes.append(f"{name} by {method} is not carried to {target.name}: {error}")
            carried[name] = _Learnt(transport_direction(one.difference, fit.map), planes, one.conditions)
        return _Carried(target, fit, carried, other_way, fit.map(self._codes(source, "held_out")))

    # --------------------------------------------------------------------------------------------------- judging

    def _judge_one(self, plane: Hyperplane, codes: Latents, sides: _Sides) -> _Judged:
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
        attributes: Sequence[_Attribute],
        learnt: Mapping[str, Mapping[str, _Learnt]],
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
        attributes: Sequence[_Attribute],
        learnt: Mapping[str, Mapping[str, _Learnt]],
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
        attributes: Sequence[_Attribute],
        learnt: Mapping[str, Mapping[str, _Learnt]],
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
                    cells.append("" if first is None or second is None else _cosine(first, second))
                cells += [here.halves.get(method, "") for method in NUMBERED]
                rows.append((one.name, attribute.name, *cells, one.dim**-0.5))
        return rows

    def _transfer(
        self,
        source: Participant,
        carried: Sequence[_Carried],
        attributes: Sequence[_Attribute],
        learnt: Mapping[str, Mapping[str, _Learnt]],
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
                    cosines.append("" if first is None or second is None else _cosine(first, second))
                    if method in NUMBERED and first is not None and second is not None:
                        found.add(f"{pair}/cosine_{method}_{attribute.name}", _cosine(first, second))
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

    def _heat(self, rows: Mapping[str, Sequence[float]], attributes: Sequence[_Attribute], title: str) -> Images:
        return heat_map(
            list(rows.values()), list(rows), [one.name for one in attributes], title=title, low=0.0, high=1.0
        )

    # --------------------------------------------------------------------------------------------------- editing

    def _ways(
        self,
        participants: Sequence[Participant],
        carried: Sequence[_Carried],
        learnt: Mapping[str, Mapping[str, _Learnt]],
    ) -> Iterator[tuple[str, Participant, Mapping[str, _Learnt]]]:
        """How the sheets call them: a model and the directions along which its images are edited."""
        first = participants[0]
        yield first.name, first, learnt[first.name]
        for one in carried:
            yield one.target.name, one.target, learnt[one.target.name]
            yield f"{first.name} to {one.target.name}", one.target, one.learnt

    def _sheets(
        self, ways: Sequence[tuple[str, Participant, Mapping[str, _Learnt]]], attributes: Sequence[_Attribute]
    ) -> dict[str, Images]:
        """For each attribute and way so many images: themselves, their reconstructions, and edits."""
        side = max(one.model.resolution for _, one, _ in ways)
        pictures = {}
        for attribute in attributes:
            blocks = {}
            for label, one, learnt in ways:
                step = learnt[attribute.name].step(self.edited)
                if step is None:
                    continue
                codes = self._codes(one, "held_out")
                shown = spread(len(codes), self.rows)
                places = one.places("held_out", self.num)
                columns = [one.images("held_out", [places[row] for row in shown]).cpu()]
                columns += [self._decoded(one, codes[shown] + factor * step) for factor in (0.0, *self.strengths)]
                blocks[label] = resize(torch.stack(columns, 1).flatten(0, 1).float(), side, "bilinear")
            if blocks:
                pictures[f"directions_{file_stem(attribute.name)}"] = labelled_rows(
                    blocks, 2 + len(self.strengths), factor=magnification(side)
                )
        return pictures

    def _decoded(self, one: Participant, latents: Latents) -> Images:
        return quantise(one.decode(latents, self.batch_size))

    def _edits(
        self,
        ways: Sequence[tuple[str, Participant, Mapping[str, _Learnt]]],
        attributes: Sequence[_Attribute],
        regressor: LabelRegressor,
        found: Numbers,
    ) -> dict[str, Table]:
        """What edits along the models' own and carried directions change, as a regressor sees it."""
        strengths = sorted({*self.strengths, MEASURED_AT})
        rows: list[Sequence[str | float]] = [
            (
                "directions",
                "attribute",
                "change at +1",
                "right way",
                "leakage",
                "leaks most into",
                *(f"{factor:+g}" for factor in strengths),
            )
        ]
        known = [one for one in attributes if one.name in regressor.names]
        for attribute in attributes:
            name = attribute.name
            if name not in regressor.names:
                found.notes.append(f"the regressor does not know {name}, so edits by it are not measured")
            elif name not in regressor.reliable:
                found.notes.append(f"the regressor estimates {name} poorly, so what it says of edits means little")
        several = len({one.name for _, one, _ in ways}) > 1
        for label, one, learnt in ways:
            read = regressor.to(device_of(one.model))
            codes = self._codes(one, "held_out")
            codes = codes[spread(len(codes), self.num_edited)]
            with phase(f"edits: {label}"):
                before = self._estimates(one, codes, read)
                for attribute in known:
                    step = learnt[attribute.name].step(self.edited)
                    if step is None:
                        continue
                    seen = {
                        factor: label_change(
                            read, attribute.name, before, self._estimates(one, codes + factor * step, read)
                        )
                        for factor in strengths
                    }
                    at_one = seen[MEASURED_AT]
                    name = f"{label.replace(' to ', '_to_')}/" if several else ""
                    found.add(f"{name}change_{attribute.name}", at_one.changes[attribute.name])
                    for number, value in (("right_way", at_one.right_way), ("leakage", at_one.leakage)):
                        if value is not None:
                            found.add(f"{name}{number}_{attribute.name}", value)
                    rows.append(
                        (
                            label,
                            attribute.name,
                            at_one.changes[attribute.name],
                            "" if at_one.right_way is None else at_one.right_way,
                            "" if at_one.leakage is None else at_one.leakage,
                            _most(at_one, attribute.name),
                            *(seen[factor].changes[attribute.name] for factor in strengths),
                        )
                    )
        return {f"edits by {self.edited} directions": rows}

    def _estimates(self, one: Participant, latents: Latents, regressor: LabelRegressor) -> Estimates:
        """What the regressor says of decoded latents, equal on all ranks, which share the work."""
        mine = share(len(latents))
        values = [torch.empty(0, len(regressor.names))]
        scores = [torch.empty(0, len(regressor.names))]
        device = device_of(one.model)
        for piece in batches(mine, self.batch_size):
            images = quantise(one.model.decode(latents[list(piece)].to(device)).float())
            values.append(regressor(images).cpu())
            scores.append(regressor.scores(images).cpu())
        index = as_tensor(mine)
        gathered = (distributed.gather_ragged(torch.cat(parts), index)[0].double() for parts in (values, scores))
        return Estimates(*gathered)

    # --------------------------------------------------------------------------------------------- what is kept

    def _files(
        self,
        participants: Sequence[Participant],
        carried: Sequence[_Carried],
        attributes: Sequence[_Attribute],
        learnt: Mapping[str, Mapping[str, _Learnt]],
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
        attributes: Sequence[_Attribute],
        carried: Sequence[_Carried],
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


def _cosine(a: Direction | None, b: Direction | None) -> float:
    if a is None or b is None:
        return float("nan")
    return nn.functional.cosine_similarity(a.double(), b.double()).item()


def _auc(judged: Mapping[tuple[str, str, str], _Judged], one: Participant, attribute: _Attribute) -> float:
    """By the svm; NaN where nothing was judged."""
    found = judged.get((one.name, attribute.name, "svm"))
    return float("nan") if found is None else found.auc


def _correlation(a: Scores, b: Scores) -> float:
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].item()


def _across(direction: Direction, codes: Latents, sides: _Sides) -> Hyperplane:
    return midway_hyperplane(direction, codes[sides.present], codes[sides.absent])


def _best_axis(axes: Axes, codes: Latents, sides: _Sides) -> tuple[int, Direction]:
    """The axis along which both kinds are furthest apart, in units of the codes' deviation, towards the attribute."""
    scores = codes.double() @ axes.directions.double().T
    gaps = (scores[sides.present].mean(0) - scores[sides.absent].mean(0)) / scores.std(0)
    gaps = torch.where(gaps.isfinite(), gaps, 0.0)
    place = int(gaps.abs().argmax())
    return place, axes.directions[place : place + 1] * (-1.0 if gaps[place] < 0 else 1.0)


def _factorised(one: Participant) -> Axes | None:
    """Axes that the layers which read a model's latents amplify most; none if there are no such layers."""
    decoder: Any = one.model
    if not isinstance(one.model, nn.Module):
        return None
    space: AbstractLatentSpace = decoder.latent_space
    within = space.space if isinstance(space, PerLayer) else space
    normal = IndexedRandom(0, "directions/factorised").normal(range(1), within.num_normals)
    latent = within.from_normal(normal.to(device_of(decoder)))

    def decode(point: Latents) -> Images:
        images: Images = decoder.decode(space.repeat(point) if isinstance(space, PerLayer) else point)
        return images

    weights = reading_weights(one.model, decode, latent)
    if not weights:
        return None
    axes = factorised_directions([weight.cpu() for weight in weights])
    return Axes(space.repeat(axes.directions), axes.strengths) if isinstance(space, PerLayer) else axes


def _auc_of(scores: Scores, labels: Tensor) -> float:
    """As far as a resample has both kinds; else a guess's."""
    auc = area_under_curve(scores, labels.double())
    return 0.5 if math.isnan(auc) else auc


def _most(change: LabelChange, label: str) -> str:
    """The other label that an edit changes most."""
    others = {name: abs(value) for name, value in change.in_deviations.items() if name != label}
    return max(others, key=lambda name: others[name]) if others else ""


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
