"""What reconstruction makes of images with missing parts and with noise: inpainting and denoising by an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.damages import KINDS, Damage, parse_damage
from latent_lab.analyses.feeding import as_tensor, batches, real_images, share, situation, spread
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.types import Images, ImageSource


@dataclass(frozen=True)
class Restore(AbstractAnalysis):
    """Encodes and decodes damaged images, and compares what comes out with the images before the damage.

    A model is not told what is missing: it restores as far as its latents can express faces but not damage.
    """

    name = "restore"
    requires = AbstractAutoencoder
    needs_images = True

    damages: tuple[str, ...] = KINDS
    """Missing: square, random_square (with a share of the area: square:0.25), left, right, top, bottom (halves); noise
    (with its deviation in [-1, 1] units: noise:0.25); salt_and_pepper (with a share of the pixels:
    salt_and_pepper:0.1)."""
    fill: float = 0.0
    """Value of missing pixels, from -1 (black) to 1 (white)."""
    num: int | None = None
    """Images, evenly spaced over the source; null: all."""
    num_pictures: int = 8
    """Images on the sheet, the first ones."""
    seed: int = 0
    """Of places and noise; every image is damaged alike on any number of devices."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "damages", tuple(self.damages))
        names = [damage.name for damage in self._parsed()]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"restore needs damages, each once, got {', '.join(self.damages) or 'none'}")
        if not -1 <= self.fill <= 1:
            raise ValueError(f"fill must be between -1 (black) and 1 (white), got {self.fill}")
        for option in ("num", "num_pictures", "batch_size"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise ValueError(f"restore needs {option} of at least 1, got {value}")

    def _parsed(self) -> list[Damage]:
        return [parse_damage(text) for text in self.damages]

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers: mean squared errors against the undamaged images, in [-1, 1] units, after rounding to 8 bits.

            rec_mse: of reconstructions of undamaged images
            mse_D: of reconstructions of images with damage D
            mse_D_damaged_input: of these images themselves, as if nothing were restored
            mse_D_inside, mse_D_outside: of the same reconstructions where D occludes, and elsewhere
            mse_D_inside_damaged_input: of the damaged images where D occludes; elsewhere they have no error
            mse_D_inside_clean_input, mse_D_outside_clean_input: of reconstructions of undamaged images, there

        Raises:
            ValueError: if the source is empty.
        """
        assert source is not None
        places = spread(len(source), self.num)
        if not places:
            raise ValueError("restore needs at least one image and the source is empty: name another folder")
        damages = self._parsed()
        names, mine = _names(damages), share(len(places))
        table = [torch.empty(0, len(names), dtype=torch.float64)]
        for piece in batches(mine, self.batch_size):
            errors = self._errors(model, source, [places[i] for i in piece], damages)
            table.append(torch.stack([errors[name] for name in names], dim=1))
        of_all_ranks, _ = distributed.gather_ragged(torch.cat(table), as_tensor(mine))
        numbers = dict(zip(names, of_all_ranks.mean(0).tolist(), strict=True))
        rows, sheet = self._sheet(model, source, places[: self.num_pictures], damages)
        protocol: dict[str, Any] = {
            **situation(model),
            "num": len(places),
            "chosen": "evenly spaced over the source",
            "damages": {damage.name: damage.in_words() for damage in damages},
            "fill": self.fill,
            "seed": self.seed,
            "quantised": "undamaged and damaged images and reconstructions clamped and rounded to 8 bits",
            "rows": rows,
            "curated": False,
        }
        return Result(self.name, numbers, protocol, {"restorations": enlarge(sheet, magnification(model.resolution))})

    def _errors(
        self, model: AbstractAutoencoder, source: ImageSource, places: list[int], damages: list[Damage]
    ) -> Mapping[str, Float64[Tensor, "N"]]:
        """Every error of each of these images, by its name."""
        images = real_images(model, source, places)
        clean, rebuilt = quantise(images), quantise(model.reconstruct(images))
        everywhere = torch.ones_like(clean[:, :1], dtype=torch.bool)
        errors = {"rec_mse": _error(rebuilt, clean, everywhere)}
        for damage in damages:
            damaged, missing = damage.apply(images, places, self.seed, self.fill)
            restored = quantise(model.reconstruct(damaged))
            name = f"mse_{damage.name}"
            errors[name] = _error(restored, clean, everywhere)
            errors[f"{name}_damaged_input"] = _error(damaged, clean, everywhere)
            if damage.occludes:
                errors[f"{name}_inside"] = _error(restored, clean, missing)
                errors[f"{name}_inside_damaged_input"] = _error(damaged, clean, missing)
                errors[f"{name}_inside_clean_input"] = _error(rebuilt, clean, missing)
                errors[f"{name}_outside"] = _error(restored, clean, ~missing)
                errors[f"{name}_outside_clean_input"] = _error(rebuilt, clean, ~missing)
        return errors

    def _sheet(
        self, model: AbstractAutoencoder, source: ImageSource, places: list[int], damages: list[Damage]
    ) -> tuple[list[str], Images]:
        """A row of images and one of reconstructions, then for every damage a row of inputs and one of results."""
        images = real_images(model, source, places)
        rows = {"images": quantise(images), "reconstructed": self._reconstructed(model, images)}
        for damage in damages:
            damaged, _ = damage.apply(images, places, self.seed, self.fill)
            rows[damage.name] = damaged
            rows[f"{damage.name}, restored"] = self._reconstructed(model, damaged)
        return list(rows), make_grid(torch.cat([row.cpu() for row in rows.values()]), len(places))

    def _reconstructed(self, model: AbstractAutoencoder, images: Images) -> Images:
        return torch.cat([quantise(model.reconstruct(piece)) for piece in images.split(self.batch_size)])


def _names(damages: list[Damage]) -> list[str]:
    names = ["rec_mse"]
    for damage in damages:
        ends = ["", "_damaged_input"]
        if damage.occludes:
            ends += ["_inside", "_inside_damaged_input", "_inside_clean_input", "_outside", "_outside_clean_input"]
        names += [f"mse_{damage.name}{end}" for end in ends]
    return names


def _error(images: Images, truth: Images, where: Bool[Tensor, "N 1 H W"]) -> Float64[Tensor, "N"]:
    """Mean squared error of each image over the pixels of the mask, on the CPU."""
    squares = (images - truth).cpu().double().square().mean(1, keepdim=True)
    mask = where.cpu()
    return (squares * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
