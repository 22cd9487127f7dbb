"""The adversarial generator-encoder's objective terms (Ulyanov et al. 2018; Heljakka et al. 2018, 2019).

A batch of codes is compared with N(0, 1) by its mean m and biased variance v per dimension. On the unit sphere the
divergence cannot reach zero: v = 1/D is the best there is, see `sphere_floor`.

"Code units" are numbers as in the published programs: every loss weight and the margin are a tenth of the papers'.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.special import digamma
from torch import Tensor

from latent_lab.types import Images, Latents, Scalar

KlDirection = Literal["qp", "pq"]
KlForm = Literal["exact", "pioneer", "age"]

VARIANCE_FLOOR = 1e-12
"""Below any healthy variance (about 1/D); keeps the logarithm finite for codes that are all equal."""


def moment_kl(codes: Latents, *, direction: KlDirection = "qp", form: KlForm = "exact") -> Scalar:
    """Divergence between the batch's moments and N(0, 1), averaged over dimensions.

    Exact forms, per dimension, with q the batch and p = N(0, 1):
        qp: KL(q||p) = (v + m^2)/2 - (ln v)/2 - 1/2
        pq: KL(p||q) = (1 + m^2)/(2v) + (ln v)/2 - 1/2

    Args:
        codes: (N, D) of the whole batch over all devices (`distributed.gather`); the statistic is of the batch.
        direction: `qp` is every recipe's.
        form: `age` puts v where sigma belongs: (v^2 + m^2)/2 - ln v - 1/2 and (1 + m^2)/(2 v^2) + ln v - 1/2, as AGE's
            program does; `pioneer` corrects `qp` and leaves `pq`, as the Pioneer programs do; `exact` is right.

    Returns:
        A scalar in nats per dimension.
    """
    codes = codes if codes.dtype == torch.float64 else codes.float()
    mean_square = codes.mean(0).square()
    variance = codes.var(0, correction=0).clamp_min(VARIANCE_FLOOR)
    uses_variance_as_deviation = form == "age" or (form == "pioneer" and direction == "pq")
    spread = variance if uses_variance_as_deviation else variance.sqrt()
    if direction == "qp":
        per_dimension = (spread.square() + mean_square) / 2 - spread.log() - 0.5
    else:
        per_dimension = (1 + mean_square) / (2 * spread.square()) + spread.log() - 0.5
    return per_dimension.mean()


def sphere_floor(dim: int, *, form: KlForm = "exact") -> float:
    """The least `moment_kl` (qp) of codes on the unit sphere: m = 0, v = 1/D.

    1/(2D) + (ln D)/2 - 1/2, or 1/(2 D^2) + ln D - 1/2 in AGE's form.
    """
    if form == "age":
        return 0.5 / dim**2 + math.log(dim) - 0.5
    return 0.5 / dim + 0.5 * math.log(dim) - 0.5


def finite_batch_bias(batch_size: int) -> float:
    """How far `moment_kl` (qp, exact) of a perfectly uniform batch lies above the floor, on average.

    (ln B - ln 2 - digamma((B - 1)/2)) / 2, from the expected logarithm of a chi-squared variable with B - 1 degrees of
    freedom. Real and fake terms must therefore come from batches of the same size.
    """
    return 0.5 * (math.log(batch_size) - math.log(2) - float(digamma((batch_size - 1) / 2)))


def clamp_gap(real_minus_fake: Scalar, margin: float | None) -> Scalar:
    """Balanced Pioneer's margin: max(-margin, KL_real - KL_fake), in the same units; None leaves the gap alone.

    Where the margin holds, neither term gives a gradient.
    """
    return real_minus_fake if margin is None else real_minus_fake.clamp_min(-margin)


def latent_cosine(codes: Latents, latents: Latents) -> Scalar:
    """2 - mean over all elements of (a/|a|) * (b/|b|) = 2 - (mean cosine) / D.

    The published form: averaged over dimensions, so its weight counts D times less than it looks.

    Args:
        codes: (N, D).
        latents: (N, D).
    """
    product = F.normalize(codes, dim=1, eps=1e-12) * F.normalize(latents, dim=1, eps=1e-12)
    return 2.0 - product.mean()


def mean_cosine(codes: Latents, latents: Latents) -> Scalar:
    """Mean over rows of the cosine between codes and latents, in [-1, 1]."""
    return F.cosine_similarity(codes, latents, dim=1, eps=1e-12).mean()


def image_distance(a: Images, b: Images, metric: Literal["l1", "l2"] = "l1") -> Scalar:
    """Mean over all elements of |a - b| or (a - b)^2, images in [-1, 1]."""
    difference: Tensor = a - b
    return difference.abs().mean() if metric == "l1" else difference.square().mean()


def latent_distance(a: Latents, b: Latents, metric: Literal["cos", "l1", "l2"] = "cos") -> Scalar:
    """`latent_cosine`, or the mean over all elements of |a - b| or (a - b)^2."""
    if metric == "cos":
        return latent_cosine(a, b)
    difference: Tensor = a - b
    return difference.abs().mean() if metric == "l1" else difference.square().mean()
