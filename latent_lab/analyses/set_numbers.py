"""Numbers of two sets of features: distances, overlap, memorisation and scores, by name and with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from latent_lab.metrics.functional import (
    Interval,
    Moments,
    authentic_percent,
    authentic_percent_interval,
    frechet_distance,
    frechet_infinity,
    frechet_infinity_interval,
    frechet_interval,
    inception_score,
    inception_score_interval,
    indicator_intervals,
    manifold_indicators,
    mean_interval,
    moments,
)
from latent_lab.metrics.functional.inception_score import SPLITS
from latent_lab.metrics.functional.kernel import kernel_summands
from latent_lab.metrics.functional.manifold_overlap import DENSITY_K, PRECISION_K
from latent_lab.metrics.functional.memorisation import (
    THRESHOLD,
    cosine_distances,
    interval_from_distances,
    penalised,
)
from latent_lab.networks.features import AbstractExtractor
from latent_lab.types import Features

SET_METRICS = ("fd", "kd", "fd_infinity", "pr", "is", "memorisation")
"""Families of numbers that `compare_sets` knows."""

OtherFeatures = Float[Tensor, "M F"]


def distance_name(extractor: AbstractExtractor, kind: str = "f") -> str:
    """fid_clean or kid_clean for the canonical Inception; fd_NAME or kd_NAME for every other extractor."""
    return f"{kind}id_{extractor.resize}" if extractor.canonical else f"{kind}d_{extractor.label}"


def count_name(count: int) -> str:
    """Sample counts as they stand in names: 5000 is "5k", 1234 is "1234"."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made."""

    level: float = 0.95
    """Share of the resampled values inside."""
    num_resamples: int = 200
    """0: no intervals."""
    seed: int = 0
    """Of the resamples."""

    def arguments(self) -> dict[str, Any]:
        """Of the functions whose names end in _interval."""
        return {"level": self.level, "num_resamples": self.num_resamples, "seed": self.seed}

    def of(self, interval: Callable[..., Interval], *data: Any, **options: Any) -> Interval | None:
        """The interval, unless none are wanted."""
        return interval(*data, **options, **self.arguments()) if self.num_resamples else None


@dataclass
class Numbers:
    """Numbers, their intervals, and what belongs into a protocol."""

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    raw: dict[str, float] = field(default_factory=dict)
    """Distances before they were clamped at 0."""
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, interval: Interval | None = None) -> None:
        """One number."""
        self.values[name] = value
        if interval is not None:
            self.intervals[name] = (interval.low, interval.high)

    def take(self, others: Numbers) -> None:
        """Everything that others hold, too."""
        self.values |= others.values
        self.intervals |= others.intervals
        self.raw |= others.raw
        self.protocol |= others.protocol
        self.notes += others.notes


@dataclass(frozen=True)
class Reference:
    """What samples are compared with."""

    moments: Moments
    features: Features | None
    """None where a file holds moments alone."""
    is_training: bool
    """Whether these are the images that the model was trained on."""


def reference_of(features: Features, *, is_training: bool) -> Reference:
    """The reference that computed features make."""
    return Reference(moments(features), features, is_training)


def frechet_numbers(
    found: Numbers,
    name: str,
    real: Reference,
    fake: Features,
    resampling: Resampling,
) -> None:
    """The Frechet distance under a name, with its interval where all features are known."""
    estimate = frechet_distance(real.moments, moments(fake))
    found.raw[name] = estimate.raw
    interval = None if real.features is None else resampling.of(frechet_interval, real.features, fake)
    found.add(name, estimate.value, interval)
    known = real.moments.num_vectors
    count = len(fake) if known is None else min(known, len(fake))
    if count <= fake.shape[1]:
        found.notes.append(
            f"{name}: {count} images for {fake.shape[1]} features, so the covariance lacks full rank and the distance "
            "is too large: compare it only with numbers of the same counts"
        )


