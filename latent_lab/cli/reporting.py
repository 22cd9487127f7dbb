"""`latent-lab report`: everything about one run or checkpoint on a page that needs no other file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latent_lab import distributed
from latent_lab.analyses import LatentHealth, Participant, Result, Sample, TrainingNeighbours
from latent_lab.analyses.report import html_page, write_page
from latent_lab.analyses.sample import magnification
from latent_lab.cli.analysing import QuickEvaluation
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError, sentence_of
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.report_page import HEALTH, NEIGHBOURS, QUICK, SAMPLES, Seen, Subject, page
from latent_lab.cli.run_folders import run_folder_of
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import Trained, on_devices, read_trained, source_of
from latent_lab.latent.interfaces import AbstractDecoder, require
from latent_lab.models.loading import resolve_checkpoint
from latent_lab.types import ImageSource

REPORT = "report"
"""What the result of this command calls its analysis."""
_LARGEST = 250_000
"""Bytes of a picture's file up to which it stands in the page as it is."""
_SHEET = 1056
"""Pixels that a sheet of samples is wide at most."""


@dataclass(frozen=True)
class ReportOptions:
    """What a report measures."""

    num: int = 1_000
    """Held-out images, and samples, of which the latent space's health is measured."""
    num_reference: int = 5_000
    """Training images that are searched for the nearest ones of samples."""
    num_pictures: int = 8
    """Samples whose nearest training images are shown."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of everything random."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""
    quick_test: bool = False
    """Measure the numbers of `validate` on the chosen split, too; without it the page shows what was measured."""
    extractor: str = "auto"
    """Of the quick test, as in `latent-lab validate`."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    perceptual: str = "auto"
    """Perceptual distance of the quick test."""
    perceptual_path: str | None = None
    """Its weights file, or a folder that holds it."""

    def __post_init__(self) -> None:
        # Impossible options are refused before anything is loaded, by those whose options they are.
        self.health()
        self.neighbours()

    def health(self) -> LatentHealth:
        """Of models that encode."""
        return LatentHealth(num=self.num, num_resamples=self.num_resamples, seed=self.seed, batch_size=self.batch_size)

    def neighbours(self) -> TrainingNeighbours:
        """Of all models."""
        return TrainingNeighbours(
            num_reference=self.num_reference,
            num_pictures=self.num_pictures,
            num_resamples=self.num_resamples,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def quick(self) -> QuickEvaluation:
        """The quick test."""
        return QuickEvaluation(
            seed=self.seed,
            batch_size=self.batch_size,
            num_resamples=self.num_resamples,
            extractor=self.extractor,
            extractor_path=self.extractor_path,
            perceptual=self.perceptual,
            perceptual_path=self.perceptual_path,
        )

    def samples(self, resolution: int) -> Sample:
        """A sheet of samples that is not wider than a page."""
        columns = max(2, min(8, _SHEET // (resolution * magnification(resolution))))
        return Sample(num=columns * min(columns, 4), columns=columns, seed=self.seed, batch_size=self.batch_size)


def report_options(words: Sequence[str]) -> type[ReportOptions]:
    """Of `report`."""
    del words
    return ReportOptions


def report(arguments: Arguments) -> None:
    """Measures what is quick, gathers what is there, writes report.html, report.md and result.json."""
    quieten()
    options = ReportOptions(**arguments_from(arguments.options, ReportOptions))
    subject = subject_of(arguments)
    require(subject.model, AbstractDecoder, by=REPORT)  # type: ignore[type-abstract]
    seen = images_of(arguments, subject.trained)
    with progress_on_console():
        sections, missing = measure(subject, seen, options)
    out = arguments.text("out")
    folder = Path(out).expanduser() if out else subject.trained.results_folder(REPORT)
    if distributed.rank() != 0:
        return
    facts = {"checkpoint": subject.trained.provenance, "options": dataclasses.asdict(options)}
    result = Result(REPORT, {}, {**facts, "missing": missing}, sections=sections)
    result.save(folder)
    text = "\n".join(page(subject, seen, result, missing, folder)) + "\n"
    write_page(folder / "report.md", text)
    write_page(folder / "report.html", html_page(text, folder, title=subject.name, largest=_LARGEST))
    for sentence in missing.values():
        say(f"note: {sentence}")
    say(f"written to {folder / 'report.html'}")


def subject_of(arguments: Arguments) -> Subject:
    """The run or checkpoint that the command line names.

    Raises:
        InputError: if it names none or several, or a folder that is no run.
    """
    named = [*arguments.words, *([arguments.text("ckpt")] if arguments.text("ckpt") else [])]
    if len(named) != 1 or named[0] is None:
        raise InputError(
            f"report takes one run or checkpoint, got {len(named)}: latent-lab report runs/photos, and latent-lab "
            "compare for several"
        )
    path = Path(named[0]).expanduser()
    run = run_folder_of(path) if path.exists() else None
    if path.is_dir() and run is None:
        chain = ": it is a chain's, so write latent-lab chain report" if (path / "ledger.json").is_file() else ""
        raise InputError(f"{path} is no folder of a run, which has a config.yaml and checkpoints{chain}")
    checkpoint = run.checkpoint if run is not None and path.is_dir() else resolve_checkpoint(named[0])
    trained = on_devices([read_trained(str(checkpoint), arguments.overrides)], arguments)[0]
    return Subject(trained, run, named[0])


def images_of(arguments: Arguments, trained: Trained) -> Seen:
    """Held-out and training images; where the data is not there, why.

    Raises:
        InputError: if images or a split that the command line names are not there.
    """
    asked = bool(arguments.overrides) or any(arguments.text(option) is not None for option in ("images", "split"))
    held_out: ImageSource | None = None
    try:
        held_out = source_of(arguments, trained)
        return Seen(held_out, trained.data.source("train"))
    except (ValueError, FileNotFoundError) as error:
        if held_out is None and asked:
            raise
        why = sentence_of(error) or str(error)
        return Seen(held_out, None, f"{why} (say where its images are with --data.root PATH)")


def measure(subject: Subject, seen: Seen, options: ReportOptions) -> tuple[dict[str, Result], dict[str, str]]:
    """Results by title, and a sentence for each part that cannot be: title -> why."""
    found: dict[str, Result] = {}
    missing: dict[str, str] = {}
    model = subject.model

    def add(title: str, run: Callable[[], Result], needs: ImageSource | None, what: str) -> None:
        if needs is None:
            missing[title] = f"{title} is left out, as it needs {what}: {seen.why_not}"
            return
        try:
            result = run()
        except ValueError as error:
            missing[title] = f"{title} is left out: {error}"
            return
        found[title] = dataclasses.replace(
            result, protocol={**result.protocol, "checkpoint": subject.trained.provenance}
        )

    found[SAMPLES] = options.samples(model.resolution)(model)
    if subject.encodes:
        add(HEALTH, lambda: options.health()([_participant(subject, seen)]), seen.held_out, "images")
    else:
        missing[HEALTH] = (
            f"{HEALTH} is left out: {type(model).__name__} has no encoder, so there are no codes of images, no "
            "reconstructions and no round trips; `latent-lab invert` and recoders find latents"
        )
    add(NEIGHBOURS, lambda: options.neighbours()(model, seen.both), seen.reference, "training images")
    if options.quick_test:
        add(QUICK, lambda: options.quick()(model, seen.both), seen.held_out, "images")
    return found, missing


def _participant(subject: Subject, seen: Seen) -> Participant:
    assert seen.held_out is not None
    reference = seen.held_out if seen.reference is None else seen.reference
    return Participant(subject.name, subject.model, seen.held_out, reference, facts=subject.trained.provenance)
