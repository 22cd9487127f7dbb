from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from latent_lab.cli.configuration import CommandLineText
from latent_lab.cli.errors import InputError
from latent_lab.cli.schema import arguments_from, conform, conform_arguments, fields_of, in_words, options_of


@dataclass(frozen=True)
class Row:
    """A row."""

    kimg: float
    """How long
    it lasts."""
    fade: float | None = None

    def __post_init__(self) -> None:
        if self.kimg <= 0:
            raise ValueError("kimg must be positive")


@dataclass(frozen=True)
class Rows:
    """Rows."""

    rows: Sequence[Row]
    names: list[str] = field(default_factory=lambda: ["a"])


class Model:
    """A model.

    Args:
        rows: of the
            schedule.
        mode: how.

    Raises:
        ValueError: never.
    """

    def __init__(self, rows: Rows, mode: Literal["fast", "slow"] = "fast", root: str | Path | None = None) -> None:
        self.rows, self.mode, self.root = rows, mode, root


def test_fields_of_a_class_come_with_their_docstring():
    fields = fields_of(Model)
    assert list(fields) == ["rows", "mode", "root"]
    assert fields["rows"].required
    assert fields["rows"].text == "of the schedule."
    assert fields["mode"].default == "fast"


def test_fields_of_a_dataclass_come_with_the_text_below_them():
    assert fields_of(Row)["kimg"].text == "How long it lasts."
    assert fields_of(Row)["fade"].text == ""


def test_defaults_of_a_dataclass_are_made():
    assert fields_of(Rows)["names"].default == ["a"]


def test_plain_data_becomes_nested_dataclasses():
    built = conform_arguments({"rows": {"rows": [{"kimg": 1}, {"kimg": 2, "fade": 1}]}}, Model, "model")
    assert built == {"rows": Rows([Row(1.0), Row(2.0, 1.0)])}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rosw": 1}, "Model has no option rosw (model.rosw): did you mean rows?"),
        ({}, "model.rows is missing: Model needs rows"),
        ({"rows": 3}, "model.rows must be a mapping with rows, names, got 3"),
        ({"rows": {"rows": [{"kimgs": 1}]}}, "Row has no option kimgs (model.rows.rows.0.kimgs): did you mean kimg?"),
        ({"rows": {"rows": [{"kimg": 1}, {}]}}, "model.rows.rows.1.kimg is missing: Row needs kimg"),
        ({"rows": {"rows": [{"kimg": "long"}]}}, "model.rows.rows.0.kimg must be a number, got long"),
        ({"rows": {"rows": [{"kimg": None}]}}, "model.rows.rows.0.kimg must be a number, got null"),
        ({"rows": {"rows": [{"kimg": 0}]}}, "model.rows.rows.0: kimg must be positive"),
        ({"rows": {"rows": []}, "mode": "fats"}, "model.mode must be one of fast, slow, got fats: did you mean fast?"),
    ],
)
def test_whatever_is_wrong_is_named_by_its_key(values, sentence):
    with pytest.raises(InputError) as caught:
        conform_arguments(values, Model, "model")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("2024", str, "2024"),
        ("2024", int, 2024),
        ("2024", str | Path | None, "2024"),
        ("null", str | None, None),
        ("none", int | None, None),
        ("none", tuple[float, ...] | None, None),
        ("none", str | None, "none"),
        ("none", Literal["none", "all"] | None, "none"),
        ("1e-3", float, 1e-3),
        ("3", float, 3.0),
        ("true", bool, True),
        ("2", str | int, 2),
        ("center", str | Sequence[int], "center"),
        ("[1, 2]", str | Sequence[int], [1, 2]),
        ("fd, kd", tuple[str, ...], ("fd", "kd")),
        ("fd", tuple[str, ...], ("fd",)),
        ("8", Any, 8),
    ],
)
def test_typed_text_is_read_by_the_type_of_its_option(text, annotation, value):
    found = conform(CommandLineText(text), annotation, "key")
    assert found == value
    assert type(found) is type(value)


def test_a_dataclass_may_be_read_from_a_yaml_file(folder):
    (folder / "rows.yaml").write_text("rows: [{kimg: 2}]\n")
    assert conform(CommandLineText("rows.yaml"), Rows, "key") == Rows([Row(2.0)])


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "a whole number or null"),
        (Sequence[int], "a list of whole numbers"),
        (str | Path | None, "a path or null"),
        (Literal["a", "b"], "one of a, b"),
        (dict[str, Any], "a mapping"),
        (Row, "a mapping with kimg, fade"),
    ],
)
def test_types_are_put_into_words(annotation, words):
    assert in_words(annotation) == words


def test_optional_parameters_become_flags():
    assert [(option.name, option.value) for option in options_of(Model)] == [("mode", "fast|slow"), ("root", "TEXT")]


def test_flags_become_arguments_and_foreign_ones_are_ignored():
    assert arguments_from({"mode": "slow", "out": "x"}, Model) == {"mode": "slow"}


def test_a_wrong_value_of_a_flag_is_named_by_the_flag():
    with pytest.raises(InputError, match=r"^--mode must be one of fast, slow, got quick"):
        arguments_from({"mode": "quick"}, Model)
