"""Three ways to the latents of given images: learned, optimised, hybrid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import (
    as_tensor,
    batches,
    device_of,
    prior_latents,
    real_images,
    share,
    situation,
    spread,
)
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.inversion import Clipping, InversionSettings, Optimiser, best_of, invert
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.types import Images, ImageSource, Indices, Latents

LEARNED, OPTIMISED, HYBRID = METHODS = ("learned", "optimised", "hybrid")
GENERATED, REAL, TRUTH = "generated", "real", "truth"
STREAM = "invert/latents"
"""Name of the random stream of the generated images' latents."""
VARIANCE_DRAWS = 4096
"""Samples of the prior from which Var(z) is estimated."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Found:
    """Latents and images of one method for all images of a kind, in the images' order, with what was measured."""

    latents: Latents
    images: Images
    measured: Float64[Tensor, "N 3"]
    """Mean squared error, perceptual distance, seconds."""


class _Rows:
    """This rank's rows of a `_Found`, as they come."""

    def __init__(self, channels: int, resolution: int, dim: int) -> None:
        self.index = [as_tensor(range(0))]
        self.latents = [torch.empty(0, dim)]
        self.images = [torch.empty(0, channels, resolution, resolution)]
        self.measured = [torch.empty(0, 3, dtype=torch.float64)]

    def add(self, index: Indices, latents: Latents, images: Images, measured: Float64[Tensor, "N 3"]) -> None:
        self.index.append(index)
        self.latents.append(latents.cpu())
        self.images.append(images.cpu())
        self.measured.append(measured)

    def gather(self) -> _Found:
        """All ranks' rows; a rank without rows takes part with none."""
        index = torch.cat(self.index)
        latents, images, measured = (
            distributed.gather_ragged(torch.cat(column), index)[0]
            for column in (self.latents, self.images, self.measured)
        )
        return _Found(latents, images, measured)


