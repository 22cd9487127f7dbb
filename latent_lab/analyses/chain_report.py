"""What a chain of translators does to images: estimated ages link by link, identity, cycles, and the strip of faces."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from latent_lab.analyses.base import Result, Table, file_stem
from latent_lab.analyses.chain_building import ChainOptions, Score, score_of
from latent_lab.analyses.feeding import batches, spread
from latent_lab.analyses.reference import features_of_source
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import count_name, distance_name
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.chain import Chain
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, mean_interval
from latent_lab.metrics.functional.frechet import frechet_distance, frechet_interval, moments
from latent_lab.networks.age_estimation import AgeEstimator
from latent_lab.networks.face_identity import SAME_PERSON, IdentityDistance, find_identity
from latent_lab.networks.features import AbstractExtractor, find_extractor
from latent_lab.progress import phase
from latent_lab.types import DomainSource, Images, ImageSource, OtherImages, Scores

Direction = Literal["forward", "backward", "round-trip"]


@dataclass(frozen=True)
class Looks:
    """What is measured of translations, and shown of them."""

    num_shown: int = 6
    """Images in the strip, evenly spaced over all of them."""
    identity_path: str | None = None
    """dlib's face embedding (safetensors), or a folder that holds it: measures whether persons stay the same."""
    identity_box: str = "celeba"
    """Where the face is: celeba, celeba_narrow, ffhq or utkface."""
    rounded: bool = False
    """Whether images are rounded to 8 bits between links, as in the published program."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        if self.num_shown < 1 or self.batch_size < 1:
            raise ValueError(f"num_shown and batch_size must be at least 1, got {self.num_shown} and {self.batch_size}")

    def identity(self) -> IdentityDistance | None:
        """The measure of persons, if its weights are named."""
        if self.identity_path is None:
            return None
        return IdentityDistance(find_identity(self.identity_path, self.identity_box))


@dataclass(frozen=True)
class ChainReport(Looks):
    """Estimated ages of a chain's links for specialised, re-used and recursive use, beside the estimator's own error.

    Distances between sets compare translations into a domain with its training images, beside the same for its real
    held-out images: what a perfect chain would reach.
    """

    num: int = 500
    """Held-out images of each domain, evenly spaced; fewer if there are fewer."""
    extractor: str = "auto"
    """Of Frechet distances: inception, efflite0 ...; auto: the first that is there; none: no distances."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    least_for_distances: int = 100
    """Images of a domain below which no distance is computed."""
    level: float = LEVEL
    """Of the bootstrap intervals."""
    num_resamples: int = NUM_RESAMPLES
    """Of the bootstrap intervals."""
    seed: int = 0
    """Of the bootstrap intervals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num < 2 or self.num_resamples < 2 or self.least_for_distances < 2:
            raise ValueError(
                f"num, num_resamples and least_for_distances must be at least 2, got {self.num}, {self.num_resamples} "
                f"and {self.least_for_distances}"
            )


@dataclass(frozen=True)
class BuiltChain:
    """A finished chain with the translators that competed for its steps."""

    chain: Chain
    names: Sequence[str]
    """Of the kept translators, one for each step."""
    specialised: Sequence[AbstractTranslator]
    """One for each step."""
    reused: Sequence[AbstractTranslator | None]
    """For each step, the translator that was trained on for it, kept or not; none for the first step."""


@torch.no_grad()
def translated(chain: Chain, images: Images, way: Sequence[str], batch_size: int) -> list[Images]:
    """Images (N, C, R, R) of the way's first domain at each of its stations, themselves first, float32 on the CPU."""
    stations: list[list[Tensor]] = [[] for _ in way]
    for piece in batches(range(len(images)), batch_size):
        moved = images[piece.start : piece.stop].to(chain.device)
        stations[0].append(moved.cpu())
        for number, (here, there) in enumerate(pairwise(way), start=1):
            moved = chain.step(moved, here, there).float()
            stations[number].append(moved.cpu())
    return [torch.cat(pieces) for pieces in stations]


