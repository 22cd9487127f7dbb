"""StyleGAN's objectives: the logistic loss with R1, and Wasserstein's with the gradient penalty of WGAN-GP.

The generator's usual loss, softplus(-D(G(z))), is `gan.generator_loss`. Scores are logits, the higher the more real.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Images, Scalar, Scores


def discriminator_loss(fake_scores: Scores, real_scores: Scores) -> Scalar:
    """Means of softplus(D(G(z))) and of softplus(-D(x)), added (Goodfellow et al. 2014), in nats."""
    return F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()


def saturating_generator_loss(fake_scores: Scores) -> Scalar:
    """Mean of -softplus(D(G(z))): the min-max game as written, whose gradient vanishes where D is sure."""
    return -F.softplus(fake_scores).mean()


def wasserstein_discriminator_loss(fake_scores: Scores, real_scores: Scores, drift: float = 0.001) -> Scalar:
    """Mean of D(G(z)) - D(x) + drift * D(x)^2 (Arjovsky et al. 2017; the drift term is Karras et al.'s, 2018)."""
    return fake_scores.mean() - real_scores.mean() + drift * real_scores.square().mean()


def wasserstein_generator_loss(fake_scores: Scores) -> Scalar:
    """Mean of -D(G(z))."""
    return -fake_scores.mean()


def between(real: Images, fake: Images, share: Scores) -> Images:
    """Points on the lines from real to generated images, where WGAN-GP measures slopes.

    Args:
        real: (N, C, R, R).
        fake: (N, C, R, R).
        share: (N,) of the generated image.
    """
    return torch.lerp(real, fake, share[:, None, None, None])


def r1_penalty(scores: Scores, images: Images) -> Scores:
    """|gradient of the scores' sum with respect to the image|^2 for each image, summed over all its values (Mescheder
    et al. 2018); the loss takes gamma / 2 times its mean. It can be differentiated again.

    Args:
        scores: (N,) of these images; those of a batch may depend on each other.
        images: (N, C, R, R) that require a gradient.
    """
    return _slopes(scores, images).square().sum(1)


def gradient_penalty(scores: Scores, images: Images) -> Scores:
    """(|gradient| - 1)^2 for each image (Gulrajani et al. 2017); arguments as for `r1_penalty`."""
    return (torch.linalg.vector_norm(_slopes(scores, images), dim=1) - 1.0).square()


def r1_gamma(gamma: float, resolution: int, full_resolution: int, *, as_published: bool = False) -> float:
    """Weight gamma of R1 while images have a smaller resolution.

    The published program shows its discriminator enlarged images while it grows: each pixel becomes f x f equal ones
    with f = full_resolution / resolution, each of which has 1/f^2 of the pixel's gradient. So its squared gradient, and
    with it the penalty, is 1/f^2 of that of the small image.

    Args:
        gamma: at the full resolution.
        resolution: pixels per side now.
        full_resolution: pixels per side for which the networks are built.
        as_published: gamma / f^2 instead of gamma.
    """
    return gamma * (resolution / full_resolution) ** 2 if as_published else gamma


def _slopes(scores: Scores, images: Images) -> Float[Tensor, "N F"]:
    (gradient,) = torch.autograd.grad(scores.sum(), [images], create_graph=True)
    return gradient.flatten(1)
