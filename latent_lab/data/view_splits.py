"""Which views of which objects are held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from latent_lab.distributed import IndexedRandom

UNSEEN_VIEWS = "unseen_views"
"""Name of the split with the views that no object shows in training."""


def hold_out_views(
    objects: Sequence[int], views: Sequence[int], *, unseen_share: float, heldout_share: float, seed: int
) -> dict[str, list[int]]:
    """Splits images by (object, view) pairs: places of "train", "val", "test" and "unseen_views".

    First some views are held out wholly, evenly spread over the views in order: "unseen_views" has them of every
    object. Of the other pairs some are held out at random, in such a way that training still has every other view and
    every object; half of them are "val", half "test". Where no pair can be held out so, since no view is shared by two
    objects (a single camera run), the unseen views are val and test, too. Images of the same pair stay together.

    Args:
        objects: number of each image's object.
        views: number of each image's view; views in order are neighbours.
        unseen_share: of the views, in [0, 1).
        heldout_share: of the other pairs, in [0, 1).
        seed: of the choice of pairs.

    Raises:
        ValueError: if shares are out of range, an object has no view left to learn it from, or nothing is held out.
    """
    for name, share in (("unseen_share", unseen_share), ("heldout_share", heldout_share)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be a share of at least 0 and below 1, got {share}")
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, pair in enumerate(zip(objects, views, strict=True)):
        places[pair].append(place)
    unseen = _evenly_spread(sorted(set(views)), unseen_share)
    pairs = [pair for pair in places if pair[1] not in unseen]
    if lost := set(objects) - {one for one, _ in pairs}:
        raise ValueError(
            f"object number {min(lost)} has only views that unseen_share {unseen_share:g} holds out wholly: lower it"
        )
    held_out = _pairs_to_hold_out(pairs, round(heldout_share * len(pairs)), seed)
    middle = len(held_out) // 2
    parts = {
        "val": held_out[:middle],
        "test": held_out[middle:],
        UNSEEN_VIEWS: [one for one in places if one[1] in unseen],
    }
    if not parts["val"]:
        parts["val"] = parts["test"] = parts["test"] or parts[UNSEEN_VIEWS]
    if not parts["val"]:
        raise ValueError(
            f"unseen_share {unseen_share:g} and heldout_share {heldout_share:g} hold out none of {len(places)} "
            "(object, view) pairs: raise one of them"
        )
    train = set(pairs) - set(held_out)
    split = {"train": train, **{name: set(chosen) for name, chosen in parts.items() if chosen}}
    return {name: sorted(place for pair in chosen for place in places[pair]) for name, chosen in split.items()}


def _evenly_spread(views: Sequence[int], share: float) -> set[int]:
    """A share of the views, none at either end as long as others remain; at least one if the share is positive."""
    count = min(max(round(share * len(views)), share > 0), len(views) - 1)
    return {views[(2 * number + 1) * len(views) // (2 * count)] for number in range(count)}


def _pairs_to_hold_out(pairs: Sequence[tuple[int, int]], wanted: int, seed: int) -> list[tuple[int, int]]:
    """Pairs in random order whose object and whose view both keep another pair."""
    of_object: dict[int, int] = defaultdict(int)
    of_view: dict[int, int] = defaultdict(int)
    for one, view in pairs:
        of_object[one] += 1
        of_view[view] += 1
    held_out: list[tuple[int, int]] = []
    order = torch.randperm(len(pairs), generator=IndexedRandom(seed, "data/view_pairs").generator(0))
    for one, view in (pairs[place] for place in order.tolist()):
        if len(held_out) == wanted:
            break
        if of_object[one] > 1 and of_view[view] > 1:
            of_object[one] -= 1
            of_view[view] -= 1
            held_out.append((one, view))
    return held_out


__all__ = ["UNSEEN_VIEWS", "hold_out_views"]
