"""`latent-lab chain report`: all links on held-out images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from latent_lab.analyses.chain_report import ChainReport, chain_report
from latent_lab.analyses.feeding import spread
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.chain_opened import EstimatorChoice, OpenedChain
from latent_lab.cli.configuration import overrides_as_configuration
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import SPLITS
from latent_lab.data import OrderedDomains
from latent_lab.data.domains import DomainImages
from latent_lab.networks.age_estimation import AbstractAgeEstimator, AgeEstimator


@dataclass(frozen=True)
class Reporting(ChainReport, EstimatorChoice):
    """Options of `chain report`."""

    split: str = "test"
    """Which held-out images: test or val."""


def report(opened: OpenedChain, arguments: Arguments) -> None:
    """Measures all links on held-out images of the data, which keys of the command line may change."""
    options = Reporting(**arguments_from(arguments.options, Reporting))
    if options.split not in SPLITS[1:]:
        raise InputError(f"--split must be val or test, got {options.split}")
    built = opened.built(rounded=options.rounded)
    recorded = {"data": opened.ledger.settings["data"]}
    data = recipes.build_data(recipes.compose([recorded, overrides_as_configuration(arguments.overrides)]))
    if not isinstance(data, OrderedDomains):
        raise InputError(f"a chain is measured on domains, which {type(data).__name__} has not")
    data.prepare_data()
    held_out: DomainImages = data.source(options.split)
    estimator = opened.estimator(options)
    nominal = {domain.name: domain.target for domain in data.domains}
    with progress_on_console():
        targets = {
            name: nominal[name]
            if opened.options.target == "nominal"
            else _mean_estimate(estimator, held_out, name, options.num, data.resolution)
            for name in opened.ledger.domains
        }
        result = chain_report(
            options,
            built,
            held_out,
            data.source("train"),
            label=data.label,
            # mypy takes a read-only label for less than the protocol asks for.
            estimator=cast("AgeEstimator", estimator),
            targets=targets,
        )
    result = dataclasses.replace(result, protocol={**result.protocol, "chain": opened.provenance()})
    out = arguments.text("out")
    finish(result, Path(out).expanduser() if out else opened.folder / "report")


def _mean_estimate(
    estimator: AbstractAgeEstimator, source: DomainImages, name: str, num: int, resolution: int
) -> float:
    images = source.domain(name)
    return estimator(images.batch(spread(len(images), num), resolution).images).double().mean().item()
