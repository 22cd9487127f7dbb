"""Low-rank Gaussian-process prior of a VAE over objects and views, and its expansion for minibatches.

K = v0 V V^T + v1 I over the n images of a data set, one Gaussian process for each latent, with a row of V for each
image: the outer product of features of its object and of its view. Casale, Dalca, Saglietti, Listgarten and Fusi
("Gaussian Process Prior Variational Autoencoders", NeurIPS 2018) train it by expanding the likelihood to first order
about the present latents, so that it becomes a sum over images; Hou, Heljakka and Solin (AAAI 2021) put the view kernel
in. All numbers are float64.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latent_lab.priors.factorising import cholesky
from latent_lab.priors.kernels import AbstractKernel, ObjectKernel
from latent_lab.priors.poses import Poses, PoseTable
from latent_lab.types import Latents, Scores

VIEW_JITTER = 1e-10
"""Added to the diagonal of the views' matrix before its Cholesky factor is taken, as two views may be the same."""

Factors: TypeAlias = Float[Tensor, "R H"]
"""V, a row for each image."""

Variances: TypeAlias = Float[Tensor, "2"]
"""v0 of the Gaussian process and v1 of the noise, positive."""

VarianceTerm = Literal["shared", "released"]
"""Whose share of the expansion's term in v0, v1 an image of a minibatch has: an n-th, or, as in the published program,
so much that every minibatch adds all of it, which makes its gradient as many times too large."""


class LowRankCovariance:
    """K = v0 V V^T + v1 I and what is asked of it, by the Woodbury identity where that is smaller.

    Costs min(n H^2 + H^3, n^2 H + n^3).

    Args:
        factors: V, (n, H).
        variances: v0, v1.
    """

    def __init__(self, factors: Factors, variances: Variances) -> None:
        self.factors = factors.double()
        self.signal, self.noise = variances.double()
        self._wide = factors.shape[1] >= factors.shape[0]
        ratio = self.signal / self.noise
        products = self.factors @ self.factors.mT if self._wide else self.factors.mT @ self.factors
        identity = torch.eye(len(products), dtype=torch.float64, device=products.device)
        # K / v1, or the matrix of the Woodbury identity: both have the determinant of K / v1.
        self._root = cholesky(identity + ratio * products, "the covariance of objects and views")
        self._ratio = ratio

    def solve(self, right: Float[Tensor, "N R"]) -> Float[Tensor, "N R"]:
        """K^-1 times columns."""
        right = right.double()
        if self._wide:
            return torch.cholesky_solve(right, self._root) / self.noise
        inner = torch.cholesky_solve(self.factors.mT @ right, self._root)
        return (right - self._ratio * (self.factors @ inner)) / self.noise

    def log_determinant(self) -> Tensor:
        """Logarithm of |K|."""
        return len(self.factors) * self.noise.log() + 2.0 * self._root.diagonal().log().sum()

    def inverse_trace(self) -> Tensor:
        """Trace of K^-1."""
        trace = torch.cholesky_inverse(self._root).trace()
        if not self._wide:
            trace = trace + len(self.factors) - self.factors.shape[1]
        return trace / self.noise


def negative_log_likelihood(latents: Latents, factors: Factors, variances: Variances) -> Scores:
    """-log N(Z | 0, K) without its constant, split over images, (n,): z_i . (K^-1 Z)_i / 2 + L log|K| / (2 n).

    Differentiable in everything, for data sets that fit into one batch; `expand` is for minibatches.

    Args:
        latents: Z, (n, L).
        factors: V, (n, H).
        variances: v0, v1.

    Raises:
        ValueError: if numbers of rows differ.
    """
    covariance = _covariance_of(latents, factors, variances)
    return _likelihood_by_image(latents, covariance.solve(latents), covariance)


class Expansion(NamedTuple):
    """First-order expansion of the negative log likelihood of a whole data set; its fields are gradients."""

    latents: Latents
    """K^-1 Z, (n, L)."""
    factors: Factors
    """v0 (L K^-1 V - Zbar Zbar^T V), (n, H)."""
    variances: Variances
    """With respect to v0 and v1."""
    negative_log_likelihood: Scores
    """Of each image, (n,), at the point of the expansion."""

    def surrogate(
        self,
        rows: Int[Tensor, "B"],
        latents: Float[Tensor, "B L"],
        factors: Float[Tensor, "B H"],
        variances: Variances,
        term: VarianceTerm = "shared",
    ) -> Float[Tensor, "B"]:
        """Each image's share (B,) of a sum whose gradient is the likelihood's at the point of the expansion.

        The sum over all images of <Zbar_i, z_i> + <Vbar_i, V_i> + <vbar, v> / n. Its value means nothing. Minibatches
        add up to the gradient of the whole only if none of what they depend on has changed since `expand`: the noise of
        the encoder is drawn once for an epoch, and the optimiser steps after it.

        Args:
            rows: places of the images in the data set.
            latents: (B, L) their latents, with gradient.
            factors: (B, H) their rows of V, with gradient.
            variances: v0, v1, with gradient.
            term: see `VarianceTerm`.
        """
        share = {"shared": len(self.latents), "released": len(rows)}[term]
        return (
            (self.latents[rows] * latents.double()).sum(1)
            + (self.factors[rows] * factors.double()).sum(1)
            + (self.variances * variances.double()).sum() / share
        )