@dataclass(frozen=True)
class Invert(AbstractAnalysis):
    """Latents of generated and of real images by a learned encoder, by optimisation, and by both, side by side.

    learned: the model's `encode`. optimised: the best of several optimisations, each begun at a sample of the prior.
    hybrid: the same candidates and one more that begins at the learned latents, so it is never worse than either on any
    image, in what is minimised. A model that cannot encode is inverted by optimisation alone.
    """

    name = "invert"
    requires = AbstractDecoder
    needs_images = True

    num: int = 16
    """How many images of either kind; real ones evenly spaced over the source."""
    optimiser: Optimiser = "lbfgs"
    """lbfgs, or adam, which treats all images of a batch at once."""
    steps: int = 200
    """Iterations from each start."""
    restarts: int = 4
    """Starts from the prior for each image."""
    prior_weight: float = 0.0
    """Weight of the prior's energy beside the mean squared error: |z|^2 / L, in W the squared Mahalanobis distance to
    its mean over L."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual distance beside the mean squared error."""
    clip: float | None = None
    """Coordinates stay in [-clip, clip]; null: no box."""
    clipping: Clipping = "project"
    """project, or with adam stochastic: coordinates that leave the box are drawn anew."""
    learning_rate: float = 0.05
    """Of adam."""
    seed: int = 0
    """Of the generated images and of the restarts."""
    batch_size: int = 64
    """Images at a time."""
    perceptual: str = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best whose weights are found."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    columns: int = 8
    """Images of either kind on the sheet."""

    def __post_init__(self) -> None:
        for option in ("num", "restarts", "batch_size", "columns"):
            if getattr(self, option) < 1:
                raise ValueError(f"invert needs {option} of at least 1, got {getattr(self, option)}")
        self.settings()

    def settings(self) -> InversionSettings:
        """Of every optimisation; wrong ones are refused."""
        return InversionSettings(
            optimiser=self.optimiser,
            steps=self.steps,
            restarts=self.restarts,
            prior_weight=self.prior_weight,
            perceptual_weight=self.perceptual_weight,
            clip=self.clip,
            clipping=self.clipping,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers, each a mean over images: for either kind (real, generated) and each method

            rec_mse: mean squared error of images (R-MSE), in [-1, 1] units, not quantised
            rec_mse_relative: the same over that of the mean of the same images
            the perceptual distance, under its own name
            norm: |z| / sqrt(L)
            seconds: per image, of this machine

        and for generated images i_mse, the mean squared error of latents, and i_mse_relative, its share of Var(z).

        Raises:
            ValueError: if the source is empty or weights are absent.
        """
        assert source is not None
        if len(source) == 0:
            raise ValueError("invert needs at least one real image and the source is empty: name another folder")
        perceptual = find_perceptual(self.perceptual, self.perceptual_path, download=self.download)
        perceptual = perceptual.to(device_of(model))
        methods = METHODS if isinstance(model, AbstractAutoencoder) else (OPTIMISED,)
        places = spread(len(source), self.num)
        variance = prior_latents(model, self.seed, "invert/variance", range(VARIANCE_DRAWS)).var(0).mean().item()
        numbers: dict[str, float] = {}
        rows: dict[str, Images] = {}
        for kind, count in ((GENERATED, self.num), (REAL, len(places))):
            found = self._invert_all(model, source, places, kind, count, methods, perceptual)
            truth = found.pop(TRUTH)
            baseline = truth.images.double().var(0, correction=0).mean().item()
            rows[kind] = truth.images[: self.columns]
            for method, result in found.items():
                error, distance, seconds = result.measured.mean(0).tolist()
                numbers[f"rec_mse_{kind}_{method}"] = error
                if baseline > 0:  # a single image is its own mean
                    numbers[f"rec_mse_relative_{kind}_{method}"] = error / baseline
                numbers[f"{perceptual.name}_{kind}_{method}"] = distance
                if kind == GENERATED:
                    latent_error = (result.latents.double() - truth.latents.double()).square().mean().item()
                    numbers[f"i_mse_{method}"] = latent_error
                    numbers[f"i_mse_relative_{method}"] = latent_error / variance
                length = torch.linalg.vector_norm(result.latents, dim=1).mean().item()
                numbers[f"norm_{kind}_{method}"] = length / model.latent_space.dim**0.5
                numbers[f"seconds_{kind}_{method}"] = seconds
                rows[f"{kind}, {method}"] = result.images[: self.columns]
        protocol = self._protocol(model, perceptual, len(places), variance, list(rows), methods)
        return Result(self.name, numbers, protocol, {"inversions": _sheet(list(rows.values()), model.resolution)})

    def _invert_all(
        self,
        model: AbstractDecoder,
        source: ImageSource,
        places: list[int],
        kind: str,
        count: int,
        methods: Sequence[str],
        perceptual: AbstractPerceptualDistance,
    ) -> dict[str, _Found]:
        """What each method found for images of a kind; under `TRUTH` the images, with their latents if generated."""
        channels = source.batch([0], model.resolution).images.shape[1]
        dim = model.latent_space.dim
        rows = {name: _Rows(channels, model.resolution, dim) for name in (TRUTH, *methods)}
        for indices in batches(share(count), self.batch_size):
            if kind == GENERATED:
                latents = prior_latents(model, self.seed, STREAM, indices)
                images = model.decode(latents).float()
            else:
                images = real_images(model, source, [places[i] for i in indices])
                latents = images.new_full((len(images), dim), torch.nan)
            index = as_tensor(indices)
            rows[TRUTH].add(index, latents, images, torch.zeros(len(images), 3, dtype=torch.float64))
            for method, (found, seconds) in self._find(model, images, indices, perceptual).items():
                pictures = model.decode(found).float()
                rows[method].add(index, found, pictures, _measure(images, pictures, perceptual, seconds))
        return {name: one.gather() for name, one in rows.items()}

    def _find(
        self, model: AbstractDecoder, images: Images, indices: range, distance: AbstractPerceptualDistance
    ) -> dict[str, tuple[Latents, float]]:
        """Latents by each method, and the seconds that it took for each image."""
        device = images.device
        optimised, for_optimised = _timed(
            lambda: invert(model, images, self.settings(), index=list(indices), distance=distance), device, len(images)
        )
        if not isinstance(model, AbstractAutoencoder):
            return {OPTIMISED: (optimised.latents, for_optimised)}
        learned, for_learned = _timed(lambda: model.encode(images), device, len(images))
        from_learned, for_one_more = _timed(
            lambda: invert(model, images, replace(self.settings(), restarts=0), start=learned, distance=distance),
            device,
            len(images),
        )
        # Its other candidates are the ones that were just computed; hybrid is charged for them, too.
        hybrid = best_of(optimised, from_learned)
        return {
            LEARNED: (learned, for_learned),
            OPTIMISED: (optimised.latents, for_optimised),
            HYBRID: (hybrid.latents, for_learned + for_one_more + for_optimised),
        }

    def _protocol(
        self,
        model: AbstractDecoder,
        perceptual: AbstractPerceptualDistance,
        num_real: int,
        variance: float,
        shown: list[str],
        methods: Sequence[str],
    ) -> dict[str, Any]:
        notes = []
        if LEARNED not in methods:
            notes.append(
                f"{type(model).__name__} cannot encode: learned and hybrid inversion are left out; they need a recoder"
            )
        if self.clip is not None and HYBRID in methods:
            notes.append("hybrid cannot be worse than learned only where the learned latents lie in the box")
        return {
            **situation(model),
            "num_generated": self.num,
            "num_real": num_real,
            "chosen": "real images evenly spaced over the source, generated ones the first of the seed's stream",
            "stream": STREAM,
            "seed": self.seed,
            "budget": f"optimised: {self.restarts} starts of the prior, {self.steps} steps each; hybrid: these same "
            f"optimisations and one from the learned start, {self.steps} steps; the best loss of each image counts, "
            "the starts themselves included",
            "minimised": "mean squared error in [-1, 1] units, not quantised"
            + (f", plus {self.perceptual_weight:g} {perceptual.name}" if self.perceptual_weight else "")
            + (f", plus {self.prior_weight:g} times the prior's energy" if self.prior_weight else ""),
            "rec_mse_relative": "rec_mse over that of the mean of the same images",
            "latent_variance": variance,
            "perceptual": perceptual.describe(),
            "seconds": f"per image, batches of {self.batch_size}, {device_of(model).type}",
            "rows": shown,
            "curated": False,
            "notes": notes,
        }


def _measure(
    images: Images, pictures: Images, perceptual: AbstractPerceptualDistance, seconds: float
) -> Float64[Tensor, "N 3"]:
    """(n, 3) float64 on the CPU: mean squared error, perceptual distance, seconds."""
    error = (images.double() - pictures.double()).square().mean((1, 2, 3)).cpu()
    distance = perceptual(images, pictures).double().cpu()
    return torch.stack([error, distance, torch.full_like(error, seconds)], dim=1)


def _timed(work: Callable[[], Found], device: torch.device, count: int) -> tuple[Found, float]:
    """What the work returns, and the seconds that it took for each of so many images."""
    _wait(device)
    begin = time.perf_counter()
    found = work()
    _wait(device)
    return found, (time.perf_counter() - begin) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sheet(rows: list[Tensor], resolution: int) -> Float[Tensor, "1 C h w"]:
    """Rows (n, C, R, R) one over the other, generated images first; shorter rows end in white."""
    columns = max(map(len, rows))
    filled = [torch.cat([row, row.new_ones(columns - len(row), *row.shape[1:])]) for row in rows]
    return enlarge(make_grid(torch.cat(filled), columns), magnification(resolution))
