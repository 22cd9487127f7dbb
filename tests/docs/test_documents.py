"""What the documents print is there: links, files, commands and their options, configurations, defaults."""

from __future__ import annotations

import functools
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lightning import Trainer

from latent_lab.analyses import ANALYSES
from latent_lab.analyses.chain_building import ChainOptions
from latent_lab.callbacks import RunOptions
from latent_lab.cli import recipes, schema
from latent_lab.cli.arguments import Option, parse
from latent_lab.cli.commands import BY_NAME, Command
from latent_lab.cli.configuration import (
    Configuration,
    find_configuration,
    overrides_as_configuration,
    read_configuration,
    shown,
)
from latent_lab.cli.errors import InputError
from latent_lab.cli.schema import arguments_from, conform, options_of
from latent_lab.models import MODELS
from latent_lab.models.loading import is_shipped, read_manifest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DOCUMENTS = [
    ROOT / "README.md",
    CONFIGS / "README.md",
    ROOT / "checkpoints" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())

WRITTEN_BY_RUNS = {"config.yaml"}
MADE_UP = {"NAME.yaml", "x_synthetic.yaml"}
OF_RUNS = {"demo": "pioneer_synthetic"}
"""Runs whose folder is not called after their configuration."""


fields_of = functools.cache(schema.fields_of)
manifest = functools.cache(read_manifest)


@pytest.fixture(autouse=True)
def _signatures_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of command lines ask for the options of the same few classes."""
    monkeypatch.setattr(schema, "fields_of", fields_of)


# ------------------------------------------------------------------------------------------------- parts of a document


class Line(NamedTuple):
    number: int
    text: str


@functools.cache
def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


@functools.cache
def parts_of(document: Path) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Lines of prose, and lines of code (fenced, or indented by four spaces after an empty line)."""
    prose: list[Line] = []
    code: list[Line] = []
    fenced = indented = False
    before = ""
    for number, text in enumerate(text_of(document).splitlines(), 1):
        if text.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            code.append(Line(number, text.strip()))
        else:
            indented = text.startswith("    ") and (indented or not before.strip())
            (code if indented else prose).append(Line(number, text.strip() if indented else text))
        before = text
    return tuple(prose), tuple(code)


def commands_in_blocks(document: Path) -> Iterator[Line]:
    """Command lines on lines of their own, those that go on after a backslash joined."""
    joined = ""
    for number, text in parts_of(document)[1]:
        text, joined = joined + text, ""
        if text.endswith("\\"):
            joined = text[:-1]
        elif text.startswith("latent-lab "):
            yield Line(number, text)


def commands_of(document: Path) -> Iterator[Line]:
    """All command lines."""
    yield from commands_in_blocks(document)
    # Within sentences, where a line may break between the backticks.
    for paragraph in paragraphs(parts_of(document)[0]):
        for found in re.findall(r"`(latent-lab [^`]+)`", paragraph.text):
            # A sentence may name an option without a value for it.
            yield Line(paragraph.number, f"{found} VALUE" if re.search(r" --[\w-]+$", found) else found)


def paragraphs(prose: Sequence[Line]) -> Iterator[Line]:
    gathered: list[str] = []
    first = 0
    for number, text in (*prose, Line(0, "")):
        if text.strip():
            first = first if gathered else number
            gathered.append(text.strip())
        elif gathered:
            yield Line(first, " ".join(gathered))
            gathered = []


