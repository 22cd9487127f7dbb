"""Are samples copies? The training images nearest to samples, by pixels and by codes, beside those of held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result, Table
from latent_lab.analyses.feeding import HeldOut, alpha_of, device_of, situation, spread
from latent_lab.analyses.image_space import pixel_vectors
from latent_lab.analyses.sample import Sampling, draw_samples, magnification
from latent_lab.analyses.set_numbers import count_name
from latent_lab.images import fade_images, halve, quantise, to_unit
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.metrics.functional import bootstrap, nearest
from latent_lab.metrics.functional.bootstrap import LEVEL
from latent_lab.metrics.functional.neighbours import Neighbours
from latent_lab.plotting import labelled_rows
from latent_lab.progress import phase
from latent_lab.types import Features, Images, ImageSource, OtherImages

_LARGEST_SHOWN = 128


@dataclass(frozen=True)
class TrainingNeighbours(AbstractAnalysis):
    """The nearest training images of samples, mirrored ones included, by pixels and by the model's own codes.

    Held-out images, which nobody can have copied, say how near is usual. Smooth images are near to everything by
    pixels, so that samples which are nearer than held-out images are no proof of copies, but the pictures to look at.
    """

    name = "training-neighbours"
    requires = AbstractDecoder
    needs_images = True
    needs_reference = True
    reference_beside_own_images = True

    num: int = 256
    """Samples, the first ones that `evaluate` counts, and as many held-out images, evenly spaced."""
    num_reference: int | None = 5_000
    """Training images that are searched, evenly spaced over the source; none: all."""
    num_pictures: int = 8
    """Samples whose neighbours are shown, the first ones."""
    num_shown: int = 2
    """Neighbours shown of each, nearest first."""
    most_pixels: int = 32
    """Pixels per side at which images are compared, if the model has more."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of samples and resamples."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        for option, least in (
            ("num", 2),
            ("num_reference", 1),
            ("num_pictures", 1),
            ("num_shown", 1),
            ("most_pixels", 4),
            ("num_resamples", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"training-neighbours needs {option} of at least {least}, got {value}")
        if self.num_resamples == 1:
            raise ValueError("training-neighbours needs num_resamples of at least 2, or 0 for no intervals, got 1")

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers of each space (pixels, codes), M samples and N training images at the end as in _256_of_5k:

            closer: share of all pairs of a sample and a held-out image in which the sample is nearer to its nearest
                training image; 0.5 if samples are as new as held-out images, 1 if all of them are copies

        Raises:
            ValueError: if there are no training images beside the held-out ones, or fewer than are to be shown.
        """
        if not isinstance(source, HeldOut):
            raise ValueError("training-neighbours needs training images beside the held-out ones: name a data set")
        places = spread(len(source.reference), self.num_reference)
        held_out = spread(len(source.images), self.num)
        if len(places) < self.num_shown or not held_out:
            raise ValueError(
                f"training-neighbours needs at least {self.num_shown} training images and a held-out one, got "
                f"{len(places)} and {len(held_out)}: name a larger data set"
            )
        samples = quantise(draw_samples(model, self.num, Sampling(self.seed), self.batch_size)).cpu()
        resolution = _reduced(model.resolution, self.most_pixels)
        alpha = alpha_of(model) if resolution == model.resolution else 1.0
        with phase("nearest training images by pixels"):
            training = self._pixels(source.reference, places, resolution, alpha)
            found = {
                "pixels": self._search(
                    to_unit(_shrunk(samples, resolution)).flatten(1),
                    self._pixels(source.images, held_out, resolution, alpha),
                    training,
                    training.view(len(training), -1, resolution, resolution).flip(3).flatten(1),
                )
            }
        if isinstance(model, AbstractAutoencoder):
            with phase("nearest training images by codes"):
                found["codes"] = self._search(
                    self._encode(model, samples),
                    self._codes(model, source.images, held_out),
                    self._codes(model, source.reference, places),
                    self._codes(model, source.reference, places, mirrored=True),
                )
        counts = f"{count_name(self.num)}_of_{count_name(len(places))}"
        numbers: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        for space, (of_samples, of_held_out) in found.items():
            ours, theirs = of_samples.distances[:, 0], of_held_out.distances[:, 0]
            numbers[f"closer_{space}_{counts}"] = _closer(ours, theirs)
            if self.num_resamples:
                ends = bootstrap(
                    lambda rows, others, ours=ours, theirs=theirs: _closer(ours[rows], theirs[others]),
                    (len(ours), len(theirs)),
                    num_resamples=self.num_resamples,
                    seed=self.seed,
                )
                intervals[f"closer_{space}_{counts}"] = (ends.low, ends.high)
        protocol: dict[str, Any] = {
            **situation(model),
            "num": self.num,
            **Sampling(self.seed).describe(),
            "num_held_out": len(held_out),
            "num_searched": len(places),
            "searched": dict(source.reference.recipe),
            "mirrored": "training images are searched as they are and mirrored",
            "distance": "Euclidean, exact",
            "pixels": {"resolution": resolution, "range": "[0, 1]", "samples": "rounded to 8 bits"},
            "pictures": {"first_row": "samples, none left out", "then": "their nearest training images, nearest first"},
        }
        if self.num_resamples:
            protocol["intervals"] = {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed}
        if "codes" not in found:
            protocol["notes"] = [f"{type(model).__name__} cannot encode: training images are searched by pixels alone"]
        sheet = self._sheet(model, source.reference, places, samples, found)
        tables: dict[str, Table] = {
            "Distance to the nearest training image": _distances(found),
            "Nearest training image of each sample that is shown": self._each(found, places),
        }
        return Result(self.name, numbers, protocol, {"training_neighbours": sheet}, tables, intervals)

    def _pixels(self, source: ImageSource, places: list[int], resolution: int, alpha: float) -> Features:
        return pixel_vectors(source, places, resolution, self.batch_size, lambda images, _: fade_images(images, alpha))

    def _codes(
        self, model: AbstractAutoencoder, source: ImageSource, places: list[int], *, mirrored: bool = False
    ) -> Features:
        rows = []
        for start in range(0, len(places), self.batch_size):
            images = source.batch(places[start : start + self.batch_size], model.resolution).images
            images = fade_images(images, alpha_of(model))
            rows.append(self._encode(model, images.flip(3) if mirrored else images))
        return torch.cat(rows)

    def _encode(self, model: AbstractAutoencoder, images: Images) -> Features:
        device = device_of(model)
        return torch.cat([model.encode(part.to(device)).float().cpu() for part in images.split(self.batch_size)])

    def _search(
        self,
        samples: Float[Tensor, "M F"],
        held_out: Float[Tensor, "H F"],
        training: Float[Tensor, "T F"],
        mirrored: Float[Tensor, "T F"],
    ) -> tuple[Neighbours, Neighbours]:
        """Neighbours of samples, and of held-out images, among T training images; row T + i is image i mirrored."""
        points = torch.cat([training, mirrored])
        # An image and its mirror image are both near to what either is near to, and are shown once.
        wanted = min(2 * self.num_shown, len(points))
        return _once(nearest(samples, points, wanted), len(training), self.num_shown), nearest(held_out, points, 1)

    def _sheet(
        self,
        model: AbstractDecoder,
        reference: ImageSource,
        places: list[int],
        samples: Images,
        found: Mapping[str, tuple[Neighbours, Neighbours]],
    ) -> OtherImages:
        resolution = _reduced(model.resolution, _LARGEST_SHOWN)
        shown = samples[: self.num_pictures]
        blocks = {"samples": _shrunk(shown, resolution)}
        for space, (neighbours, _) in found.items():
            indices = neighbours.indices[: len(shown)].T.flatten()
            images = reference.batch([places[row % len(places)] for row in indices.tolist()], resolution).images
            mirrored = (indices >= len(places)).view(-1, 1, 1, 1)
            blocks[f"nearest by {space}"] = torch.where(mirrored, images.flip(3), images)
        return labelled_rows(blocks, len(shown), factor=magnification(resolution))

    def _each(self, found: Mapping[str, tuple[Neighbours, Neighbours]], places: list[int]) -> Table:
        """A row for each sample on the sheet: where its nearest is, and how rare so small a distance is."""
        head = ["sample", *(f"{space}: {what}" for space in found for what in ("image", "distance", "held-out nearer"))]
        table: list[list[str | float]] = [list(head)]
        for row in range(min(self.num_pictures, self.num)):
            cells: list[str | float] = [str(row)]
            for of_samples, of_held_out in found.values():
                index = int(of_samples.indices[row, 0])
                distance = of_samples.distances[row, 0]
                mirrored = ", mirrored" if index >= len(places) else ""
                nearer = (of_held_out.distances[:, 0] < distance).double().mean().item()
                cells += [f"{places[index % len(places)]}{mirrored}", distance.item(), nearer]
            table.append(cells)
        return table


def _reduced(resolution: int, most: int) -> int:
    """The resolution, halved until it is at most `most`."""
    while resolution > most:
        resolution //= 2
    return resolution


def _shrunk(images: Images, resolution: int) -> OtherImages:
    """Halved until they have this resolution, as packed images are."""
    smaller: Tensor = images
    while smaller.shape[-1] > resolution:
        smaller = halve(smaller)
    return smaller


def _once(found: Neighbours, count: int, kept: int) -> Neighbours:
    """The first `kept` neighbours of each query, those that are one image (i and count + i) counted once."""
    distances, indices = [], []
    for row, (far, which) in enumerate(zip(found.distances, found.indices, strict=True)):
        first: dict[int, int] = {}
        for place, index in enumerate(which.tolist()):
            first.setdefault(index % count, place)
        chosen = list(first.values())[:kept]
        distances.append(far[chosen])
        indices.append(found.indices[row, chosen])
    return Neighbours(torch.stack(distances), torch.stack(indices))


def _closer(ours: Float[Tensor, "M"], theirs: Float[Tensor, "H"]) -> float:
    """Share of pairs in which ours is smaller; equal ones count half."""
    difference = theirs[None, :] - ours[:, None]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def _distances(found: Mapping[str, tuple[Neighbours, Neighbours]]) -> Table:
    table: list[list[str | float]] = [["space", "of", "smallest", "median", "largest"]]
    for space, sets in found.items():
        for what, neighbours in zip(("samples", "held-out images"), sets, strict=True):
            first = neighbours.distances[:, 0]
            table.append([space, what, *(first.quantile(share).item() for share in (0.0, 0.5, 1.0))])
    return table


__all__ = ["TrainingNeighbours"]
