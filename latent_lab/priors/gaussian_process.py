"""Gaussian processes over the poses of frames: one covariance, shared by all coordinates of the latents.

z(P) ~ GP(0, k) for each coordinate, and the encoder's codes are z(P_i) + e_i, e_i ~ N(0, sigma^2) (Hou, Heljakka and
Solin: "Gaussian Process Priors for View-Aware Inference", AAAI 2021). As coordinates share k and sigma^2, one Cholesky
factor serves them all: n frames of D coordinates cost n^3 / 3 + n^2 D. All numbers are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor, nn
from typing_extensions import override

from latent_lab.distributed import IndexedRandom
from latent_lab.priors.factorising import cholesky
from latent_lab.priors.kernels import AbstractKernel, ScaledKernel
from latent_lab.priors.poses import Poses
from latent_lab.types import Latents, Scalar, Scores

_SAME = 1e-12
_RESTART = math.log(4.0)


class Hyperparameters(NamedTuple):
    """Of a kernel with one length scale."""

    variance: float
    """gamma^2."""
    length_scale: float
    """l."""
    noise: float
    """sigma^2."""


FACE_VIDEOS = Hyperparameters(variance=13.8156, length_scale=1.0975, noise=1.4)
"""The numbers in the published program of the face videos, where nothing is learned.

