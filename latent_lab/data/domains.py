"""Ordered domains of any labelled data set, such as ages: one independent image of each domain at every step.

Unpaired translation needs no image of the same person in two domains, so each domain has a shuffled stream of its own.
What stands at a position of a stream is a function of (seed, domain, position) alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch.utils.data import DataLoader, Dataset, Sampler

from latent_lab import distributed
from latent_lab.data.base import AbstractImageData
from latent_lab.data.plans import PackingPlan
from latent_lab.data.pyramid import Pack, PackedImages
from latent_lab.data.sampling import ShuffledStream, TrainingWalk, mirror_some
from latent_lab.growth import GrowthSchedule
from latent_lab.types import DomainBatch

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Domain:
    """Images whose label lies in an interval."""

    name: str
    """As models and commands call it."""
    low: float | None = None
    """Smallest value of the label that belongs to it; null: no bound."""
    high: float | None = None
    """Smallest value that no longer does; null: no bound."""
    nominal: float | None = None
    """The value that it stands for; null: the middle of the interval."""
    images_per_unit: int | None = None
    """Training images of every whole number of the label (a year of age), drawn at random, so that their mean stays in
    the middle; null: all there are. Published: about 500 of a year, but for the youngest and the oldest."""

    def __post_init__(self) -> None:
        if self.images_per_unit is not None and self.images_per_unit < 1:
            raise ValueError(
                f"images_per_unit of domain {self.name} must be at least 1 or null (all), got {self.images_per_unit}"
            )
        if self.lower >= self.upper:
            raise ValueError(f"domain {self.name} must have low below high, got {self.low:g} and {self.high:g}")
        if self.nominal is None and not math.isfinite(self.lower + self.upper):
            raise ValueError(f"domain {self.name} has an open end and so no middle: give its nominal value")

    @property
    def lower(self) -> float:
        """The lower bound, infinite if there is none."""
        return -math.inf if self.low is None else self.low

    @property
    def upper(self) -> float:
        """The upper bound, which does not belong to it."""
        return math.inf if self.high is None else self.high

    @property
    def target(self) -> float:
        """The value that it stands for."""
        return (self.lower + self.upper) / 2 if self.nominal is None else self.nominal

    def __str__(self) -> str:
        begin = "up" if self.low is None else f"{self.low:g}"
        return f"{self.name} ({begin} {'to below ' + format(self.high, 'g') if self.high is not None else 'and more'})"


PUBLISHED_AGES = (
    Domain("15", 2, 19, 15),
    Domain("25", 20, 30, 25),
    Domain("35", 30, 40, 35),
    Domain("45", 40, 50, 45),
    Domain("55", 50, 60, 55),
    Domain("65", 60, None, 65),
)
"""The bins that the published program's scripts make (age 19 is in none); text and program disagree on them."""


class DomainImages(PackedImages):
    """One split of all domains, in their order; `domain` gives the images of one of them.

    Args:
        pack: whose splits are the domains', too.
        split: of the pack.
        domains: names.
    """

    def __init__(self, pack: Pack, split: str, domains: Sequence[str]) -> None:
        super().__init__(pack, split)
        self.domains = tuple(domains)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "domains": self.domains}

    def domain(self, name: str) -> PackedImages:
        """The images of one domain.

        Raises:
            ValueError: if there is no such domain, or this split has no image of it.
        """
        if name not in self.domains:
            raise ValueError(f"there is no domain {name!r}: there are {', '.join(self.domains)}")
        part = part_of(self.split, name)
        if not self.pack.splits[part]:
            raise ValueError(
                f"domain {name} has no images in the split {self.split}: widen its bounds, or hold out more images"
            )
        return PackedImages(self.pack, part)


