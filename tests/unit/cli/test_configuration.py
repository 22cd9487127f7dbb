from __future__ import annotations

import pytest

from latent_lab.cli.configuration import (
    differences,
    find_configuration,
    merge,
    overrides_as_configuration,
    read_configuration,
    shown,
)
from latent_lab.cli.errors import InputError
from latent_lab.cli.yaml_text import parse_yaml, write_yaml


def test_merging_goes_key_by_key_at_every_depth():
    below = {"model": {"init_args": {"a": 1, "b": {"c": 2, "d": 3}}}, "run": {"dir": "x"}}
    above = {"model": {"init_args": {"b": {"d": 4}, "e": 5}}}
    assert merge(below, above) == {"model": {"init_args": {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}}, "run": {"dir": "x"}}


def test_merging_changes_neither_of_its_inputs():
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge(below, above)
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_lists_are_replaced():
    assert merge({"widths": [1, 2, 3]}, {"widths": [4]}) == {"widths": [4]}


def test_rows_of_a_list_are_changed_by_number():
    assert merge({"stages": [{"kimg": 1}, {"kimg": 2}]}, {"stages": {"1": {"kimg": 5}}}) == {
        "stages": [{"kimg": 1}, {"kimg": 5}]
    }


def test_null_replaces_a_value():
    assert merge({"widths": [1]}, {"widths": None}) == {"widths": None}


def test_a_row_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="there is no row 2: the list has rows 0 to 1"):
        merge({"stages": [{}, {}]}, {"stages": {"2": {"kimg": 5}}})


@pytest.mark.parametrize("key", ["data.root", "data.init_args.root"])
def test_short_keys_are_init_args(key):
    assert overrides_as_configuration([(key, "x")]) == {"data": {"init_args": {"root": "x"}}}


def test_keys_of_run_and_trainer_have_no_init_args():
    assert overrides_as_configuration([("trainer.devices", "2"), ("run.dir", "d")]) == {
        "trainer": {"devices": "2"},
        "run": {"dir": "d"},
    }


def test_nested_keys_and_lists_are_understood():
    assert overrides_as_configuration([("model.weights.latent", "5"), ("model.widths", "[64, 32]")]) == {
        "model": {"init_args": {"weights": {"latent": "5"}, "widths": [64, 32]}}
    }


def test_a_section_alone_names_the_class():
    assert overrides_as_configuration([("data", "ImageFolder")]) == {"data": {"class_path": "ImageFolder"}}


def test_the_last_of_equal_keys_wins():
    assert overrides_as_configuration([("run.dir", "a"), ("run.dir", "b")]) == {"run": {"dir": "b"}}


@pytest.mark.parametrize("name", ["here", "here.yaml"])
def test_a_configuration_is_found_here_with_or_without_its_suffix(name, folder):
    (folder / "here.yaml").write_text("run: {}\n")
    assert find_configuration(name).name == "here.yaml"


def test_a_configuration_here_comes_before_a_shipped_one(folder):
    (folder / "trainer").mkdir()
    (folder / "trainer" / "cpu.yaml").write_text("run: {}\n")
    assert not find_configuration("trainer/cpu").is_absolute()


def test_a_shipped_configuration_is_found_by_its_bare_name(folder):
    assert find_configuration("trainer/cpu").is_absolute()


def test_a_missing_configuration_is_answered_with_close_names(folder):
    (folder / "mine.yaml").write_text("run: {}\n")
    with pytest.raises(InputError, match=r"there is no configuration mime.yaml.*did you mean mine.yaml"):
        find_configuration("mime.yaml")


def test_a_class_name_may_stand_for_a_section(folder):
    (folder / "a.yaml").write_text("data: SyntheticFaces\nrun:\n")
    assert read_configuration(folder / "a.yaml") == {"data": {"class_path": "SyntheticFaces"}, "run": {}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model: {class_path: [a\n", r"line 2, column 1: expected"),
        ("a: 1\na: 2\n", "the key a occurs twice"),
        ("modle: {}\n", "unknown section modle: did you mean model?"),
        ("model: {init_arg: {}}\n", "unknown key init_arg"),
        ("model: {init_args: 3}\n", "init_args must be a mapping"),
        ("run: 3\n", "run must be a mapping of options, got 3"),
        ("[1, 2]\n", "must be a mapping with the sections model, data, run, trainer"),
    ],
)
def test_a_wrong_file_is_described_with_its_name(text, sentence, folder):
    (folder / "wrong.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_configuration(folder / "wrong.yaml")
    assert "wrong.yaml" in str(caught.value)
    assert sentence in str(caught.value)


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "wrong.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="is not a text file"):
        read_configuration(folder / "wrong.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("2.5e4", 2.5e4), ("5", 5), ("null", None), ("a: [", "a: [")]
)
def test_numbers_and_words_are_read_as_people_write_them(text, value):
    assert parse_yaml(text) == value


def test_written_yaml_is_read_back_equal():
    content = {"a": {"rate": 1e-05, "widths": [1, 2], "none": None, "yes": True}, "stages": [{"kimg": 0.5}]}
    assert parse_yaml(write_yaml(content)) == content


def test_differences_name_each_value_that_changed():
    before = {"latent_dim": 64, "weights": {"latent": 100.0}, "seed": 0}
    after = {"latent_dim": 32, "weights": {"latent": 50.0}, "seed": 0}
    assert differences(before, after, "model") == [
        "model.latent_dim: 32, was 64",
        "model.weights.latent: 50.0, was 100.0",
    ]


def test_differences_of_rows_name_the_row():
    assert differences({"stages": [{"kimg": 1}, {"kimg": 2}]}, {"stages": [{"kimg": 1}, {"kimg": 3}]}) == [
        "stages.1.kimg: 3, was 2"
    ]


def test_another_number_of_rows_is_one_difference():
    assert differences({"stages": [{}]}, {"stages": [{}, {}]}) == ["stages: 2 rows, was 1"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (1, "1"), (0.0, "0.0"), ([1, None], "[1, null]"), ((), "[]")]
)
def test_values_are_shown_as_yaml_has_them(value, text):
    assert shown(value) == text


def test_long_values_are_cut():
    assert len(shown("x" * 100)) == 60
