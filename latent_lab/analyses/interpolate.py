"""Paths through latent space, as rows of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import prior_latents, real_images, situation
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.types import Images, ImageSource


@dataclass(frozen=True)
class Interpolate(AbstractAnalysis):
    """Pictures along the space's own paths: between encoded real images if a source is given, else between samples.

    With real images each row begins and ends with the images themselves.
    """

    name = "interpolate"
    requires = AbstractDecoder

    pairs: int = 8
    """How many paths, one row each."""
    steps: int = 8
    """Pictures along each path, its two ends included."""
    seed: int = 0
    """Of the latents, or of the choice of images."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"interpolate needs at least one pair, got {self.pairs}")
        if self.steps < 2:
            raise ValueError(f"interpolate needs at least 2 steps, the ends of the path, got {self.steps}")

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers: `largest_step_ratio`, the longest step between neighbouring pictures over the path's mean step.

        Steps are root mean squared differences of pixels; the largest ratio of all paths is reported. 1 is an even
        path, steps - 1 a jump.

        Raises:
            TypeError: if real images are given and the model cannot encode.
            ValueError: if the source has fewer than two images.
        """
        if source is None:
            ends = prior_latents(model, self.seed, "interpolate/latents", range(2 * self.pairs))
            between, frame = "samples", None
        else:
            encoder = require(model, AbstractAutoencoder, by="interpolate")  # type: ignore[type-abstract]
            frame = real_images(model, source, self._places(len(source)))
            ends, between = encoder.encode(frame), "encoded images"
        rows, largest = [], 0.0
        for pair in range(self.pairs):
            path = self._path(model, ends[2 * pair : 2 * pair + 1], ends[2 * pair + 1 : 2 * pair + 2])
            steps = (path[1:] - path[:-1]).square().mean((1, 2, 3)).sqrt()
            largest = max(largest, (steps.max() / steps.mean().clamp_min(1e-12)).item())
            if frame is not None:
                path = torch.cat([frame[2 * pair : 2 * pair + 1], path, frame[2 * pair + 1 : 2 * pair + 2]])
            rows.append(path)
        sheet = make_grid(torch.cat(rows).cpu(), len(rows[0]))
        protocol: dict[str, Any] = {
            **situation(model),
            "between": between,
            "pairs": self.pairs,
            "steps": self.steps,
            "seed": self.seed,
            "path": repr(model.latent_space),
            "curated": False,
        }
        pictures = {"interpolations": enlarge(sheet, magnification(model.resolution))}
        return Result(self.name, {"largest_step_ratio": largest}, protocol, pictures)

    def _path(self, model: AbstractDecoder, a: torch.Tensor, b: torch.Tensor) -> Images:
        """Pictures (steps, C, R, R), clamped, from latent a (1, D) to latent b (1, D)."""
        shares = torch.linspace(0.0, 1.0, self.steps, device=a.device)
        count = len(shares)
        points = model.latent_space.interpolate(a.expand(count, -1), b.expand(count, -1), shares)
        return model.decode(points).float().clamp(-1.0, 1.0)

    def _places(self, available: int) -> list[int]:
        """Two places for each pair, drawn without choice; an image comes again only if there are too few."""
        if available < 2:
            raise ValueError(f"interpolate needs at least 2 images, got a source with {available}")
        order = torch.randperm(available, generator=torch.Generator().manual_seed(self.seed)).tolist()
        return [order[i % (available - available % 2)] for i in range(2 * self.pairs)]
