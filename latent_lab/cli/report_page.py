"""The page of `latent-lab report`: what was measured now, what was measured before, what a run left."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_lab import images
from latent_lab.analyses import HeldOut, Result
from latent_lab.analyses.comparing import RESULT_FILE, Recorded
from latent_lab.analyses.latent_health import IMAGES
from latent_lab.analyses.report import body_lines, interval_sentence, number_text, protocol_lines, table_lines
from latent_lab.cli.run_folders import RunFolder, over_time, results_in, some_of
from latent_lab.cli.spaces import labels_of
from latent_lab.cli.trained import Trained
from latent_lab.cli.training import environment
from latent_lab.cli.yaml_text import write_yaml
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.models.loading import read_manifest
from latent_lab.plotting import plot_curves
from latent_lab.types import ImageSource

SAMPLES = "Samples"
HEALTH = "Health of the latent space"
NEIGHBOURS = "Nearest training images"
QUICK = "Quick test"
MEASURED = "measured"
"""Folder beside the page with the results of before that it shows."""

_ANALYSED = ("train_", "val/", "test/", "unseen_views/", "prior/")
"""What the names of numbers begin with that analyses found while training."""
_MOST_RESULTS = 3
_MOST_VALIDATED = 6
_PANELS_IN_A_ROW = 3
_STEMS = 4


@dataclass(frozen=True)
class Subject:
    """What the report is about."""

    trained: Trained
    run: RunFolder | None
    command: str
    """What was typed after `report`."""

    @property
    def name(self) -> str:
        """Of the run, or of the file."""
        return labels_of([self.trained.path])[0]

    @property
    def checkpoint(self) -> str:
        """What other commands are to be given."""
        return self.command if self.run is None else str(self.trained.path)

    @property
    def model(self) -> Any:
        """The model."""
        return self.trained.model

    @property
    def encodes(self) -> bool:
        """Whether the model has an encoder."""
        return isinstance(self.model, AbstractAutoencoder)


@dataclass(frozen=True)
class Seen:
    """The images that a report is made with, and why some are not there."""

    held_out: ImageSource | None
    reference: ImageSource | None
    why_not: str = ""

    @property
    def both(self) -> ImageSource | None:
        """Held-out images with training images, where there are some."""
        if self.held_out is None or self.reference is None:
            return self.held_out
        return HeldOut(self.held_out, self.reference)


def page(subject: Subject, seen: Seen, result: Result, missing: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Lines of Markdown; pictures that it makes go to the folder.

    Args:
        subject: of the report.
        seen: images that it was made with.
        result: that was measured, saved in the folder.
        missing: title -> why a part is not there.
        folder: of the page.
    """
    sections = result.sections
    health = sections.get(HEALTH)
    yield from (f"# {subject.name}", "", *table_lines(_facts(subject, seen)))
    yield from ("", "## Samples", "", "Drawn in order, none left out.", "")
    yield f"![samples]({sections[SAMPLES].analysis}/samples.png)"
    if health is not None:
        yield from ("", "## Reconstructions", "", "Held-out images over what the model makes of them.", "")
        yield f"![reconstructions]({health.analysis}/{health.sections[IMAGES].analysis}/reconstructions.png)"
    yield from ("", "## Numbers", "", *_numbers(subject, sections.get(QUICK), folder))
    if QUICK in missing:
        yield from ("", missing[QUICK])
    yield from ("", "## Training", "", *_training(subject, folder))
    yield from ("", f"## {HEALTH}", "")
    yield from [missing[HEALTH]] if health is None else _health(health)
    yield from ("", f"## {NEIGHBOURS}", "")
    neighbours = sections.get(NEIGHBOURS)
    yield from [missing[NEIGHBOURS]] if neighbours is None else _neighbours(neighbours)
    yield from ("", "## Data", "", *_data(subject, seen))
    yield from ("", "## Configuration", "", *_configuration(subject))
    yield from ("", "## Versions", "", *_versions(subject))
    yield from ("", "## Protocols", "")
    for title, section in _with_inner(sections):
        yield from folded(f"Protocol of: {title}", protocol_lines(section.protocol))


def folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Lines that open when somebody asks for them."""
    yield from (f'<details markdown="1"><summary>{title}</summary>', "", *lines, "", "</details>", "")


def _with_inner(sections: Mapping[str, Result]) -> Iterator[tuple[str, Result]]:
    for title, section in sections.items():
        yield title, section
        yield from ((f"{title}, {inner}", one) for inner, one in section.sections.items())


def _facts(subject: Subject, seen: Seen) -> list[tuple[str, str]]:
    trained, model = subject.trained, subject.model
    held_out = "none" if seen.held_out is None else f"{len(seen.held_out):,} of {_where(seen.held_out)}"
    training = "none at hand" if seen.reference is None else f"{len(seen.reference):,}"
    return [
        ("what", "value"),
        ("model", f"{type(model).__name__}{'' if subject.encodes else ' (without an encoder)'}"),
        ("images", f"{model.resolution} x {model.resolution} pixels, {model.channels} channels"),
        ("latents", repr(model.latent_space)),
        ("parameters", f"{sum(one.numel() for one in model.parameters()):,}"),
        ("real images seen in training", f"{trained.described['images_seen']:,}"),
        ("checkpoint", f"{trained.path.name}, sha256 {trained.provenance['sha256'][:16]}..."),
        ("training images", training),
        ("held-out images", held_out),
    ]


def _where(source: ImageSource) -> str:
    return f"split {source.recipe['split']}" if "split" in source.recipe else "your own folder"


# ------------------------------------------------------------------------------------------------------------- numbers


def _numbers(subject: Subject, quick: Result | None, folder: Path) -> Iterator[str]:
    """What was measured of this checkpoint before, and now; else how to measure it."""
    digest = subject.trained.provenance["sha256"]
    shown = False
    own: list[tuple[Path, Recorded]] = []
    others: list[tuple[Path, Recorded]] = []
    for where, recorded in _recorded(subject):
        if recorded.analysis == "evaluate":
            same = recorded.protocol.get("checkpoint", {}).get("sha256") == digest
            (own if same and not recorded.protocol.get("view") else others).append((where, recorded))
    for where, recorded in own[-_MOST_RESULTS:]:
        shown = True
        yield from _result_lines(f"Of `{where.name}`: {_measured(recorded.protocol)}.", recorded)
        if where.resolve().parent != folder.resolve():
            # The page's folder is then all that `compare` needs.
            target = folder / MEASURED / where.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(where / RESULT_FILE, target / RESULT_FILE)
    if quick is not None:
        shown = True
        recorded = Recorded(QUICK, quick.analysis, quick.numbers, quick.protocol, quick.intervals)
        yield from _result_lines(f"{QUICK}: {_measured(quick.protocol)}.", recorded)
    shipped = next((one for one in read_manifest().values() if one.get("sha256") == digest), None)
    if shipped is not None and "numbers" in shipped:
        shown = True
        yield f"Published with this checkpoint: {shipped['protocol']}."
        yield from ("", "| number | value |", "|---|---:|")
        yield from (f"| `{name}` | {value:g} |" for name, value in shipped["numbers"].items())
        yield ""
    if not shown and others:
        where, recorded = others[-1]
        model = recorded.model or "another state"
        yield from _result_lines(f"Of `{where.name}`, **not of this checkpoint**: {model}.", recorded)
    if not shown:
        yield (
            f"Nothing was measured of this checkpoint yet: `latent-lab test --ckpt {subject.checkpoint}` does, and a "
            "new report shows it; `--quick-test` measures a little of it at once."
        )
    elif others:
        yield f"There are results of other states or views, too: {', '.join(f'`{one.name}`' for one, _ in others)}."


def _recorded(subject: Subject) -> list[tuple[Path, Recorded]]:
    """Results in the run's folder, else beside the checkpoint and in results/."""
    if subject.run is not None:
        return results_in(subject.run.path)
    places = {path.resolve() for path in (subject.trained.path.parent, Path("results"))}
    return [found for place in sorted(places) for found in results_in(place)]