@torch.no_grad()
def cycle_errors(chain: Chain, stations: Sequence[Images], way: Sequence[str], batch_size: int) -> list[Scores]:
    """Mean |x - F(G(x))| over pixels, in units of [-1, 1], (N,) for each link of a way."""
    found = []
    for images, (here, there) in zip(stations, pairwise(way), strict=False):
        errors = []
        for piece in batches(range(len(images)), batch_size):
            begin = images[piece.start : piece.stop].to(chain.device)
            returned = chain.step(chain.step(begin, here, there), there, here)
            errors.append((returned - begin).abs().mean((1, 2, 3)).cpu())
        found.append(torch.cat(errors))
    return found


def strip(stations: Mapping[str, Images], resolution: int) -> OtherImages:
    """One row for each image and one column for each station, as in the publication's figure (1, C, H, W)."""
    columns = list(stations.values())
    interleaved = torch.stack(columns, dim=1).flatten(0, 1)
    return enlarge(make_grid(interleaved, len(columns)), magnification(resolution))


def with_interval(value: float, interval: Sequence[float] | None, digits: int = 1) -> str:
    """A number and its interval, with so many decimals: 34.2 [33.0, 35.1]."""
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


@dataclass
class _Findings:
    """Numbers of a report as they come up."""

    numbers: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def add(self, name: str, value: float, interval: Sequence[float] | None = None) -> None:
        self.numbers[file_stem(name)] = value
        if interval is not None:
            self.intervals[file_stem(name)] = (interval[0], interval[1])


@dataclass(frozen=True)
class _Session:
    """What the parts of one report share."""

    options: ChainReport
    built: BuiltChain
    held_out: DomainSource
    reference: DomainSource
    estimator: AgeEstimator
    targets: Mapping[str, float]
    found: _Findings

    @property
    def chain(self) -> Chain:
        return self.built.chain

    @property
    def scoring(self) -> ChainOptions:
        options = self.options
        return ChainOptions(level=options.level, num_resamples=options.num_resamples, seed=options.seed)

    def places(self, source: ImageSource) -> list[int]:
        return spread(len(source), self.options.num)

    def real(self, domain: str) -> Images:
        source = self.held_out.domain(domain)
        return source.batch(self.places(source), self.chain.resolution).images

    def score(self, images: Images, domain: str) -> Score:
        return score_of(self.estimator(images), self.targets[domain], self.scoring)


def chain_report(
    options: ChainReport,
    built: BuiltChain,
    held_out: DomainSource,
    reference: DomainSource,
    *,
    label: str,
    estimator: AgeEstimator,
    targets: Mapping[str, float],
) -> Result:
    """Measures a chain on held-out images.

    Args:
        options: what is measured.
        built: the chain and its candidates.
        held_out: held-out images of all domains, with the label where it is known.
        reference: training images, which distances compare with.
        label: name of the label that is the age.
        estimator: of ages.
        targets: age that translations into each domain should have.

    Raises:
        ValueError: if a domain has no held-out images, or the estimator gives no finite ages.
    """
    session = _Session(options, built, held_out, reference, estimator, targets, _Findings())
    chain = session.chain
    with phase("ages of real images"):
        _estimator_on_real_images(session, label)
    first, last = chain.domains[0], chain.domains[-1]
    onward, back = chain.way(first, last), chain.way(last, first)
    with phase("translations"):
        forward = dict(zip(onward, translated(chain, session.real(first), onward, options.batch_size), strict=True))
        backward = dict(zip(back, translated(chain, session.real(last), back, options.batch_size), strict=True))
    with phase("ages of translations"):
        _ages_by_link(session, forward)
        _ages_backward(session, backward)
    with phase("cycles and persons"):
        _links(session, forward)
    distances = _distances(session, forward)
    shown = spread(len(forward[first]), options.num_shown)
    pictures = {
        "strip": strip({name: images[shown] for name, images in forward.items()}, chain.resolution),
        "strip_backward": strip(
            {name: images[spread(len(images), options.num_shown)] for name, images in backward.items()},
            chain.resolution,
        ),
    }
    protocol = {
        "options": dataclasses.asdict(options),
        "structure": chain.structure,
        "translators": list(built.names),
        "domains": list(chain.domains),
        "targets": dict(targets),
        "estimator": estimator.describe(),
        "rounded": chain.rounded,
        "data": dict(held_out.recipe),
        "intervals": {"level": options.level, "num_resamples": options.num_resamples, "kind": "bootstrap intervals"},
        "curated": False,
        **distances,
        "notes": [
            f"structure {chain.structure}: steps in a row that one translator serves",
            "strip: a row for each person, a column for each domain, the first column real",
            "specialised and re-used translators see real images of a link's first domain; recursive is the chain "
            f"itself from real images of {first} on",
        ],
    }
    return Result("chain", session.found.numbers, protocol, pictures, session.found.tables, session.found.intervals)


