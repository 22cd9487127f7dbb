"""`latent-lab statistics`: mean and covariance of the features of images, in a file that `test` and others read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latent_lab import distributed
from latent_lab.analyses.feeding import alpha_of
from latent_lab.analyses.reference_statistics import SourceStatistics, StatisticsOptions, statistics_of_source
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import join_devices, load_trained, source_of
from latent_lab.data.own_images import OwnImages
from latent_lab.metrics.statistics_files import write_statistics


def statistics_options(words: Sequence[str]) -> type[StatisticsOptions]:
    """Whose fields are options of the command."""
    del words
    return StatisticsOptions


def statistics(arguments: Arguments) -> None:
    """Sees the images of a folder, or the training images of a checkpoint, and writes one file."""
    quieten()
    if arguments.words:
        raise InputError(
            f"statistics takes no bare word, got {arguments.words[0]}: write --images {arguments.words[0]}"
        )
    out = arguments.text("out")
    if out is None or not out.endswith(".npz"):
        raise InputError(f"statistics needs --out FILE.npz, got {out or 'none'}")
    if (arguments.text("images") is None) == (arguments.text("ckpt") is None):
        raise InputError("statistics needs one of --images PATH and --ckpt FILE: whose images it should see")
    options = StatisticsOptions(**arguments_from(arguments.options, StatisticsOptions))
    with progress_on_console():
        found = _of_folder(arguments, options) if arguments.text("images") else _of_checkpoint(arguments, options)
    path = Path(out).expanduser()
    if distributed.rank() == 0:
        write_statistics(path, found.moments, protocol=found.protocol, features=found.features)
    label, resolution = found.protocol["extractor"]["label"], found.protocol["resolution"]
    for note in found.notes:
        say(f"note: {note}")
    say(f"{found.protocol['num_images']} images of {resolution} px, seen by {label}: written to {path}")


def _of_folder(arguments: Arguments, options: StatisticsOptions) -> SourceStatistics:
    if arguments.overrides or arguments.text("split") is not None:
        raise InputError("statistics of --images take neither --data nor --split: leave them out, or name a checkpoint")
    device = join_devices(arguments).device
    own = OwnImages(Path(str(arguments.text("images"))).expanduser())
    resolution = _resolution(arguments) or own.native_resolution
    if change := own.describe_changes(resolution):
        say(f"note: {change}")
    return statistics_of_source(own, options, resolution=resolution, alpha=1.0, device=device)


def _of_checkpoint(arguments: Arguments, options: StatisticsOptions) -> SourceStatistics:
    if _resolution(arguments) is not None:
        raise InputError("statistics of a checkpoint's data have the resolution of its model: leave --resolution out")
    trained = load_trained(arguments, "statistics")
    model = trained.model
    return statistics_of_source(
        source_of(arguments, trained, "train"),
        options,
        resolution=model.resolution,
        alpha=alpha_of(model),
        device=model.device,
    )


def _resolution(arguments: Arguments) -> int | None:
    text = arguments.text("resolution")
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--resolution must be a positive whole number of pixels, got {text}")
    return int(text)


__all__ = ["statistics", "statistics_options"]
