"""`latent-lab test`, `validate`, `analyze`, and the short spellings of analyses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_lab.analyses import (
    ANALYSES,
    AbstractAnalysis,
    AbstractSpacesAnalysis,
    Condition,
    Edit,
    Evaluate,
    Exemplars,
    HeldOut,
    Interpolate,
    Invert,
    Mix,
    Reconstruct,
    Restore,
    Sample,
    ViewSynthesis,
)
from latent_lab.analyses.evaluate import METRICS
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.own_frames import own_frames
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.spaces import run as run_spaces
from latent_lab.cli.trained import Trained, load_trained, source_of, viewed, with_encoder
from latent_lab.data.own_images import OwnImages
from latent_lab.types import ImageSource


@dataclass(frozen=True)
class FullEvaluation(Evaluate):
    """All metrics."""

    metrics: tuple[str, ...] = METRICS


@dataclass(frozen=True)
class QuickEvaluation(Evaluate):
    """The usual metrics of few samples."""

    num_samples: int = 1000
    num_reference: int | None = 1000
    num_reconstructions: int | None = 256
    num_paths: int = 256
    num_swd: int = 512


# --------------------------------------------------------------------------------- whose fields are options of commands


def full_evaluation(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `test`."""
    del words
    return FullEvaluation


def quick_evaluation(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `validate`."""
    del words
    return QuickEvaluation


def sampling(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `sample`."""
    del words
    return Sample


def reconstruction(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `reconstruct`."""
    del words
    return Reconstruct


def restoration(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `restore`."""
    del words
    return Restore


def interpolation(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `interpolate`."""
    del words
    return Interpolate


def mixing(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `mix`."""
    del words
    return Mix


def conditioning(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `condition`."""
    del words
    return Condition


def inversion(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `invert`."""
    del words
    return Invert


def editing(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `edit`."""
    del words
    return Edit


def view_synthesis_options(words: Sequence[str]) -> type[AbstractAnalysis]:
    """Of `view-synthesis`."""
    del words
    return ViewSynthesis


def named_analysis(words: Sequence[str]) -> type[AbstractAnalysis] | None:
    """Of `analyze NAME`; none while no name is given.

    Raises:
        InputError: if there is no analysis of that name.
    """
    if not words or words[0].startswith("-"):
        return None
    if words[0] not in ANALYSES:
        raise InputError(f"there is no analysis {words[0]}: {closest(words[0], ANALYSES)}")
    return ANALYSES[words[0]]


# ------------------------------------------------------------------------------------------------------------ commands


def test(arguments: Arguments) -> None:
    """Evaluates on the test split; samples are compared with training images."""
    _run(arguments, "test", FullEvaluation)


def validate(arguments: Arguments) -> None:
    """Evaluates on the validation split, with small samples."""
    _run(arguments, "validate", QuickEvaluation, split="val")


def analyze(arguments: Arguments) -> None:
    """Runs the analysis that is named first."""
    analysis = named_analysis(arguments.words)
    if analysis is None:
        raise InputError(f"analyze needs the NAME of an analysis: {', '.join(sorted(ANALYSES))}")
    arguments = dataclasses.replace(arguments, words=arguments.words[1:])
    if issubclass(analysis, AbstractSpacesAnalysis):
        run_spaces(arguments, analysis.name, analysis)
    else:
        _run(arguments, analysis.name, analysis)


def sample(arguments: Arguments) -> None:
    """Draws new images."""
    _run(arguments, "sample", Sample)


def reconstruct(arguments: Arguments) -> None:
    """Shows images beside what the model makes of them."""
    _run(arguments, "reconstruct", Reconstruct)


def restore(arguments: Arguments) -> None:
    """Damages images, and shows and measures what the model makes of them."""
    _run(arguments, "restore", Restore)


def interpolate(arguments: Arguments) -> None:
    """Walks between samples, or between images where some are given."""
    _run(arguments, "interpolate", Interpolate)


def mix(arguments: Arguments) -> None:
    """Mixes the layers of samples, or of images where some are given."""
    _run(arguments, "mix", Mix)


def condition(arguments: Arguments) -> None:
    """Completes images of which some layers are kept."""
    _run(arguments, "condition", Condition)


def invert(arguments: Arguments) -> None:
    """Finds latents of images, with a recoder if one is named."""
    _run(arguments, "invert", Invert, encoder=arguments.text("recoder"))


def edit(arguments: Arguments) -> None:
    """Adds attributes to images and takes them away, by labels, by two folders, or along a direction in a file."""
    with_dir, without_dir = arguments.text("with-dir"), arguments.text("without-dir")
    if with_dir is None and without_dir is None:
        _run(arguments, "edit", Edit)
        return
    if with_dir is None or without_dir is None:
        raise InputError("edit needs both --with-dir and --without-dir: images with and images without the attribute")
    if arguments.text("direction") is not None:
        raise InputError("edit takes a direction's file or two folders, got both: leave one out")
    _run(arguments, "edit", Edit, exemplars=(with_dir, without_dir))


def view_synthesis(arguments: Arguments) -> None:
    """Predicts frames of a camera's run from a few, for data with poses or for frames and poses of one's own."""
    frames, poses = arguments.text("frames"), arguments.text("poses")
    if (frames is None) != (poses is None):
        raise InputError("view-synthesis needs both --frames DIR and --poses FILE, or data with poses: --data NAME")
    for option in ("poses-direction", "poses-axes"):
        if arguments.text(option) is not None and poses is None:
            raise InputError(f"--{option} says how a file of poses is read, and there is no --poses FILE")
    _run(arguments, "view-synthesis", ViewSynthesis)


def _run(
    arguments: Arguments,
    command: str,
    analysis: type[AbstractAnalysis],
    split: str = "test",
    encoder: str | None = None,
    exemplars: tuple[str, str] | None = None,
) -> None:
    """Builds, runs, writes, prints.

    Args:
        arguments: of the command line.
        command: for messages and the folder's name.
        analysis: what to run.
        split: of the data that is read unless another is asked for.
        encoder: checkpoint whose `encode` the model borrows.
        exemplars: two folders, of images with and without an attribute.
    """
    quieten()
    ready = analysis(**arguments_from(arguments.options, analysis))
    trained = load_trained(arguments, command)
    source = _source(arguments, trained, ready, split, exemplars)
    model: Any
    model, facts = viewed(trained, arguments)
    if encoder is not None and facts:
        raise InputError(f"{command} takes a recoder or another view of the model, got both: leave one out")
    if encoder is not None:
        model, facts = with_encoder(trained.model, encoder)
    with progress_on_console():
        result = ready(model, source)
    result = dataclasses.replace(result, protocol={**result.protocol, "checkpoint": trained.provenance, **facts})
    out = arguments.text("out")
    folder = Path(out).expanduser() if out else trained.results_folder(command)
    finish(result, folder, written=folder / "report.md" if issubclass(analysis, Evaluate) else folder)


def _source(
    arguments: Arguments,
    trained: Trained,
    analysis: AbstractAnalysis,
    split: str,
    exemplars: tuple[str, str] | None = None,
) -> ImageSource | None:
    frames, poses = arguments.text("frames"), arguments.text("poses")
    if frames is not None and poses is not None:
        return own_frames(
            Path(frames).expanduser(),
            Path(poses).expanduser(),
            grey=trained.model.channels == 1,
            direction=arguments.text("poses-direction"),
            axes=arguments.text("poses-axes"),
        )
    own = arguments.text("images") is not None
    if not analysis.needs_images and not own and arguments.text("split") is None:
        return None
    source = source_of(arguments, trained, split)
    if exemplars is not None:
        grey = trained.model.channels == 1
        present, absent = (OwnImages(Path(folder).expanduser(), grey=grey) for folder in exemplars)
        return Exemplars(source, present, absent)
    if not analysis.needs_reference or (own and not analysis.reference_beside_own_images):
        return source
    return HeldOut(source, trained.data.source("train"))
