"""How directions of attributes are found in one latent space, and carried into another.

See `attribute_directions` for what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from latent_lab.analyses.feeding import device_of
from latent_lab.analyses.set_numbers import Numbers
from latent_lab.analyses.spaces import Participant, Which
from latent_lab.distributed import IndexedRandom
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
from latent_lab.types import Images, Latents

Method = Literal["mean", "svm", "logistic", "conditional"]
SUPERVISED: tuple[Method, ...] = get_args(Method)
"""Methods whose directions come from labels, are carried over, and are written to files."""
NORMALS = SUPERVISED[1:]
UNSUPERVISED = ("pca", "sefa")


class Sides(NamedTuple):
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

    def part(self, begin: int) -> Sides:
        """Every second image."""
        chosen = torch.zeros_like(self.present)
        chosen[begin::2] = True
        return Sides(self.present & chosen, self.absent & chosen)


class Attribute(NamedTuple):
    """A label as a question."""

    name: str
    rule: str
    reference: Sides
    held_out: Sides


@dataclass
class Learnt:
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


class Carried(NamedTuple):
    """The first model's attributes in another model's space."""

    target: Participant
    fit: Fit
    learnt: dict[str, Learnt]
    other_way: dict[str, Hyperplane]
    """Attribute -> the svm's hyperplane, carried in the way that was not asked for."""
    codes: Latents
    """The first model's held-out codes as the map gives them."""


Codes: TypeAlias = Callable[[Participant, Which], Latents]
"""Gives a model's codes of training or of held-out images, (N, D), on the CPU."""


@dataclass(frozen=True)
class DirectionFinder:
    """Finds the directions of attributes in one space, and carries them into another."""

    svm_loss: Literal["squared_hinge", "hinge"]
    """Of the svm."""
    penalty: float
    """C of both classifiers, of centred codes in units of their deviation."""
    conditions: Sequence[str]
    """Labels that conditional directions leave alone; none: the attributes whose normals are most like its own."""
    num_conditions: int
    """How many, where none are named."""
    by_inverse: bool
    """Whether normals are carried over by the pseudo-inverse of the map, and not by the map fitted backwards."""

    def learn(
        self,
        one: Participant,
        codes: Latents,
        attributes: Sequence[Attribute],
        others: Sequence[Attribute],
        found: Numbers,
    ) -> dict[str, Learnt]:
        """All directions of all attributes in one space.

        Args:
            one: model whose space it is.
            codes: (N, D) of its training images, N rows as in the attributes' sides.
            attributes: what is asked of the images.
            others: further labels that conditional directions leave alone.
            found: hears what is to be noted.
        """
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
        learnt: dict[str, Learnt] = {}
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

    def _of_attribute(self, codes: Latents, sides: Sides) -> Learnt:
        """Directions from labels."""
        difference = mean_difference(codes[sides.present], codes[sides.absent])
        svm = self._svm(codes, sides)
        planes = {
            "mean": _across(difference, codes, sides),
            "svm": svm,
            "logistic": self._scaled(logistic_normal, codes, sides, penalty=self.penalty),
        }
        learnt = Learnt(difference, planes)
        halves = [sides.part(begin) for begin in (0, 1)]
        if all(half.complete for half in halves):
            means = [mean_difference(codes[half.present], codes[half.absent]) for half in halves]
            learnt.halves["mean"] = cosine(*means)
            learnt.halves["svm"] = cosine(*(self._svm(codes, half).normal for half in halves))
        return learnt

    def _svm(self, codes: Latents, sides: Sides) -> Hyperplane:
        return self._scaled(support_vector_normal, codes, sides, penalty=self.penalty, loss=self.svm_loss)

    def _scaled(self, fit: Callable[..., Hyperplane], codes: Latents, sides: Sides, **options: Any) -> Hyperplane:
        """A classifier of centred codes in units of their deviation, so that penalties mean the same in all spaces."""
        centre = codes.double().mean(0)
        scale = codes.double().var(0).mean().sqrt().item()
        plane = fit(((codes[sides.rows] - centre) / scale).float(), sides.labels, **options)
        return Hyperplane(plane.normal, plane.offset * scale - (plane.normal[0].double() @ centre).item())

    def _condition(
        self,
        learnt: Learnt,
        attribute: Attribute,
        normals: Mapping[str, Direction],
        codes: Latents,
        one: Participant,
        found: Numbers,
    ) -> None:
        """Adds the direction that leaves the conditions alone, where there are any."""
        normal = normals[attribute.name]
        if self.conditions:
            wanted = [name for name in self.conditions if name != attribute.name]
        else:
            others = {name: abs(cosine(normal, other)) for name, other in normals.items() if name != attribute.name}
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

    def carry(
        self,
        source: Participant,
        target: Participant,
        codes: Codes,
        learnt: Mapping[str, Mapping[str, Learnt]],
        found: Numbers,
    ) -> Carried:
        """The source's directions in the target's space, by the affine least-squares map of training codes.

        Args:
            source: model whose directions they are.
            target: the other model.
            codes: of both.
            learnt: model -> attribute -> directions.
            found: hears what is to be noted.
        """
        equations = NormalEquations.of(codes(source, "reference"), codes(target, "reference"))
        fit, back = (
            fit_least_squares(one, affine=True, minimum_norm=True) for one in (equations, equations.reversed())
        )

        def carry(plane: Hyperplane, inverse: bool) -> Hyperplane:
            return transport_hyperplane(plane, fit.map) if inverse else pull_back_hyperplane(plane, back.map)

        if equations.num_pairs <= equations.source_dim:
            found.notes.append(
                f"{equations.num_pairs} training images do not determine the map from {source.name} to {target.name}: "
                "what is carried over means little"
            )
        carried: dict[str, Learnt] = {}
        other_way: dict[str, Hyperplane] = {}
        for name, one in learnt[source.name].items():
            planes: dict[str, Hyperplane] = {}
            for method in NORMALS:
                if method in one.planes:
                    try:
                        planes[method] = carry(one.planes[method], self.by_inverse)
                        if method == "svm":
                            other_way[name] = carry(one.planes[method], not self.by_inverse)
                    except ValueError as error:
                        found.notes.append(f"{name} by {method} is not carried to {target.name}: {error}")
            carried[name] = Learnt(transport_direction(one.difference, fit.map), planes, one.conditions)
        return Carried(target, fit, carried, other_way, fit.map(codes(source, "held_out")))


def cosine(a: Direction | None, b: Direction | None) -> float:
    """Of the angle between two directions; NaN where there is none.

    Args:
        a: (1, D).
        b: (1, D).
    """
    if a is None or b is None:
        return float("nan")
    return nn.functional.cosine_similarity(a.double(), b.double()).item()


def _across(direction: Direction, codes: Latents, sides: Sides) -> Hyperplane:
    return midway_hyperplane(direction, codes[sides.present], codes[sides.absent])


def _best_axis(axes: Axes, codes: Latents, sides: Sides) -> tuple[int, Direction]:
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


__all__ = [
    "NORMALS",
    "SUPERVISED",
    "UNSUPERVISED",
    "Attribute",
    "Carried",
    "Codes",
    "DirectionFinder",
    "Learnt",
    "Method",
    "Sides",
    "cosine",
]
