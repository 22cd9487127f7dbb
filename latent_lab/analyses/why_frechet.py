"""Why two programs give two Frechet distances: one pair of image sets under every usual way of measuring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result, Table
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
from latent_lab.analyses.sample import OTHER_STREAM, STREAM
from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES
from latent_lab.metrics.functional.checks import OtherVectors
from latent_lab.metrics.functional.frechet import (
    Moments,
    frechet_distance,
    frechet_infinity,
    frechet_interval,
    moments,
)
from latent_lab.networks.face_identity import box_of
from latent_lab.networks.features import (
    EXTRACTORS,
    PRECISIONS,
    QUANTISATIONS,
    RESIZE_PROTOCOLS,
    SEEING_FACES,
    AbstractExtractor,
    find_extractor,
)
from latent_lab.plotting import labelled_bars
from latent_lab.types import Features, ImageBatch, Images, ImageSource

FACTORS = ("resize", "quantisation", "precision", "extractor", "counts", "reference", "flips", "covariance", "samples")
_FRACTIONS = (8, 4, 2)
_FOR_TESTS = "random"
_WORTH_NAMING = 0.01
"""Share of a gap below which a variant explains nothing of it."""
Way: TypeAlias = tuple[str, str]
"""Factor and value: ("resize", "tf1")."""
_BASE: Way = ("base", "")
ImagesOf: TypeAlias = Callable[[range], Images]
"""Images of the given places of a set."""


@dataclass(frozen=True)
class Splits:
    """Several reference sets, the first of which is the usual one; itself that image source."""

    sources: Mapping[str, ImageSource]

    @property
    def usual(self) -> ImageSource:
        """What samples are compared with unless the split is the question."""
        return next(iter(self.sources.values()))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the usual one."""
        return self.usual.label_names

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Of the usual one."""
        return self.usual.recipe

    def __len__(self) -> int:
        return len(self.usual)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        """Images of the usual one."""
        return self.usual.batch(indices, resolution)


@dataclass(frozen=True)
class ImageSet:
    """Images that are made or read when they are asked for."""

    images_of: ImagesOf
    count: int
    what: str
    """For people: "samples"."""


@dataclass(frozen=True)
class Variant:
    """The distance with one thing done otherwise than in the base."""

    factor: str
    value: str
    distance: float

    @property
    def name(self) -> str:
        """Of its number: `fd_resize_tf1`."""
        return f"fd_{self.factor}_{self.value}".replace(" ", "_")


@dataclass(frozen=True)
class Attribution:
    """How far one variant goes from our distance to theirs."""

    variant: Variant
    share: float
    """Part of the gap that it covers: 1 closes it, more than 1 goes beyond, less than 0 away from it."""

    @property
    def closes(self) -> float:
        """Part of the gap that is gone: negative if the variant is farther from theirs than the base is."""
        return 1.0 - abs(1.0 - self.share)


def attribute(base: float, variants: Sequence[Variant], theirs: float) -> list[Attribution]:
    """Every variant's share of the gap between two distances, those first that leave the least of it.

    Args:
        base: our distance.
        variants: of it.
        theirs: another program's distance, not equal to the base.
    """
    gap = theirs - base
    found = [Attribution(variant, (variant.distance - base) / gap) for variant in variants]
    return sorted(found, key=lambda one: -one.closes)


@dataclass(frozen=True)
class WhyFrechet(AbstractAnalysis):
    """Frechet distance of one pair of image sets, with one thing at a time done as other programs do it.

    The base is the distance with the options as they are. Every other row changes one factor: the resize protocol, the
    rounding to 8 bits, the precision of the network, the network, the number of images (and its limit by
    FD-infinity), the reference images, mirrored reference images, the divisor of the covariance, and the random samples
    themselves, which show how much is chance. Given another program's value, it says which of them lead there.
    """

    name = "why_frechet"
    requires = AbstractDecoder
    needs_images = True
    needs_reference = True

    num: int = 5_000
    """Images of each set at most; reference images are evenly spaced over their source."""
    theirs: float | None = None
    """The other program's value, which is to be explained."""
    factors: tuple[str, ...] = FACTORS
    """Any of resize, quantisation, precision, extractor, counts, reference, flips, covariance, samples."""
    extractor: str = "auto"
    """Of the base: inception, vgg16, efflite0, dlib_identity, dlib_age, random, an import path, or auto."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it; other extractors are looked for in a folder, too."""
    identity_box: tuple[float, ...] | str = "celeba"
    """How faces are framed for extractors dlib_identity and dlib_age, the base or others: celeba, celeba_narrow, ffhq,
    or [left, top, right, bottom] in shares of the image."""
    resize: str = "clean"
    """Of the base: clean, tf1, torch or torchmetrics."""
    seed: int = 0
    """Of the samples."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        unknown = [factor for factor in self.factors if factor not in FACTORS]
        if unknown:
            raise ValueError(f"factors must be some of {', '.join(FACTORS)}, got {', '.join(unknown)}")
        if self.num < 2:
            raise ValueError(f"why_frechet needs num of at least 2, got {self.num}")
        if self.batch_size < 1:
            raise ValueError(f"why_frechet needs batch_size of at least 1, got {self.batch_size}")
        if self.theirs is not None and not math.isfinite(self.theirs):
            raise ValueError(f"theirs must be a finite number, got {self.theirs}")
        if self.resize not in RESIZE_PROTOCOLS:
            raise ValueError(f"resize must be {' or '.join(RESIZE_PROTOCOLS)}, got {self.resize!r}")
        box_of(self.identity_box)

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Compares samples of the model with reference images.

        Raises:
            ValueError: if weights are absent or a set has fewer than two images.
        """
        assert source is not None

        def samples(stream: str) -> ImageSet:
            def images_of(indices: range) -> Images:
                return model.decode(prior_latents(model, self.seed, stream, indices)).float()

            return ImageSet(images_of, self.num, "samples")

        def reals(name: str, images: ImageSource) -> ImageSet:
            return self._reals(name, images, lambda places: real_images(model, images, places))

        references = {name: reals(name, images) for name, images in _references(source).items()}
        result = self.explain(samples(STREAM), references, device_of(model), others=samples(OTHER_STREAM))
        facts = {**situation(model), "seed": self.seed, "stream": STREAM, "reference": dict(source.recipe)}
        if isinstance(source, HeldOut):
            facts["reference"] = dict(source.reference.recipe)
        return dataclasses.replace(result, protocol={**facts, **result.protocol})

    @torch.no_grad()
    def compare_folders(
        self,
        judged: ImageSource,
        reference: ImageSource,
        resolutions: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> Result:
        """Compares two sets of stored images.

        Args:
            judged: the images under test.
            reference: what they are compared with.
            resolutions: pixels per side at which each is read, before any extractor resizes it.
            device: where features are computed.

        Raises:
            ValueError: if weights are absent or a set has fewer than two images.
        """
        device = torch.device(device)

        def reader(source: ImageSource, resolution: int) -> Callable[[list[int]], Images]:
            return lambda places: source.batch(places, resolution).images.to(device)

        fakes = self._reals("images", judged, reader(judged, resolutions[0]))
        reals = self._reals("reference", reference, reader(reference, resolutions[1]))
        result = self.explain(fakes, {"reference": reals}, device)
        facts = {
            "options": dataclasses.asdict(self),
            "data": dict(judged.recipe),
            "reference": dict(reference.recipe),
            "read_at": {"images": resolutions[0], "reference": resolutions[1]},
        }
        return dataclasses.replace(result, protocol={**facts, **result.protocol})

    def _reals(self, what: str, source: ImageSource, read: Callable[[list[int]], Images]) -> ImageSet:
        if len(source) < 2:
            raise ValueError(f"why_frechet needs at least 2 images of each set, {what} has {len(source)}: add images")
        places = spread(len(source), self.num)
        return ImageSet(lambda indices: read([places[i] for i in indices]), len(places), what)

    def explain(
        self,
        fakes: ImageSet,
        references: Mapping[str, ImageSet],
        device: torch.device,
        others: ImageSet | None = None,
    ) -> Result:
        """Measures the base and every variant of the chosen factors.

        Args:
            fakes: images under test.
            references: the usual reference set, then others.
            device: where features are computed.
            others: as many other images of the same kind as `fakes`; none: there are no more.
        """
        notes: list[str] = []
        extractors = self._extractors(notes)
        base = extractors[_BASE].to(device)
        usual, *further = references
        seen = {way: extractor.to(device) for way, extractor in extractors.items()}
        fakes_seen, reals_seen = self._features(fakes, seen), self._features(references[usual], seen)
        fake, real, alone = fakes_seen[_BASE], reals_seen[_BASE], {_BASE: base}

        distance = frechet_distance(moments(real), moments(fake))
        interval = frechet_interval(real, fake, seed=self.seed)
        variants = [Variant(*way, _distance(reals_seen[way], fakes_seen[way])) for way in extractors if way != _BASE]
        if "counts" in self.factors:
            variants += _counts(real, fake, notes)
        if "reference" in self.factors:
            usual_reduced: dict[int, Variant] = {}
            for name in further:
                # As many as the usual ones, where there are so many; else the usual ones are also reduced to as many.
                other = self._features(references[name], alone)[_BASE]
                other = _spaced(other, min(len(other), len(real)))
                count = len(other)
                variants.append(Variant("reference", f"{name} {count}", _distance(other, fake)))
                if count < len(real):
                    reduced = _distance(_spaced(real, count), fake)
                    usual_reduced[count] = Variant("reference", f"{usual} {count}", reduced)
            variants += usual_reduced.values()
        if "flips" in self.factors:
            mirrored = ImageSet(lambda rows: references[usual].images_of(rows).flip(-1), len(real), "mirrored")
            both = torch.cat([real, self._features(mirrored, alone)[_BASE]])
            variants.append(Variant("flips", "reference and its mirror images", _distance(both, fake)))
        if "covariance" in self.factors:
            divided = frechet_distance(_divided_by_count(real), _divided_by_count(fake))
            variants.append(Variant("covariance", "divided by N", divided.raw))
        if "samples" in self.factors and others is not None:
            again = self._features(others, alone)[_BASE]
            variants.append(Variant("samples", "other random ones", _distance(real, again)))

        if min(len(real), len(fake)) <= base.num_features:
            notes.append(
                f"{len(fake)} and {len(real)} images for {base.num_features} features: the covariances "
                "lack full rank, and numbers of images matter more than anything else"
            )
        numbers = {"fd_base": distance.raw, **{variant.name: variant.distance for variant in variants}}
        tables = {"One thing at a time": _variant_table(distance.raw, variants, base)}
        if self.theirs is not None:
            notes += _verdict(distance.raw, variants, self.theirs, (interval.low, interval.high), base)
            closing = [] if self.theirs == distance.raw else attribute(distance.raw, variants, self.theirs)
            if any(one.closes > 0 for one in closing):
                tables[f"From {distance.raw:.6g} to {self.theirs:.6g}"] = _gap_table(closing)
        protocol = {
            "num_samples": len(fake),
            "num_reference": len(real),
            "base": {"reference": usual, "quantisation": "round", "precision": "float32", "covariance": "N - 1"},
            "extractor": base.describe(),
            "extractors": {way[1]: one.describe() for way, one in extractors.items() if way[0] == "extractor"},
            "intervals": {"level": LEVEL, "num_resamples": NUM_RESAMPLES, "seed": self.seed},
            "notes": notes,
        }
        return Result(
            self.name,
            numbers,
            protocol,
            {"variants": self._figure(distance.raw, variants, base)},
            tables,
            {"fd_base": (interval.low, interval.high)},
        )

    def _extractors(self, notes: list[str]) -> dict[Way, AbstractExtractor]:
        """The base and its variants."""
        base = find_extractor(
            self.extractor, self.extractor_path, resize=self.resize, box=self._box_for(self.extractor)
        )
        found = {_BASE: base}
        named = _name_to_find(base, self.extractor)
        absent: list[str] = []
        options: dict[str, tuple[tuple[str, ...], str]] = {
            "resize": (RESIZE_PROTOCOLS, self.resize),
            "quantisation": (QUANTISATIONS, "round"),
            "precision": (PRECISIONS, "float32"),
        }
        for factor, (values, usual) in options.items():
            for value in values:
                if factor in self.factors and value != usual:
                    changed = {**{one: usual for one, (_, usual) in options.items()}, factor: value}
                    try:
                        found[factor, value] = find_extractor(
                            named,
                            self.extractor_path,
                            resize=changed["resize"],
                            quantisation=changed["quantisation"],
                            precision=changed["precision"],
                            box=self._box_for(named),
                        )
                    except ValueError as error:  # as of a user's own network that takes images of any size
                        notes.append(f"{factor} {value} is left out: {error}")
        if "extractor" in self.factors:
            for name in EXTRACTORS:
                if name in (named, _FOR_TESTS):
                    continue
                other = _found(name, self.extractor_path, self.resize, self._box_for(name))
                if other is None:
                    absent.append(name)
                else:
                    found["extractor", name] = other
        if absent:
            notes.append(f"left out, since their weights are not on this machine: {', '.join(absent)}")
        return found

    def _box_for(self, extractor: str) -> tuple[float, ...] | str | None:
        """Where the face is, for extractors that ask."""
        return self.identity_box if extractor in SEEING_FACES else None

    def _features(self, images: ImageSet, extractors: Mapping[Way, AbstractExtractor]) -> dict[Way, Features]:
        """Features of all extractors from one pass over the images, all rows on every rank, on the CPU."""
        mine = share(images.count)
        rows = {way: [torch.empty(0, one.num_features)] for way, one in extractors.items()}
        for indices in batches(mine, self.batch_size, f"features of {images.what}"):
            batch = images.images_of(indices)
            for way, extractor in extractors.items():
                rows[way].append(extractor(batch).cpu())
        index = as_tensor(mine)
        return {way: distributed.gather_ragged(torch.cat(parts), index)[0] for way, parts in rows.items()}

    def _figure(self, base: float, variants: Sequence[Variant], extractor: AbstractExtractor) -> Images:
        """Bars of all variants of the base's extractor; distances of other networks have other scales."""
        shown = [variant for variant in variants if variant.factor != "extractor"]
        bars = {"base": base, **{f"{variant.factor}: {variant.value}": variant.distance for variant in shown}}
        lines = {"base": base} if self.theirs is None else {"base": base, "theirs": self.theirs}
        title = f"Frechet distance, {extractor.label}"
        return labelled_bars(bars, title=title, x="distance", lines=lines)


def _references(source: ImageSource) -> dict[str, ImageSource]:
    """Sets of reference images by name, the usual one first."""
    if isinstance(source, Splits):
        return dict(source.sources)
    if isinstance(source, HeldOut):
        names = [
            str(one.recipe.get("split", what)) for one, what in ((source.reference, "reference"), (source, "other"))
        ]
        if names[0] != names[1]:
            return {names[0]: source.reference, names[1]: source.images}
        return {names[0]: source.reference}
    return {str(source.recipe.get("split", "reference")): source}


def _name_to_find(extractor: AbstractExtractor, asked: str) -> str:
    """The name by which `find_extractor` gives this extractor again; "auto" has chosen one of them."""
    if asked != "auto":
        return asked
    return next(name for name in EXTRACTORS if extractor.name.startswith(name))


def _found(name: str, path: str | None, resize: str, box: tuple[float, ...] | str | None) -> AbstractExtractor | None:
    """An extractor whose weights are on this machine, beside those of the base if these are in a folder."""
    places = [path] if path is not None and Path(path).expanduser().is_dir() else []
    for place in (*places, None):
        try:
            return find_extractor(name, place, resize=resize, box=box)
        except ValueError:
            continue
    return None


def _distance(real: Features, fake: OtherVectors) -> float:
    return frechet_distance(moments(real), moments(fake)).raw


def _spaced(features: Features, count: int) -> OtherVectors:
    return features[spread(len(features), count)]


def _divided_by_count(features: Features) -> Moments:
    """Moments as programs compute them that divide the covariance by N."""
    found = moments(features)
    return found._replace(covariance=found.covariance * ((len(features) - 1) / len(features)))


def _counts(real: Features, fake: OtherVectors, notes: list[str]) -> list[Variant]:
    variants = []
    for part in _FRACTIONS:
        few_real, few_fake = _spaced(real, len(real) // part), fake[: len(fake) // part]
        if min(len(few_real), len(few_fake)) < 2:
            continue
        value = f"{len(few_fake)} and {len(few_real)}"
        variants.append(Variant("counts", value, _distance(few_real, few_fake)))
    try:
        variants.append(Variant("counts", "infinity", frechet_infinity(real, fake).value))
    except ValueError as error:
        notes.append(f"FD-infinity is left out: {error}")
    return variants


def _variant_table(base: float, variants: Sequence[Variant], extractor: AbstractExtractor) -> Table:
    rows: list[Sequence[str | float]] = [("what", "how", "distance", "change in %")]
    rows.append(("base", extractor.label, base, 0.0))
    for one in variants:
        change = float("nan") if one.factor == "extractor" or base == 0 else 100.0 * (one.distance - base) / abs(base)
        rows.append((one.factor, one.value, one.distance, "another scale" if math.isnan(change) else change))
    return rows


def _gap_table(found: Sequence[Attribution]) -> Table:
    head = ("what", "how", "distance", "share of the gap in %", "left of the gap in %")
    body = [
        (one.variant.factor, one.variant.value, one.variant.distance, 100.0 * one.share, 100.0 * abs(1.0 - one.share))
        for one in found
        if one.closes > 0
    ]
    return [head, *body]


def _verdict(
    base: float,
    variants: Sequence[Variant],
    theirs: float,
    interval: tuple[float, float],
    extractor: AbstractExtractor,
) -> Iterator[str]:
    """What can be said about the gap, in sentences."""
    if theirs == base:
        yield f"theirs is exactly our {base:.6g}: there is nothing to explain"
        return
    if interval[0] <= theirs <= interval[1]:
        yield (
            f"theirs, {theirs:.6g}, lies within the interval of our {base:.6g}, [{interval[0]:.6g}, "
            f"{interval[1]:.6g}]: other images of the same kind would explain it"
        )
    if not extractor.canonical:
        yield (
            f"our numbers are of {extractor.label}: if theirs is an FID proper, scales differ and shares mean nothing; "
            "name the extractor inception and its weights"
        )
    closing = [one for one in attribute(base, variants, theirs) if one.closes >= _WORTH_NAMING]
    if not closing:
        yield (
            f"no single change that was tried moves our {base:.6g} towards {theirs:.6g}: their images or weights "
            "differ, or several things at once"
        )
        return
    for place, one in enumerate(closing[:3]):
        beyond = ", and goes beyond it" if one.share > 1 else ""
        rank = "closest" if place == 0 else "next"
        yield (
            f"{rank}: {one.variant.factor} {one.variant.value} gives {one.variant.distance:.6g}, "
            f"{100 * one.share:.0f} % of the way from {base:.6g} to {theirs:.6g}{beyond}"
        )
    if closing[0].closes < 0.5:
        yield "no single change explains half of the gap: several may act together, or their images differ"


__all__ = ["FACTORS", "Attribution", "ImageSet", "Splits", "Variant", "WhyFrechet", "attribute"]