def _result_lines(title: str, recorded: Recorded) -> Iterator[str]:
    yield from (title, "", "| number | value |", "|---|---:|")
    for name, value in recorded.numbers.items():
        yield f"| `{name}` | {number_text(value, recorded.intervals.get(name))} |"
    if recorded.intervals:
        yield from ("", interval_sentence(recorded.protocol))
    yield ""
    yield from folded("Protocol of these numbers", protocol_lines(recorded.protocol))


def _measured(protocol: Mapping[str, Any]) -> str:
    """How numbers were measured, in one line."""
    data = protocol.get("data", {})
    facts = [
        f"{protocol['num_samples']:,} samples" if "num_samples" in protocol else "",
        f"{protocol['num_reference']:,} reference images" if "num_reference" in protocol else "",
        f"{protocol['num_reconstructions']:,} reconstructions" if "num_reconstructions" in protocol else "",
        f"split {data['split']}" if "split" in data else "",
    ]
    for role in ("extractor", "perceptual"):
        network = protocol.get(role)
        if isinstance(network, Mapping):
            how = f" ({network['resize']})" if "resize" in network else ""
            facts.append(f"{role} {network.get('name', '')}{how}")
    facts.append(f"seed {protocol['seed']}" if "seed" in protocol else "")
    return ", ".join(fact for fact in facts if fact)


# ------------------------------------------------------------------------------------------------------------ training


def _training(subject: Subject, folder: Path) -> Iterator[str]:
    """Curves, numbers of validation, and pictures over time."""
    run = subject.run
    if run is None:
        yield (
            f"`{subject.trained.path.name}` lies in no folder of a run, so there are no curves and no pictures made "
            "while training."
        )
        return
    ends = max((kimg[-1] for kimg, _ in run.curves.values()), default=subject.trained.kimg)
    if ends - subject.trained.kimg > 0.5:
        yield f"The run went on to {ends:g} kimg after this checkpoint ({subject.trained.kimg:g} kimg)."
        yield ""
    if not run.curves:
        yield "The run recorded no curves (metrics.jsonl)."
    validated = {name: curve for name, curve in run.curves.items() if name.startswith(_ANALYSED)}
    validated = {name: curve for name, curve in validated.items() if "_of_latent_" not in name}
    panels = dict(subject.model.curve_panels)
    if not any(name in run.curves for names in panels.values() for name in names):
        panels = {name: (name,) for name in run.curves if name.startswith("train/")}
    several = [name for name, (kimg, _) in validated.items() if len(kimg) > 1][:_MOST_VALIDATED]
    panels |= {name: (name,) for name in several}
    panels = {title: names for title, names in panels.items() if any(name in run.curves for name in names)}
    titles = list(panels)
    for number, start in enumerate(range(0, len(titles), _PANELS_IN_A_ROW), start=1):
        row = {title: panels[title] for title in titles[start : start + _PANELS_IN_A_ROW]}
        plot_curves(run.curves, row, folder / f"curves_{number}.png")
        yield from (f"![curves](curves_{number}.png)", "")
    if validated:
        rows: list[list[str | float]] = [["measured while training", "first", "at kimg", "latest", "at kimg"]]
        for name, (kimg, values) in validated.items():
            rows.append([f"`{name}`", float(values[0]), f"{kimg[0]:g}", float(values[-1]), f"{kimg[-1]:g}"])
        yield from (*table_lines(rows), "")
    yield from _pictures(run, folder)