def _estimator_on_real_images(session: _Session, label: str) -> None:
    """How far the estimator is off where the age is known."""
    rows: list[Sequence[str | float]] = [("domain", "images", "mean label", "mean estimate", "deviation", "mean error")]
    name = session.estimator.label
    all_errors = []
    for domain in session.chain.domains:
        source = session.held_out.domain(domain)
        batch = source.batch(session.places(source), session.chain.resolution)
        ages = session.estimator(batch.images)
        assert batch.labels is not None
        known = batch.labels[:, list(source.label_names).index(label)]
        errors = (ages - known).abs()
        all_errors.append(errors)
        score = score_of(ages, known.mean().item(), session.scoring)
        session.found.add(f"{name}_of_real_{domain}", score.mean, score.mean_interval)
        rows.append(
            (
                domain,
                str(len(ages)),
                f"{known.mean():.1f}",
                with_interval(score.mean, score.mean_interval),
                f"{score.deviation:.1f}",
                f"{errors.mean():.1f}",
            )
        )
    errors = torch.cat(all_errors)
    session.found.add(f"{name}_mean_error_on_real", errors.mean().item(), _interval(session, errors))
    session.found.tables["The estimator's own error on real held-out images (years)"] = rows


def _ages_by_link(session: _Session, forward: Mapping[str, Images]) -> None:
    """Specialised, re-used and recursive use of translators side by side."""
    rows: list[Sequence[str | float]] = [
        ("link", "target", "specialised", "error", "re-used", "error", "recursive", "error", "kept")
    ]
    domains, built, name = session.chain.domains, session.built, session.estimator.label
    for step, (here, there) in enumerate(pairwise(domains)):
        images = session.real(here)
        scores: dict[str, Score | None] = {"recursive": session.score(forward[there], there)}
        for use, translator in (("specialised", built.specialised[step]), ("reused", built.reused[step])):
            scores[use] = None
            if translator is not None:
                alone = Chain((here, there), [translator], rounded=session.chain.rounded)
                made = translated(alone, images, (here, there), session.options.batch_size)[-1]
                scores[use] = session.score(made, there)
        cells: list[str] = []
        for use in ("specialised", "reused", "recursive"):
            score = scores[use]
            cells += _cells(score)
            if score is not None:
                session.found.add(f"{name}_{use}_at_{there}", score.mean, score.mean_interval)
                session.found.add(f"{name}_{use}_error_at_{there}", score.error, score.error_interval)
        rows.append((f"{here} to {there}", f"{session.targets[there]:.1f}", *cells, built.names[step]))
    session.found.tables["Estimated age after each link (mean +- deviation, with intervals; error to the target)"] = (
        rows
    )


def _ages_backward(session: _Session, backward: Mapping[str, Images]) -> None:
    rows: list[Sequence[str | float]] = [("link", "target", "recursive", "error")]
    for here, there in pairwise(backward):
        score = session.score(backward[there], there)
        session.found.add(f"{session.estimator.label}_backward_at_{there}", score.mean, score.mean_interval)
        rows.append((f"{here} to {there}", f"{session.targets[there]:.1f}", *_cells(score)))
    session.found.tables[f"The way back, from real images of {next(iter(backward))}"] = rows


def _cells(score: Score | None) -> list[str]:
    if score is None:
        return ["", ""]
    return [
        f"{with_interval(score.mean, score.mean_interval)} +- {score.deviation:.1f}",
        with_interval(score.error, score.error_interval),
    ]


