"""Latent spaces as objects: how to sample, project, interpolate and measure.

Nothing else in the package asks "is it a sphere?".
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from latent_lab.types import Latents, Scores


class AbstractLatentSpace(ABC):
    """A set of vectors with a prior, a projection, geodesics and a distance."""

    symbol: str = "z"
    """Letter of its points in the names of numbers: ppl_z_end."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of coordinates D."""

    @abstractmethod
    def from_normal(self, normal: Latents) -> Latents:
        """Maps standard normal rows (N, D) to samples of the prior, so that callers decide where randomness comes
        from.
        """

    def sample(self, n: int, rng: torch.Generator) -> Latents:
        """Draws n independent samples of the prior, on the generator's device."""
        return self.from_normal(torch.randn(n, self.dim, generator=rng, device=rng.device))

    @abstractmethod
    def project(self, latents: Latents) -> Latents:
        """The nearest point of the space to each row."""

    @abstractmethod
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        """The point at share t of the way from a to b, row by row; exact at t = 0, t = 1 and for equal points.

        Args:
            a: (N, D) points of the space.
            b: (N, D).
            t: one share or one for each row (N,); 0 is a, 1 is b.
        """

    @abstractmethod
    def distance(self, a: Latents, b: Latents) -> Scores:
        """Geodesic distance of the rows, (N,)."""


def _column(t: float | Tensor, like: Latents) -> Tensor:
    share = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    return share.reshape(-1, 1) if share.ndim else share


class _Vectors(AbstractLatentSpace):
    """What spaces of plain vectors share: their width and how they print."""

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"{type(self).__name__} needs at least one dimension, got {dim}")
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._dim})"


class Gaussian(_Vectors):
    """R^D with the standard normal prior, straight lines and Euclidean distance."""

    @override
    def from_normal(self, normal: Latents) -> Latents:
        return normal

    @override
    def project(self, latents: Latents) -> Latents:
        return latents

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        return torch.lerp(a, b, _column(t, a))

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        return torch.linalg.vector_norm(a - b, dim=1)


class Hypersphere(_Vectors):
    """The unit sphere in R^D with the uniform prior, great circles and the angle (radians) as distance."""

    @override
    def from_normal(self, normal: Latents) -> Latents:
        return self.project(normal)

    @override
    def project(self, latents: Latents) -> Latents:
        return F.normalize(latents, dim=1, eps=1e-12)

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        """Great circle from a to b (Shoemake 1985): b's direction seen from a, turned by t times the angle.

        Written with a tangent instead of sin((1-t)w)/sin w, which is 0/0 for equal points. Opposite points have no
        unique great circle: the path then turns through the coordinate axis that is farthest from a.
        """
        angle = self.distance(a, b).unsqueeze(1)
        tangent = _tangent(a, b, angle)
        share = _column(t, a)
        path = a * torch.cos(share * angle) + tangent * torch.sin(share * angle)
        path = torch.where(share == 0, a, path)
        return torch.where(share == 1, b, path)

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        """Angle 2 atan2(|a - b|, |a + b|): exact for equal and for opposite points, unlike the arc cosine."""
        difference = torch.linalg.vector_norm(a - b, dim=1)
        total = torch.linalg.vector_norm(a + b, dim=1)
        return 2.0 * torch.atan2(difference, total)


class GaussianDirections(Gaussian):
    """R^D with the standard normal prior, read by a network that looks at directions alone (StyleGAN's Z).

    Distance is the angle (radians); paths are great circles, as in the published path length of Z, on which lengths
    change linearly.
    """

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        length_a, length_b = _length(a), _length(b)
        angle = self.distance(a, b).unsqueeze(1)
        tangent = _tangent(a / length_a, b / length_b, angle)
        share = _column(t, a)
        turned = a * torch.cos(share * angle) + length_a * tangent * torch.sin(share * angle)
        path = turned * (1.0 + share * (length_b / length_a - 1.0))
        path = torch.where(share == 0, a, path)
        return torch.where(share == 1, b, path)

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        return Hypersphere(self.dim).distance(a / _length(a), b / _length(b))


class Empirical(_Vectors):
    """R^D with the prior given by example points (StyleGAN's W): sampling draws one of them with replacement.

    Args:
        samples: (M, D) example points, M > 0.
    """

    symbol = "w"

    def __init__(self, samples: Latents) -> None:
        if len(samples) == 0:
            raise ValueError("an empirical space needs at least one example point, got none")
        super().__init__(samples.shape[1])
        self.samples = samples
        self.mean = samples.mean(0)

    @override
    def from_normal(self, normal: Latents) -> Latents:
        # The first coordinate's normal distribution function turns it into a uniform draw of an example.
        uniform = torch.special.ndtr(normal[:, 0].double())
        row = (uniform * len(self.samples)).long().clamp_max(len(self.samples) - 1)
        return self.samples.to(normal)[row]

    @override
    def project(self, latents: Latents) -> Latents:
        return latents

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        return torch.lerp(a, b, _column(t, a))

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        return torch.linalg.vector_norm(a - b, dim=1)


def _length(vectors: Latents) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(1e-12)


def _tangent(a: Latents, b: Latents, angle: Tensor) -> Latents:
    """Unit vectors (N, D) in which great circles set out from unit rows a to b, and 0 where both are equal.

    Opposite rows have no unique great circle: theirs turns through the coordinate axis that is farthest from a.

    Args:
        a: (N, D) unit rows.
        b: (N, D) unit rows.
        angle: (N, 1) between them.
    """
    tangent = b - (a * b).sum(1, keepdim=True) * a
    length = torch.linalg.vector_norm(tangent, dim=1, keepdim=True)
    axis = F.one_hot(a.abs().argmin(1), a.shape[1]).to(a)
    detour = F.normalize(axis - (a * axis).sum(1, keepdim=True) * a, dim=1, eps=1e-12)
    opposite = (length <= 1e-6) & (angle > 1.0)
    return torch.where(opposite, detour, tangent / length.clamp_min(1e-12))
