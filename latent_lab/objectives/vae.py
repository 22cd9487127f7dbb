"""Objectives of variational autoencoders: the KL term, reconstruction terms, and the balance gamma between them.

With a Gaussian observation model of variance gamma^2, the same for every value, the negative evidence bound of an image
is

    sum (x - x')^2 / (2 gamma^2) + n log gamma + n log(2 pi) / 2 + KL(q(z | x), N(0, I)),

n being the number of its values. Dai and Wipf (2019) learn gamma; Asperti and Trentin (2020) compute it from the errors
of the minibatches. Errors are those of images in [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.types import Images, Latents, Scalar, Scores

GammaRule = Literal["ema_min", "split", "running_min"]
ReconstructionError = Literal["mse", "bce"]

_EMA_DECAY = 0.99


def kl_per_latent(mean: Latents, log_variance: Latents) -> Latents:
    """KL(N(mean, exp(log_variance)), N(0, 1)) of each coordinate, (N, D), in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def kl_to_standard_normal(mean: Latents, log_variance: Latents) -> Scores:
    """KL of a normal with independent coordinates to N(0, I), summed over the coordinates, (N,), in nats."""
    return kl_per_latent(mean, log_variance).sum(1)


INACTIVE_BELOW = 0.05
"""A latent whose means vary less than this over images tells nothing about them (Asperti and Trentin)."""


def latent_statistics(mean: Latents, log_variance: Latents) -> dict[str, Scalar]:
    """How many latents are used, and the law of total variance over a batch.

    If the aggregate posterior equals the prior, Var(mean) + mean(variance) is 1 for every coordinate.

    Args:
        mean: (N, D) of the posteriors of all devices' images.
        log_variance: (N, D).

    Returns:
        `train/latents/active`, `/inactive` (Var(mean) below 0.05), and `/variance_law`, the mean over coordinates.
    """
    spread = mean.var(0, correction=0)
    active = (spread >= INACTIVE_BELOW).sum().to(mean.dtype)
    return {
        "train/latents/active": active,
        "train/latents/inactive": mean.shape[1] - active,
        "train/latents/variance_law": (spread + log_variance.exp().mean(0)).mean(),
    }


def mean_squared_error(reconstructions: Images, images: Images) -> Scalar:
    """Mean over all values of (x - x')^2; both in [0, 1]."""
    return F.mse_loss(reconstructions, images)


def binary_cross_entropy(logits: Images, images: Images) -> Scalar:
    """Mean over all values of -x log p - (1 - x) log(1 - p) with p = sigmoid(logits); images in [0, 1].

    It does not vanish for a perfect reconstruction: its floor is the entropy of the grey values.
    """
    return F.binary_cross_entropy_with_logits(logits, images)


def updated_variance(rule: GammaRule, variance: Tensor, statistic: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """gamma^2 and its statistic after a minibatch.

    `ema_min` (Asperti and Trentin): m <- min(m, 0.99 m + 0.01 e), gamma^2 = m. `split` (SplitVAE): m <- 0.99 m + 0.01 e
    without the minimum, gamma^2 <- min(m, gamma^2). `running_min` (the program of the latent comparison): gamma^2 <-
    min(e, gamma^2), which locks onto the easiest minibatch.

    Args:
        rule: which.
        variance: gamma^2 before, a scalar.
        statistic: m before, a scalar.
        error: e of the minibatch, a mean over all values and devices; gradients flow through it where it has any.

    Returns:
        gamma^2 and m.
    """
    averaged = _EMA_DECAY * statistic + (1.0 - _EMA_DECAY) * error
    if rule == "ema_min":
        statistic = torch.minimum(statistic, averaged)
        return statistic, statistic
    if rule == "split":
        return torch.minimum(averaged, variance), averaged
    variance = torch.minimum(variance, error)
    return variance, variance


def initial_variance(rule: GammaRule) -> float:
    """gamma^2 and statistic before the first minibatch."""
    return math.inf if rule == "running_min" else 1.0


def gaussian_term(error: Tensor, variance: Tensor | float, values: int, *, with_constants: bool = True) -> Tensor:
    """The reconstruction term of an image: n e / (2 gamma^2), and n (log gamma + log(2 pi) / 2).

    Args:
        error: e, mean squared error per value.
        variance: gamma^2; treated as it comes, so detach it unless its gradient is wanted.
        values: n, number of values of an image.
        with_constants: whether the terms that do not depend on the image are added, which makes it a likelihood.
    """
    variance = torch.as_tensor(variance, dtype=error.dtype, device=error.device)
    term = values * error / (2.0 * variance)
    if not with_constants:
        return term
    return term + values * 0.5 * (variance.log() + math.log(2.0 * math.pi))
