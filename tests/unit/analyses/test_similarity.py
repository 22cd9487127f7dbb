"""Similarity of latent spaces: what copies and strangers give, tables, the consensus, files, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from latent_lab.analyses import ANALYSES, Participant, Result, Similarity, write_report
from latent_lab.analyses.similarity import SYMMETRIC
from latent_lab.latent.maps import load_map
from latent_lab.metrics.functional.similarity import permutation_test, similarity_interval
from tests.unit.analyses.linear_spaces import first_half, participant, pictures, plain, second_half, turned

QUICK: dict[str, Any] = {"num_permutations": 20, "num_resamples": 5}
DISTANCES = ("procrustes", "shape_angle")


def run(models: list[Participant], **options: Any) -> Result:
    return Similarity(**(QUICK | options))(models)


@pytest.fixture(scope="module")
def four() -> Result:
    """Two copies of all that there is, and two halves that have nothing in common."""
    return run([plain(), turned(), first_half(), second_half()])


def test_it_is_registered() -> None:
    assert ANALYSES["similarity"] is Similarity


@pytest.mark.parametrize("measure", SYMMETRIC)
def test_a_turned_copy_is_as_alike_as_can_be_and_a_stranger_as_by_chance(four: Result, measure: str) -> None:
    copy, stranger = (four.numbers[f"{pair}/{measure}_200"] for pair in ("plain_and_turned", "first_and_second"))
    # PWCCA weighs coordinates, which a rotation changes, but all correlations are 1; angles are roots of roundings.
    assert copy == pytest.approx(0.0 if measure in DISTANCES else 1.0, abs=1e-3)
    # 200 samples of 3 dimensions: canonical correlations of about sqrt(3 / 200) by chance.
    assert stranger == pytest.approx({"procrustes": 1.0, "shape_angle": 1.571}.get(measure, 0.0), abs=0.15)


def test_numbers_and_intervals_are_those_of_each_pair_alone(four: Result) -> None:
    one, other = plain().codes("held_out", None), first_half().codes("held_out", None)
    for measure in ("cka_debiased", "mutual_neighbours"):
        test = permutation_test(measure, one, other, num_permutations=20)
        interval = similarity_interval(measure, one, other, num_resamples=5)
        name = f"plain_and_first/{measure}_200"
        assert four.numbers[name] == pytest.approx(test.statistic)
        assert four.intervals[name] == pytest.approx((interval.low, interval.high))
        head, *rows = four.tables["p-value (20 shuffles)"]
        row = next(row for row in rows if row[:2] == ("plain", "first"))
        assert row[head.index(measure)] == pytest.approx(test.p_value)


def test_p_values_tell_a_copy_from_a_stranger_and_a_note_names_what_is_no_more_than_chance(four: Result) -> None:
    head, *rows = four.tables["p-value (20 shuffles)"]
    values = {row[:2]: dict(zip(head[2:], row[2:], strict=True)) for row in rows}
    assert set(values["plain", "turned"].values()) == {1 / 21}
    assert values["first", "second"]["cka_debiased"] > 0.05
    assert any("first and second are no more alike than chance" in note for note in four.protocol["notes"])
    assert not any(note.startswith("plain and turned") for note in four.protocol["notes"])


def test_instances_of_a_kind_are_averaged_over_their_pairs(four: Result) -> None:
    head, *rows = four.tables["means over instances"]
    found = {row[:2]: dict(zip(head, row, strict=True)) for row in rows}
    assert {kinds: row["pairs"] for kinds, row in found.items()} == {
        ("Reader", "Reader"): "1",
        ("Reader", "half"): "4",
        ("half", "half"): "1",
    }
    pairs = [f"{one}_and_{other}/rsa_200" for one in ("plain", "turned") for other in ("first", "second")]
    assert found["Reader", "half"]["rsa"] == pytest.approx(sum(four.numbers[pair] for pair in pairs) / 4)
    assert "means over instances" not in run([plain(), first_half()], measures=("cka_linear",)).tables


def test_the_consensus_holds_what_all_have_and_nothing_of_strangers() -> None:
    numbers = run([plain(), turned(), turned("other", seed=3)], measures=("cka_linear",)).numbers
    for name in ("plain", "turned", "other"):
        assert numbers[f"{name}/consensus_share_200"] == pytest.approx(1.0, abs=1e-6)
        assert numbers[f"{name}/consensus_share_of_others_200"] == pytest.approx(1.0, abs=1e-6)
    strangers = [
        participant(str(n), plain().model, "stranger", pictures(200, 10 + n), pictures(400, 20 + n)) for n in range(3)
    ]
    numbers = run(strangers, measures=("cka_linear",)).numbers
    for name in "012":
        assert numbers[f"{name}/consensus_share_200"] == pytest.approx(1 / 3, abs=0.1)
        assert numbers[f"{name}/consensus_share_of_others_200"] < 0.05


def test_maps_to_the_consensus_are_kept_and_lead_copies_to_one_place(tmp_path: Path) -> None:
    models = [plain(), turned(), turned("other", seed=3)]
    result = run(models, measures=("cka_linear",))
    write_report(result, tmp_path)
    mapped = []
    for one in models:
        fitted, facts = load_map(tmp_path / f"consensus_{one.name}.safetensors")
        assert facts == {"map": "consensus", "source": one.name}
        mapped.append(fitted(one.codes("held_out", None).double()))
    torch.testing.assert_close(mapped[0], mapped[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(mapped[0], mapped[2], rtol=0, atol=1e-4)
    assert "intervals from random halves" in (tmp_path / "report.md").read_text()


def test_a_lack_of_training_images_is_noted() -> None:
    alone = pictures(50, 4)
    models = [participant(name, plain().model, "", alone, alone) for name in "abc"]
    notes = run(models, measures=("cka_linear",)).protocol["notes"]
    assert any("judged by those it was fitted to" in note for note in notes)


def test_figures_are_heat_maps_of_several_and_one_diagram_of_two(four: Result) -> None:
    assert set(four.pictures) == {"cka_debiased", "cka_debiased_of_kinds", "similarity", "consensus"}
    assert set(run([plain(), first_half()], measures=("rsa",)).pictures) == {"similarity"}


def test_spaces_wider_than_the_images_are_many_are_left_out_where_that_says_nothing() -> None:
    few = pictures(6, 4)
    models = [participant("wide", plain().model, "", few, few), participant("narrow", first_half().model, "", few, few)]
    result = run(models, measures=("cca", "cka_debiased"))
    assert set(result.numbers) == {"wide_and_narrow/cka_debiased_6"}
    assert any(
        note.startswith("cca needs more images than dimensions") and note.endswith("wide left out")
        for note in result.protocol["notes"]
    )
    assert any("6 images are few for the 6 dimensions of wide" in note for note in result.protocol["notes"])


def test_a_measure_for_which_all_spaces_are_too_wide_is_left_out() -> None:
    few = pictures(6, 4)
    models = [participant(name, plain().model, "", few, few) for name in ("one", "other")]
    result = run(models, measures=("cca", "cka_debiased"))
    assert set(result.numbers) == {"one_and_other/cka_debiased_6"}
    assert any(note.endswith("there are 6 images: one, other left out") for note in result.protocol["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ("cosine",)}, "there is no similarity cosine: there are cka_linear"),
        ({"measures": ("regression_share",)}, "there is no similarity regression_share"),
        ({"num_resamples": 1}, "num_resamples of at least 2, or 0"),
        ({"num_permutations": 1}, "num_permutations of at least 2, got 1"),
        ({"level": 1.0}, "level between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Similarity(**options)


def test_it_takes_two_models_and_four_images() -> None:
    with pytest.raises(ValueError, match="similarity takes at least 2 models, got 1"):
        run([plain()])
    few = pictures(3, 4)
    with pytest.raises(ValueError, match="at least 4 images, got 3"):
        run([participant("a", plain().model, "", few), participant("b", plain().model, "", few)])
