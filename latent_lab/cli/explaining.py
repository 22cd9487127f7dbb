"""`latent-lab why-fid`: one Frechet distance measured in all usual ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from latent_lab.analyses import AbstractAnalysis, Result, WhyFrechet
from latent_lab.analyses.why_frechet import Splits
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import SPLITS, VIEWS, Trained, join_devices, load_trained, viewed
from latent_lab.data.own_images import OwnImages
from latent_lab.types import ImageSource


def explanation(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Whose fields are options of the command."""
    del words
    return WhyFrechet


def why_frechet(arguments: Arguments) -> None:
    """Measures samples of a checkpoint, or a folder of images, against reference images, and prints what matters."""
    quieten()
    judged, reference = arguments.text("images"), arguments.text("reference")
    if arguments.text("ckpt") is not None and (judged or reference):
        raise InputError(
            "why-fid takes a checkpoint or two folders, got both: leave --ckpt, or --images and --reference"
        )
    if arguments.text("ckpt") is None and (judged is None or reference is None):
        raise InputError("why-fid needs --ckpt FILE, or two folders of images: --images PATH --reference PATH")
    ready = WhyFrechet(**arguments_from(arguments.options, WhyFrechet))
    if judged is None or reference is None:
        trained = load_trained(arguments, "why-fid")
        model, facts = viewed(trained, arguments)
        with progress_on_console():
            result = ready(model, splits_of(trained))
        result = dataclasses.replace(result, protocol={**result.protocol, "checkpoint": trained.provenance, **facts})
        folder = trained.results_folder("why-fid")
    else:
        result = _of_folders(arguments, ready, Path(judged).expanduser(), Path(reference).expanduser())
        folder = Path("results") / "why-fid"
    out = arguments.text("out")
    folder = Path(out).expanduser() if out else folder
    # The first table has the numbers that are printed anyway.
    finish(result, folder, written=folder / "report.md", tables=list(result.tables)[1:])


def splits_of(trained: Trained) -> Splits:
    """The data's splits that hold images enough, the training images first."""
    sources: dict[str, ImageSource] = {}
    for name in SPLITS:
        source = trained.data.source(name)
        if len(source) > 1:
            sources[name] = source
    if not sources:
        raise InputError("why-fid needs reference images, the data has none: name other data with --data")
    return Splits(sources)


def _of_folders(arguments: Arguments, ready: WhyFrechet, judged: Path, reference: Path) -> Result:
    if arguments.words:
        raise InputError(f"why-fid takes no bare word, got {arguments.words[0]}: write --images {arguments.words[0]}")
    for option in VIEWS:
        if arguments.text(option) is not None:
            raise InputError(f"--{option} says how a checkpoint is looked at, and two folders have none: leave it out")
    device = join_devices(arguments).device
    sets = OwnImages(judged), OwnImages(reference)
    resolutions = sets[0].native_resolution, sets[1].native_resolution
    changes = [own.describe_changes(size) for own, size in zip(sets, resolutions, strict=True)]
    notes = [f"{change}, where other programs may squeeze or keep them" for change in changes if change]
    with progress_on_console():
        result = ready.compare_folders(*sets, resolutions, device)
    return dataclasses.replace(result, protocol={**result.protocol, "notes": [*notes, *result.protocol["notes"]]})
