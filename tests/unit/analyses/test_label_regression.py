"""Training of the network that estimates labels."""

from __future__ import annotations

import pytest
import torch

from latent_lab.analyses.label_regression import (
    RegressorTraining,
    all_labels,
    are_binary,
    measure_quality,
    train_regressor,
)
from tests.unit.analyses.labelled import DIM, Painted

QUICK = RegressorTraining(kimg=4, shift=0.0)


def painted(count: int, seed: int, name: str) -> Painted:
    """`tone` between 10 and 20 and `lit` can be seen, `luck` cannot; every fifth `lit` is unknown."""
    rng = torch.Generator().manual_seed(seed)
    latents = 1.6 * torch.rand(count, DIM, generator=rng) - 0.8
    lit = (latents[:, 1] > 0).float()
    lit[::5] = torch.nan
    labels = {"tone": 15 + 5 * latents[:, 0], "lit": lit, "luck": torch.randn(count, generator=rng)}
    labels |= {"identity": torch.arange(float(count)), "fixed": torch.ones(count)}
    return Painted(latents, labels, name)


@pytest.fixture(scope="module")
def trained():
    return train_regressor(painted(400, 0, "train"), painted(200, 1, "val"), 8, QUICK)


def test_what_can_be_seen_is_estimated_in_its_own_units(trained) -> None:
    assert trained.facts["quality"]["tone"]["r2"] > 0.9
    assert trained.facts["quality"]["lit"]["auc"] > 0.95
    estimates = trained(painted(200, 1, "val").batch(range(200), 8).images)
    assert estimates[:, 0].mean().item() == pytest.approx(15, abs=1)
    assert estimates[:, 1].min() >= 0
    assert estimates[:, 1].max() <= 1


def test_what_cannot_be_seen_is_known_to_be_poor(trained) -> None:
    assert trained.facts["quality"]["luck"]["r2"] < 0.3
    assert trained.reliable == ("tone", "lit")


def test_unknown_labels_count_neither_in_training_nor_in_quality(trained) -> None:
    assert trained.facts["quality"]["lit"]["count"] == 160
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


def test_numbers_of_persons_and_constants_are_left_out_unless_asked_for(trained) -> None:
    assert trained.names == ("tone", "lit", "luck")
    source = painted(50, 0, "train")
    asked = train_regressor(source, source, 8, RegressorTraining(labels=("identity tone",), kimg=0.1))
    assert asked.names == ("tone", "identity")


def test_the_file_says_how_it_was_made(trained) -> None:
    facts = trained.facts
    assert (facts["data"]["hash"], facts["held_out"]["hash"]) == ("train", "val")
    assert facts["training"]["kimg"] == 4
    assert not trained.training


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_random_state_alone() -> None:
    source, few = painted(50, 0, "train"), RegressorTraining(kimg=0.3, shift=0.2, soften=True)
    before = torch.get_rng_state()
    one, two = (train_regressor(source, source, 8, few).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    other = train_regressor(source, source, 8, RegressorTraining(kimg=0.3, shift=0.2, soften=True, seed=1)).state_dict()
    assert not torch.equal(one["dense.weight"], other["dense.weight"])


def test_progress_is_told_after_every_step() -> None:
    source, told = painted(50, 0, "train"), []
    train_regressor(source, source, 8, RegressorTraining(kimg=0.32), report=lambda images, loss: told.append(images))
    assert told == list(range(32, 321, 32))


def test_labels_that_a_source_lacks_have_no_quality() -> None:
    source = painted(50, 0, "train")
    regressor = train_regressor(source, source, 8, RegressorTraining(kimg=0.1))
    source.labels["lit"] = torch.ones(50)
    assert measure_quality(regressor, source)["lit"] == {"count": 50}


def test_a_column_is_binary_if_its_known_entries_are() -> None:
    columns = torch.tensor([[0.0, 0.5, torch.nan], [1.0, 1.0, 0.0]])
    assert are_binary(columns).tolist() == [True, False, True]


def test_all_labels_are_read_in_order() -> None:
    source = painted(1100, 0, "train")
    assert torch.equal(all_labels(source)[:, 3], torch.arange(1100.0))


def test_sources_that_teach_nothing_are_refused() -> None:
    source = painted(20, 0, "train")
    with pytest.raises(ValueError, match="have no label smile: there are tone"):
        train_regressor(source, source, 8, RegressorTraining(labels=("smile",)))
    with pytest.raises(ValueError, match="label fixed is the same for all"):
        train_regressor(source, source, 8, RegressorTraining(labels=("fixed",)))
    with pytest.raises(ValueError, match="have no labels"):
        train_regressor(Painted(torch.zeros(2, DIM), {}), source, 8, QUICK)
    with pytest.raises(ValueError, match="kimg must be positive"):
        RegressorTraining(kimg=0)
    with pytest.raises(ValueError, match="at least 2 for batch norm"):
        RegressorTraining(batch_size=1)
