"""Sparse Gaussian-process prior of a VAE, for minibatches and any kernel of poses.

Jazbec, Ashman, Fortuin, Pearce, Mandt and Raetsch ("Scalable Gaussian Process Variational Autoencoders", AISTATS 2021)
take what the encoder returns for an image, mean and variance of each latent, as an observation with noise, of a sparse
Gaussian process for each latent (Titsias 2009; Hensman, Fusi and Lawrence 2013). What it knows is kept in the latents u
of m inducing poses; here with whitened u = L_m v, v ~ N(0, I), which needs no inverse of a nearly singular
matrix. All numbers are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latent_lab.priors.factorising import cholesky
from latent_lab.priors.kernels import AbstractKernel
from latent_lab.priors.poses import Poses, PoseTable
from latent_lab.types import Latents, Scalar

_EXPLAINED = 1e-10


@dataclass(frozen=True, eq=False)
class InducingPosterior:
    """q(u) of every latent, as mean and precision of the whitened v: N(mean_l, precision_l^-1).

    Args:
        whitening: L_m, (m, m), Cholesky factor of the inducing poses' covariance.
        mean: (L, m) of v.
        root: (L, m, m) Cholesky factor of the precision of v.
    """

    whitening: Float[Tensor, "M M"]
    mean: Float[Tensor, "L M"]
    root: Float[Tensor, "L M M"]

    @cached_property
    def inducing_mean(self) -> Float[Tensor, "L M"]:
        """Mean of u, the latents at the inducing poses."""
        return self.mean @ self.whitening.mT

    @cached_property
    def inducing_covariance(self) -> Float[Tensor, "L M M"]:
        """Covariance of u."""
        half = torch.linalg.solve_triangular(self.root, self.whitening.mT.expand_as(self.root), upper=False)
        return half.mT @ half

    def kl(self) -> Scalar:
        """KL(q(u), p(u)), summed over latents, nats."""
        size = self.mean.shape[1]
        traces = torch.cholesky_inverse(self.root).diagonal(dim1=1, dim2=2).sum()
        log_determinants = 2.0 * self.root.diagonal(dim1=1, dim2=2).log().sum()
        return 0.5 * (traces + self.mean.square().sum() - self.mean.shape[0] * size + log_determinants)


class SparseBatch(NamedTuple):
    """A minibatch under the prior."""

    mean: Latents
    """(b, L) of q(z) of the images, whose samples are decoded."""
    variance: Latents
    """(b, L) of q(z)."""
    log_likelihood: Scalar
    """E_q(z) log N(m | z, s^2) of the encoder's means m and variances s^2, over images and latents, nats."""
    kl: Scalar
    """KL(q(u), p(u)) over latents, nats."""
    share: float
    """Of the data set that the minibatch is, b / N."""

    @property
    def inner_bound(self) -> Scalar:
        """L_H, whose sum over minibatches bounds the log likelihood of the encoder's means from below, nats."""
        return self.log_likelihood - self.share * self.kl

    @property
    def prior_term(self) -> Scalar:
        """What the minibatch adds to the loss, beside the error of its images: (b / N) KL(q(u), p(u)), nats.

        The paper has the difference of E_q(z) log N(z | m, s^2) and L_H here. A normal density is the same with z and m
        exchanged, so that all of it but the KL term cancels.
        """
        return self.share * self.kl