def compare_sets(
    metrics: frozenset[str],
    real: Reference,
    fake: Features,
    logits: Float[Tensor, "M K"] | None,
    extractor: AbstractExtractor,
    *,
    suffix: str,
    seed: int,
    resampling: Resampling,
) -> Numbers:
    """The chosen families of numbers of generated images against a reference.

    What cannot be had (too few images, moments alone, no class scores) is left out with a note that says why.

    Args:
        metrics: some of `SET_METRICS`; others are ignored.
        real: the reference.
        fake: (M, F) features of generated images.
        logits: (M, K) class scores of the same, if the extractor has them.
        extractor: whose features they are.
        suffix: of names, how the samples were chosen.
        seed: of subsets.
        resampling: of intervals.
    """
    found = Numbers()
    of_count = count_name(len(fake)) + suffix
    if "fd" in metrics:
        frechet_numbers(found, f"{distance_name(extractor)}_{of_count}", real, fake, resampling)
    frechet, kernel = (distance_name(extractor, kind) for kind in "fk")
    parts: Mapping[str, Callable[[Numbers, Features], None]] = {
        "kd": lambda into, rows: _kernel(into, rows, fake, f"{kernel}_{of_count}", seed, resampling),
        "fd_infinity": lambda into, rows: _infinity(
            into, rows, fake, f"{frechet}_infinity_{of_count}", seed, resampling
        ),
        "pr": lambda into, rows: _overlap(into, rows, fake, extractor.label, of_count, resampling),
        "memorisation": lambda into, rows: _memorisation(into, real, rows, fake, extractor, of_count, resampling),
    }
    for family, add in parts.items():
        if family not in metrics:
            continue
        if real.features is None:
            found.notes.append(f"{family} is left out: the reference statistics hold no features")
            continue
        try:
            add(found, real.features)
        except ValueError as error:
            found.notes.append(f"{family} is left out: {error}")
    if "is" in metrics:
        if logits is None:
            found.notes.append(f"is is left out: the extractor {extractor.name} has no class scores")
        else:
            _score(found, logits, extractor, of_count, resampling)
    return found


def _kernel(found: Numbers, real: Features, fake: OtherFeatures, name: str, seed: int, resampling: Resampling) -> None:
    summands = kernel_summands(real, fake, seed=seed)
    estimate = summands.estimate()
    found.add(name, estimate.value, resampling.of(summands.interval))
    found.add(f"{name}_standard_error", estimate.standard_error)
    subsets = len(summands.values[0])
    found.protocol["kernel"] = {
        "polynomial": "(x·y / F + 1)^3",
        "pairs": "all" if summands.order > 1 else f"those within {subsets} disjoint pairs of subsets",
    }


def _infinity(
    found: Numbers, real: Features, fake: OtherFeatures, name: str, seed: int, resampling: Resampling
) -> None:
    estimate = frechet_infinity(real, fake, seed=seed)
    found.add(name, estimate.value, resampling.of(frechet_infinity_interval, real, fake, subset_seed=seed))
    found.add(f"{name}_standard_error", estimate.standard_error)
    found.protocol["infinity"] = {"line": "over 1/N", "counts": list(estimate.counts)}


def _overlap(
    found: Numbers, real: Features, fake: OtherFeatures, label: str, of_count: str, resampling: Resampling
) -> None:
    indicators = manifold_indicators(real, fake)
    intervals = indicator_intervals(indicators, **resampling.arguments()) if resampling.num_resamples else {}
    values = (
        ("precision", PRECISION_K, indicators.precise),
        ("recall", PRECISION_K, indicators.recalled),
        ("density", DENSITY_K, indicators.densities),
        ("coverage", DENSITY_K, indicators.covered),
    )
    for kind, k, of_images in values:
        found.add(f"{kind}_{label}_k{k}_{of_count}", of_images.double().mean().item(), intervals.get(kind))
    found.protocol["neighbours"] = {"precision_recall": PRECISION_K, "density_coverage": DENSITY_K}


def _memorisation(
    found: Numbers,
    reference: Reference,
    training: Features,
    fake: OtherFeatures,
    extractor: AbstractExtractor,
    of_count: str,
    resampling: Resampling,
) -> None:
    if not reference.is_training:
        raise ValueError("the reference images are not known to be the training images")
    frechet = frechet_distance(reference.moments, moments(fake)).value
    distances = cosine_distances(training, fake)
    interval = (
        interval_from_distances(training, fake, distances, threshold=THRESHOLD, **resampling.arguments())
        if resampling.num_resamples
        else None
    )
    name = f"mifid_{extractor.resize}" if extractor.canonical else f"mifd_{extractor.label}"
    found.add(f"{name}_{of_count}", penalised(frechet, distances.mean().item()), interval)
    found.add(
        f"memorisation_distance_{extractor.label}_{of_count}",
        distances.mean().item(),
        resampling.of(mean_interval, distances),
    )
    found.add(
        f"authentic_percent_{extractor.label}_{of_count}",
        authentic_percent(training, fake),
        resampling.of(authentic_percent_interval, training, fake),
    )
    found.protocol["memorisation"] = {"threshold": THRESHOLD, "distance": "1 - |cosine|"}


def _score(
    found: Numbers,
    logits: Float[Tensor, "M K"],
    extractor: AbstractExtractor,
    of_count: str,
    resampling: Resampling,
) -> None:
    # It needs an image in every split.
    splits = min(SPLITS, len(logits))
    estimate = inception_score(logits, splits=splits)
    name = f"is_{extractor.resize}" if extractor.canonical else f"inception_score_{extractor.label}"
    found.add(f"{name}_{of_count}", estimate.value, resampling.of(inception_score_interval, logits, splits=splits))
    found.add(f"{name}_{of_count}_std", estimate.deviation)
    found.protocol["inception_score"] = {"splits": splits, "deviation": "over splits"}
