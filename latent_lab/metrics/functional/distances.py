"""How far apart codes of images are: random images, the same image with noise, and nearest neighbours.

The table of Tonelli's thesis (2022, table 4.2): mean Euclidean norms of differences of codes. Images are paired in
image space, so that the table says what a latent space makes of pairs that are the same for every model. The row of
image space itself takes the coordinates of images along the leading principal axes of the training images
(`principal.principal_axes`) in place of codes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.metrics.functional.active_subspace import check_codes
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, interval_of, resample
from latent_lab.types import Images, Indices, Latents, Scores

HALF_WIDTH = 0.05
"""Of the published uniform noise, for images in [0, 1]."""


class PairDistances(NamedTuple):
    """Distances of every image's code to three others."""

    random: Scores
    """(N,) to the code of a random other image."""
    noise: Scores
    """(N,) to the code of the same image with noise."""
    nearest: Scores
    """(N,) to the code of its nearest neighbour in image space."""


class CodeDistances(NamedTuple):
    """One row of the table: means over images, in units of the space, and ratios, which have none."""

    random: float
    noise: float
    nearest: float
    noise_ratio: float
    """noise / random: how much of the space a small change of the image crosses."""
    nearest_ratio: float
    """nearest / random: below 1 if neighbours in image space are neighbours in the space of codes."""
    coordinate_variance: float
    """random² / (2 D): variance of a coordinate of normal codes so far apart; 1 for the prior N(0, I)."""


def random_partners(number: int, *, seed: int = 0) -> Int[Tensor, "N"]:
    """Another image for each of N, every one once: the next in a random order, the first after the last.

    Raises:
        ValueError: with fewer than two images.
    """
    if number < 2:
        raise ValueError(f"random pairs need at least 2 images, got {number}")
    order = torch.randperm(number, generator=IndexedRandom(seed, "distances/partners").generator(number))
    partners = torch.empty_like(order)
    partners[order] = order.roll(-1)
    return partners


def add_uniform_noise(
    images: Images, index: Indices, *, half_width: float = HALF_WIDTH, clip: bool = False, seed: int = 0
) -> Images:
    """Images plus independent uniform noise in every pixel and channel.

    Noise depends on the seed and the image's index alone, not on batches or processes.

    Args:
        images: (N, C, H, W) in [-1, 1].
        index: (N,) of the images in their set.
        half_width: of the noise, as published for images in [0, 1]; it is doubled here.
        clip: to [-1, 1]; the thesis does not say, and does not need it.
        seed: of the noise.

    Raises:
        ValueError: if the half width is negative.
    """
    if not half_width >= 0:
        raise ValueError(f"the half width of noise must not be negative, got {half_width}")
    streams = IndexedRandom(seed, "distances/noise")
    uniform = torch.stack([torch.rand(images.shape[1:], generator=streams.generator(i)) for i in index.tolist()])
    # From [0, 1) to [-1, 1), and twice the half width as [-1, 1] is twice as wide as [0, 1].
    noisy = images + (2.0 * half_width) * (2.0 * uniform.to(images) - 1.0)
    return noisy.clamp(-1.0, 1.0) if clip else noisy


def norms_of_differences(codes: Latents, first: Int[Tensor, "P"], second: Int[Tensor, "P"]) -> Float[Tensor, "P"]:
    """Euclidean distance of the codes of P pairs of rows, in float64.

    Args:
        codes: (N, D).
        first: (P,) rows.
        second: (P,) rows.
    """
    rows = codes.double()
    return torch.linalg.vector_norm(rows[first] - rows[second], dim=1)


def pair_distances(
    codes: Latents,
    noisy_codes: Float[Tensor, "_ _"],
    nearest: Int[Tensor, "_"],
    *,
    searched_codes: Float[Tensor, "_ _"] | None = None,
    seed: int = 0,
) -> PairDistances:
    """Distances of each of N codes to those of a random image, of the image with noise, and of its nearest neighbour.

    Args:
        codes: (N, D) of the images, N at least 2.
        noisy_codes: (N, D) of the same images with noise (`add_uniform_noise`).
        nearest: (N,) rows of the images' nearest neighbours in image space, not the images themselves.
        searched_codes: (M, D) of the images among which neighbours were searched; the codes themselves by default.
        seed: of the random pairs.

    Raises:
        ValueError: if shapes do not fit, an image is its own neighbour, or codes are not finite.
    """
    rows = check_codes(codes, "a table of distances")
    others = rows if searched_codes is None else check_codes(searched_codes, "a table of distances", least=1)
    noisy = check_codes(noisy_codes, "a table of distances")
    if noisy.shape != rows.shape or others.shape[1] != rows.shape[1] or len(nearest) != len(rows):
        raise ValueError(
            f"codes {tuple(rows.shape)} need codes with noise of that shape, a neighbour for every row and searched "
            f"codes of that width, got {tuple(noisy.shape)}, {len(nearest)} neighbours and {tuple(others.shape)}"
        )
    if int(nearest.min()) < 0 or int(nearest.max()) >= len(others):
        raise ValueError(f"neighbours must be rows 0 to {len(others) - 1} of the searched codes, got others")
    if searched_codes is None and (nearest == torch.arange(len(rows), device=nearest.device)).any():
        raise ValueError("some images are their own nearest neighbours: search with exclude_same")
    partners = random_partners(len(rows), seed=seed).to(rows.device)
    return PairDistances(
        random=torch.linalg.vector_norm(rows - rows[partners], dim=1),
        noise=torch.linalg.vector_norm(rows - noisy, dim=1),
        nearest=torch.linalg.vector_norm(rows - others[nearest], dim=1),
    )


def code_distances(distances: PairDistances, dim: int) -> CodeDistances:
    """Means over images and their ratios.

    Args:
        distances: of `pair_distances`.
        dim: D, coordinates of the codes.

    Raises:
        ValueError: if all random pairs coincide, that is, if the space has collapsed.
    """
    random, noise, nearest = (values.mean().item() for values in distances)
    if random == 0:
        raise ValueError("codes of random images are all equal: the latent space has collapsed")
    return CodeDistances(random, noise, nearest, noise / random, nearest / random, random**2 / (2 * dim))


def code_distances_interval(
    distances: PairDistances,
    dim: int,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """An interval for every number of `code_distances`, by name.

    Images are resampled together with their three distances, so that ratios keep what numerator and denominator share.
    Random partners and neighbours stay as they are.

    Args:
        distances: of `pair_distances`.
        dim: D, coordinates of the codes.
        level: share of the resampled values inside.
        num_resamples: number of resamples.
        seed: of the resamples.
    """
    stacked = torch.stack(distances, 1).cpu()
    numbers = (resample(len(stacked), number, seed) for number in range(num_resamples))
    values = [code_distances(PairDistances(*stacked[rows].unbind(1)), dim) for rows in numbers]
    columns = torch.tensor(values, dtype=torch.float64).unbind(1)
    return {name: interval_of(column, level=level) for name, column in zip(CodeDistances._fields, columns, strict=True)}