class SparseProcess(nn.Module):
    """Sparse Gaussian processes over poses, one for each latent, with one kernel and one set of inducing poses.

    Costs of a minibatch: b m^2 L + m^3 L.

    Args:
        kernel: k, with its variance; 1 for the latents of a VAE.
        inducing: m poses, such as those that `choose_inducing` names.
        jitter: share of the mean of the diagonal that is added to the inducing poses' covariance.
        learn_inducing: whether the inducing poses are learned, too.
    """

    def __init__(
        self, kernel: AbstractKernel, inducing: Poses, *, jitter: float = 1e-6, learn_inducing: bool = False
    ) -> None:
        super().__init__()
        if len(inducing) == 0:
            raise ValueError("a sparse process needs at least one inducing pose, got none")
        if jitter < 0.0:
            raise ValueError(f"jitter must not be negative, got {jitter}")
        self.kernel = kernel
        self.inducing = PoseTable(inducing, learn=learn_inducing)
        self.jitter = jitter

    def forward(self, poses: Poses, means: Latents, variances: Latents, num_images: int | None = None) -> SparseBatch:
        """A minibatch under the prior that it is itself an estimate of; differentiable.

        Args:
            poses: of the b images.
            means: (b, L) of the encoder.
            variances: (b, L) of the encoder, positive. The published program keeps them in [0.001, 10].
            num_images: N, of the data set; none: the minibatch is all of it.

        Raises:
            ValueError: as `condition`.
        """
        posterior = self.condition(poses, means, variances, num_images)
        mean, variance = self.predict(posterior, poses)
        means, variances = means.double(), variances.double()
        squares = (means - mean).square() + variance
        log_likelihood = -0.5 * (squares / variances + (2.0 * math.pi * variances).log()).sum()
        share = len(poses) / (num_images or len(poses))
        return SparseBatch(mean, variance, log_likelihood, posterior.kl(), share)

    def condition(
        self, poses: Poses, means: Latents, variances: Latents, num_images: int | None = None
    ) -> InducingPosterior:
        """The best q(u) for what the encoder says of b images, each counted N / b times; differentiable.

        The precision of u is K_mm^-1 + (N / b) K_mm^-1 K_mb diag(1 / s^2) K_bm K_mm^-1. From a small minibatch this is
        not quite the mean over minibatches, since a precision is inverted.

        Args:
            poses: of the b images.
            means: (b, L) of the encoder.
            variances: (b, L) of the encoder, positive.
            num_images: N, of the data set; none: these are all.

        Raises:
            ValueError: if numbers of rows or widths differ, there are no images or more than N, or variances are not
                positive.
        """
        count = len(poses)
        total = count if num_images is None else num_images
        if len(means) != count or variances.shape != means.shape:
            raise ValueError(
                f"{count} poses need as many means and variances of one width, got {tuple(means.shape)} and "
                f"{tuple(variances.shape)}"
            )
        if not 1 <= count <= total:
            raise ValueError(f"a minibatch has between 1 image and the data set's {total}, got {count}")
        if not (variances > 0).all():
            raise ValueError(f"variances must be positive, got {variances.min().item():.3g}")
        inducing = self.inducing()
        covariance = self.kernel(inducing, inducing)
        jitter = self.jitter * covariance.diagonal().mean().detach()
        whitening = cholesky(
            covariance + torch.diag(jitter.expand(len(inducing))), "the covariance of the inducing poses"
        )
        loads = self._loads(whitening, poses)
        weights = (total / count) / variances.double()
        identity = torch.eye(len(inducing), dtype=torch.float64, device=loads.device)
        weighted = loads * weights.mT.unsqueeze(1)
        root = cholesky(identity + weighted @ loads.mT, "the precision of the inducing latents")
        right = loads @ (weights * means.double())
        mean = torch.cholesky_solve(right.mT.unsqueeze(2), root).squeeze(2)
        return InducingPosterior(whitening, mean, root)

    def predict(self, posterior: InducingPosterior, poses: Poses) -> tuple[Latents, Latents]:
        """Mean and variance of q(z) at any poses, (b, L) each; differentiable.

        Mean k_m K_mm^-1 E[u], variance k - k_m K_mm^-1 k_m^T + k_m K_mm^-1 Cov[u] K_mm^-1 k_m^T.

        Args:
            posterior: of `condition`.
            poses: of the b images.
        """
        loads = self._loads(posterior.whitening, poses)
        half = torch.linalg.solve_triangular(posterior.root, loads.expand(len(posterior.root), -1, -1), upper=False)
        unexplained = (self.kernel.diagonal(poses) - loads.square().sum(0)).clamp_min(0.0)
        return (posterior.mean @ loads).mT, unexplained.unsqueeze(1) + half.square().sum(1).mT

    def _loads(self, whitening: Float[Tensor, "M M"], poses: Poses) -> Float[Tensor, "M B"]:
        """L_m^-1 K_mb: how the whitened inducing latents make up those of the images."""
        return torch.linalg.solve_triangular(whitening, self.kernel(self.inducing(), poses), upper=False)


@torch.no_grad()
def choose_inducing(kernel: AbstractKernel, poses: Poses, num: int) -> Int[Tensor, "M"]:
    """Places of poses that explain the others best, each next one being the least explained by those before.

    The pivots of a Cholesky factorisation of the kernel's matrix (Burt, Rasmussen and van der Wilk 2020). Repeated
    poses are not chosen twice.

    Args:
        kernel: k.
        poses: of all images.
        num: how many to choose; fewer are, if they explain all others.

    Raises:
        ValueError: if `num` is not between 1 and the number of poses.
    """
    if not 1 <= num <= len(poses):
        raise ValueError(f"inducing poses are chosen from {len(poses)}, so num must be 1 to {len(poses)}, got {num}")
    prior = kernel.diagonal(poses)
    unexplained = prior.clone()
    rows: list[Tensor] = []
    chosen: list[int] = []
    while len(chosen) < num:
        pivot = int(unexplained.argmax())
        if unexplained[pivot] <= _EXPLAINED * prior[pivot]:
            break
        row = kernel(poses[[pivot]], poses)[0]
        for earlier in rows:
            row = row - earlier[pivot] * earlier
        rows.append(row / unexplained[pivot].sqrt())
        chosen.append(pivot)
        unexplained = unexplained - rows[-1].square()
    return torch.tensor(chosen, dtype=torch.int64, device=prior.device)
