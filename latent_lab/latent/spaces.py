"""Latent spaces as objects: how to sample, project, interpolate and measure.

Nothing else in the package asks "is it a sphere?".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from latent_lab.types import Latents, Scores

PriorLaw: TypeAlias = Literal["normal", "sphere", "other"]
"""Standard normal; uniform on the unit sphere; any other, known by its samples alone."""


class AbstractLatentSpace(ABC):
    """A set of vectors with a prior, a projection, geodesics and a distance."""

    symbol: str = "z"
    """Letter of its points in the names of numbers: ppl_z_end."""
    prior_law: PriorLaw = "other"
    """What a test of the prior, or of codes that should have its law, can take for granted."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of coordinates D."""

    @property
    def num_normals(self) -> int:
        """Width of the standard normal rows that `from_normal` takes: D, unless a sample has fewer degrees of
        freedom.
        """
        return self.dim

    @property
    def centre(self) -> Float[Tensor, "D"] | None:
        """Where a search begins if samples of the prior would be bad starts; none: at samples."""
        return None

    @abstractmethod
    def from_normal(self, normal: Latents) -> Latents:
        """Maps standard normal rows (N, num_normals) to samples (N, D) of the prior, so that callers decide where
        randomness comes from.
        """

    def sample(self, n: int, rng: torch.Generator) -> Latents:
        """Draws n independent samples of the prior, on the generator's device."""
        return self.from_normal(torch.randn(n, self.num_normals, generator=rng, device=rng.device))

    def prior_energy(self, latents: Latents) -> Scores:
        """How unlikely points are, (N,): |z|^2 / D of the standard normal prior, whose own samples have 1 on average.

        -2 / D times the logarithm of the density, up to a constant; spaces with another prior have another one.
        """
        return latents.square().mean(1)

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

    def to_tangent(self, base: Float[Tensor, "1 D"], points: Latents) -> Latents:
        """Points (N, D) as seen from a base point: vectors (N, D) in their directions, as long as they are far away.

        What is linear, such as a Gaussian process, can be done there and brought back by `from_tangent`.
        """
        return points - base

    def from_tangent(self, base: Float[Tensor, "1 D"], vectors: Latents) -> Latents:
        """The points (N, D) that `to_tangent` sees as these vectors."""
        return base + vectors


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

    prior_law = "normal"

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

    prior_law = "sphere"

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

    @override
    def to_tangent(self, base: Float[Tensor, "1 D"], points: Latents) -> Latents:
        """The sphere's logarithm: vectors at right angles to the base, as long as the angle to the point.

        Raises:
            ValueError: if the base is no point of the sphere, as the mean of opposite ones is not.
        """
        if (_length(base) - 1.0).abs().max() > 1e-3:
            raise ValueError(
                f"a tangent touches the sphere at a point of length 1, got one of length {_length(base).item():.3g}"
            )
        seen_from = base.expand_as(points)
        angle = self.distance(seen_from, points).unsqueeze(1)
        return angle * _tangent(seen_from, points, angle)

    @override
    def from_tangent(self, base: Float[Tensor, "1 D"], vectors: Latents) -> Latents:
        """The sphere's exponential; of vectors that lean towards the base, the part at right angles to it counts."""
        flat = vectors - (vectors * base).sum(1, keepdim=True) * base
        angle = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return base * torch.cos(angle) + flat * torch.sinc(angle / torch.pi)

    @override
    def prior_energy(self, latents: Latents) -> Scores:
        """1 everywhere: no point of the sphere is more likely than another."""
        return torch.ones_like(latents[:, 0])


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
    """R^D with the prior given by example points: sampling draws one of them with replacement.

    Args:
        samples: (M, D) example points, M > 0.

    Raises:
        ValueError: if there are none.
    """

    symbol = "w"

    def __init__(self, samples: Latents) -> None:
        if len(samples) == 0:
            raise ValueError("an empirical space needs at least one example point, got none")
        super().__init__(samples.shape[1])
        self._samples = samples

    @property
    def samples(self) -> Latents:
        """The example points (M, D)."""
        return self._samples

    @cached_property
    def mean(self) -> Float[Tensor, "D"]:
        """Of the example points."""
        with _for_gradients():
            return self.samples.mean(0)

    @cached_property
    def whitening(self) -> Float[Tensor, "D D"]:
        """Makes rows of unit covariance of centred points: (w - mean) whitening, from C = V diag(s) V^T by V / sqrt(s).

        Variances s below a millionth of the largest count as that much, so that it exists for a few points, too.
        """
        with _for_gradients():
            centred = (self.samples - self.mean).double().cpu()
            variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
            floor = (1e-6 * variances[-1]).clamp_min(1e-12)
            return (directions / torch.maximum(variances, floor).sqrt()).to(self.samples)

    @property
    @override
    def centre(self) -> Float[Tensor, "D"]:
        """The mean, as Abdal et al. (2019) begin."""
        return self.mean

    @override
    def prior_energy(self, latents: Latents) -> Scores:
        """Squared Mahalanobis distance from the mean over D: (w - mean) C^-1 (w - mean)^T / D, 1 for average samples.

        It takes the prior for a normal distribution of this mean and covariance.
        """
        return ((latents - self.mean.to(latents)) @ self.whitening.to(latents)).square().mean(1)

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


