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

    @property
    def known(self) -> Features | Moments:
        """The features, else the moments."""
        return self.moments if self.features is None else self.features


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
    """The Frechet distance under a name, with its interval; a warning where there are no more images than features."""
    estimate = frechet_distance(real.moments, moments(fake))
    found.raw[name] = estimate.raw
    found.add(name, estimate.value, resampling.of(frechet_interval, real.known, fake))
    warning = rank_warning(name, real.moments.num_vectors, len(fake), fake.shape[1])
    if warning is not None:
        found.notes.append(warning)


def rank_warning(name: str, num_real: int | None, num_fake: int, num_features: int) -> str | None:
    """What to know of a Frechet distance of no more images than features; none if there are enough.

    It is defined, since the smaller set spans its own covariance, so it is no error; but its bias, about a constant
    over the number of images, is then as large as what it measures.

    Args:
        name: of the number.
        num_real: reference images; none: not known.
        num_fake: images that are compared with them.
        num_features: of the extractor.
    """
    counts = {"images": num_fake} if num_real is None else {"images": num_fake, "reference images": num_real}
    few = [f"{count:,} {what}" for what, count in counts.items() if count <= num_features]
    if not few:
        return None
    return (
        f"{name} is of {' and '.join(few)}, no more than the {num_features:,} features: the covariance lacks full rank "
        "and the distance is far too large, so compare it only with numbers of the same counts"
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
    by_moments = metrics & {"fd", "fd_infinity"}
    if real.features is None and by_moments and resampling.num_resamples:
        found.notes.append(
            f"intervals of {' and '.join(sorted(by_moments))} are over the samples alone: the reference statistics "
            "hold no features"
        )
    of_features: Mapping[str, Callable[[Features], None]] = {
        "kd": lambda rows: _kernel(found, rows, fake, f"{kernel}_{of_count}", seed, resampling),
        "pr": lambda rows: _overlap(found, rows, fake, extractor.label, of_count, resampling),
        "memorisation": lambda rows: _memorisation(found, real, rows, fake, extractor, of_count, resampling),
    }
    for family in ("kd", "fd_infinity", "pr", "memorisation"):
        if family not in metrics:
            continue
        try:
            if family == "fd_infinity":
                _infinity(found, real.known, fake, f"{frechet}_infinity_{of_count}", seed, resampling)
            elif real.features is None:
                found.notes.append(f"{family} is left out: the reference statistics hold no features")
            else:
                of_features[family](real.features)
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
    found: Numbers, real: Features | Moments, fake: OtherFeatures, name: str, seed: int, resampling: Resampling
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