@torch.no_grad()
def expand(latents: Latents, factors: Factors, variances: Variances) -> Expansion:
    """Expands the negative log likelihood about the present latents, features and variances.

    Args:
        latents: Z, (n, L), of all images.
        factors: V, (n, H).
        variances: v0, v1.

    Raises:
        ValueError: if numbers of rows differ.
    """
    covariance = _covariance_of(latents, factors, variances)
    latents, factors = latents.double(), factors.double()
    width = latents.shape[1]
    solved, solved_factors = covariance.solve(latents), covariance.solve(factors)
    projected = solved.mT @ factors
    by_signal = width * (factors * solved_factors).sum() - projected.square().sum()
    by_noise = width * covariance.inverse_trace() - solved.square().sum()
    return Expansion(
        latents=solved,
        factors=covariance.signal * (width * solved_factors - solved @ projected),
        variances=0.5 * torch.stack([by_signal, by_noise]),
        negative_log_likelihood=_likelihood_by_image(latents, solved, covariance),
    )


@torch.no_grad()
def predict(
    latents: Latents,
    factors: Factors,
    variances: Variances,
    new_factors: Float[Tensor, "M H"],
    prior_diagonal: Float[Tensor, "M"] | None = None,
) -> tuple[Float[Tensor, "M L"], Float[Tensor, "M"]]:
    """Noise-free latents of other images, such as of an object seen from a new view.

    Args:
        latents: Z, (n, L), the encoder's means of the images that were seen.
        factors: V, (n, H), their features.
        variances: v0, v1.
        new_factors: V*, (M, H).
        prior_diagonal: k(x, x) of the other images before v0, (M,); none: |V*|^2, which is less at views that are not
            among those whose features V is made of.

    Returns:
        Means v0 V* V^T K^-1 Z, (M, L), and the variance of every latent, (M,).

    Raises:
        ValueError: if numbers of rows differ.
    """
    covariance = _covariance_of(latents, factors, variances)
    new_factors = new_factors.double()
    cross = covariance.signal * new_factors @ covariance.factors.mT
    mean = cross @ covariance.solve(latents)
    diagonal = new_factors.square().sum(1) if prior_diagonal is None else prior_diagonal.double()
    variance = covariance.signal * diagonal - (cross * covariance.solve(cross.mT).mT).sum(1)
    return mean, variance.clamp_min(0.0)


class ObjectViewPrior(nn.Module):
    """The prior's parts that are learned: features of objects, the kernel of views, and the two variances.

    With `cholesky`, features of views are the rows of the Cholesky factor of the views' matrix, so that the covariance
    of two views is their kernel. The published program takes the rows of the matrix itself (`released`), so that its
    covariance is the matrix's square: not of unit variance, and about sqrt(2) times as wide.

    Args:
        objects: features of the objects.
        views: kernel of orientations.
        poses: of the Q views that images are of.
        features: `cholesky` or `released`.

    Raises:
        ValueError: if there are no such features.
    """

    def __init__(
        self,
        objects: ObjectKernel,
        views: AbstractKernel,
        poses: Poses,
        features: str = "cholesky",
    ) -> None:
        super().__init__()
        if features not in ("cholesky", "released"):
            raise ValueError(f"features must be cholesky or released, got {features}")
        self.objects = objects
        self.views = views
        self.poses = PoseTable(poses)
        self.features = features
        self.variance_logits = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def variances(self) -> Variances:
        """v0 and v1, which add up to 1, the variance of a standard normal prior."""
        return self.variance_logits.double().softmax(0)

    def view_features(self, at: Poses | None = None) -> Float[Tensor, "M Q"]:
        """Features of views: of the Q known ones (Q, Q), or of others (M, Q).

        With the Cholesky factor L of the known views' matrix, those of others are K_* L^-T, which are L's rows at known
        views.
        """
        known = self.poses()
        matrix = self.views(known, known)
        if self.features == "released":
            return matrix if at is None else self.views(at, known)
        jitter = VIEW_JITTER * torch.eye(len(known), dtype=torch.float64, device=matrix.device)
        root = cholesky(matrix + jitter, "the matrix of the views")
        if at is None:
            return root
        return torch.linalg.solve_triangular(root, self.views(at, known).mT, upper=False).mT

    def factors(
        self, objects: Int[Tensor, "N"], views: Int[Tensor, "N"], view_features: Float[Tensor, "M Q"] | None = None
    ) -> Factors:
        """Rows of V: the outer products of features of object and view, (N, p Q).

        Args:
            objects: (N,) number of each image's object.
            views: (N,) row of each image's view in `view_features`.
            view_features: the result of a call of that method, to compute it once for many; none: of the known views.
        """
        rows = (self.view_features() if view_features is None else view_features)[views]
        return torch.einsum("np,nq->npq", self.objects.features(objects), rows).flatten(1)


def _covariance_of(latents: Latents, factors: Factors, variances: Variances) -> LowRankCovariance:
    """K of images with these latents, whose number is checked."""
    if len(latents) != len(factors) or len(latents) == 0:
        raise ValueError(f"{len(latents)} latents and {len(factors)} rows of features: give one row for each image")
    return LowRankCovariance(factors, variances)


def _likelihood_by_image(latents: Latents, solved: Latents, covariance: LowRankCovariance) -> Scores:
    """z_i . (K^-1 Z)_i / 2 + L log|K| / (2 n), (n,), of Z and K^-1 Z, each (n, L)."""
    squares = (latents.double() * solved).sum(1)
    return 0.5 * (squares + latents.shape[1] * covariance.log_determinant() / len(latents))
