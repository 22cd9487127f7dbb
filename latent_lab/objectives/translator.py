"""Losses of reversible image translation: least squares against patch scores, and cycles (CycleGAN).

With a of the source domain, b of the target domain, G onward, F back, D_a and D_b patch discriminators (Zhu et al.
2017; Heljakka et al. 2018):

    G, F:  E[(D_b(G(a)) - 1)^2] + E[(D_a(F(b)) - 1)^2] + w_c (|a - F(G(a))| + |b - G(F(b))|)
    D_b:   (E[(D_b(b) - 1)^2] + E[D_b(earlier G(a))^2] + E[D_b(a)^2]) / 3, and D_a likewise

The third term of a discriminator, real images of the wrong domain, is the chain's addition: without it nothing tells
D_b that an untouched a is not of its domain. All means are over images, pixels and channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Images, Scalar

Divisor = Literal["terms", "three"]
"""What a discriminator's sum is divided by: the number of its terms, or always 3, as in the published program, which
has four terms with double cycles."""
ScoreMap = Float[Tensor, "N 1 h w"]


def deceive(scores: ScoreMap) -> Scalar:
    """E[(D - 1)^2] of generated images: what a generator lowers.

    Args:
        scores: of generated images.
    """
    return (scores - 1.0).square().mean()


def cycle_error(images: Images, returned: Images) -> Scalar:
    """Mean |x - y| over images, channels and pixels, in units of [-1, 1].

    Args:
        images: where a cycle began.
        returned: where it ended.
    """
    return (images - returned).abs().mean()


def discriminate(real: ScoreMap, *rejected: ScoreMap, divisor: Divisor = "terms") -> Scalar:
    """(E[(D(real) - 1)^2] + the sum of E[D(x)^2]) / divisor: what a discriminator lowers.

    Args:
        real: scores of real images of its domain.
        rejected: scores of each kind of image that is not of its domain: generated ones, real ones of the other domain.
        divisor: see `Divisor`.

    Raises:
        ValueError: for an unknown divisor.
    """
    if divisor not in ("terms", "three"):
        raise ValueError(f"divisor must be terms or three, got {divisor!r}")
    terms = torch.stack([deceive(real), *(scores.square().mean() for scores in rejected)])
    return terms.sum() / (len(terms) if divisor == "terms" else 3)


__all__ = ["Divisor", "cycle_error", "deceive", "discriminate"]
