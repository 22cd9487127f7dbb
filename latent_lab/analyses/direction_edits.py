"""What edits along directions of attributes look like, and what they change; see `attribute_directions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from latent_lab import distributed
from latent_lab.analyses.base import Table, file_stem
from latent_lab.analyses.direction_finding import Attribute, Codes, Learnt, Method
from latent_lab.analyses.edit import MEASURED_AT
from latent_lab.analyses.feeding import as_tensor, batches, device_of, share, spread
from latent_lab.analyses.label_changes import Estimates, LabelChange, label_change
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import Numbers
from latent_lab.analyses.spaces import Participant
from latent_lab.images import quantise, resize
from latent_lab.networks.label_regressor import LabelRegressor
from latent_lab.plotting import labelled_rows
from latent_lab.progress import phase
from latent_lab.types import Images, Latents

Way: TypeAlias = tuple[str, Participant, Mapping[str, Learnt]]
"""How it is called, a model, and the directions along which its images are edited."""


@dataclass(frozen=True)
class DirectionEdits:
    """Held-out images, encoded, moved along directions, and decoded."""

    method: Method
    """Whose directions images are edited along."""
    strengths: tuple[float, ...]
    """What steps are multiplied by, from left to right on the sheets."""
    rows: int
    """Images on the sheets for each model and way."""
    num: int | None
    """Held-out images there are codes of; none: all."""
    num_edited: int
    """Of these, how many changes are measured by."""
    batch_size: int
    """Images at a time on each device."""
    codes: Codes

    def sheets(self, ways: Sequence[Way], attributes: Sequence[Attribute]) -> dict[str, Images]:
        """For each attribute and way so many images: themselves, their reconstructions, and edits."""
        side = max(one.model.resolution for _, one, _ in ways)
        pictures = {}
        for attribute in attributes:
            blocks = {}
            for label, one, learnt in ways:
                step = learnt[attribute.name].step(self.method)
                if step is None:
                    continue
                codes = self.codes(one, "held_out")
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

    def measured(
        self,
        ways: Sequence[Way],
        attributes: Sequence[Attribute],
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
            codes = self.codes(one, "held_out")
            codes = codes[spread(len(codes), self.num_edited)]
            with phase(f"edits: {label}"):
                before = self._estimates(one, codes, read)
                for attribute in known:
                    step = learnt[attribute.name].step(self.method)
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
        return {f"edits by {self.method} directions": rows}

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


def _most(change: LabelChange, label: str) -> str:
    """The other label that an edit changes most."""
    others = {name: abs(value) for name, value in change.in_deviations.items() if name != label}
    return max(others, key=lambda name: others[name]) if others else ""


__all__ = ["DirectionEdits", "Way"]
