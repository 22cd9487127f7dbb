"""A sheet of uncurated samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import batches, prior_latents, situation
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.types import Images, ImageSource

STREAM = "evaluate/latents"
"""Name of the random stream of sample latents: the pictures of `sample` are the first ones that `evaluate` counts."""


def magnification(resolution: int) -> int:
    """Factor by which sheets of small images are enlarged, so that each image has at least 64 pixels per side."""
    return max(1, 64 // resolution)


def draw_samples(model: AbstractDecoder, num: int, seed: int, batch_size: int) -> Images:
    """The first samples of a seed, (num, C, R, R), not clamped, whatever the number of ranks."""
    pictures = [
        model.decode(prior_latents(model, seed, STREAM, indices)).float() for indices in batches(range(num), batch_size)
    ]
    return torch.cat(pictures)


@dataclass(frozen=True)
class Sample(AbstractAnalysis):
    """Pictures of random latents, in the order in which they were drawn, none left out."""

    name = "sample"
    requires = AbstractDecoder

    num: int = 64
    """How many pictures."""
    columns: int = 8
    """Pictures in each row of the sheet."""
    seed: int = 0
    """Of the latents; every seed and number gives the same picture on any number of devices."""
    batch_size: int = 64
    """Pictures decoded at a time."""

    def __post_init__(self) -> None:
        for option in ("num", "columns", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"sample needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers: `std`, the deviation over samples, averaged over pixels; near 0 means that all samples are alike."""
        pictures = draw_samples(model, self.num, self.seed, self.batch_size)
        sheet = enlarge(make_grid(pictures.cpu(), self.columns), magnification(model.resolution))
        deviation = pictures.clamp(-1.0, 1.0).std(0, correction=0).mean().item()
        protocol = {**situation(model), "num": self.num, "seed": self.seed, "stream": STREAM, "curated": False}
        return Result(self.name, {"std": deviation}, protocol, {"samples": sheet})