Two frames do not determine hyper-parameters, so a run of which only two are observed needs given ones. The noise suits
StyleGAN's W+; other latent spaces need a `fit` to runs of their own.
"""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is believed of the latents of T frames: N(mean, covariance) for each coordinate, with one covariance.

    It is about noise-free latents z(P); what an encoder would return varies by `noise` more.

    Args:
        mean: (T, D) float64.
        covariance: (T, T) float64, of every coordinate.
        noise: sigma^2.
        eigenvalue_floor: eigenvalues of the covariance below it count as it, in samples. 0 removes what rounding makes
            negative; the published program takes 1e-5.
    """

    mean: Latents
    covariance: Float[Tensor, "N N"]
    noise: float
    eigenvalue_floor: float = 0.0

    @property
    def variance(self) -> Scores:
        """Of the noise-free latents of each frame, (T,)."""
        return self.covariance.diagonal().clamp_min(0.0)

    @cached_property
    def root(self) -> Float[Tensor, "N N"]:
        """Symmetric square root of the covariance, with the floor; unlike a factor, it exists for repeated poses.

        It does not depend on the signs of eigenvectors, so samples are the same on every machine.
        """
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp_min(self.eigenvalue_floor).sqrt()) @ vectors.mT

    def sample(self, number: int = 0, *, seed: int = 0, noisy: bool = False) -> Latents:
        """A joint sample (T, D) of all frames, so that decoded frames make a steady video.

        Args:
            number: of the sample; each has its own random numbers.
            seed: of all samples.
            noisy: whether to sample codes (with noise) instead of noise-free latents.
        """
        random = IndexedRandom(seed, "priors/posterior")
        normals = torch.randn(
            2 if noisy else 1, *self.mean.shape, generator=random.generator(number), dtype=torch.float64
        ).to(self.mean.device)
        sample = self.mean + self.root @ normals[0]
        return sample + math.sqrt(self.noise) * normals[1] if noisy else sample

    def log_density(self, latents: Latents) -> Scores:
        """Logarithm of N(z_t | mean, variance + noise) at codes of each frame, (T,) nats, summed over D coordinates.

        Args:
            latents: (T, D) codes that were not observed.
        """
        variance = self.variance + self.noise
        squares = (latents.double() - self.mean).square().sum(1)
        return -0.5 * (squares / variance + self.mean.shape[1] * (2.0 * math.pi * variance).log())

    def coverage(self, latents: Latents, level: float = 0.95) -> Scores:
        """Share of each frame's coordinates inside their central interval, (T,); `level` if the prior is right.

        Args:
            latents: (T, D) codes that were not observed.
            level: probability of the interval.

        Raises:
            ValueError: if the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"an interval's level must lie between 0 and 1, got {level}")
        width = math.sqrt(2.0) * torch.special.erfinv(torch.tensor(level, dtype=torch.float64)).item()
        half = width * (self.variance + self.noise).sqrt().unsqueeze(1)
        return ((latents.double() - self.mean).abs() <= half).double().mean(1)


class MarginalFit(NamedTuple):
    """How the search for hyper-parameters went."""

    log_likelihood: float
    """Log marginal likelihood in nats, afterwards."""
    initial_log_likelihood: float
    evaluations: int
    converged: bool


class GaussianProcess(nn.Module):
    """A Gaussian process over poses with noise, shared by all coordinates of the latents.

    The mean of each coordinate over the observed frames is taken off first and put back, as in the published program.
    Its uncertainty is neglected, so variances are too small where a run is shorter than the length scale.

    Args:
        kernel: k, with its variance.
        noise: sigma^2 of the codes around z(P), positive.

    Raises:
        ValueError: if the noise is not positive.
    """

    def __init__(self, kernel: AbstractKernel, noise: float = 0.1) -> None:
        super().__init__()
        if not (noise > 0.0 and math.isfinite(noise)):
            raise ValueError(f"noise must be positive, got {noise}: exact codes need a small one, such as 1e-6")
        self.kernel = kernel
        self.log_noise = nn.Parameter(torch.tensor(noise, dtype=torch.float64).log())

    @property
    def noise(self) -> Tensor:
        """sigma^2."""
        return self.log_noise.double().exp()

    @override
    def extra_repr(self) -> str:
        return f"noise={self.noise.item():.4g}"

    def log_marginal_likelihood(self, poses: Poses, latents: Latents) -> Scalar:
        """How likely codes are under the prior, in nats; differentiable.

        log p(Y) = -tr(Y^T A^-1 Y) / 2 - D log|A| / 2 - n D log(2 pi) / 2, A = K + sigma^2 I.

        Args:
            poses: of the n observed frames.
            latents: (n, D) their codes, of which the mean over frames is taken off to give Y.

        Raises:
            ValueError: if there are fewer than two frames, codes are not finite, or K is no covariance.
        """
        centred, _ = _centred(poses, latents)
        return self._log_likelihood(poses, centred, centred.shape[1])

    @torch.no_grad()
    def best_scale(self, poses: Poses, latents: Latents) -> float:
        """The factor tr(Y^T A^-1 Y) / (n D) by which variance and noise together are most likely, in closed form.

        Args:
            poses: of the n observed frames.
            latents: (n, D) their codes.

        Raises:
            ValueError: as `log_marginal_likelihood`.
        """
        centred, _ = _centred(poses, latents)
        whitened = torch.linalg.solve_triangular(self._factor(poses), centred, upper=False)
        return (whitened.square().sum() / centred.numel()).item()

    @torch.no_grad()
    def posterior(self, observed: Poses, latents: Latents, at: Poses) -> Posterior:
        """What n observed frames say of T frames, observed ones or not.

        Mean K_* A^-1 Y, covariance K_** - K_* A^-1 K_*^T. Observed frames are not reproduced: their codes are taken to
        be noisy, and are smoothed. A missing frame is one that is asked for and not observed.

        Args:
            observed: poses of the observed frames.
            latents: (n, D) their codes.
            at: poses of the T frames asked for.

        Raises:
            ValueError: as `log_marginal_likelihood`.
        """
        centred, mean = _centred(observed, latents)
        factor = self._factor(observed)
        cross = self.kernel(at, observed)
        whitened = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
        # Weights of the observed codes first: one product with the D columns, instead of two solves and a product.
        weights = torch.linalg.solve_triangular(factor.mT, whitened, upper=True).mT
        return Posterior(
            mean=weights @ centred + mean,
            covariance=self.kernel(at, at) - whitened.mT @ whitened,
            noise=self.noise.item(),
        )

    @torch.no_grad()
    def leave_one_out(self, poses: Poses, latents: Latents) -> Posterior:
        """What all other frames say of each observed frame, as if it were missing; for densities and coverage.

        From one factor (Rasmussen and Williams 2006, 5.4.2): variance with noise 1 / [A^-1]_ii, mean
        y_i - [A^-1 (Y - m_i)]_i / [A^-1]_ii, m_i being the mean over the other frames. The covariance of the result is
        diagonal, so joint samples of it are none of the process.

        Args:
            poses: of the n observed frames.
            latents: (n, D) their codes.

        Raises:
            ValueError: as `log_marginal_likelihood`, and if there are fewer than three frames.
        """
        centred, mean = _centred(poses, latents)
        count = len(centred)
        if count < 3:
            raise ValueError(f"leaving a frame out of {count} leaves too few for a process: give at least 3")
        inverse = torch.cholesky_inverse(self._factor(poses))
        precision = inverse.diagonal().unsqueeze(1)
        others = -centred / (count - 1)
        residual = (inverse @ centred - inverse.sum(1, keepdim=True) * others) / precision
        noise = self.noise.item()
        return Posterior(centred - residual + mean, torch.diag(1.0 / precision[:, 0] - noise), noise)

    def fit(self, poses: Poses, latents: Latents, *, max_evaluations: int = 200, span: float = 1e4) -> MarginalFit:
        """Sets the hyper-parameters to a maximum of the marginal likelihood.

        L-BFGS on all parameters that have a gradient, from where they are, and with length scales four times shorter
        and longer, as the likelihood may have several maxima; the best is kept. Variance and noise begin at
        `best_scale`. Codes enter through n numbers for each frame, whatever their D, so that an evaluation costs n^3.

        Args:
            poses: of the n observed frames.
            latents: (n, D) their codes.
            max_evaluations: of the likelihood and its gradient, from each start.
            span: how many times larger or smaller than at the start a positive hyper-parameter may become.

        Raises:
            ValueError: as `log_marginal_likelihood`, and if frames do not determine hyper-parameters: if there are
                fewer than three, or all have one pose or one code; or if no parameter has a gradient.
        """
        centred, _ = _centred(poses, latents)
        if len(poses) < 3:
            raise ValueError(
                f"{len(poses)} frames do not determine hyper-parameters: fit to a run of at least 3, or give them"
            )
        if centred.abs().max() <= _SAME * latents.double().abs().max():
            raise ValueError(f"all {len(poses)} frames have one code, which determines no hyper-parameters: give them")
        with torch.no_grad():
            covariance = self.kernel(poses, poses)
        if covariance.max() - covariance.min() <= _SAME * covariance.max():
            raise ValueError(f"all {len(poses)} frames have one pose, which determines no length scale: give one")
        learned = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        if not learned:
            raise ValueError("no parameter of the process has a gradient, so there is nothing to fit")
        parameters = list(learned.values())
        rows, dim, numbers = _compressed(centred), centred.shape[1], centred.numel()

        def evaluate(point: np.ndarray) -> tuple[float, np.ndarray]:
            # Nats for each number of the codes: of order 1, as the search's tolerances want it.
            nn.utils.vector_to_parameters(torch.from_numpy(point).to(parameters[0]), parameters)
            value = -self._log_likelihood(poses, rows, dim) / numbers
            slopes = torch.autograd.grad(value, parameters)
            return value.item(), torch.cat([slope.flatten() for slope in slopes]).double().cpu().numpy()

        given = nn.utils.parameters_to_vector(parameters).detach().clone()
        lengths = torch.cat(
            [torch.full_like(one, float("log_length_scale" in name)).flatten() for name, one in learned.items()]
        ).detach()
        initial, _ = evaluate(given.double().cpu().numpy())
        reach = math.log(span)
        searches = []
        for shift in (0.0, -_RESTART, _RESTART):
            nn.utils.vector_to_parameters(given + shift * lengths, parameters)
            self._rescale(self.best_scale(poses, latents))
            start = nn.utils.parameters_to_vector(parameters).detach().double().cpu().numpy()
            searches.append(
                optimize.minimize(
                    evaluate,
                    start,
                    jac=True,
                    method="L-BFGS-B",
                    bounds=[(value - reach, value + reach) for value in start],
                    options={"maxfun": max_evaluations, "maxiter": max_evaluations, "ftol": 1e-12, "gtol": 1e-7},
                )
            )
        best = min(searches, key=lambda search: search.fun)
        final, _ = evaluate(best.x)
        evaluations = sum(int(search.nfev) for search in searches)
        return MarginalFit(-final * numbers, -initial * numbers, evaluations, bool(best.success))

    @torch.no_grad()
    def _rescale(self, factor: float) -> None:
        """Multiplies variance and noise, where both are there to be learned."""
        if isinstance(self.kernel, ScaledKernel):
            scales = (self.kernel.log_variance, self.log_noise)
            if all(scale.requires_grad for scale in scales):
                for scale in scales:
                    scale.add_(math.log(factor))

    def _factor(self, poses: Poses) -> Float[Tensor, "N N"]:
        covariance = self.kernel(poses, poses)
        return cholesky(covariance + torch.diag(self.noise.expand(len(poses))), "the covariance of the observed frames")

    def _log_likelihood(self, poses: Poses, rows: Float[Tensor, "N R"], dim: int) -> Scalar:
        factor = self._factor(poses)
        squares = torch.linalg.solve_triangular(factor, rows, upper=False).square().sum()
        log_determinant = 2.0 * factor.diagonal().log().sum()
        return -0.5 * (squares + dim * (log_determinant + len(poses) * math.log(2.0 * math.pi)))


@torch.no_grad()
def two_frame_pacing(process: GaussianProcess, ends: Poses, at: Poses) -> Scores:
    """Where between two observed frames each frame is put, (T,): beta in z(P) = (z1 + z2) / 2 + beta (z1 - z2) / 2.

    beta(P) = (k(P, P1) - k(P, P2)) / (k(P1, P1) + sigma^2 - k(P1, P2)). The process keeps to the straight line of
    linear interpolation and changes the pace alone: it waits while the camera does. beta(P1) < 1, so ends are not
    reached; for ends of nearly one pose it tends to 0.

    Args:
        process: its kernel has the same variance at both ends.
        ends: the two observed poses, P1 and P2.
        at: poses of the T frames.

    Raises:
        ValueError: if there are not two ends.
    """
    if len(ends) != 2:
        raise ValueError(f"pacing is between two observed frames, got {len(ends)}")
    cross = process.kernel(at, ends)
    between = process.kernel(ends, ends)
    return (cross[:, 0] - cross[:, 1]) / (between[0, 0] + process.noise - between[0, 1])


def _centred(poses: Poses, latents: Latents) -> tuple[Latents, Float[Tensor, "D"]]:
    """Codes of observed frames without their mean over frames, and the mean; both float64."""
    if len(poses) != len(latents):
        raise ValueError(f"{len(poses)} poses need as many codes, got {len(latents)}: give those of the same frames")
    if len(latents) < 2:
        raise ValueError(f"a Gaussian process needs at least 2 observed frames, got {len(latents)}")
    if latents.shape[1] == 0:
        raise ValueError("codes have no coordinates")
    latents = latents.double()
    missing = ~latents.isfinite().all(1)
    if missing.any():
        raise ValueError(
            f"codes of {int(missing.sum())} of {len(latents)} frames are not finite, first of frame "
            f"{int(missing.nonzero()[0, 0])}: leave out missing frames here, and ask for them in the posterior"
        )
    mean = latents.mean(0)
    return latents - mean, mean


def _compressed(centred: Latents) -> Float[Tensor, "N R"]:
    """At most n columns with the same products Y Y^T, which are all that the likelihood needs of D columns."""
    if centred.shape[1] <= len(centred):
        return centred
    return torch.linalg.qr(centred.mT, mode="r").R.mT
