"""Errors of reconstructions, one number for each image. All are in units of the [-1, 1] range unless said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from latent_lab.images import crop_face
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap
from latent_lab.types import Images, Indices, Scores

Marked = TypeVar("Marked", bound=Callable[..., Any])


@runtime_checkable
class PairMeasure(Protocol):
    """One number for each pair of images: an error, a similarity, a perceptual distance, a distance of identities."""

    def __call__(self, images: Images, reconstructions: Images, /) -> Scores:
        """Of N pairs (N, C, H, W) in [-1, 1], (N,)."""


def larger_is_better(measure: Marked) -> Marked:
    """Marks a measure of pairs as a similarity; without the mark it is an error or a distance."""
    measure.__dict__["higher_is_better"] = True
    return measure


def is_larger_better(measure: Any) -> bool:
    """Whether a measure of pairs is a similarity, also behind `functools.partial`."""
    return bool(getattr(getattr(measure, "func", measure), "higher_is_better", False))


class FaceCropped:
    """A measure of pairs that sees the middle of aligned faces alone, see `images.crop_face`.

    Its name ends in `_crop`: `lpips_alex_crop`. The Automodulator's LPIPS of reconstructions is such a number; there
    the crop is taken from 64 pixels on.

    Args:
        measure: of whole images.
    """

    def __init__(self, measure: PairMeasure) -> None:
        self.measure = measure
        self.higher_is_better = is_larger_better(measure)
        of_whole = getattr(measure, "func", measure)
        self.name = f"{getattr(of_whole, 'name', getattr(of_whole, '__name__', type(of_whole).__name__))}_crop"

    def __call__(self, images: Images, reconstructions: Images) -> Scores:
        """The measure of the cropped pairs, (N,).

        Raises:
            ValueError: if images are not square, or their height is not a multiple of 8.
        """
        return self.measure(crop_face(images), crop_face(reconstructions))

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        inner: Callable[[], dict[str, Any]] = getattr(self.measure, "describe", dict)
        return {**inner(), "name": self.name, "crop": "rows 3c to 7c, columns 2c to 6c, c = height / 8"}


def mean_squared_error(images: Images, reconstructions: Images) -> Scores:
    """Mean over channels and pixels of (x - x')², (N,); between 0 and 4."""
    return (images.double() - reconstructions.double()).square().mean((1, 2, 3))


def root_mean_squared_error(images: Images, reconstructions: Images) -> Scores:
    """Square root of each image's own mean squared error, (N,); between 0 and 2.

    The mean of these over a set is not the root of the set's mean squared error.
    """
    return mean_squared_error(images, reconstructions).sqrt()


def mean_absolute_error(images: Images, reconstructions: Images) -> Scores:
    """Mean over channels and pixels of |x - x'|, (N,); between 0 and 2."""
    return (images.double() - reconstructions.double()).abs().mean((1, 2, 3))


@larger_is_better
def peak_signal_to_noise_ratio(images: Images, reconstructions: Images, data_range: float = 2.0) -> Scores:
    """10 log10(range² / mean squared error) in decibels, (N,); infinite for equal images.

    Args:
        images: (N, C, H, W).
        reconstructions: the same shape.
        data_range: largest possible difference of two values; 2 for images in [-1, 1].
    """
    return 10.0 * torch.log10(data_range**2 / mean_squared_error(images, reconstructions))


def relative_error_interval(
    errors: Scores,
    deviations: Scores,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of a set's mean error relative to that of its mean image: of sum(errors) / sum(deviations).

    Error and deviation of an image are resampled together. The mean image stays that of the whole set: one of a
    resample would lie as much closer to its images as 1/N of their variance.

    Args:
        errors: (N,) mean squared errors of reconstructions.
        deviations: (N,) mean squared errors of the mean image, in the same order: `mean_squared_error(images, mean)`.
        level: share of the resampled ratios inside.
        num_resamples: number of resampled ratios.
        seed: of the resamples.

    Raises:
        ValueError: if there are not equally many of both, none, or all images are equal.
    """
    if len(errors) != len(deviations) or len(errors) == 0:
        raise ValueError(
            f"a relative error needs an error and a deviation for each image, got {len(errors)} and {len(deviations)}"
        )
    errors, deviations = errors.detach().double().cpu(), deviations.detach().double().cpu()
    if not deviations.any():
        raise ValueError("a relative error needs images that differ, got equal ones: their mean image has no error")

    def ratio(rows: Indices) -> float:
        # A resample of equal images alone has nothing to be relative to.
        return (errors[rows].sum() / deviations[rows].sum().clamp_min(torch.finfo(torch.float64).tiny)).item()

    return bootstrap(ratio, [len(errors)], level=level, num_resamples=num_resamples, seed=seed)