def _links(session: _Session, forward: Mapping[str, Images]) -> None:
    """Cycle error of each link on what the chain made so far, and how far persons have moved."""
    way, stations = list(forward), list(forward.values())
    cycles = cycle_errors(session.chain, stations, way, session.options.batch_size)
    identity = session.options.identity()
    head = ["link", "cycle error"]
    if identity is not None:
        head += ["identity distance of the link", "from the first image", f"share below {SAME_PERSON}"]
    rows: list[Sequence[str | float]] = [head]
    for (here, there), errors, before, after in zip(pairwise(way), cycles, stations, stations[1:], strict=False):
        interval = _interval(session, errors)
        session.found.add(f"cycle_error_{here}_{there}", errors.mean().item(), interval)
        cells = [f"{here} to {there}", with_interval(errors.mean().item(), interval, 3)]
        if identity is not None:
            link, whole = identity(before, after), identity(stations[0], after)
            session.found.add(f"{identity.name}_{here}_{there}", link.mean().item(), _interval(session, link))
            session.found.add(f"{identity.name}_{way[0]}_{there}_whole", whole.mean().item(), _interval(session, whole))
            cells += [
                with_interval(link.mean().item(), _interval(session, link), 2),
                with_interval(whole.mean().item(), _interval(session, whole), 2),
                f"{(whole < SAME_PERSON).float().mean():.0%}",
            ]
        rows.append(cells)
    back = translated(session.chain, stations[-1], session.chain.way(way[-1], way[0]), session.options.batch_size)[-1]
    whole = (back - stations[0]).abs().mean((1, 2, 3))
    session.found.add("cycle_error_whole_chain", whole.mean().item(), _interval(session, whole))
    last = [f"{way[0]} to {way[-1]} and back", with_interval(whole.mean().item(), _interval(session, whole), 3)]
    rows.append(last + [""] * (len(head) - 2))
    session.found.tables["Links: cycle error (mean |x - y| in units of [-1, 1]) and identity, recursive"] = rows


def _distances(session: _Session, forward: Mapping[str, Images]) -> dict[str, Any]:
    """Fréchet distances of each domain's translations to its training images, where there are enough."""
    options = session.options
    counts = {
        domain: (
            len(forward[domain]),
            len(session.places(session.held_out.domain(domain))),
            len(session.reference.domain(domain)),
        )
        for domain in list(forward)[1:]
    }
    enough = [domain for domain, found in counts.items() if min(found) >= options.least_for_distances]
    if options.extractor == "none" or not enough:
        return {}
    extractor = find_extractor(options.extractor, options.extractor_path).to(session.chain.device)
    rows: list[Sequence[str | float]] = [("domain", "recursive", "real held-out", "images", "training images")]
    for domain in enough:
        training, held_out = session.reference.domain(domain), session.held_out.domain(domain)
        with phase(f"distances at {domain}"):
            known = _features_of(session, extractor, training, list(range(len(training))))
            real = _features_of(session, extractor, held_out, session.places(held_out))
            made = _features(extractor, forward[domain].to(session.chain.device), options.batch_size)
        cells = []
        for use, features in (("recursive", made), ("real", real)):
            value = frechet_distance(moments(known), moments(features)).value
            interval = frechet_interval(
                known, features, level=options.level, num_resamples=options.num_resamples, seed=options.seed
            )
            session.found.add(
                f"{distance_name(extractor)}_{use}_at_{domain}_{count_name(len(features))}", value, interval[:2]
            )
            cells.append(with_interval(value, interval, 2))
        of_chain, of_real, of_training = counts[domain]
        rows.append((domain, *cells, f"{of_chain} and {of_real}", str(of_training)))
    session.found.tables[f"Frechet distance ({distance_name(extractor)}) to a domain's training images"] = rows
    return {"extractor": extractor.describe(), "least_for_distances": options.least_for_distances}


def _features_of(session: _Session, extractor: AbstractExtractor, source: ImageSource, places: Sequence[int]) -> Tensor:
    return features_of_source(
        source,
        places,
        extractor,
        resolution=session.chain.resolution,
        alpha=1.0,
        device=session.chain.device,
        batch_size=session.options.batch_size,
    )


@torch.no_grad()
def _features(extractor: AbstractExtractor, images: Images, size: int) -> Tensor:
    pieces: Iterator[range] = batches(range(len(images)), size)
    return torch.cat([extractor(images[piece.start : piece.stop]).float().cpu() for piece in pieces])


def _interval(session: _Session, values: Scores) -> tuple[float, float]:
    options = session.options
    found = mean_interval(values, level=options.level, num_resamples=options.num_resamples, seed=options.seed)
    return found.low, found.high


__all__ = [
    "BuiltChain",
    "ChainReport",
    "Direction",
    "Looks",
    "chain_report",
    "cycle_errors",
    "strip",
    "translated",
    "with_interval",
]
