from __future__ import annotations

import pytest

from latent_lab.cli.arguments import Option, parse
from latent_lab.cli.errors import InputError

OPTIONS = [
    Option("out", "", "DIR"),
    Option("config", "", "FILE", repeated=True),
    Option("max-kimg", "", "N", key="run.max_kimg"),
    Option("dry-run", ""),
    Option("download", "", "true|false"),
]


def parsed(*words):
    return parse(words, OPTIONS, ("model", "run"), "fit")


@pytest.mark.parametrize("words", [["--out", "x"], ["--out=x"]])
def test_a_value_follows_a_blank_or_an_equals_sign(words):
    assert parsed(*words).options == {"out": "x"}


def test_underscores_and_hyphens_in_flags_are_the_same():
    assert parsed("--dry_run").options == {"dry-run": True}


def test_a_repeated_flag_collects_its_values_in_order():
    assert parsed("--config", "a", "--config=b").options == {"config": ["a", "b"]}


def test_a_dotted_key_is_an_override():
    assert parsed("--model.weights.latent", "50", "--run.dir=x").overrides == [
        ("model.weights.latent", "50"),
        ("run.dir", "x"),
    ]


def test_a_section_alone_overrides_its_class():
    assert parsed("--model", "Pioneer").overrides == [("model", "Pioneer")]


def test_a_short_spelling_is_an_override_of_its_key():
    assert parsed("--max-kimg", "3").overrides == [("run.max_kimg", "3")]


def test_a_key_without_a_value_is_true():
    assert parsed("--model.compile", "--dry-run").overrides == [("model.compile", True)]


def test_a_yes_or_no_flag_may_stand_alone():
    assert parsed("--download").options == {"download": "true"}


def test_a_negative_number_is_a_value():
    assert parsed("--model.seed", "-1").overrides == [("model.seed", "-1")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ouf", "x"], "fit has no option --ouf: did you mean --out?"),
        (["--dat.root", "x"], "fit has no option --dat.root: keys begin with --model., --run."),
        (["-o", "x"], "fit has no option -o: options begin with two dashes"),
        (["--out"], "--out needs a value: --out DIR"),
        (["--dry-run=1"], "--dry-run is a switch and takes no value, got '1': write --dry-run alone"),
    ],
)
def test_a_wrong_flag_is_named(words, sentence):
    with pytest.raises(InputError) as caught:
        parsed(*words)
    assert str(caught.value) == sentence
