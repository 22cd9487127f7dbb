"""Statistics of a set of images, to be written to a file: what `latent-lab statistics` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from latent_lab.analyses.feeding import spread
from latent_lab.analyses.reference import features_of_source
from latent_lab.metrics.functional import Moments, moments
from latent_lab.networks.features import SEEING_FACES, find_extractor
from latent_lab.types import Features, ImageSource


class SourceStatistics(NamedTuple):
    """Ready for `write_statistics`."""

    moments: Moments
    features: Features | None
    protocol: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StatisticsOptions:
    """Which images are seen by which extractor, and how."""

    extractor: str = "auto"
    """inception, vgg16, efflite0, dlib_identity, dlib_age or random; auto: the first whose weights are found."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    resize: str = "clean"
    """How images get to the extractor's size: clean, tf1, torch or torchmetrics."""
    precision: str = "float32"
    """float32, or bfloat16, which is faster and deviates a little."""
    quantisation: str = "round"
    """To 8 bits: round, truncate, or none."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    identity_box: tuple[float, ...] | str = "celeba"
    """How faces are framed, for extractors dlib_identity and dlib_age: celeba, celeba_narrow, ffhq, or [left, top,
    right, bottom] in shares of the image."""
    num: int | None = None
    """Images, evenly spaced over the source; none: all."""
    keep_features: bool = False
    """Whether the file holds the features, too, for metrics that need more than mean and covariance."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.num is not None and self.num < 2:
            raise ValueError(f"num must be at least 2, got {self.num}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


def statistics_of_source(
    source: ImageSource, options: StatisticsOptions, *, resolution: int, alpha: float, device: torch.device
) -> SourceStatistics:
    """Mean and covariance of the features of a source's images, with their protocol.

    Args:
        source: the images.
        options: which of them, and how they are seen.
        resolution: pixels per side at which they are read.
        alpha: fade from half the resolution, in [0, 1]; 1: the images as they are.
        device: where features are computed.

    Raises:
        ValueError: if there are fewer than two images, or the extractor is unknown or its weights are absent.
    """
    if len(source) < 2:
        raise ValueError(f"statistics need at least 2 images, got {len(source)}: name a larger set")
    extractor = find_extractor(
        options.extractor,
        options.extractor_path,
        resize=options.resize,
        precision=options.precision,
        quantisation=options.quantisation,
        download=options.download,
        box=options.identity_box if options.extractor in SEEING_FACES else None,
    ).to(device)
    places = spread(len(source), options.num)
    features = features_of_source(
        source,
        places,
        extractor,
        resolution=resolution,
        alpha=alpha,
        device=device,
        batch_size=options.batch_size,
    )
    protocol = {
        "extractor": extractor.describe(),
        "data": dict(source.recipe),
        "num_images": len(places),
        "resolution": resolution,
        "alpha": alpha,
    }
    notes = []
    if len(places) <= extractor.num_features:
        notes.append(
            f"{len(places)} images for {extractor.num_features} features: the covariance lacks full rank, and "
            "distances to it are too large; compare them only with numbers of the same counts"
        )
    return SourceStatistics(moments(features), features if options.keep_features else None, protocol, tuple(notes))