def anchors_of(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = (text.lstrip("#").strip() for _, text in parts_of(document)[0] if re.match(r"#+ ", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --------------------------------------------------------------------------------------------------------------- links


@each_document
def test_relative_links_lead_to_files_and_headings_that_exist(document: Path):
    prose = "\n".join(text for _, text in parts_of(document)[0])
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_the_index_of_the_documents_leads_to_all_of_them():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)\)", text_of(index))}
    assert [path.name for path in (ROOT / "docs").rglob("*.md") if path != index and path.resolve() not in linked] == []


@each_document
def test_files_of_the_project_that_are_named_exist(document: Path):
    prose = " ".join(text for _, text in parts_of(document)[0])
    folders = "latent_lab|tests|configs|docs|checkpoints"
    names = re.findall(rf"`((?:{folders})/[\w/]*(?:\.(?:py|md|ya?ml|toml|png))?)`", prose)
    assert [name for name in names if not (ROOT / name).exists()] == []


@each_document
def test_what_python_examples_import_is_there(document: Path):
    lines = [text for _, text in parts_of(document)[1]]
    for module, names in re.findall(r"^from (latent_lab[\w.]*) import ([\w, ]+)$", "\n".join(lines), re.MULTILINE):
        for name in names.split(","):
            assert hasattr(importlib.import_module(module), name.strip()), f"{module} has no {name}"


# ------------------------------------------------------------------------------------------------------------ commands


def placeholder(word: str) -> bool:
    """NAME, X.ckpt, ..., RESULT: what a reader is to replace."""
    return word == "..." or re.fullmatch(r"[A-Z]+(\.\w+)?", word) is not None


def target_of(command: Command, words: Sequence[str]) -> Any:
    place = command.options_from
    if place is None or (words and placeholder(words[0])):
        return None
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(words)


@functools.cache
def shipped(name: str) -> Configuration:
    return read_configuration(find_configuration(name))


def configuration_behind(checkpoint: str | None) -> list[Configuration]:
    """What a checkpoint was trained with, as far as its name tells."""
    if checkpoint is None:
        return []
    if checkpoint in manifest():
        return [shipped(manifest()[checkpoint]["config"])]
    parts = Path(checkpoint).parts
    run = parts[1] if len(parts) > 1 and parts[0] == "runs" else ""
    run = OF_RUNS.get(run, run)
    return [shipped(run)] if (CONFIGS / f"{run}.yaml").is_file() else []


def check_checkpoint(word: str) -> None:
    """A bare name is one of a checkpoint that comes with the project."""
    if re.fullmatch(r"[a-z][a-z0-9_]*", word) and not is_shipped(manifest().get(word, {})):
        raise InputError(f"no checkpoint {word} comes with the project")


def check_command(line: str) -> None:
    """Raises what the command itself would, as far as it needs no data and no weights."""
    _, name, *words = shlex.split(line, comments=True)
    if placeholder(name) or name.startswith("-"):
        return
    if name not in BY_NAME:
        raise InputError(f"there is no command {name}")
    command = BY_NAME[name].action(words)
    if name == "help":
        known = {*MODELS, *recipes.data_classes(), *ANALYSES, *BY_NAME, "run", "trainer"}
        if words and not placeholder(words[0]) and words[0].lower() not in {one.lower() for one in known}:
            raise InputError(f"there is no help on {words[0]}")
        return
    target = target_of(command, words)
    options = [*command.options, *(options_of(target) if target is not None else ()), Option("help", "")]
    if target is None and command.options_from is not None:
        words = [word for word in words if not word.startswith("--")]
    # What stands for anything, such as `--kind KIND`, has no value that could be checked.
    words = [word for word in words if word != "..."]
    arguments = parse(words, options, command.sections, name)
    given = {option: text for option, text in arguments.options.items() if not placeholder(str(text))}
    if target is not None:
        arguments_from(given, target)
    checkpoint = arguments.text("ckpt")
    if name == "download" and arguments.words and not placeholder(arguments.words[0]):
        assert arguments.words[0] in manifest()
    for one in (checkpoint, arguments.text("target"), arguments.text("recoder")):
        if one is not None and not placeholder(one):
            check_checkpoint(one)
    layers = configuration_behind(checkpoint or next(iter(arguments.words), None))
    for config in arguments.options.get("config", ()):
        if not placeholder(config):
            layers.append(shipped(config))
    resumed = arguments.text("resume")
    if resumed is not None and resumed not in ("auto", "no"):
        layers = [*configuration_behind(resumed), *layers]
    check_overrides(layers, arguments.overrides)


def check_overrides(layers: list[Configuration], overrides: Sequence[tuple[str, str | bool]]) -> None:
    overrides = [(key, text) for key, text in overrides if not placeholder(key.rpartition(".")[2])]
    typed = overrides_as_configuration(overrides)
    whole = recipes.compose([*layers, typed])
    for section, changed in typed.items():
        if section in ("model", "data"):
            changed = changed.get("init_args", {})
            owners = classes_of(section, whole[section].get("class_path"), changed)
            values = whole[section].get("init_args", {})
        else:
            owners = [{"run": RunOptions, "chain": ChainOptions, "trainer": Trainer}[section]]
            values = whole[section]
        for option in changed:
            fields = fields_of(owners[0]) if owners else {}
            if option not in fields or option in recipes.TAKEN_CARE_OF:
                raise InputError(f"there is no option {section}.{option}")
            if values[option] != recipes.AUTO:
                conform(values[option], fields[option].annotation, f"{section}.{option}")


def classes_of(section: str, class_path: str | None, options: Configuration) -> list[type]:
    """The class that is named; where none is, those that take these options."""
    if class_path is not None:
        return [recipes.resolve_class(section, class_path)]
    classes = recipes.model_classes() if section == "model" else recipes.data_classes()
    return [one for one in classes.values() if set(options) <= set(fields_of(one))]


@each_document
def test_commands_and_their_options_exist_and_values_fit(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    wrong = []
    for number, line in commands_of(document):
        try:
            check_command(line)
        except (InputError, AssertionError, ValueError) as error:
            wrong.append(f"line {number}: {line}: {error}")
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "latent-lab paint --ckpt balanced_pioneer_faces32",
        "latent-lab sample --ckpt balanced_pioneer_faces32 --number 3",
        "latent-lab sample --ckpt balanced_pioneer_faces64",
        "latent-lab fit --config nothing_synthetic.yaml",
        "latent-lab fit --config gan_synthetic.yaml --model.latent_dims 3",
        "latent-lab fit --config gan_synthetic.yaml --model.label_convention odd",
        "latent-lab fit --config gan_synthetic.yaml --data.rot x",
        "latent-lab fit --config gan_synthetic.yaml --run.length 3",
        "latent-lab reconstruct --ckpt runs/vae_synthetic/checkpoints/last.ckpt --data.labels l.csv",
        "latent-lab map a.ckpt b.ckpt --kind curved",
        "latent-lab analyze nothing --ckpt balanced_pioneer_faces32",
        "latent-lab import nothing file --out x.ckpt",
        "latent-lab help Nothing",
    ],
)
def test_a_command_that_is_wrong_is_found(line: str):
    with pytest.raises((InputError, AssertionError)):
        check_command(line)


