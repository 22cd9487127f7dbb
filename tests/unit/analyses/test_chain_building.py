"""The greedy search for a chain, with a scripted trainer in the place of networks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.analyses.chain_building import (
    LEDGER,
    Candidate,
    ChainBuilder,
    ChainOptions,
    Ledger,
    difference_of_errors,
    read_ledger,
    score_of,
)

AGES = ("15", "25", "35", "45", "55", "65")
TARGETS = [15.0, 25.0, 35.0, 45.0, 55.0, 65.0]
RULES = "abbbc"
"""Of each step; the middle three follow one rule."""


class Killed(Exception):
    """As if the process had ended."""


@dataclass
class World:
    """Trainings that succeed if they learn one rule only: of two rules, the last one is made and the first is lost."""

    rules: str = RULES
    killed_in: str | None = None
    """Name of a training that does not come to its end."""
    learned: dict[str, Candidate] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def train(self, candidate: Candidate) -> Mapping[str, Any]:
        self.order.append(candidate.name)
        if candidate.name == self.killed_in:
            raise Killed
        self.learned[candidate.name] = candidate
        return {"checkpoint": f"{candidate.name}.ckpt", "sha256": candidate.name}

    def years(self, name: str, step: int) -> float:
        """By which a translator ages what is at the beginning of a step."""
        candidate = self.learned[name]
        known = {self.rules[AGES.index(domain)] for domain in candidate.domains[:-1]}
        if self.rules[step] not in known:
            return 0.0
        return 10.0 if len(known) == 1 else 6.0

    def estimate(self, translators: Sequence[str], first: int) -> Tensor:
        years = sum(self.years(name, first + place) for place, name in enumerate(translators))
        people = torch.linspace(-2.0, 2.0, 41)
        return people + TARGETS[first] + years


def builder_of(world: World, folder: Path, **options: Any) -> ChainBuilder:
    ledger = read_ledger(folder) if (folder / LEDGER).is_file() else Ledger(folder, {}, AGES)
    return ChainBuilder(ledger, ChainOptions(**options), TARGETS, world.train, world.estimate)


@pytest.mark.parametrize("rehearse", ["all", "last"])
def test_three_steps_of_one_rule_get_one_translator(tmp_path: Path, rehearse: Any):
    world = World()
    builder = builder_of(world, tmp_path, rehearse=rehearse)
    builder.build()
    assert builder.ledger.structure == "1+3+1"
    assert builder.ledger.chain == [
        "step1_specialised",
        *["step4_reused"] * 3,
        "step5_specialised",
    ]
    assert [decision["kept"] for decision in builder.ledger.decisions] == [
        "specialised",
        "specialised",
        "reused",
        "reused",
        "specialised",
    ]


def test_as_many_trainings_as_the_publication_counts(tmp_path: Path):
    world = World()
    builder_of(world, tmp_path).build()
    # 2 (N - 2) + 1 for N domains.
    assert len(world.order) == len(set(world.order)) == 9


def test_what_is_rehearsed_is_everything_that_is_served_or_the_last_step(tmp_path: Path):
    seen = {}
    for rehearse in ("all", "last"):
        world = World()
        builder_of(world, tmp_path / rehearse, rehearse=rehearse).build()
        seen[rehearse] = {name: "-".join(one.domains) for name, one in world.learned.items() if one.kind == "reused"}
    assert seen["all"] == {
        "step2_reused": "15-25-35",
        "step3_reused": "25-35-45",
        "step4_reused": "25-35-45-55",
        "step5_reused": "25-35-45-55-65",
    }
    assert seen["last"]["step4_reused"] == "35-45-55"
    assert seen["last"]["step5_reused"] == "45-55-65"


def test_a_reused_translator_begins_where_the_last_kept_one_ended(tmp_path: Path):
    world = World()
    builder_of(world, tmp_path).build()
    parents = {name: one.parent for name, one in world.learned.items() if one.kind == "reused"}
    assert parents == {
        "step2_reused": "step1_specialised",
        "step3_reused": "step2_specialised",
        "step4_reused": "step3_reused",
        "step5_reused": "step4_reused",
    }


@pytest.mark.parametrize("killed_in", ["step1_specialised", "step3_reused", "step5_specialised"])
def test_after_a_kill_nothing_finished_is_done_again_and_the_end_is_the_same(tmp_path: Path, killed_in: str):
    whole = builder_of(World(), tmp_path / "whole")
    whole.build()
    world = World(killed_in=killed_in)
    with pytest.raises(Killed):
        builder_of(world, tmp_path / "killed").build()
    before = list(world.order)
    world.killed_in = None
    builder_of(world, tmp_path / "killed").build()
    # The training that was killed is asked for again, no other.
    assert world.order == [*before, killed_in, *world.order[len(before) + 1 :]]
    assert len(world.order) == 10
    one, other = ((tmp_path / name / LEDGER).read_text() for name in ("whole", "killed"))
    assert json.loads(one) == json.loads(other)


def test_a_finished_chain_trains_nothing(tmp_path: Path):
    world = World()
    builder_of(world, tmp_path).build()
    world.order.clear()
    builder_of(world, tmp_path).build()
    assert world.order == []
    assert read_ledger(tmp_path).complete


def test_one_rule_throughout_needs_one_translator(tmp_path: Path):
    builder = builder_of(World(rules="aaaaa"), tmp_path)
    builder.build()
    assert builder.ledger.structure == "5"


def test_rules_of_their_own_need_translators_of_their_own(tmp_path: Path):
    builder = builder_of(World(rules="abcde"), tmp_path)
    builder.build()
    assert builder.ledger.structure == "1+1+1+1+1"


def test_a_wide_tolerance_forgives_what_a_narrow_one_does_not(tmp_path: Path):
    # Two rules at once are made by 4 years too little.
    builder = builder_of(World(), tmp_path, tolerance=4.5)
    builder.build()
    assert builder.ledger.structure == "5"


def test_an_old_step_that_is_forgotten_costs_the_reused_translator_its_place(tmp_path: Path):
    class Forgetful(World):
        def years(self, name: str, step: int) -> float:
            candidate = self.learned[name]
            new = candidate.kind == "specialised" or step == candidate.step
            return 10.0 if new else 4.0

    builder = builder_of(Forgetful(rules="aaaaa"), tmp_path)
    builder.build()
    assert builder.ledger.structure == "1+1+1+1+1"
    decision = builder.ledger.decisions[1]
    assert decision["difference"]["real"]["value"] == pytest.approx(0.0)
    assert [one["passed"] for one in decision["old_steps"]] == [False]
    assert "has forgotten 15 to 25 (error 6.00, was 0.00)" in decision["reason"]


def test_both_inputs_are_measured_and_the_chosen_one_decides(tmp_path: Path):
    class LosesOnItsOwnOutput(World):
        """A re-used translator is perfect on real images and poor on translations."""

        def estimate(self, translators: Sequence[str], first: int) -> Tensor:
            lost = 5.0 if len(translators) > 1 and translators[-1].endswith("reused") else 0.0
            return super().estimate(translators, first) - lost

    chosen = {}
    for inputs in ("real", "chain"):
        builder = builder_of(LosesOnItsOwnOutput(rules="aaaaa"), tmp_path / inputs, decide_on=inputs)
        builder.build()
        chosen[inputs] = builder.ledger.structure
        found = builder.ledger.decisions[1]
        assert found["reused"]["real"]["error"] == pytest.approx(0.0, abs=1e-6)
        assert found["reused"]["chain"]["error"] == pytest.approx(5.0, abs=1e-6)
    assert chosen == {"real": "5", "chain": "1+1+1+1+1"}


def test_every_decision_states_its_numbers(tmp_path: Path):
    builder = builder_of(World(), tmp_path)
    builder.build()
    second = read_ledger(tmp_path).decisions[1]
    assert (second["from"], second["to"]) == ("25", "35")
    assert second["tolerance"] == 1.0
    for kind in ("specialised", "reused"):
        score = second[kind]["real"]
        assert score["num"] == 41
        assert score["mean_interval"][0] <= score["mean"] <= score["mean_interval"][1]
        assert score["error_interval"][0] <= score["error"] <= score["error_interval"][1]
    assert "re-used error 4.00, specialised 0.00 years (difference +4.00" in second["reason"]
    assert second["clear"] is True


def test_a_score_is_mean_and_deviation_over_the_images():
    score = score_of(torch.tensor([30.0, 34.0]), 35.0, ChainOptions())
    assert (score.mean, score.deviation, score.error) == (32.0, 2.0, 3.0)


def test_an_error_whose_mean_may_be_the_target_may_be_none():
    ages = torch.linspace(30.0, 41.0, 40)
    low, high = score_of(ages, 35.0, ChainOptions()).error_interval
    assert low == 0.0
    assert 0.5 < high < 3.0
    # Far off, the interval is the mean's, measured from the target.
    score = score_of(ages, 60.0, ChainOptions())
    assert score.error_interval == pytest.approx([60.0 - end for end in reversed(score.mean_interval)])


def test_intervals_of_a_difference_are_paired():
    # The same people: what they share does not widen the interval.
    people = torch.linspace(-20.0, 0.0, 50)
    value, (low, high) = difference_of_errors(people + 29.0, people + 30.0, 35.0, ChainOptions())
    assert value == pytest.approx(1.0, abs=1e-4)
    assert high - low < 1e-3


def test_a_folder_without_a_ledger_and_a_damaged_one_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"is no chain, it has no ledger\.json: name a folder"):
        read_ledger(tmp_path)
    (tmp_path / LEDGER).write_text('{"format": ')
    with pytest.raises(ValueError, match=r"ledger\.json is damaged: restore it"):
        read_ledger(tmp_path)
    (tmp_path / LEDGER).write_text('{"format": "of another program"}')
    with pytest.raises(ValueError, match="has the format of another program, this latent-lab reads"):
        read_ledger(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"tolerance": -1.0}, "tolerance must not be negative, got -1.0 years"), ({"num": 1}, "num and num_resamples")],
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ChainOptions(**options)
