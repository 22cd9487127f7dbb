"""How far apart models place images: random ones, the same one with noise, and nearest neighbours in image space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.image_space import as_images, image_axes, pixel_resolution, pixel_vectors
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, number_name
from latent_lab.images import enlarge, make_grid
from latent_lab.metrics.functional import (
    PairDistances,
    add_uniform_noise,
    code_distances,
    code_distances_interval,
    distinct_neighbours,
    norms_of_differences,
    pair_distances,
    random_partners,
)
from latent_lab.metrics.functional.bootstrap import LEVEL
from latent_lab.metrics.functional.distances import HALF_WIDTH
from latent_lab.progress import phase
from latent_lab.types import Features, Images, Indices, Latents, OtherImages

Searched = Literal["reference", "held_out"]
STREAM = "distances/prior"
"""Name of the random stream of the samples of the prior."""
_HEAD = (
    "space",
    "D",
    "random",
    "+ noise",
    "near",
    "noise / random",
    "near / random",
    "variance of a coordinate",
    "random pairs of the prior",
)


@dataclass(frozen=True)
class Distances(AbstractSpacesAnalysis):
    """Mean Euclidean distances of codes of pairs of images, as in table 4.2 of Tonelli's thesis (2022).

    A held-out image is paired with another one, with itself plus noise, and with its nearest neighbour, in image space,
    among training images. Rows of image space come first: all pixels, and principal components of training images,
    as many as each model has latents. Ratios have no unit and compare across spaces.
    """

    name = "distances"

    num: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    searched: Searched = "reference"
    """Images among which neighbours are searched: reference (training) or held_out (the others of these)."""
    num_reference: int | None = 10_000
    """Training images, evenly spaced, among which neighbours are searched, and whose principal axes are found."""
    half_width: float = HALF_WIDTH
    """Noise is uniform within +- this, for images in [0, 1]."""
    clip: bool = False
    """Whether images with noise are clipped to their range."""
    most_pixels: int = 64
    """Pixels per side of image space, if the first model has more."""
    num_pictures: int = 8
    """Columns of the sheet of pairs."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of random pairs, noise, resamples and samples of the prior."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.searched not in get_args(Searched):
            raise ValueError(f"distances searches neighbours among reference or held_out, got {self.searched!r}")
        for option, least in (
            ("num", 3),
            ("num_reference", 3),
            ("most_pixels", 1),
            ("num_pictures", 1),
            ("num_resamples", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"distances needs {option} of at least {least}, got {value}")
        if self.num_resamples == 1:
            raise ValueError("distances needs num_resamples of at least 2, or 0 for no intervals, got 1")
        if not 0 < self.half_width < math.inf:
            raise ValueError(f"distances needs a half_width above 0, got {self.half_width}")

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers of every space (image_pixels, image_pca64, and the models):

            distance_random, distance_noise_0.05, distance_near_9k: mean distance to the codes of another image, of the
                image with noise, and of its nearest neighbour among so many
            ratio_noise_0.05, ratio_near_9k: the latter two over the first
            pair_variance: distance_random² / (2 D), the variance of a coordinate of normal codes so far apart
            distance_prior, ratio_prior: between random samples of the model's prior; distance_random over that

        Raises:
            ValueError: if there are fewer than three images of either kind, or codes are not finite or all equal.
        """
        first = participants[0]
        places, others = first.places("held_out", self.num), first.places("reference", self.num_reference)
        for what, some in (("held-out", places), ("reference", others)):
            if len(some) < 3:
                raise ValueError(f"distances needs at least 3 {what} images, got {len(some)}: name a larger data set")
        # Without training images, the reference is what is held out.
        within = self.searched == "held_out" or first.reference is first.held_out
        resolution = pixel_resolution(participants, self.most_pixels)
        with phase("reading images"):
            pixels = pixel_vectors(first.held_out, places, resolution, self.batch_size)
            noisy = pixel_vectors(first.held_out, places, resolution, self.batch_size, self._add_noise)
            reference = pixel_vectors(first.reference, others, resolution, self.batch_size)
        searched = pixels if within else reference
        near = distinct_neighbours(searched, 1, queries=None if within else pixels).indices[:, 0]
        neighbours = searched[near]
        found = {"image_pixels": (self._distances(pixels, noisy, neighbours), pixels.shape[1])}
        notes = []
        dims = sorted({one.dim for one in participants})
        axes = image_axes(reference, dims)
        for dim in dims:
            if axes is None or dim > len(axes.axes):
                notes.append(f"{len(reference)} reference images have no {dim} principal components: no such row")
                continue
            projected = (axes.project(rows)[:, :dim] for rows in (pixels, noisy, neighbours))
            found[f"image_pca{dim}"] = (self._distances(*projected), dim)
        priors: dict[str, float] = {}
        for one in participants:
            codes = one.codes("held_out", self.num, self.batch_size)
            noisy_codes = one.encode("held_out", places, self.batch_size, self._add_noise)
            if within:
                near_codes = codes[near]
            else:
                near_codes = one.encode("reference", [others[row] for row in near.tolist()], self.batch_size)
            found[one.name] = (self._distances(codes, noisy_codes, near_codes), one.dim)
            priors[one.name] = self._distance_of_prior(one, len(places))
        names = {one.name: number_name(participants, one, "") for one in participants}
        near_of = count_name(len(searched))
        numbers: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        table: list[list[str | float]] = [list(_HEAD)]
        for space, (distances, dim) in found.items():
            row = code_distances(distances, dim)
            prefix = names.get(space, f"{space}/")
            called = {field: f"{prefix}{name}" for field, name in self._names(near_of).items()}
            numbers |= {called[field]: value for field, value in row._asdict().items()}
            if self.num_resamples:
                options = {"num_resamples": self.num_resamples, "seed": self.seed}
                ends = code_distances_interval(distances, dim, **options)
                intervals |= {called[field]: (interval.low, interval.high) for field, interval in ends.items()}
            if space in priors:
                numbers[f"{prefix}distance_prior"] = priors[space]
                numbers[f"{prefix}ratio_prior"] = row.random / priors[space]
            table.append([_title(space), dim, *row, priors.get(space, "")])
        protocol: dict[str, Any] = {
            "num": len(places),
            "chosen": "evenly spaced over the source",
            "distance": "Euclidean",
            "pairs": {"random": "every image once", "near": f"nearest of {len(searched)} images by pixels, no copies"},
            "searched": "held_out" if within else "reference",
            "noise": {"uniform_half_width": self.half_width, "of": "images in [0, 1]", "clipped": self.clip},
            "image_space": {"resolution": resolution, "range": "[0, 1]", "seen_by": first.name},
            "principal_axes": {"images": len(reference), "of": "reference", "fitted": "once, without noise"},
            "reference": dict(first.reference.recipe),
            "seed": self.seed,
            "rows": ["image", "+ noise", "near", "random"],
            "notes": notes,
        }
        if self.num_resamples:
            protocol["intervals"] = {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed}
        pictures = {"pairs": self._sheet([as_images(rows, resolution) for rows in (pixels, noisy, neighbours)])}
        tables: dict[str, Table] = {"Mean distances": table}
        return Result(self.name, numbers, protocol, pictures, tables, intervals)

    def _add_noise(self, images: Images, places: Indices) -> Images:
        return add_uniform_noise(images, places, half_width=self.half_width, clip=self.clip, seed=self.seed)

    def _distances(self, codes: Latents | Features, noisy: Features, neighbours: Features) -> PairDistances:
        """Of codes, and of codes of images with noise and of neighbours, row by row."""
        rows = torch.arange(len(codes))
        return pair_distances(codes, noisy, rows, searched_codes=neighbours, seed=self.seed)

    def _distance_of_prior(self, one: Participant, count: int) -> float:
        samples = one.prior(count, self.seed, STREAM)
        rows = torch.arange(count)
        return norms_of_differences(samples, rows, random_partners(count, seed=self.seed)).mean().item()

    def _names(self, near_of: str) -> dict[str, str]:
        """Field of `CodeDistances` -> how its number is called."""
        noise = f"{self.half_width:g}"
        return {
            "random": "distance_random",
            "noise": f"distance_noise_{noise}",
            "nearest": f"distance_near_{near_of}",
            "noise_ratio": f"ratio_noise_{noise}",
            "nearest_ratio": f"ratio_near_{near_of}",
            "coordinate_variance": "pair_variance",
        }

    def _sheet(self, columns: Sequence[Images]) -> OtherImages:
        """A row of images, and below each one what it is paired with."""
        images, noisy, neighbours = columns
        partners = images[random_partners(len(images), seed=self.seed)]
        count = min(self.num_pictures, len(images))
        tiles = torch.cat([rows[:count] for rows in (images, noisy, neighbours, partners)])
        return enlarge(make_grid(tiles, count), magnification(images.shape[-1]))


def _title(space: str) -> str:
    if space == "image_pixels":
        return "image (all pixels)"
    return f"image ({space.removeprefix('image_pca')} principal components)" if space.startswith("image_pca") else space


__all__ = ["Distances"]
