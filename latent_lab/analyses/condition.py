"""Scale-specific conditional sampling: some layers keep an image's code, the rest is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import prior_latents, real_images, situation, spread
from latent_lab.analyses.mix import decode_pictures, growth_notes, layers_in_words, scale_words
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder, require
from latent_lab.latent.styles import SCALES, mix, parse_layers, repeat
from latent_lab.types import Images, ImageSource

STREAM = "condition/latents"
"""Name of the random stream of the latents of what is not kept."""


@dataclass(frozen=True)
class Condition(AbstractAnalysis):
    """Rows of an image, its reconstruction, and random images that keep some of its layers.

    The layers that are not kept share one random code in each picture, so that they fit together (Automodulator's
    conditional sampling). The grids of different layers use the same random codes.
    """

    name = "condition"
    requires = AbstractLayeredDecoder
    needs_images = True

    kept: tuple[str, ...] = SCALES
    """Layers that keep the image's code, a grid each: coarse, middle, fine, or ranges such as 0-2,2-end."""
    num: int = 6
    """How many images, evenly spaced over the source; all if the source has fewer."""
    completions: int = 6
    """Random images for each of them."""
    seed: int = 0
    """Of the random codes."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", scale_words("condition", "kept", self.kept))
        for option, least in (("num", 1), ("completions", 2), ("batch_size", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"condition needs {option} of at least {least}, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractLayeredDecoder, source: ImageSource | None) -> Result:
        """Numbers: `diversity` of each entry of `kept`, and `diversity_free`, of the random codes alone.

        It is the deviation over the completions of an image, averaged over pixels and images, in [-1, 1] units: 0 if
        what is kept decides everything, as much as the free one's if it decides nothing.

        Raises:
            TypeError: if the model cannot encode.
            ValueError: if the source is empty or the model lacks such layers.
        """
        assert source is not None
        encoder = require(model, AbstractAutoencoder, by=self.name)  # type: ignore[type-abstract]
        layers = {word: parse_layers(word, model.layer_resolutions) for word in self.kept}
        places = spread(len(source), self.num)
        if not places:
            raise ValueError("condition needs at least one image and the source is empty: name another folder")
        photos = real_images(model, source, places)
        codes = torch.cat([encoder.encode(piece) for piece in photos.split(self.batch_size)])
        own = repeat(codes, model.num_layers)
        rebuilt = decode_pictures(model, own, self.batch_size)
        random = prior_latents(model, self.seed, STREAM, range(len(places) * self.completions))
        free = repeat(random, model.num_layers)
        rows = (len(places), self.completions)
        numbers = {"diversity_free": _diversity(decode_pictures(model, free, self.batch_size).unflatten(0, rows))}
        pictures = {}
        for word, chosen in layers.items():
            styles = mix(free, own.repeat_interleave(self.completions, dim=0), chosen)
            completed = decode_pictures(model, styles, self.batch_size).unflatten(0, rows)
            numbers[f"diversity_{word}"] = _diversity(completed)
            pictures[f"condition_{word}"] = enlarge(
                _sheet(photos.cpu(), rebuilt, completed), magnification(model.resolution)
            )
        protocol: dict[str, Any] = {
            **situation(model),
            "num": len(places),
            "chosen": "evenly spaced over the source",
            "kept": layers_in_words(model, layers),
            "completions": self.completions,
            "seed": self.seed,
            "stream": STREAM,
            "curated": False,
            "notes": growth_notes(model),
        }
        return Result(self.name, numbers, protocol, pictures)


def _diversity(completed: Tensor) -> float:
    """Deviation over the second axis of (N, K, C, H, W), averaged over all else."""
    return completed.double().std(1, correction=0).mean().item()


def _sheet(photos: Images, rebuilt: Images, completed: Tensor) -> Float[Tensor, "1 C h w"]:
    """One row for each image: the photograph, its reconstruction, its completions (N, K, C, H, W)."""
    rows = torch.cat([photos.unsqueeze(1), rebuilt.unsqueeze(1), completed], dim=1)
    return make_grid(rows.flatten(0, 1), rows.shape[1])
