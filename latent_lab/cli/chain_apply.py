"""`latent-lab chain apply`: a folder of images at every station of a chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab import images as conversions
from latent_lab.analyses.base import Result, file_stem
from latent_lab.analyses.chain_report import Direction, Looks, cycle_errors, strip, translated
from latent_lab.analyses.feeding import spread
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.chain_opened import EstimatorChoice, OpenedChain
from latent_lab.cli.console import say
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from
from latent_lab.data.own_images import OwnImages
from latent_lab.latent.chain import way_between
from latent_lab.metrics.functional.bootstrap import mean_interval
from latent_lab.networks.age_estimation import AbstractAgeEstimator
from latent_lab.types import Images, Scores


@dataclass(frozen=True)
class Applying(Looks, EstimatorChoice):
    """Options of `chain apply`."""

    direction: Direction = "forward"
    """forward: from the first domain to the last; backward: the reverse; round-trip: forward, then back."""
    from_domain: str | None = None
    """Domain of the images; left out: where the direction begins."""
    to_domain: str | None = None
    """Domain where the way ends, or turns; left out: where the direction ends."""


def apply(opened: OpenedChain, arguments: Arguments) -> None:
    """Moves images of a folder along the chain; writes them at every station under their own names, and a report."""
    options = Applying(**arguments_from(arguments.options, Applying))
    folder, out = arguments.text("images"), arguments.text("out")
    if folder is None or out is None:
        missing = "--images DIR" if folder is None else "--out DIR"
        raise InputError(f"chain apply needs {missing}: latent-lab chain apply CHAIN --images DIR --out DIR")
    root, target = Path(folder).expanduser(), Path(out).expanduser()
    if target.resolve().is_relative_to(root.resolve()):
        raise InputError(f"--out {out} lies in the folder of the images, which would be read again: choose another")
    way = way_of(opened.ledger.domains, options)
    chain = opened.chain(rounded=options.rounded)
    source = OwnImages(root, grey=opened.channels == 1)
    changes = source.describe_changes(chain.resolution)
    estimator, identity = _estimator_if_there(opened, options), options.identity()
    digits = len(str(len(way) - 1))
    folders = [target / f"{number:0{digits}}_{file_stem(name)}" for number, name in enumerate(way)]
    names = png_names(source.names)
    shown = spread(len(source), options.num_shown)
    found: dict[str, list[Tensor]] = {}
    pictured: list[list[Tensor]] = [[] for _ in way]
    with progress_on_console():
        for first in range(0, len(source), options.batch_size):
            places = range(first, min(first + options.batch_size, len(source)))
            stations = translated(chain, source.batch(places, chain.resolution).images, way, options.batch_size)
            for number, images in enumerate(stations):
                _write(folders[number], [names[place] for place in places], images)
                pictured[number] += [images[place - first][None] for place in shown if place in places]
                if estimator is not None:
                    _add(found, f"{estimator.label}_{number}_{way[number]}", estimator(images))
                if identity is not None and number:
                    _add(found, f"{identity.name}_{number}_{way[number]}", identity(stations[0], images))
            for number, errors in enumerate(cycle_errors(chain, stations, way, options.batch_size)):
                _add(found, f"cycle_error_{number + 1}_{way[number]}_{way[number + 1]}", errors)
            if way[0] == way[-1]:
                _add(found, "cycle_error_whole", (stations[-1] - stations[0]).abs().mean((1, 2, 3)))
    values = {file_stem(name): torch.cat(pieces) for name, pieces in found.items()}
    level, num_resamples = opened.options.level, opened.options.num_resamples
    notes = [f"way: {' > '.join(way)}; a row of the strip for each image, a column for each station"]
    result = Result(
        "chain apply",
        {name: value.mean().item() for name, value in values.items()},
        {
            "options": dataclasses.asdict(options),
            "way": list(way),
            "num": len(source),
            "data": dict(source.recipe),
            **({"estimator": estimator.describe()} if estimator is not None else {}),
            **({"identity": identity.describe()} if identity is not None else {}),
            "chain": opened.provenance(),
            "intervals": {"level": level, "num_resamples": num_resamples},
            "notes": [*notes, changes] if changes else notes,
            "curated": False,
        },
        {"strip": strip({str(i): torch.cat(row) for i, row in enumerate(pictured)}, chain.resolution)},
        {"Each image": _each_image(source.names, values)},
        {name: mean_interval(value, level=level, num_resamples=num_resamples)[:2] for name, value in values.items()},
    )
    finish(result, target)


def _estimator_if_there(opened: OpenedChain, asked: Applying) -> AbstractAgeEstimator | None:
    """As `OpenedChain.estimator`; nothing if none is wanted, or if the chain's own is not here, which is said."""
    if asked.estimator == "none":
        return None
    try:
        return opened.estimator(asked)
    except ValueError as error:
        if asked.estimator is not None or asked.estimator_path is not None:
            raise
        say(f"note: ages are not estimated: {error}")
        return None


def way_of(domains: Sequence[str], options: Applying) -> tuple[str, ...]:
    """Domains in the order in which images pass them.

    Args:
        domains: of the chain, in order.
        options: direction and ends.

    Raises:
        InputError: if a domain is unknown, or the ends do not fit the direction.
    """
    ends = (domains[0], domains[-1])
    begin, end = ends[::-1] if options.direction == "backward" else ends
    try:
        way = way_between(domains, options.from_domain or begin, options.to_domain or end)
    except ValueError as error:
        raise InputError(str(error)) from error
    rises = domains.index(way[-1]) - domains.index(way[0])
    if rises == 0 or (rises > 0) == (options.direction == "backward"):
        raise InputError(
            f"{options.direction} leads {'from older' if options.direction == 'backward' else 'from younger'} domains "
            f"to {'younger' if options.direction == 'backward' else 'older'} ones, got {way[0]} to {way[-1]}: change "
            "--from-domain, --to-domain or --direction"
        )
    return (*way, *way[-2::-1]) if options.direction == "round-trip" else way


def png_names(names: Sequence[str]) -> list[str]:
    """Names of PNG files that keep whose images they are: a.jpg becomes a.png, or a.jpg.png beside another a."""
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    return [f"{stem if stems.count(stem) == 1 else name}.png" for name, stem in zip(names, stems, strict=True)]


def _write(folder: Path, names: Sequence[str], images: Images) -> None:
    if distributed.rank() != 0:
        return
    for name, image in zip(names, images, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        conversions.save_png(path, image[None])


def _add(found: dict[str, list[Tensor]], name: str, values: Scores) -> None:
    found.setdefault(name, []).append(values.cpu())


def _each_image(names: Sequence[str], values: Mapping[str, Tensor]) -> list[list[str | float]]:
    """A row for each image: its name and its numbers."""
    rows: list[list[str | float]] = [["image", *values]]
    return [*rows, *([name, *(value[row].item() for value in values.values())] for row, name in enumerate(names))]
