"""Priors that are found after training: densities of the codes, which replace the prior of a trained autoencoder.

The codes of an autoencoder seldom fill its prior, so samples of the prior may be decoded where nothing was learnt. A
mixture of normals fitted to the codes (Ghosh et al.: "From Variational to Deterministic Autoencoders", 2020) or a
second, small VAE of the codes (Dai and Wipf: "Diagnosing and Enhancing VAE Models", 2019) says where the codes are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian
from latent_lab.types import Images, Latents, Scores

_FINENESS = 4096.0


class _FlatSpace(AbstractLatentSpace):
    """R^D with straight lines and Euclidean distance; only the prior is left open."""

    def __init__(self, dim: int) -> None:
        self._flat = Gaussian(dim)

    @property
    def dim(self) -> int:
        return self._flat.dim

    @override
    def project(self, latents: Latents) -> Latents:
        return latents

    @override
    def interpolate(self, a: Latents, b: Latents, t: float | Tensor) -> Latents:
        return self._flat.interpolate(a, b, t)

    @override
    def distance(self, a: Latents, b: Latents) -> Scores:
        return self._flat.distance(a, b)


class Mixture(_FlatSpace):
    """R^D with a mixture of normals, sum_k p_k N(m_k, A_k A_k^T), as prior.

    Args:
        weights: p, (K,), not negative, adding up to 1.
        means: m, (K, D).
        factors: A, (K, D, D), for example Cholesky factors of the covariances.
    """

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor) -> None:
        components, dim = means.shape
        if weights.shape != (components,) or factors.shape != (components, dim, dim):
            raise ValueError(
                f"a mixture of means {tuple(means.shape)} needs weights ({components},) and factors "
                f"({components}, {dim}, {dim}), got {tuple(weights.shape)} and {tuple(factors.shape)}"
            )
        if weights.min() < 0 or abs(weights.double().sum().item() - 1.0) > 1e-5:
            raise ValueError(f"weights of a mixture must be non-negative and add up to 1, got {weights.tolist()}")
        super().__init__(dim)
        self.weights = weights
        self.means = means
        self.factors = factors

    @override
    def from_normal(self, normal: Latents) -> Latents:
        """m_k + A_k x, with the component k taken from x itself.

        Phi(x_i), the standard normal distribution function, is uniform, and so is the fractional part of 4096 sum_i
        Phi(x_i), which chooses k: it knows nothing of any D - 1 of the coordinates, and of the last one only digits
        from the thirteenth bit on. Component and x are therefore independent to about 1 / 4096 of a coordinate's
        probability.
        """
        component = self.component_of(normal)
        latents = torch.empty_like(normal)
        for chosen in component.unique().tolist():
            rows = component == chosen
            factor, mean = self.factors[chosen].to(normal), self.means[chosen].to(normal)
            latents[rows] = normal[rows] @ factor.mT + mean
        return latents

    def component_of(self, normal: Latents) -> Tensor:
        """Number (N,) of the component that `from_normal` uses for each row."""
        # On the CPU in float64: a device's last digits must not choose another component.
        share = (_FINENESS * torch.special.ndtr(normal.detach().cpu().double()).sum(1)).frac()
        edges = self.weights.detach().cpu().double().cumsum(0)
        return torch.searchsorted(edges, share, right=True).clamp_max(len(edges) - 1).to(normal.device)


class SecondStage(_FlatSpace):
    """R^D with the prior that a second decoder makes of standard normal vectors: z = decode(u).

    The noise that Dai and Wipf's program adds to z is left out, as Asperti and Trentin do.

    Args:
        dim: D, of u and of z.
        decode: u (N, D) -> z (N, D).
    """

    def __init__(self, dim: int, decode: Callable[[Latents], Latents]) -> None:
        super().__init__(dim)
        self._decode = decode

    @override
    def from_normal(self, normal: Latents) -> Latents:
        return self._decode(normal)


class Rescaled(_FlatSpace):
    """Another space's prior, stretched about a centre, coordinate by coordinate: c + s (z - c).

    Generated codes vary less than those of images, since a decoder returns means; s restores the deviation (Asperti and
    Trentin 2020).

    Args:
        space: gives z.
        centre: c, (D,).
        scale: s, (D,), positive.
    """

    def __init__(self, space: AbstractLatentSpace, centre: Tensor, scale: Tensor) -> None:
        if centre.shape != (space.dim,) or scale.shape != (space.dim,):
            raise ValueError(
                f"centre and scale must have {space.dim} numbers, got {tuple(centre.shape)} and {tuple(scale.shape)}"
            )
        super().__init__(space.dim)
        self._space = space
        self._centre = centre
        self._scale = scale

    @override
    def from_normal(self, normal: Latents) -> Latents:
        centre, scale = self._centre.to(normal), self._scale.to(normal)
        return centre + scale * (self._space.from_normal(normal) - centre)


class WithPrior(AbstractAutoencoder):
    """The same autoencoder with another prior to sample from.

    Args:
        model: an autoencoder; used, not owned.
        space: has the model's number of dimensions; its samples are projected to the model's own space.
    """

    def __init__(self, model: AbstractAutoencoder, space: AbstractLatentSpace) -> None:
        if space.dim != model.latent_space.dim:
            raise ValueError(
                f"the prior has {space.dim} dimensions, {type(model).__name__} has {model.latent_space.dim}: fit it to "
                "codes of this model"
            )
        self.model = model
        self._space = space

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """With the new prior."""
        return self._space

    @property
    def resolution(self) -> int:
        """The model's."""
        return self.model.resolution

    @property
    def device(self) -> Any:
        """Where the model computes."""
        return getattr(self.model, "device", torch.device("cpu"))

    @property
    def now(self) -> Any:
        """The model's state of growth; none if it has none."""
        return getattr(self.model, "now", None)

    def encode(self, images: Images) -> Latents:
        """As the model does."""
        return self.model.encode(images)

    def decode(self, latents: Latents) -> Images:
        """As the model does, of the nearest points of its own space."""
        return self.model.decode(self.model.latent_space.project(latents))


def fit_mixture(
    codes: Latents, components: int, *, reg_covar: float = 1e-3, max_iter: int = 200, seed: int = 0
) -> Mixture:
    """The mixture of normals with full covariances that expectation maximisation finds (scikit-learn's).

    Args:
        codes: (N, D).
        components: K, at most N.
        reg_covar: added to the diagonal of the covariances. With fewer than D codes for each component it is what keeps
            them from being singular; scikit-learn's own 1e-6 then lets the mixture repeat the codes.
        max_iter: iterations at most.
        seed: of the start by k-means.

    Raises:
        ValueError: if there are fewer codes than components, or if some are not finite.
    """
    if components < 1 or len(codes) < components:
        raise ValueError(
            f"a mixture of {components} components needs at least one, and as many codes, got {len(codes)} codes: give "
            "fewer components or more images"
        )
    if not torch.isfinite(codes).all():
        raise ValueError("a mixture is fitted to finite codes, but some are not: the model has diverged")
    # Slow to import and used here alone.
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(components, reg_covar=reg_covar, max_iter=max_iter, random_state=seed)
    fitted.fit(codes.detach().double().cpu().numpy())
    return Mixture(
        torch.from_numpy(fitted.weights_),
        torch.from_numpy(fitted.means_),
        torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)),
    )