def _pictures(run: RunFolder, folder: Path) -> Iterator[str]:
    if not run.pictures:
        yield "No pictures were made while training."
        return
    for stem in some_of(run.pictures, _STEMS):
        moments = run.pictures[stem]
        kimg, latest = moments[-1]
        sheet = over_time(moments, stem) if len(moments) > 1 else None
        if sheet is None:
            shutil.copyfile(latest, folder / f"{stem}_latest.png")
            yield from (f"### {stem} at {kimg:g} kimg", "", f"![{stem}]({stem}_latest.png)", "")
        else:
            images.save_png(folder / f"{stem}_over_time.png", sheet)
            yield from (f"### {stem} over time", "", f"![{stem} over time]({stem}_over_time.png)", "")


# ----------------------------------------------------------------------------------------------- latents and neighbours


def _health(health: Result) -> Iterator[str]:
    """The table of the main questions first, all numbers of the tests folded."""
    yield from (
        "Codes of held-out images and of decoded samples should look like samples of the prior; `kl_gap` is 0 if both",
        "do so equally. `i_mse` is the error of latents that were decoded and encoded, `rec_mse` that of images that",
        "were encoded and decoded; over 1, their `_relative` forms are no better than the mean.",
        "",
    )
    yield from body_lines(health, "###", f"{health.analysis}/")
    for title, section in health.sections.items():
        prefix = f"{health.analysis}/{section.analysis}/"
        if title == IMAGES:
            shown = dataclasses.replace(section, pictures={})
            yield from ("", f"### {title}", "", *body_lines(shown, "####", prefix))
            continue
        yield from ("", f"### {title}", "")
        for stem in section.pictures:
            yield from (f"![{stem}]({prefix}{stem}.png)", "")
        for heading, rows in section.tables.items():
            yield from (f"#### {heading}", "", *table_lines(rows), "")
        numbers = dataclasses.replace(section, pictures={}, tables={})
        yield from folded("All numbers", body_lines(numbers, "####", prefix))


def _neighbours(result: Result) -> Iterator[str]:
    yield from (
        "The first samples, and below them the training images nearest to them, mirrored ones included. `closer` is",
        "the share of pairs in which a sample is nearer to its nearest training image than a held-out image is to its",
        "own: 0.5 if samples are as new as held-out images, 1 if they are copies.",
        "",
        *(f"![{stem}]({result.analysis}/{stem}.png)" for stem in result.pictures),
        "",
        *body_lines(dataclasses.replace(result, pictures={}), "###", f"{result.analysis}/"),
    )


# -------------------------------------------------------------------------------------------- data, recipes, versions


def _data(subject: Subject, seen: Seen) -> Iterator[str]:
    recorded = subject.trained.described["data"]
    if recorded is None:
        yield "The checkpoint does not say what it was trained on."
    else:
        yield from folded("Recipe, as the checkpoint has it", _yaml(recorded))
    sources = {"training images": seen.reference, "held-out images": seen.held_out}
    there = {what: source for what, source in sources.items() if source is not None}
    if seen.why_not:
        yield from (f"Not all images are at hand: {seen.why_not}", "")
    if there:
        rows: list[list[str | float]] = [["what", "images", "split", "content hash"]]
        for what, source in there.items():
            recipe = source.recipe
            rows.append([what, f"{len(source):,}", str(recipe.get("split", "")), str(recipe.get("hash", ""))])
        yield from table_lines(rows)


def _configuration(subject: Subject) -> Iterator[str]:
    if subject.run is not None:
        yield from folded("Whole configuration of the run", _yaml(subject.run.configuration))
    yield from folded("Recipe of the model, as the checkpoint has it", _yaml(subject.trained.described["model"]))


def _yaml(content: Any) -> Iterator[str]:
    yield from ("```yaml", *write_yaml(content).rstrip().splitlines(), "```")


def _versions(subject: Subject) -> Iterator[str]:
    yield f"The checkpoint was written by latent-lab {subject.trained.described['version']}."
    yield ""
    if subject.run is not None and subject.run.environment:
        yield from folded("Where the run was begun or last continued", _text(subject.run.environment))
    yield from folded("Where this report was made", _text(environment()))


def _text(content: str) -> Iterator[str]:
    yield from ("```text", *content.rstrip().splitlines(), "```")
