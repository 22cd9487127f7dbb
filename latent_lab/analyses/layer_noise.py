"""The noise figure: what of a picture the noise in a decoder's layers decides, and which layers' noise it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import batches, check_numpy_seeds, chosen_latents, situation
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, from_unit, make_grid
from latent_lab.latent.interfaces import AbstractNoisyDecoder
from latent_lab.latent.layer_noise import IndexedNoise, only_at
from latent_lab.types import Images, ImageSource, Latents

STREAM = "noise/latents"
"""Name of the random stream of the latents."""
_MANY_PIXELS = 2**31
DEVIATION_GAIN = 4.0
"""Published: how much brighter than the deviation its picture is."""


@dataclass(frozen=True)
class LayerNoise(AbstractAnalysis):
    """A row of pictures for each latent: noise in all layers, in none, in fine ones, in coarse ones; and a deviation.

    The last picture is the deviation over `num_draws` draws of the noise of all layers, of the mean of the colours,
    four times as bright; black does not depend on noise (Karras et al. 2019, figures 4 and 5, whose numpy_seeds are
    1157, 1012 and 1967, 1555).
    """

    name = "noise"
    requires = AbstractNoisyDecoder

    num: int = 4
    """Latents, a row each."""
    num_draws: int = 100
    """Draws of the noise for every deviation."""
    fine_from: int | None = None
    """Pixels from which on layers are fine; null: the upper half of the decoder's resolutions, with the one in the
    middle, that is 64 of 1024 pixels as published."""
    seed: int = 0
    """Of latents and noise."""
    numpy_seeds: tuple[int, ...] = ()
    """Shows the latents that the published program draws from these seeds, instead of `num` others."""
    batch_size: int = 16
    """Pictures decoded at a time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numpy_seeds", check_numpy_seeds("noise", "numpy_seeds", self.numpy_seeds))
        if self.num_draws < 2:
            raise ValueError(f"noise needs num_draws of at least 2, got {self.num_draws}")
        for option in ("num", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"noise needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractNoisyDecoder, source: ImageSource | None) -> Result:
        """Numbers: `noise_deviation`, `noise_deviation_fine`, `noise_deviation_coarse`: the deviation over draws of
        the noise of all, fine or coarse layers, of the mean of the colours, averaged over pixels and latents.

        Raises:
            ValueError: if the model was built without layer noise, or has no fine or no coarse layers.
        """
        if not model.layer_noise:
            raise ValueError(
                f"noise needs a model with noise in its layers, and this {type(model).__name__} was built without"
            )
        # Layers of a cropped decoder may have more pixels than its images.
        fine_from = self._fine_from(model.resolution)
        everywhere, fine, coarse = range(_MANY_PIXELS), range(fine_from, _MANY_PIXELS), range(fine_from)
        cells: list[Images] = []
        deviations: dict[str, list[float]] = {"": [], "_fine": [], "_coarse": []}
        for number, latent in enumerate(chosen_latents(model, self.num, self.seed, STREAM, self.numpy_seeds)):
            silent = model.decode_with_noise(latent[None], None).float().clamp(-1.0, 1.0).cpu()
            whole, first = self._deviation(self._draws(model, latent[None], number, everywhere))
            only_fine, first_fine = self._deviation(self._draws(model, latent[None], number, fine))
            only_coarse, first_coarse = self._deviation(self._draws(model, latent[None], number, coarse))
            for name, found in zip(deviations, (whole, only_fine, only_coarse), strict=True):
                deviations[name].append(found.mean().item())
            # On a scale from black to white as 0 to 1, deviations are half as large.
            bright = from_unit((DEVIATION_GAIN * whole / 2).clamp(max=1.0)).float().expand_as(silent)
            cells += [first, silent, first_fine, first_coarse, bright]
        numbers = {f"noise_deviation{name}": sum(values) / len(values) for name, values in deviations.items()}
        protocol: dict[str, Any] = {
            **situation(model),
            "columns": "noise in all layers, in none, in fine ones, in coarse ones, deviation x 4",
            "fine": f"{fine_from} px and more",
            "coarse": f"below {fine_from} px",
            "num_draws": self.num_draws,
            "seed": self.seed,
            "stream": STREAM,
            "curated": bool(self.numpy_seeds),
        }
        sheet = make_grid(torch.cat(cells), 5)
        return Result(self.name, numbers, protocol, {"noise": enlarge(sheet, magnification(model.resolution))})

    def _fine_from(self, resolution: int) -> int:
        resolutions = [4 * 2**phase for phase in range((resolution // 4).bit_length())]
        start = resolutions[len(resolutions) // 2] if self.fine_from is None else self.fine_from
        if not resolutions[0] < start <= resolutions[-1]:
            raise ValueError(
                f"noise compares fine with coarse layers, and with fine_from {start} there are none of one kind among "
                f"those of {', '.join(map(str, resolutions))} pixels"
            )
        return start

    def _draws(self, model: AbstractNoisyDecoder, latent: Latents, number: int, resolutions: range) -> Iterator[Images]:
        """The latent's pictures with one draw of the noise after the other, in layers of these resolutions."""
        for draws in batches(range(self.num_draws), self.batch_size):
            drawn = IndexedNoise(self.seed, f"noise/{number}", draws, latent.device)
            noise: Callable[[torch.Size], Tensor] = only_at(resolutions, drawn)
            yield model.decode_with_noise(latent.expand(len(draws), -1), noise).float().clamp(-1.0, 1.0).cpu()

    def _deviation(self, pictures: Iterator[Images]) -> tuple[Float[Tensor, "1 1 R R"], Float[Tensor, "1 C R R"]]:
        """Deviation over the pictures of the mean of their colours, in [-1, 1] units, and the first picture."""
        first, shades = None, []
        for batch in pictures:
            first = batch[:1] if first is None else first
            shades.append(batch.double().mean(1, keepdim=True))
        assert first is not None
        return torch.cat(shades).std(0, correction=0, keepdim=True), first