class Pushforward(Empirical):
    """R^D with the prior of mapped samples of another space (StyleGAN's W).

    A sample is the mapped sample of the source that the same normal row stands for. So many example points, the first
    of a seed, give mean and covariance; they are mapped when they are first asked for.

    Args:
        source: the other space.
        mapping: its points, on any device, to points (N, D).
        dim: D.
        count: number of example points.
        seed: of them.

    Raises:
        ValueError: if there are to be none.
    """

    def __init__(
        self,
        source: AbstractLatentSpace,
        mapping: Callable[[Latents], Latents],
        dim: int,
        *,
        count: int,
        seed: int,
    ) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}: so many points stand for W")
        _Vectors.__init__(self, dim)
        self.source = source
        self.count = count
        self.seed = seed
        self._map = mapping

    @cached_property
    def samples(self) -> Latents:
        """The example points (count, D)."""
        with _for_gradients():
            return self._mapped(self.source.sample(self.count, torch.Generator().manual_seed(self.seed)))

    @property
    @override
    def num_normals(self) -> int:
        return self.source.num_normals

    @override
    def from_normal(self, normal: Latents) -> Float[Tensor, "N E"]:
        return self._mapped(self.source.from_normal(normal))

    @torch.no_grad()
    def _mapped(self, latents: Latents) -> Float[Tensor, "N E"]:
        return self._map(latents)


class PerLayer(AbstractLatentSpace):
    """Points of a space, one for every layer, in one row (N, L * D): W+ of W (Abdal et al. 2019).

    A sample of its prior is one sample of the space for all layers, as a decoder is trained. Paths are the space's own
    in each layer; the distance is the root of the sum of the layers' squares.

    Args:
        space: of one layer's latents.
        num_layers: L.
    """

    def __init__(self, space: AbstractLatentSpace, num_layers: int) -> None:
        self.space = space
        self.num_layers = num_layers
        self.symbol = f"{space.symbol}plus"

    def __repr__(self) -> str:
        return f"PerLayer({self.space!r}, {self.num_layers})"

    @property
    def dim(self) -> int:
        """See `AbstractLatentSpace`."""
        return self.num_layers * self.space.dim

    @property
    @override
    def num_normals(self) -> int:
        return self.space.num_normals

    @property
    @override
    def centre(self) -> Float[Tensor, "LD"] | None:
        """The space's, in every layer."""
        centre = self.space.centre
        return None if centre is None else centre.repeat(self.num_layers)

    def repeat(self, latents: Latents) -> Float[Tensor, "N LD"]:
        """Points (N, L * D) with the same point of the space (N, D) in every layer."""
        return latents.repeat(1, self.num_layers)

    @override
    def from_normal(self, normal: Latents) -> Float[Tensor, "N LD"]:
        return self.repeat(self.space.from_normal(normal))

    @override
    def project(self, latents: Latents) -> Latents:
        return self.space.project(self._rows(latents)).reshape(latents.shape)

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        share = t.repeat_interleave(self.num_layers) if isinstance(t, Tensor) and t.ndim else t
        return self.space.interpolate(self._rows(a), self._rows(b), share).reshape(a.shape)

    @override
    def to_tangent(self, base: Float[Tensor, "1 LD"], points: Latents) -> Latents:
        return self._by_layer(self.space.to_tangent, base, points)

    @override
    def from_tangent(self, base: Float[Tensor, "1 LD"], vectors: Latents) -> Latents:
        return self._by_layer(self.space.from_tangent, base, vectors)

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        of_layers = self.space.distance(self._rows(a), self._rows(b))
        return torch.linalg.vector_norm(of_layers.view(-1, self.num_layers), dim=1)

    @override
    def prior_energy(self, latents: Latents) -> Scores:
        """The mean over layers."""
        return self.space.prior_energy(self._rows(latents)).view(-1, self.num_layers).mean(1)

    def _by_layer(self, move: Callable[[Tensor, Tensor], Tensor], base: Tensor, rows: Latents) -> Latents:
        """What `to_tangent` and `from_tangent` of the space make of each layer, side by side."""
        width = self.space.dim
        layers = zip(base.split(width, 1), rows.split(width, 1), strict=True)
        return torch.cat([move(at, layer) for at, layer in layers], dim=1)

    def _rows(self, latents: Latents) -> Float[Tensor, "NL E"]:
        return latents.reshape(-1, self.space.dim)


@contextmanager
def _for_gradients() -> Iterator[None]:
    """Constants computed within may meet a gradient later on, which tensors of inference mode could not."""
    with torch.inference_mode(False), torch.no_grad():
        yield


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
