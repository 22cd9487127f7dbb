"""The encoder's part of the bound of a VAE whose prior couples images: the entropy of its posteriors.

With a prior p(Z) over the latents of all images the negative evidence bound is

    sum_i E_q[-log p(x_i | z_i)] + E_q[-log p(Z)] - sum_i H(q(z_i | x_i)),

where Casale et al. (NeurIPS 2018) take one sample of Z for both expectations.
"""

from __future__ import annotations

from typing import Literal

from latent_lab.types import Latents, Scores

EntropyTerm = Literal["exact", "released"]
"""What stands for the entropy: itself, or, as in the published program, half the sum of the deviations."""


def negative_entropy(deviation: Latents, term: EntropyTerm = "exact") -> Scores:
    """-H of normals with independent coordinates, (N,), without its constant.

    `exact` is - sum log s, and `released` - sum s / 2, which hardly tells small deviations apart.

    Args:
        deviation: s, (N, D).
        term: which.
    """
    return -deviation.log().sum(1) if term == "exact" else -0.5 * deviation.sum(1)


def divergence(negative_log_prior: Scores, deviation: Latents) -> Scores:
    """One sample's estimate of KL(q(z | x), p), (N,) nats: the estimate of an image may be negative.

    Args:
        negative_log_prior: each image's share of -log p(Z) without its constant, (N,).
        deviation: of the posteriors, (N, D).
    """
    # log(2 pi) of both cancels: -log p has D log(2 pi) / 2, the entropy D (1 + log(2 pi)) / 2.
    return negative_log_prior - deviation.log().sum(1) - 0.5 * deviation.shape[1]
