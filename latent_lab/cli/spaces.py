"""Commands about latent spaces: they take several checkpoints, each with the images as it was trained to see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_lab.analyses import (
    AbstractSpacesAnalysis,
    CompareSpaces,
    Directions,
    Distances,
    MapMatrix,
    MapSpaces,
    NearestNeighbours,
    Normality,
    Participant,
    Similarity,
)
from latent_lab.analyses.spaces import kind_of
from latent_lab.cli import recipes
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.configuration import differences, overrides_as_configuration
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.results import finish
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.trained import Trained, on_devices, read_trained, source_of
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.types import ImageSource

_SAME_PICTURES = (
    "resolution",
    "mirror",
    "seed",
    "epoch_kimg",
    "eval_batch_size",
    "num_workers",
    "cache_dir",
    "max_bad_share",
    "root",
)
"""Options of data that do not change what the images show, or that `_same_files` decides on."""


def checkpoint_names(arguments: Arguments, command: str) -> list[str]:
    """The checkpoints that a command names: --ckpt, bare words, --others.

    Raises:
        InputError: if there is none.
    """
    first = arguments.text("ckpt")
    others = arguments.text("others")
    listed = [] if others is None else [word for word in others.strip("[]").replace(",", " ").split() if word]
    names = [*([first] if first else []), *arguments.words, *listed]
    if not names:
        raise InputError(f"{command} needs checkpoints: latent-lab {command} A.ckpt B.ckpt")
    return names


def run(arguments: Arguments, command: str, analysis: type[AbstractSpacesAnalysis]) -> None:
    """Builds, runs, writes, prints."""
    quieten()
    names = checkpoint_names(arguments, command)
    if len(names) < analysis.least:
        raise InputError(f"{command} needs at least {analysis.least} checkpoints: latent-lab {command} A.ckpt B.ckpt")
    options = {name: text for name, text in arguments.options.items() if name != "others"}
    ready = analysis(**{**arguments_from(options, analysis), "others": tuple(names[1:])})
    participants, trained = participants_from(names, arguments)
    with progress_on_console():
        result = ready(participants)
    out = arguments.text("out")
    folder = Path(out).expanduser() if out else trained[0].results_folder(command)
    finish(result, folder, written=folder / "report.html" if result.sections else folder)


def participants_from(names: Sequence[str], arguments: Arguments) -> tuple[list[Participant], list[Trained]]:
    """Models on their devices, with held-out and training images.

    Unless the command line names images, each model sees the pictures through the crop that it was trained with; where
    it was trained on other pictures, it sees the first model's, and a note says so. Keys of data change the data of all
    models that were trained on a data set of the first one's class.

    Args:
        names: checkpoints.
        arguments: of the command line, with --images, --split and keys of data.

    Raises:
        InputError: if a model does not encode, has no images, or is for other channels than the first.
    """
    if any(key.startswith("model") for key, _ in arguments.overrides):
        raise InputError("models are compared as their checkpoints have them: leave out keys of model")
    read = [read_trained(name, () if place else arguments.overrides) for place, name in enumerate(names)]
    trained = on_devices([read[0], *(_with_changes(one, read[0], arguments) for one in read[1:])], arguments)
    first = trained[0]
    labels = labels_of([entry.path for entry in trained])
    for one, label in zip(trained, labels, strict=True):
        if not isinstance(one.model, AbstractAutoencoder):
            raise InputError(
                f"{label} is a {type(one.model).__name__}, which does not encode: spaces are compared by codes of "
                "images, so name a recoder of it"
            )
    held_out = source_of(arguments, first)
    reference: ImageSource = first.data.source("train") if "data" in first.configuration else held_out
    found = []
    for one, label in zip(trained, labels, strict=True):
        sources = held_out, reference
        if one is not first:
            if one.model.channels != first.model.channels:
                raise InputError(
                    f"{label} is for images with {one.model.channels} channels, the first model for "
                    f"{first.model.channels}: compare models of the same pictures"
                )
            sources = _sources_of(one, first, label, arguments) or sources
        found.append(Participant(label, one.model, *sources, kind_of(one.model), one.provenance))
    return found, trained


def _with_changes(one: Trained, first: Trained, arguments: Arguments) -> Trained:
    """The model with the command line's keys of data, if it was trained on data of the first one's class."""
    ours, theirs = first.described["data"], one.described["data"]
    if not arguments.overrides or ours is None or theirs is None or ours["class_path"] != theirs["class_path"]:
        return one
    changed = recipes.compose([one.configuration, overrides_as_configuration(arguments.overrides)])
    return dataclasses.replace(one, configuration=changed)


def _sources_of(
    one: Trained, first: Trained, label: str, arguments: Arguments
) -> tuple[ImageSource, ImageSource] | None:
    """The model's own view of the first model's pictures; none if it has no other."""
    if "data" not in first.configuration or "data" not in one.configuration:
        say(f"note: {label} or the first model does not say what it was trained on; both see the same images")
        return None
    ours, theirs = (recipes.build_data(trained.configuration).recipe for trained in (first, one))
    different = _differing(ours, theirs)
    if not different:
        return None
    if arguments.text("images") is None and ours["class_path"] == theirs["class_path"]:
        split = arguments.text("split") or "test"
        pairs = [(one.data.source(name), first.data.source(name)) for name in (split, "train")]
        if all(_same_files(*pair) for pair in pairs):
            say(f"note: {label} sees the same pictures in its own way ({'; '.join(different)})")
            return pairs[0][0], pairs[1][0]
    say(f"note: {label} was trained on other data than it is shown here ({'; '.join(different)})")
    return None


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    if ours["class_path"] != theirs["class_path"]:
        return [f"{theirs['class_path'].rpartition('.')[2]}, not {ours['class_path'].rpartition('.')[2]}"]
    mine, yours = (
        {key: value for key, value in recipe["init_args"].items() if key not in _SAME_PICTURES}
        for recipe in (ours, theirs)
    )
    return differences(mine, yours, "data")


def _same_files(one: Any, other: Any) -> bool:
    """Whether two sources hold the same images in the same order, as far as their names tell."""
    names, others = getattr(one, "names", None), getattr(other, "names", None)
    return names is not None and names == others


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Short names, each once: of a run's checkpoint the run's folder, of any other file its stem."""
    names = []
    for path in paths:
        run_folder = path.resolve().parent.parent
        in_run = path.resolve().parent.name == "checkpoints" and (run_folder / "config.yaml").is_file()
        names.append(run_folder.name if in_run else path.stem)
    return [
        name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def tests_of_normality(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `normality`."""
    del words
    return Normality


def normality(arguments: Arguments) -> None:
    """Tests whether codes are distributed as the prior."""
    run(arguments, "normality", Normality)


def distances_of_pairs(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `distances`."""
    del words
    return Distances


def distances(arguments: Arguments) -> None:
    """Measures distances of codes of pairs of images."""
    run(arguments, "distances", Distances)


def nearest_neighbours(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `neighbours`."""
    del words
    return NearestNeighbours


def neighbours(arguments: Arguments) -> None:
    """Looks at nearest neighbours of codes."""
    run(arguments, "neighbours", NearestNeighbours)


def mapping(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `map`."""
    del words
    return MapSpaces


def map_spaces(arguments: Arguments) -> None:
    """Maps the first model's latent space to the others'."""
    run(arguments, "map", MapSpaces)


def matrix_of_maps(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `map-matrix`."""
    del words
    return MapMatrix


def map_matrix(arguments: Arguments) -> None:
    """Maps every model's latent space to every other one's."""
    run(arguments, "map-matrix", MapMatrix)


def similarity_of_spaces(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `similarity`."""
    del words
    return Similarity


def similarity(arguments: Arguments) -> None:
    """Measures how alike latent spaces are."""
    run(arguments, "similarity", Similarity)


def directions_of_attributes(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Options of `directions`."""
    del words
    return Directions


def directions(arguments: Arguments) -> None:
    """Finds directions of attributes, and carries those of the first model over to the others."""
    run(arguments, "directions", Directions)


def comparison_of_spaces(words: Sequence[str]) -> type[AbstractSpacesAnalysis]:
    """Of `compare-spaces`."""
    del words
    return CompareSpaces


def compare_spaces(arguments: Arguments) -> None:
    """All of these analyses, in one report."""
    run(arguments, "compare-spaces", CompareSpaces)
