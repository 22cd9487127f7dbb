"""The truncation figure: what styles look like that are drawn towards the mean of W, through it, and beyond."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import batches, check_numpy_seeds, chosen_latents, prior_latents, situation
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractMappedDecoder
from latent_lab.latent.views import Truncated
from latent_lab.types import Images, ImageSource

STREAM = "truncation/latents"
"""Name of the random stream of the latents; those that are shown are the first of those that are measured."""


@dataclass(frozen=True)
class Truncation(AbstractAnalysis):
    """A row of pictures for each latent: its style mean + psi (w - mean) for every psi (Karras et al. 2019, figure 8).

    0 is the average picture, whatever the latent; below 0 are opposites. The published figure: psis 1, 0.7, 0.5, 0,
    -0.5, -1 in all layers, numpy_seeds 91, 388.
    """

    name = "truncation"
    requires = AbstractMappedDecoder

    psis: tuple[float, ...] = (1.0, 0.7, 0.5, 0.0, -0.5, -1.0)
    """Shares of the deviation from the mean that are kept, one for each column."""
    cutoff: int | None = None
    """Number of layers, from the coarsest, that are truncated; null: all."""
    num: int = 4
    """Latents that are shown, a row each."""
    num_measured: int = 64
    """Latents of which the diversity is measured."""
    seed: int = 0
    """Of the latents."""
    numpy_seeds: tuple[int, ...] = ()
    """Shows the latents that the published program draws from these seeds, instead of `num` others."""
    batch_size: int = 16
    """Pictures decoded at a time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "psis", tuple(self.psis))
        object.__setattr__(self, "numpy_seeds", check_numpy_seeds("truncation", "numpy_seeds", self.numpy_seeds))
        names = [f"{psi:g}" for psi in self.psis]
        if not names or len(set(names)) < len(names) or not all(math.isfinite(psi) for psi in self.psis):
            raise ValueError(f"truncation needs psis, finite and each once, got {', '.join(names) or 'none'}")
        if self.cutoff is not None and self.cutoff < 1:
            raise ValueError(f"truncation needs a cutoff of at least 1 layer, or null (all), got {self.cutoff}")
        if self.num_measured < 2:
            raise ValueError(f"truncation needs num_measured of at least 2, got {self.num_measured}")
        for option in ("num", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"truncation needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractMappedDecoder, source: ImageSource | None) -> Result:
        """Numbers: `diversity_psi_X` for every psi, the deviation over samples, averaged over pixels."""
        numbers, columns = {}, []
        shown = chosen_latents(model, self.num, self.seed, STREAM, self.numpy_seeds)
        for psi in self.psis:
            truncated = Truncated(model, psi, self.cutoff)
            numbers[f"diversity_psi_{psi:g}"] = mean_deviation(self._measured(truncated))
            columns.append(torch.cat([truncated.decode(part).float().cpu() for part in shown.split(self.batch_size)]))
        sheet = make_grid(torch.stack(columns, dim=1).flatten(0, 1), len(columns))
        protocol: dict[str, Any] = {
            **situation(model),
            "layers": "all" if self.cutoff is None else f"the first {self.cutoff} of {model.num_layers}",
            "num_measured": self.num_measured,
            "seed": self.seed,
            "stream": STREAM,
            "curated": bool(self.numpy_seeds),
        }
        return Result(self.name, numbers, protocol, {"truncation": enlarge(sheet, magnification(model.resolution))})

    def _measured(self, model: Truncated) -> Iterator[Images]:
        for indices in batches(range(self.num_measured), self.batch_size):
            yield model.decode(prior_latents(model, self.seed, STREAM, indices))


def mean_deviation(batches_of_images: Iterator[Images]) -> float:
    """The deviation over all images (population's, in [-1, 1] units) at each value, averaged over values."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for images in batches_of_images:
        # Chan, Golub, LeVeque (1979): sums of squares around the mean, so that nothing cancels.
        images = images.double().clamp(-1.0, 1.0).cpu()
        here = images.mean(0)
        total = count + len(images)
        squares = squares + (images - here).square().sum(0) + (here - mean).square() * (count * len(images) / total)
        mean = mean + (here - mean) * (len(images) / total)
        count = total
    return (squares / count).sqrt().mean().item()
