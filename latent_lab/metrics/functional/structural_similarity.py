"""Structural similarity of pairs of images, SSIM and MS-SSIM (Wang et al. 2004; Wang, Simoncelli and Bovik 2003).

With means, variances and covariance of both images under a Gaussian window, and C1 = (0.01 R)², C2 = (0.03 R)² of the
range R of values, SSIM is the mean over places of l · cs with

    l = (2 mx my + C1) / (mx² + my² + C1)        cs = (2 sxy + C2) / (sx² + sy² + C2)

It is 1 for equal images and at least -1. The window has 11 x 11 pixels and a deviation of 1.5, and stands only where it
lies within the image. Colours are compared one by one and their mean is taken; the published experiments used grey.

l depends on where zero lies: images are converted to [0, 1], R = 1, which gives what bytes with R = 255 give.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent_lab.images import to_unit
from latent_lab.metrics.functional.reconstruction import larger_is_better
from latent_lab.types import Images, Scores

WINDOW = 11
"""Pixels per side of the window, and least size of an image at the coarsest scale."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's five scales, the finest first."""
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def _windows(size: int, like: Tensor) -> Float[Tensor, "P Q"]:
    """A matrix (size, size - 10) whose columns are the window at all its places along one side."""
    place = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    taps = torch.exp(-place.square() / (2.0 * _SIGMA**2))
    matrix = like.new_zeros(size, size - WINDOW + 1)
    for offset, tap in enumerate(taps / taps.sum()):
        matrix.diagonal(-offset).copy_(tap)
    return matrix


def _windowed(values: Float[Tensor, "M C H W"]) -> Float[Tensor, "M C P Q"]:
    """Means under the window wherever it fits; matrix products do it ten times as fast as a convolution on a CPU."""
    height, width = values.shape[-2:]
    return _windows(height, values).T @ (values @ _windows(width, values))


def _terms(
    a: Float[Tensor, "N C H W"], b: Float[Tensor, "N C H W"]
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Means over places of l · cs and of cs, of float64 images in [0, 1]."""
    mean_a, mean_b, square_a, square_b, product = _windowed(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    structure = (2.0 * (product - mean_a * mean_b) + _C2) / (variances + _C2)
    luminance = (2.0 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))


def _check(images: Images, reconstructions: Images, name: str, num_scales: int) -> None:
    if images.shape != reconstructions.shape:
        raise ValueError(
            f"{name} compares images of one shape, got {tuple(images.shape)} and {tuple(reconstructions.shape)}"
        )
    side, least = min(images.shape[-2:]), WINDOW * 2 ** (num_scales - 1)
    if side < least:
        fitting = sum(side >= WINDOW * 2**scale for scale in range(len(SCALE_WEIGHTS)))
        remedy = f": compare with num_scales={fitting}" if num_scales > 1 and fitting else ""
        scales = f" with {num_scales} scales" if num_scales > 1 else ""
        raise ValueError(f"{name}{scales} needs images of {least} pixels or more, got {side}{remedy}")


@larger_is_better
def structural_similarity(images: Images, reconstructions: Images) -> Scores:
    """SSIM of each pair, (N,) float64; 1 for equal images.

    Args:
        images: (N, C, H, W) in [-1, 1], H and W at least 11; values outside are clamped.
        reconstructions: the same shape.

    Raises:
        ValueError: if shapes differ or images are too small.
    """
    _check(images, reconstructions, "SSIM", 1)
    similarity, _ = _terms(_unit(images), _unit(reconstructions))
    return similarity.mean(1)


@larger_is_better
def multiscale_structural_similarity(
    images: Images, reconstructions: Images, *, num_scales: int = len(SCALE_WEIGHTS)
) -> Scores:
    """MS-SSIM of each pair, (N,) float64: the product over scales of cs to the power of its weight, and SSIM at the
    last.

    Each scale halves the one before by means of 2 x 2 pixels. Negative terms, which have no such power, count as 0.

    Args:
        images: (N, C, H, W) in [-1, 1]; values outside are clamped. Five scales need 176 pixels, four 88, three 44.
        reconstructions: the same shape.
        num_scales: published: 5. With fewer, the weights of the finest ones, divided by their sum, are taken, and the
            number is another one, to be called `ms_ssim_3` and not `ms_ssim`.

    Raises:
        ValueError: if there are no such scales, shapes differ or images are too small.
    """
    if not 1 <= num_scales <= len(SCALE_WEIGHTS):
        raise ValueError(f"MS-SSIM has 1 to {len(SCALE_WEIGHTS)} scales, got num_scales={num_scales}")
    _check(images, reconstructions, "MS-SSIM", num_scales)
    # The five published weights sum to 1.0001 and stay as they are.
    total = 1.0 if num_scales == len(SCALE_WEIGHTS) else sum(SCALE_WEIGHTS[:num_scales])
    a, b = _unit(images), _unit(reconstructions)
    product = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(SCALE_WEIGHTS[:num_scales]):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        similarity, structure = _terms(a, b)
        term = similarity if scale == num_scales - 1 else structure
        product = product * term.clamp_min(0.0) ** (weight / total)
    return product.mean(1)


def _unit(images: Images) -> Float[Tensor, "N C H W"]:
    """Clamped, in [0, 1] and float64, since variances are differences of nearly equal numbers."""
    return to_unit(images.detach().double().clamp(-1.0, 1.0))
