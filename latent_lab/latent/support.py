"""Support sets: the few samples to whose codes a map between two spaces is fitted.

Asperti and Tonelli fitted their maps to one small set of images that a model had singled out as outliers; how is not
published, and `outliers` is the definition used here. Every method orders samples by how much they are wanted, from
codes of a reference model alone, so that a smaller set is the beginning of a larger one.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.types import Latents

Chosen: TypeAlias = Int[Tensor, "S"]
"""Places of the S samples of a set."""

SUPPORT_METHODS = ("outliers", "random", "k_centre", "leverage", "principal_extremes")
"""Names of the methods of `choose_support`; the first is the published study's."""

_NOTHING = 1e-6
"""Deviations below this share of the largest are rounding of float32 codes."""


def outliers(codes: Latents, num: int | None = None, *, per_side: int = 1) -> Chosen:
    """Samples whose codes are the most extreme in some coordinate, on either side.

    Every coordinate is standardised and names its largest and its smallest sample; then the second ones, and so on.
    Coordinates without variance name nobody.

    Args:
        codes: (N, D).
        num: size of the set; none: what `per_side` rounds give, at most 2 D `per_side`.
        per_side: rounds, where no size is given.

    Returns:
        Places, most wanted first, each once.
    """
    centred = codes.double() - codes.double().mean(0)
    deviation = centred.square().mean(0).sqrt()
    varied = centred[:, deviation > _NOTHING * deviation.max()]
    return _extremes(varied, num, per_side)


def principal_extremes(
    codes: Latents, num: int | None = None, *, per_side: int = 1, variance_share: float = 0.99
) -> Chosen:
    """Samples that are the most extreme along a principal axis, on either side: outliers of rotated codes.

    Args:
        codes: (N, D); perhaps images' vectors.
        num: size of the set; none: what `per_side` rounds give.
        per_side: rounds, where no size is given.
        variance_share: axes are taken, largest variance first, until they hold this share.
    """
    centred = codes.double() - codes.double().mean(0)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    held = singular.square().cumsum(0) / singular.square().sum()
    axes = min(int((held < variance_share - 1e-12).sum()) + 1, int((singular > _NOTHING * singular[0]).sum()))
    # An axis has no direction of its own: the side whose extreme is farther out is named first.
    scores = left[:, :axes]
    turned = scores.amax(0) < -scores.amin(0)
    return _extremes(torch.where(turned, -scores, scores), num, per_side)


def _extremes(scores: Float[Tensor, "N K"], num: int | None, per_side: int) -> Chosen:
    """Places of extremes: in each round, every column's next highest and next lowest."""
    rounds = len(scores) if num is not None else min(per_side, len(scores))
    highest = scores.argsort(dim=0, descending=True, stable=True)[:rounds]
    lowest = scores.argsort(dim=0, stable=True)[:rounds]
    named = torch.stack([highest, lowest], dim=2).flatten()
    distinct, inverse = torch.unique(named, return_inverse=True)
    first = torch.full_like(distinct, len(named)).scatter_reduce_(
        0, inverse, torch.arange(len(named), device=named.device), reduce="amin"
    )
    return named[first.sort().values][:num]


def random_samples(count: int, num: int, *, seed: int = 0) -> Chosen:
    """Samples drawn without replacement.

    Args:
        count: of all samples.
        num: size of the set.
        seed: of the draw.
    """
    return torch.randperm(count, generator=IndexedRandom(seed, "support/random").generator(0))[:num]


def k_centre(codes: Latents, num: int) -> Chosen:
    """Samples that leave none far from the set: each next one is the farthest from those before (Gonzalez 1985).

    The first is the farthest from the mean. No set of this size has less than half this one's largest distance of a
    sample to its nearest member. Distances are Euclidean, between codes as they are.

    Args:
        codes: (N, D).
        num: size of the set.
    """
    rows = codes.double()
    chosen = [int((rows - rows.mean(0)).square().sum(1).argmax())]
    nearest = (rows - rows[chosen[0]]).square().sum(1)
    while len(chosen) < num:
        # Copies of members are at distance 0, as members are: these must not be named again.
        nearest[chosen[-1]] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (rows - rows[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen, dtype=torch.int64, device=codes.device)


def leverage_scores(codes: Latents) -> Float[Tensor, "N"]:
    """How much each sample weighs in an affine fit, the diagonal of the hat matrix; in [0, 1], adding up to rank + 1.

    Args:
        codes: (N, D).
    """
    rows = codes.double()
    left, singular, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return left[:, singular > _NOTHING * singular[0]].square().sum(1) + 1.0 / len(rows)


class Support(NamedTuple):
    """A support set and how well it determines a map."""

    indices: Chosen
    """Places of its samples, most wanted first."""
    pairs_per_dimension: float
    """Size over D: below 1, a map without penalty is not determined."""
    condition: float
    """Largest over smallest singular value of its codes; infinite where they do not span the space."""


def choose_support(
    codes: Latents, method: str, num: int, *, seed: int = 0, allowed: Bool[Tensor, "M"] | None = None
) -> Support:
    """A support set by any of the methods.

    Args:
        codes: (N, D) of the samples to choose from, by the reference model.
        method: `outliers` (as in the published study), `random`, `k_centre`, `leverage` (largest scores) or
            `principal_extremes`.
        num: size of the set; fewer, if the method names no more.
        seed: of random sets; the others depend on the codes alone.
        allowed: (N,) whether a sample may be chosen, such as those without a hat, or with a small error of
            reconstruction; all, if none is given.

    Raises:
        ValueError: if there is no such method, codes are not finite or all equal, or there are fewer allowed samples
            than wanted.
    """
    if method not in SUPPORT_METHODS:
        raise ValueError(f"there is no support method {method}: there are {', '.join(SUPPORT_METHODS)}")
    broken = int((~codes.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {len(codes)} codes are not finite: the model is damaged")
    if allowed is not None and len(allowed) != len(codes):
        raise ValueError(f"allowed has {len(allowed)} entries for {len(codes)} codes: give one for each")
    places = torch.arange(len(codes), device=codes.device) if allowed is None else allowed.nonzero()[:, 0]
    if not 1 <= num <= len(places):
        raise ValueError(f"a support set of {num} needs as many samples to choose from, got {len(places)}")
    rows = codes[places]
    centred = rows.double() - rows.double().mean(0)
    if centred.square().mean() <= _NOTHING**2 * rows.double().square().mean():
        raise ValueError(f"all {len(rows)} codes are equal: a space that has collapsed has no support set")
    if method == "random":
        chosen = random_samples(len(rows), num, seed=seed).to(places.device)
    elif method == "leverage":
        chosen = leverage_scores(rows).argsort(descending=True, stable=True)[:num]
    else:
        chosen = {"outliers": outliers, "k_centre": k_centre, "principal_extremes": principal_extremes}[method](
            rows, num
        )
    singular = torch.linalg.svdvals(rows[chosen].double())
    spans = len(chosen) >= rows.shape[1] and singular[-1] > _NOTHING * singular[0]
    condition = (singular[0] / singular[-1]).item() if spans else float("inf")
    return Support(places[chosen], len(chosen) / rows.shape[1], condition)
