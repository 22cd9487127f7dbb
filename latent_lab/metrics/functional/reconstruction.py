"""Errors of reconstructions, one number for each image. All are in units of the [-1, 1] range unless said otherwise."""

from __future__ import annotations

import torch

from latent_lab.types import Images, Scores


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


def peak_signal_to_noise_ratio(images: Images, reconstructions: Images, data_range: float = 2.0) -> Scores:
    """10 log10(range² / mean squared error) in decibels, (N,); infinite for equal images.

    Args:
        images: (N, C, H, W).
        reconstructions: the same shape.
        data_range: largest possible difference of two values; 2 for images in [-1, 1].
    """
    return 10.0 * torch.log10(data_range**2 / mean_squared_error(images, reconstructions))
