"""What an edit of images does to their labels, as a regressor estimates these: change, right way, leakage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from latent_lab.networks.label_regressor import LabelRegressor


class Estimates(NamedTuple):
    """What a regressor says of N images."""

    values: Float[Tensor, "N K"]
    """In the labels' own units."""
    scores: Float[Tensor, "N K"]
    """Without bounds; see `LabelRegressor.scores`."""


class LabelChange(NamedTuple):
    """What one edit does."""

    changes: Mapping[str, float]
    """Mean change of every label's estimate, in the label's units (a yes or no: probability)."""
    in_deviations: Mapping[str, float]
    """The same in standard deviations of the estimates before, for labels that the regressor estimates well, and for
    the edited one; without labels that are the same for all images."""
    right_way: float | None
    """Share of images whose own label moves up; none if the regressor does not know it."""
    leakage: float | None
    """The largest of the other labels' |in_deviations| over that of the label itself; none without either."""


def label_change(regressor: LabelRegressor, label: str, before: Estimates, after: Estimates) -> LabelChange:
    """What an edit by a label does to all labels.

    Args:
        regressor: whose estimates these are.
        label: that was to go up; the regressor need not know it.
        before: of the images without the edit.
        after: of the same images with it.
    """
    changes = dict(zip(regressor.names, (after.values - before.values).mean(0).tolist(), strict=True))
    deviations = dict(zip(regressor.names, before.values.std(0, correction=0).tolist(), strict=True))
    in_deviations = {
        name: changes[name] / deviations[name]
        for name in regressor.names
        if name in {*regressor.reliable, label} and deviations[name] > 0
    }
    right_way = leakage = None
    if label in regressor.names:
        column = regressor.names.index(label)
        right_way = (after.scores[:, column] > before.scores[:, column]).double().mean().item()
        own = abs(in_deviations.get(label, 0.0))
        others = [abs(change) for name, change in in_deviations.items() if name != label]
        if own > 0 and others:
            leakage = max(others) / own
    return LabelChange(changes, in_deviations, right_way, leakage)


__all__ = ["Estimates", "LabelChange", "label_change"]