class OrderedDomains(AbstractImageData):
    """Domains of a labelled data set, such as ages, for models that translate from each to the next.

    A training step sees one independent image of each domain in `train_on` for every image that the schedule counts.
    The splits are those of the data set, so that no held-out image is trained on in any domain.

    Args:
        images: the labelled data set, a mapping with class_path (a name that `latent-lab data` lists) and init_args;
            how images are drawn for training is said here and not there.
        domains: in order, each with name, low, high (the first value that is beyond) and nominal value; none: the
            published ages 15, 25, 35, 45, 55, 65.
        train_on: names of the domains of which a step sees an image, two (a pair) or more (a triplet), in their order;
            none: all.
        label: by which images belong to domains.
        origin: where the images are to be had, which is said if they are not there.
        mirror: whether training images are mirrored with probability 1/2 (published: yes).
        seed: of the order of training images, and of those that are drawn where a domain limits them.
        epoch_kimg: thousands of images of each domain in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
    """

    def __init__(
        self,
        images: dict[str, Any],
        domains: Sequence[Domain] = PUBLISHED_AGES,
        train_on: Sequence[str] = (),
        label: str = "age",
        origin: str | None = None,
        mirror: bool = True,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        self.record_recipe(locals())
        self.images = build_images(images)
        super().__init__(
            root=self.images.root,
            resolution=self.images.resolution,
            mirror=mirror,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=self.images.cache_dir,
            max_bad_share=self.images.max_bad_share,
        )
        self.channels = self.images.channels
        self.domains = checked_domains(domains)
        self.train_on = chosen_domains(self.domains, train_on)
        self.label = label
        self.origin = origin

    def plan(self) -> PackingPlan:
        """The data set's own.

        Raises:
            ValueError: if it is not there.
        """
        self._check_presence()
        return self.images.plan()

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Names of all domains, in their order."""
        return tuple(domain.name for domain in self.domains)

    def source(self, split: str) -> DomainImages:
        """All domains' images of "train", "val" or "test", never mirrored.

        Raises:
            ValueError: if there is no such split, or none of its images belongs to a domain.
        """
        self.pack.source(split)
        return DomainImages(self.pack, split, self.domain_names)

    def describe(self) -> str:
        """One paragraph: the data set, and how many of its images are in each domain."""
        splits = self.pack.splits
        sizes = "; ".join(
            f"{domain}: {', '.join(f'{len(splits[part_of(split, domain.name)])} {split}' for split in SPLITS)}"
            for domain in self.domains
        )
        outside = len(self.pack.names) - len(set().union(*(splits[split] for split in SPLITS)))
        return f"{self.images.describe()} Domains by {self.label}: {sizes}. {outside} images are in none."

    def training_loader(
        self, schedule: GrowthSchedule, start: int | Callable[[], int] = 0, max_images: int | None = None
    ) -> DataLoader[Any]:
        """Batches with an image of each domain in `train_on`; for the arguments see the base class.

        Raises:
            ValueError: if a domain has no training image, the schedule has a larger resolution than the data, or a
                batch cannot be shared by the devices.
        """
        if schedule.resolution > self.resolution:
            raise ValueError(
                f"the schedule has {schedule.resolution} px, but the data's resolution is {self.resolution}: set "
                f"data.images.init_args.resolution to {schedule.resolution}"
            )
        source = self.source("train")
        parts = {name: source.domain(name) for name in self.train_on}
        sampler = DomainSampler(
            schedule,
            {name: len(part) for name, part in parts.items()},
            start,
            seed=self.seed,
            mirror=self.mirror,
            epoch_images=self.epoch_images,
            max_images=max_images,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        return self._loader(ImagesOfDomains(parts), sampler)

    def _check_presence(self) -> None:
        root = self.images.root
        if self.origin is not None and root is not None and not root.exists():
            raise ValueError(
                f"image folder {str(root)!r} does not exist: get the images from {self.origin} and give their folder "
                "as data.images.init_args.root"
            )

    def _open_pack(self) -> Pack:
        """The data set's pack, with splits for every domain; a split's own images are those of all domains."""
        self._check_presence()
        pack = self.images.pack
        values = self._values(pack)
        splits: dict[str, Sequence[int]] = {}
        for split in SPLITS:
            rows = np.asarray(pack.splits.get(split, ()), dtype=np.int64)
            for domain in self.domains:
                inside = rows[(values[rows] >= domain.lower) & (values[rows] < domain.upper)]
                if split == "train" and domain.images_per_unit is not None:
                    inside = self._thinned(inside, values, domain.images_per_unit)
                splits[part_of(split, domain.name)] = inside.tolist()
            splits[split] = [row for domain in self.domains for row in splits[part_of(split, domain.name)]]
        made = dataclasses.replace(pack, splits=splits)
        for name in self.train_on:
            if not splits[part_of("train", name)]:
                raise ValueError(self._nothing_in(name, values, pack))
        return made

    def _values(self, pack: Pack) -> np.ndarray:
        """The label of every row of a pack, NaN where unknown."""
        what = type(self.images).__name__
        if not pack.label_names:
            raise ValueError(
                f"domains are told by the label {self.label}, and the images of {what} have no labels: name a CSV file "
                "with columns file and " + self.label + " (ImageFolder: data.images.init_args.labels)"
            )
        if self.label not in pack.label_names:
            raise ValueError(
                f"the images of {what} have no label {self.label}: data.label must be one of "
                f"{', '.join(pack.label_names)}"
            )
        values = np.load(pack.folder / "labels.npy")[:, pack.label_names.index(self.label)].astype(np.float64)
        if np.isnan(values).all():
            raise ValueError(f"the label {self.label} is unknown for all {len(values)} images of {what}: complete it")
        return values

    def _thinned(self, rows: np.ndarray, values: np.ndarray, per_unit: int) -> np.ndarray:
        """At most so many rows of every whole number of the label, drawn at random."""
        random = distributed.IndexedRandom(self.seed, "data/images_per_unit")
        kept = []
        for unit in np.unique(np.floor(values[rows])):
            of_unit = rows[np.floor(values[rows]) == unit]
            order = torch.randperm(len(of_unit), generator=random.generator(int(unit))).numpy()
            kept.append(of_unit[order[:per_unit]])
        return np.sort(np.concatenate(kept)) if kept else rows

    def _nothing_in(self, name: str, values: np.ndarray, pack: Pack) -> str:
        domain = next(one for one in self.domains if one.name == name)
        known = values[np.asarray(pack.splits["train"], dtype=np.int64)]
        known = known[~np.isnan(known)]
        found = f"reaches from {known.min():g} to {known.max():g}" if len(known) else "is unknown"
        return (
            f"domain {domain} has no training images, whose label {self.label} {found}: change its bounds, or leave it "
            "out of data.train_on"
        )


@dataclass(frozen=True, eq=False)
class DomainRequest:
    """One process's part of one training batch: an image of each domain at every position."""

    positions: range
    """In the endless streams."""
    indices: Int64[np.ndarray, "K n"]
    """Places of the images among those of their domain."""
    mirrored: Bool[np.ndarray, "K n"]
    """Which images are mirrored left to right."""
    resolution: int


class DomainSampler(Sampler[DomainRequest]):
    """This process's batches of all domains, from where training stands to the end of the epoch; see `TrainingWalk`.

    Each domain's order depends on the seed, its name and its size alone, not on which other domains there are.

    Args:
        schedule: batch size (positions over all processes) and resolution.
        sizes: number of training images of each domain, by name.
        start: positions seen, or a function that returns them, asked whenever an iteration begins.
        seed: of the orders.
        mirror: whether each image is mirrored with probability 1/2.
        epoch_images: length of an epoch.
        max_images: where training ends; none: never.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        sizes: Mapping[str, int],
        start: int | Callable[[], int] = 0,
        *,
        seed: int = 0,
        mirror: bool = False,
        epoch_images: int = 10_000,
        max_images: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.walk = TrainingWalk(
            schedule, start, epoch_images=epoch_images, max_images=max_images, rank=rank, world_size=world_size
        )
        self.streams = [
            ShuffledStream(size, seed, mirror=mirror, name=f"data/domain/{name}") for name, size in sizes.items()
        ]

    def __iter__(self) -> Iterator[DomainRequest]:
        for positions, resolution in self.walk:
            indices, mirrored = zip(*(stream.at(positions) for stream in self.streams), strict=True)
            yield DomainRequest(positions, np.stack(indices), np.stack(mirrored), resolution)


class ImagesOfDomains(Dataset[DomainBatch]):
    """Training batches as the sampler requests them.

    Args:
        parts: training images of each domain, by name.
    """

    def __init__(self, parts: Mapping[str, PackedImages]) -> None:
        self.parts = dict(parts)

    def __getitem__(self, request: DomainRequest) -> DomainBatch:
        batches = []
        for part, indices, mirrored in zip(self.parts.values(), request.indices, request.mirrored, strict=True):
            images = part.batch(indices.tolist(), request.resolution).images
            mirror_some(images, mirrored)
            batches.append(images)
        positions = torch.arange(request.positions.start, request.positions.stop)
        return DomainBatch(torch.stack(batches), positions, tuple(self.parts))


def part_of(split: str, domain: str) -> str:
    """Name of the split of one domain in the pack."""
    return f"{split}/{domain}"


def checked_domains(domains: Sequence[Domain]) -> tuple[Domain, ...]:
    """The domains as they are.

    Raises:
        ValueError: if there are fewer than two, or they overlap, are out of order, or share a name.
    """
    names = [domain.name for domain in domains]
    if len(domains) < 2 or len(set(names)) < len(names):
        raise ValueError(f"there must be two or more domains with names of their own, got {', '.join(names) or 'none'}")
    for before, after in pairwise(domains):
        if after.lower < before.lower:
            raise ValueError(f"domains must be in ascending order, got {after} after {before}")
        if after.lower < before.upper:
            raise ValueError(f"domains must not overlap, got {before} and {after}: high is the first value beyond")
    return tuple(domains)


def chosen_domains(domains: Sequence[Domain], train_on: Sequence[str]) -> tuple[str, ...]:
    """Names of the domains of which a step sees an image: those that are asked for, or all.

    Raises:
        ValueError: if there is only one, one is unknown, or they are out of order.
    """
    names = [domain.name for domain in domains]
    wanted = [str(name) for name in train_on] or names
    for name in wanted:
        if name not in names:
            raise ValueError(f"train_on names a domain {name!r}, which there is not: there are {', '.join(names)}")
    places = [names.index(name) for name in wanted]
    if len(places) < 2 or places != sorted(set(places)):
        raise ValueError(
            f"train_on must name two or more of the domains {', '.join(names)} in this order, got {', '.join(wanted)}"
        )
    return tuple(wanted)


def build_images(recipe: Mapping[str, Any]) -> AbstractImageData:
    """The data set of a recipe.

    Args:
        recipe: a mapping with class_path (the short name of a data set of this package, or an import path) and
            init_args.

    Raises:
        ValueError: if it is no such mapping, names no data set, or has options that the data set does not take.
    """
    name, init_args = str(recipe.get("class_path", "")), recipe.get("init_args") or {}
    unknown = [key for key in recipe if key not in ("class_path", "init_args")]
    if unknown or not name or not isinstance(init_args, Mapping):
        raise ValueError(
            "images must be a mapping with class_path (the name of a data set) and init_args (its options), got "
            f"{', '.join(map(str, recipe)) or 'nothing'}"
        )
    module, _, short = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or __package__), short)
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and issubclass(found, AbstractImageData)) or found is OrderedDomains:
        raise ValueError(f"images.class_path must name a labelled data set, such as ImageFolder, got {name}")
    options = inspect.signature(found).parameters
    for given in init_args:
        if given not in options:
            raise ValueError(f"{short} has no option {given} (images.init_args.{given}): it has {', '.join(options)}")
    for option, parameter in options.items():
        if parameter.default is inspect.Parameter.empty and option not in init_args:
            raise ValueError(f"images.init_args.{option} is missing: {short} needs it")
    made: AbstractImageData = found(**init_args)
    return made


__all__ = [
    "PUBLISHED_AGES",
    "Domain",
    "DomainImages",
    "DomainSampler",
    "OrderedDomains",
    "build_images",
]