# ---------------------------------------------------------------------------------- configurations, options, defaults


@each_document
def test_configurations_that_are_named_are_shipped(document: Path):
    names = re.findall(r"(?<![\w./<-])((?:[\w*]+/)*[\w*]+\.ya?ml)\b", text_of(document))
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    missing = [
        name
        for name in names
        if name not in WRITTEN_BY_RUNS | MADE_UP
        and not any(Path(one).match(name.removeprefix("configs/")) for one in found)
    ]
    assert missing == []


def test_the_list_of_configurations_names_no_others():
    rows = [text for _, text in parts_of(CONFIGS / "README.md")[0] if re.match(r"\| *`", text)]
    sections = {"model", "data", "run", "trainer", "chain"}
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])} - sections
    there = [path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml")]
    assert {name for name in listed if not any(one.match(name) for one in there)} == set()


class OptionRow(NamedTuple):
    owner: str
    option: str
    default: str


def option_rows(document: Path) -> Iterator[OptionRow]:
    """Rows of tables whose head is a class's name and "default"."""
    owner = None
    for _, text in parts_of(document)[0]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", text.strip())[1:-1]] if text.startswith("|") else []
        if len(cells) < 2:
            owner = None
        elif cells[1] == "default" and re.fullmatch(r"`[\w ]+`", cells[0]):
            owner = cells[0].strip("`")
        elif owner is not None and cells[0].startswith("`"):
            defaults = re.findall(r"`([^`]+)`", cells[1])
            for place, option in enumerate(re.findall(r"`([^`]+)`", cells[0])):
                yield OptionRow(owner, option, defaults[min(place, len(defaults) - 1)] if defaults else "")


def default_of(owner: Any, option: str) -> str:
    """What stands in the second column; of `weights.latent` the default in the dataclass that `weights` holds."""
    first, _, rest = option.replace("-", "_").partition(".")
    field = fields_of(owner)[first]
    if rest:
        return default_of(type(field.default), rest)
    return "required" if field.required else shown(field.default)


@each_document
def test_tables_of_options_name_options_with_their_defaults(document: Path):
    owners: dict[str, Any] = {**MODELS, **recipes.data_classes(), **ANALYSES}
    wrong = []
    for row in option_rows(document):
        try:
            default = default_of(owners[row.owner], row.option)
        except KeyError:
            wrong.append((row, "there is none"))
            continue
        if row.default != default:
            wrong.append((row, default))
    assert wrong == []


def test_every_model_has_a_page_with_its_options():
    described = {row.owner for document in (ROOT / "docs" / "models").glob("*.md") for row in option_rows(document)}
    assert set(MODELS) - described == set()
