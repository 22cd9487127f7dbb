"""A model at a glance: some images, what it makes of them, and samples, on one small sheet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import situation, spread
from latent_lab.analyses.reconstruct import reconstruct_places
from latent_lab.analyses.sample import STREAM, Sampling, draw_samples, magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.types import ImageSource


@dataclass(frozen=True)
class Overview(AbstractAnalysis):
    """A row of images, a row of their reconstructions if the model encodes, and a row of samples; none left out."""

    name = "overview"
    requires = AbstractDecoder
    needs_images = True

    num: int = 8
    """Pictures in each row; images evenly spaced over the source."""
    sample_rows: int = 1
    """Rows of samples."""
    seed: int = 0
    """Of the samples' latents."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        for option in ("num", "sample_rows", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"overview needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """One picture, no numbers.

        Raises:
            ValueError: if the source is empty.
        """
        assert source is not None
        places = spread(len(source), self.num)
        if not places:
            raise ValueError("overview needs at least one image and the source is empty: name another folder")
        rows: list[Tensor] = []
        if isinstance(model, AbstractAutoencoder):
            rows += reconstruct_places(model, source, places, self.batch_size)
        columns = len(places) if rows else self.num
        rows.append(draw_samples(model, columns * self.sample_rows, Sampling(self.seed), self.batch_size).cpu())
        shown = ["images", "reconstructions", "samples"] if len(rows) > 1 else ["samples"]
        protocol = {**situation(model), "rows": shown, "seed": self.seed, "stream": STREAM, "curated": False}
        sheet = enlarge(make_grid(torch.cat(rows), columns), magnification(model.resolution))
        return Result(self.name, {}, protocol, {"overview": sheet})
