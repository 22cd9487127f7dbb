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


def nearest_neighbour_kl(codes: Latents) -> Scalar:
    """KL(q||N(0, I)) of the batch's distribution q, whatever its shape, divided by D.

    KL = cross-entropy - entropy. The cross-entropy with N(0, I) is the mean of |z|^2 / 2 + (D/2) ln 2 pi. The entropy
    is Kozachenko and Leonenko's (1987): psi(N) - psi(1) + ln V_D + (D/N) sum_i ln r_i, with r_i the distance from z_i
    to its nearest neighbour and V_D the volume of the unit ball. AGE's program means the same by `nonparam`, which
    stops at an assertion, lacks the constants and counts the logarithms twice.

    Args:
        codes: (N, D) of the whole batch over all devices, N > 1.

    Returns:
        A scalar in nats per dimension. The unit sphere has no volume, so there it grows with N, and only differences
        between batches of the same size mean something.
    """
    codes = codes if codes.dtype == torch.float64 else codes.float()
    count, dim = codes.shape
    squares = (codes[:, None] - codes[None]).square().sum(-1)
    itself = torch.eye(count, dtype=torch.bool, device=codes.device)
    nearest = squares.masked_fill(itself, torch.inf).amin(1).clamp_min(VARIANCE_FLOOR)
    ball = 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1)
    entropy = float(digamma(count) - digamma(1)) + ball + 0.5 * dim * nearest.log().mean()
    cross_entropy = 0.5 * codes.square().sum(1).mean() + 0.5 * dim * math.log(2 * math.pi)
    return (cross_entropy - entropy) / dim


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


def clamp_gap(real_minus_fake: Scalar, margin: float | None, upper: float | None = None) -> Scalar:
    """Balanced Pioneer's margin: min(upper, max(-margin, KL_real - KL_fake)), in the same units.

    Where an end holds, neither term gives a gradient.

    Args:
        real_minus_fake: the gap.
        margin: at least 0; none: no lower end.
        upper: none: no upper end. The Automodulator's program has margin / 2.
    """
    if margin is None and upper is None:
        return real_minus_fake
    return real_minus_fake.clamp(min=None if margin is None else -margin, max=upper)


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


def image_distance(a: Images, b: Images, metric: Literal["l1", "l2", "cos"] = "l1") -> Scalar:
    """Mean over all elements of |a - b| or (a - b)^2, images in [-1, 1]; or, as AGE's program has it, the cosine's.

    `cos` is 2 - mean over all elements of (a/|a|) * (b/|b|), with lengths over the channels of each pixel, so it
    compares hues and not brightness.
    """
    if metric == "cos":
        return 2.0 - (F.normalize(a, dim=1, eps=1e-12) * F.normalize(b, dim=1, eps=1e-12)).mean()
    difference: Tensor = a - b
    return difference.abs().mean() if metric == "l1" else difference.square().mean()


def latent_distance(a: Latents, b: Latents, metric: Literal["cos", "l1", "l2"] = "cos") -> Scalar:
    """`latent_cosine`, or the mean over all elements of |a - b| or (a - b)^2."""
    if metric == "cos":
        return latent_cosine(a, b)
    difference: Tensor = a - b
    return difference.abs().mean() if metric == "l1" else difference.square().mean()
