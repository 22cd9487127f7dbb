"""Principal components of any number of feature vectors, fitted once on a stream of batches.

Narrow features have their covariance summed in one pass. Of wide ones, such as images, only the leading axes are
found, by a random projection that is refined in passes over the stream (Halko, Martinsson & Tropp 2011), so that no
matrix of the size F x F exists. Either way products are summed in float64 and signs are fixed: of every axis the entry
of largest magnitude is positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.types import Features

Batch: TypeAlias = Float[Tensor, "_ _"]
"""Some of the features (B, F); the last batch may be smaller, and widths are compared in `principal_axes`."""

WIDEST_COVARIANCE = 2048
"""Features up to this width have their whole covariance summed."""


class PrincipalAxes(NamedTuple):
    """The directions in which features vary most."""

    mean: Float[Tensor, "F"]
    axes: Float[Tensor, "L F"]
    """Orthonormal rows, largest variance first."""
    variances: Float[Tensor, "L"]
    """Unbiased, along each axis."""
    total_variance: float
    """Of all F coordinates."""
    num_vectors: int

    @property
    def explained(self) -> Float[Tensor, "L"]:
        """Share of the total variance along each axis; 0 where nothing varies."""
        return self.variances / self.total_variance if self.total_variance > 0 else torch.zeros_like(self.variances)

    def project(self, features: Features) -> Float[Tensor, "N L"]:
        """Coordinates (N, L) of features (N, F) along the axes, in the features' precision.

        Raises:
            ValueError: if the features have another width.
        """
        if features.shape[1] != len(self.mean):
            raise ValueError(f"principal axes are of width {len(self.mean)}, got features of width {features.shape[1]}")
        return (features - self.mean.to(features)) @ self.axes.to(features).T

    def reconstruct(self, coordinates: Float[Tensor, "N L"]) -> Float[Tensor, "N F"]:
        """The features (N, F) nearest to the mean with the given coordinates (N, L)."""
        return coordinates @ self.axes.to(coordinates) + self.mean.to(coordinates)


def fix_signs(axes: Float[Tensor, "L F"]) -> Float[Tensor, "L F"]:
    """Rows turned so that the entry of largest magnitude (the first of equals) is positive."""
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -axes, axes)


class _Totals(NamedTuple):
    """What one pass over the stream tells of every coordinate."""

    number: int
    mean: Float[Tensor, "F"]
    total_variance: float
    covariance: Float[Tensor, "F F"] | None


def _checked(batches: Iterable[Batch]) -> Iterator[Batch]:
    width = None
    for batch in batches:
        width = batch.shape[1] if width is None else width
        if batch.shape[1] != width:
            raise ValueError(f"a principal component analysis got batches of width {width} and {batch.shape[1]}")
        if not torch.isfinite(batch).all():
            raise ValueError("a principal component analysis needs finite features, but some are not")
        if len(batch):
            yield batch.detach()


def _first_pass(batches: Iterable[Batch], covariance_up_to: int) -> _Totals:
    """Moments about the first batch's mean, which keeps digits when the mean is far from 0."""
    stream = _checked(batches)
    first = next(stream, None)
    if first is None:
        raise ValueError("a principal component analysis needs at least 2 feature vectors, got none")
    shift = first.double().mean(0)
    number, sums, squares = 0, torch.zeros_like(shift), torch.zeros_like(shift)
    products = shift.new_zeros(len(shift), len(shift)) if len(shift) <= covariance_up_to else None
    for batch in chain([first], stream):
        rows = batch.double() - shift
        number += len(rows)
        sums += rows.sum(0)
        squares += rows.square().sum(0)
        if products is not None:
            products.addmm_(rows.T, rows)
    if number < 2:
        raise ValueError(f"a principal component analysis needs at least 2 feature vectors, got {number}")
    offset = sums / number
    total = (squares - number * offset.square()).clamp_min(0.0).sum().item() / (number - 1)
    if products is not None:
        products = (products - number * torch.outer(offset, offset)) / (number - 1)
    return _Totals(number, shift + offset, total, products)


def _leading(
    batches: Iterable[Batch], totals: _Totals, count: int, oversampling: int, passes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Variances and axes (rows) by subspace iteration with the covariance, which only ever meets thin matrices."""
    width = len(totals.mean)
    thin = min(count + oversampling, width, totals.number - 1)
    rng = torch.Generator().manual_seed(seed)
    basis = torch.randn(width, thin, generator=rng, dtype=torch.float64).to(totals.mean)
    for _ in range(passes):
        basis = torch.linalg.qr(basis).Q
        image = torch.zeros_like(basis)
        for batch in _checked(batches):
            # In the features' own precision: rounding of a batch's products averages out, and the last pass is exact.
            rows = batch - totals.mean.to(batch)
            image += (rows.T @ (rows @ basis.to(rows))).double()
        basis = image
    basis = torch.linalg.qr(basis).Q
    small = basis.new_zeros(thin, thin)
    for batch in _checked(batches):
        coordinates = (batch.double() - totals.mean) @ basis
        small.addmm_(coordinates.T, coordinates)
    values, vectors = torch.linalg.eigh(small / (totals.number - 1))
    return values.flip(0), (basis @ vectors.flip(1)).T


def principal_axes(
    batches: Iterable[Batch],
    num_components: int,
    *,
    method: Literal["auto", "covariance", "randomised"] = "auto",
    oversampling: int = 32,
    passes: int = 6,
    seed: int = 0,
) -> PrincipalAxes:
    """The leading principal components of a stream of feature vectors.

    Args:
        batches: of features (B, F), for example flattened images. "randomised" goes over them `passes` + 2 times, so
            they must be a list or another object that can be gone over again, in the same order.
        num_components: L, at most F and below the number of vectors.
        method: "covariance" (exact, one pass, F² memory), "randomised" (leading axes, passes x 4 N F L operations), or
            "auto": the former up to a width of 2048.
        oversampling: further axes that randomised passes carry along; more of them and more passes bring trailing axes
            closer to the exact ones.
        passes: of subspace iteration.
        seed: of the random projection.

    Raises:
        ValueError: for too few vectors, batches of different widths, features that are not finite, another method, or
            batches that can be gone over only once.
    """
    if method not in ("auto", "covariance", "randomised"):
        raise ValueError(f"a method of principal components is auto, covariance or randomised, got {method!r}")
    once = isinstance(batches, Iterator)
    if method == "randomised" and once:
        raise ValueError("randomised principal components go over the batches several times: give a list, no iterator")
    totals = _first_pass(batches, {"auto": WIDEST_COVARIANCE, "covariance": 2**62, "randomised": 0}[method])
    width = len(totals.mean)
    if not 1 <= num_components <= min(width, totals.number - 1):
        raise ValueError(
            f"{totals.number} vectors of width {width} have 1 to {min(width, totals.number - 1)} principal components, "
            f"got {num_components}: ask for fewer, or give more images"
        )
    if totals.covariance is not None:
        values, vectors = torch.linalg.eigh(totals.covariance)
        values, axes = values.flip(0), vectors.flip(1).T
    elif once:
        raise ValueError(
            f"features of width {width} are gone over several times: give a list of batches, no iterator, or the "
            "method 'covariance'"
        )
    else:
        values, axes = _leading(batches, totals, num_components, oversampling, passes, seed)
    return PrincipalAxes(
        mean=totals.mean,
        axes=fix_signs(axes[:num_components]),
        variances=values[:num_components].clamp_min(0.0),
        total_variance=totals.total_variance,
        num_vectors=totals.number,
    )
