"""What a split decoder makes of its freedom: both images, their map, and which of them comes nearest to real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import (
    HeldOut,
    as_tensor,
    batches,
    device_of,
    prior_latents,
    real_images,
    share,
    situation,
    spread,
)
from latent_lab.analyses.reference import reference_features
from latent_lab.analyses.sample import STREAM, magnification
from latent_lab.analyses.set_numbers import count_name, distance_name
from latent_lab.images import enlarge, from_unit, make_grid, quantise
from latent_lab.latent.interfaces import AbstractSplitDecoder
from latent_lab.metrics import AlreadyExtracted, FrechetDistance, ReconstructionError
from latent_lab.metrics.functional import mean_squared_error
from latent_lab.networks.features import RESIZE_PROTOCOLS, find_extractor
from latent_lab.types import Images, ImageSource, Latents, OtherImages

VARIANTS = ("mixed", "first", "second", "half")
"""What is compared: the decoder's mixture, its two images, and their mean without the map."""


def variants(model: AbstractSplitDecoder, latents: Latents) -> dict[str, Images]:
    """Images of `VARIANTS`, and the map as a grey image of [-1, 1] under "map"; all (N, C, R, R), float32."""
    first, second, mixing = (part.float() for part in model.parts(latents))
    return {
        "mixed": mixing * first + (1.0 - mixing) * second,
        "first": first,
        "second": second,
        "half": (first + second) / 2.0,
        "map": from_unit(mixing).expand_as(first),
    }


@dataclass(frozen=True)
class Split(AbstractAnalysis):
    """Inputs, reconstructions, both images and the map; distances of each to real images.

    Often the mixture reconstructs best while one of its images alone looks more like a real one.
    """

    name = "split"
    requires = AbstractSplitDecoder
    needs_images = True
    needs_reference = True

    num_pictures: int = 8
    """Columns of the sheets: the first images of the source, and the first samples."""
    num_reconstructions: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    distances: bool = True
    """Whether Frechet distances of samples are computed."""
    num_samples: int = 10_000
    """Samples of the prior."""
    num_reference: int | None = None
    """Reference (training) images, evenly spaced; none: all."""
    seed: int = 0
    """Of the latents."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""
    extractor: str = "auto"
    """inception, efflite0 or random; auto: the first of them whose weights are found."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    resize: str = "clean"
    """clean, or with inception tf1, the protocol of older papers."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_PROTOCOLS:
            raise ValueError(f"resize must be {' or '.join(RESIZE_PROTOCOLS)}, got {self.resize!r}")
        for option, least in (("num_pictures", 1), ("num_reconstructions", 1), ("num_samples", 2), ("batch_size", 1)):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"split needs {option} of at least {least}, got {value}")
        if self.num_reference is not None and self.num_reference < 2:
            raise ValueError(f"split needs num_reference of at least 2, got {self.num_reference}")

    @torch.no_grad()
    def run(self, model: AbstractSplitDecoder, source: ImageSource | None) -> Result:
        """Numbers: `rec_mse` of each variant on held-out images, Frechet distance of each variant of samples.

        Raises:
            ValueError: if the source is empty, or if weights are absent.
        """
        assert source is not None
        if len(source) == 0:
            raise ValueError("split needs at least one image and the source is empty: name another data set")
        protocol: dict[str, Any] = {**situation(model), "seed": self.seed, "stream": STREAM}
        numbers = self._reconstruction_errors(model, source, protocol)
        if self.distances:
            numbers |= self._distances(model, source, protocol)
        pictures = {
            "split_reconstructions": self._reconstructions(model, source),
            "split_samples": self._samples(model),
        }
        return Result(self.name, numbers, protocol, pictures)

    def _reconstruction_errors(
        self, model: AbstractSplitDecoder, source: ImageSource, protocol: dict[str, Any]
    ) -> dict[str, float]:
        places = spread(len(source), self.num_reconstructions)
        errors = {variant: ReconstructionError(mean_squared_error) for variant in VARIANTS}
        for error in errors.values():
            error.to(_metric_device(model))
        for indices in batches(share(len(places)), self.batch_size):
            images = real_images(model, source, [places[i] for i in indices])
            found = variants(model, model.encode(images))
            for variant, error in errors.items():
                error.update(quantise(images), quantise(found[variant]), as_tensor(indices))
        protocol["num_reconstructions"] = len(places)
        return {f"rec_mse{_suffix(variant)}": error.compute().item() for variant, error in errors.items()}

    def _distances(
        self, model: AbstractSplitDecoder, source: ImageSource, protocol: dict[str, Any]
    ) -> dict[str, float]:
        extractor = find_extractor(self.extractor, self.extractor_path, resize=self.resize, download=self.download).to(
            device_of(model)
        )
        reference = source.reference if isinstance(source, HeldOut) else source
        if len(reference) < 2:
            raise ValueError(f"split needs at least 2 reference images, got {len(reference)}: name a larger data set")
        places = spread(len(reference), self.num_reference)
        features = reference_features(model, reference, places, extractor, batch_size=self.batch_size)
        mine = as_tensor(share(len(places)))
        distances = {variant: FrechetDistance(AlreadyExtracted(extractor.num_features)) for variant in VARIANTS}
        for distance in distances.values():
            distance.to(_metric_device(model)).update(features[mine], real=True)
        for indices in batches(share(self.num_samples), self.batch_size):
            found = variants(model, prior_latents(model, self.seed, STREAM, indices))
            for variant, distance in distances.items():
                distance.update(extractor(found[variant]), real=False)
        protocol.update(
            extractor=extractor.describe(),
            num_samples=self.num_samples,
            num_reference=len(places),
            reference=dict(reference.recipe),
            samples_of="the prior",
        )
        name = f"{distance_name(extractor)}_{count_name(self.num_samples)}"
        return {f"{name}{_suffix(variant)}": distance.compute().item() for variant, distance in distances.items()}

    def _reconstructions(self, model: AbstractSplitDecoder, source: ImageSource) -> OtherImages:
        images = real_images(model, source, range(min(self.num_pictures, len(source))))
        found = variants(model, model.encode(images))
        return _sheet(model, {"input": images, **_shown(found)})

    def _samples(self, model: AbstractSplitDecoder) -> OtherImages:
        latents = prior_latents(model, self.seed, STREAM, range(self.num_pictures))
        return _sheet(model, _shown(variants(model, latents)))


def _suffix(variant: str) -> str:
    """The mixture is what every other analysis measures, so its numbers have their plain names."""
    return "" if variant == "mixed" else f"_{variant}"


def _shown(found: Mapping[str, Images]) -> dict[str, Images]:
    return {row: found[row] for row in ("mixed", "first", "second", "map")}


def _sheet(model: AbstractSplitDecoder, rows: Mapping[str, Images]) -> OtherImages:
    """One row of the sheet for each entry, from top to bottom."""
    columns = len(next(iter(rows.values())))
    sheet = make_grid(torch.cat([images.cpu() for images in rows.values()]), columns)
    return enlarge(sheet, magnification(model.resolution))


def _metric_device(model: AbstractSplitDecoder) -> torch.device:
    device = device_of(model)
    # Float64 sums do not exist on Apple's GPUs; NCCL exchanges only what is on a GPU.
    return device if device.type == "cuda" else torch.device("cpu")
