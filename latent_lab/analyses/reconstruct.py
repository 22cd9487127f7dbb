"""A sheet of images over their reconstructions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import batches, real_images, situation
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.metrics.functional import mean_squared_error
from latent_lab.types import Images, ImageSource


def over_and_under(above: Images, below: Images, columns: int) -> Float[Tensor, "1 C h w"]:
    """A sheet (1, C, H', W') with each row of the first images directly over the row of the second ones."""
    rows = []
    for start in range(0, len(above), columns):
        for part in (above[start : start + columns], below[start : start + columns]):
            missing = columns - len(part) if len(above) > columns else 0
            rows.append(torch.cat([part, part.new_ones(missing, *part.shape[1:])]))
    return make_grid(torch.cat(rows), min(columns, len(above)))


def reconstruct_places(
    model: AbstractAutoencoder, source: ImageSource, places: list[int], batch_size: int
) -> tuple[Images, Images]:
    """Images of these places and their reconstructions, both rounded to 8 bits, on the CPU."""
    originals, reconstructions = [], []
    for piece in batches(range(len(places)), batch_size):
        images = real_images(model, source, [places[i] for i in piece])
        originals.append(quantise(images).cpu())
        reconstructions.append(quantise(model.reconstruct(images)).cpu())
    return torch.cat(originals), torch.cat(reconstructions)


@dataclass(frozen=True)
class Reconstruct(AbstractAnalysis):
    """The first images of a source over what the model makes of them."""

    name = "reconstruct"
    requires = AbstractAutoencoder
    needs_images = True

    num: int = 32
    """How many images, from the first on; all if the source has fewer."""
    columns: int = 8
    """Images in each row of the sheet."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        for option in ("num", "columns", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"reconstruct needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers: `rec_mse`, mean squared error of these images in [-1, 1] units, after rounding to 8 bits.

        Raises:
            ValueError: if the source is empty.
        """
        assert source is not None
        count = min(self.num, len(source))
        if count == 0:
            raise ValueError("reconstruct needs at least one image and the source is empty: name another folder")
        originals, reconstructions = reconstruct_places(model, source, list(range(count)), self.batch_size)
        sheet = over_and_under(originals, reconstructions, self.columns)
        numbers = {"rec_mse": mean_squared_error(originals, reconstructions).mean().item()}
        protocol = {**situation(model), "num": count, "chosen": "the first of the source", "curated": False}
        return Result(
            self.name, numbers, protocol, {"reconstructions": enlarge(sheet, magnification(model.resolution))}
        )
