"""What every metric over two sets of vectors asks of them."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Features

OtherVectors: TypeAlias = Float[Tensor, "M G"]
"""A second set of vectors; that it is as wide as the first is checked where both meet, in a sentence."""


def check_finite(vectors: Features, what: str) -> None:
    """Passes if every value is a number.

    Args:
        vectors: (N, F).
        what: as in "real features".

    Raises:
        ValueError: names the first row with a NaN or infinite value.
    """
    # A sum is finite only if all its terms are, and costs a fraction of asking each.
    if not torch.isfinite(vectors.sum(dtype=torch.float64)):
        bad = ~vectors.isfinite().all(1)
        raise ValueError(
            f"{what} must be finite, got NaN or infinity in {int(bad.sum())} of {len(vectors)} rows, "
            f"first in row {int(bad.nonzero()[0, 0])}"
        )


def check_pair(a: Features, b: OtherVectors, *, names: tuple[str, str], least: int, by: str) -> None:
    """Passes if two sets can be compared.

    Args:
        a: (N, F).
        b: (M, F).
        names: of the sets, as in ("real", "fake").
        least: vectors that each must have.
        by: what compares them, as in "precision with k=3".

    Raises:
        ValueError: if the sets are too small, of different widths, or not finite.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{by} compares vectors of one width, got {a.shape[1]} ({names[0]}) and {b.shape[1]} ({names[1]}): "
            "take both from one extractor"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(
            f"{by} needs at least {least} vectors in each set, got {len(a)} ({names[0]}) and {len(b)} ({names[1]})"
        )
    check_finite(a, f"{names[0]} vectors")
    check_finite(b, f"{names[1]} vectors")
