"""Indexed randomness and, in a single process, the gathering functions. Several processes: tests/ddp/test_gather.py."""

from __future__ import annotations

import pytest
import torch

from latent_lab import distributed
from latent_lab.distributed import IndexedRandom

FROZEN = [[0.027190744876861572, 0.0858687162399292], [0.5480793714523315, 0.2359510064125061]]


def test_the_same_triple_gives_the_same_numbers() -> None:
    first, second = (IndexedRandom(3, "train/encoder").normal(range(10, 14), 8) for _ in range(2))
    assert torch.equal(first, second)


def test_numbers_do_not_change_between_versions_of_this_package() -> None:
    # Frozen: checkpoints and published numbers depend on them. torch's Mersenne twister is the same on every machine.
    drawn = IndexedRandom(0, "train/encoder").uniform(range(2), 2)
    assert drawn.tolist() == FROZEN


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_row_does_not_depend_on_what_it_is_drawn_with(kind: str) -> None:
    draw = getattr(IndexedRandom(7, "test"), kind)
    whole = draw(range(100, 108), 5)
    halves = torch.cat([draw(range(100, 103), 5), draw(range(103, 108), 5)])
    alone = draw(range(106, 107), 5)
    assert torch.equal(whole, halves)
    assert torch.equal(whole[6:7], alone)


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    IndexedRandom(5, "test").normal(range(10), 3)
    assert torch.equal(torch.rand(3), expected)


def test_the_global_seed_does_not_matter() -> None:
    torch.manual_seed(1)
    first = IndexedRandom(0, "test").normal(range(4), 4)
    torch.manual_seed(2)
    assert torch.equal(IndexedRandom(0, "test").normal(range(4), 4), first)


@pytest.mark.parametrize(
    "other",
    [IndexedRandom(1, "a"), IndexedRandom(0, "b"), IndexedRandom(0, "a/0"), IndexedRandom(10, "a")],
    ids=["seed", "stream", "substream", "longer seed"],
)
def test_another_seed_or_stream_gives_other_numbers(other: IndexedRandom) -> None:
    count = 4000
    mine, theirs = IndexedRandom(0, "a").normal(range(count), 1), other.normal(range(count), 1)
    correlation = (mine * theirs).mean().item()
    # Five standard deviations of the mean of products of independent normals.
    assert abs(correlation) < 5 / count**0.5


@pytest.mark.parametrize("shift", [1, 2, 64])
def test_neighbouring_indices_are_not_correlated(shift: int) -> None:
    count = 4000
    rows = IndexedRandom(0, "test").normal(range(count + shift), 2)
    mean_product = (rows[:-shift] * rows[shift:]).mean(0)
    assert mean_product.abs().max() < 5 / count**0.5


def test_no_two_of_many_neighbouring_rows_are_equal() -> None:
    rows = IndexedRandom(0, "test").uniform(range(5000), 1).flatten()
    # float32 uniforms have 2^24 values: about 0.75 chance pairs among 5000, equal neighbours would give thousands.
    assert len(rows.unique()) > 4990


def test_normals_are_standard() -> None:
    rows = IndexedRandom(0, "test").normal(range(4000), 5)
    # 20,000 numbers: standard errors 0.007 of the mean, 0.01 of the variance and 0.035 of the fourth moment.
    assert rows.mean().item() == pytest.approx(0, abs=0.035)
    assert rows.var().item() == pytest.approx(1, abs=0.05)
    assert rows.pow(4).mean().item() == pytest.approx(3, abs=0.35)
    assert torch.corrcoef(rows.T).fill_diagonal_(0).abs().max() < 5 / 4000**0.5


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    rows = IndexedRandom(0, "test").uniform(range(5000), 2)
    assert rows.min() >= 0
    assert rows.max() < 1
    counts = torch.histc(rows, 10, 0.0, 1.0)
    # Chi-squared with 9 degrees of freedom exceeds 33 once in 10,000.
    assert ((counts - 1000) ** 2 / 1000).sum() < 33


def test_indices_far_apart_fit_into_a_seed() -> None:
    random = IndexedRandom(2**62, "test")
    assert random.normal(range(2**40, 2**40 + 2), 3).shape == (2, 3)


def test_one_process_gathers_itself() -> None:
    local = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(distributed.gather(local), local)
    assert (distributed.world_size(), distributed.rank()) == (1, 0)
    assert torch.equal(distributed.mean_over_ranks(local), local)
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)


def test_ragged_gathering_sorts_by_index_and_keeps_the_first_of_duplicates() -> None:
    rows = torch.tensor([[3.0], [1.0], [2.0], [1.5]])
    gathered, index = distributed.gather_ragged(rows, torch.tensor([30, 10, 20, 10]))
    assert index.tolist() == [10, 20, 30]
    assert gathered.flatten().tolist() == [1.0, 2.0, 3.0]


def test_ragged_gathering_of_nothing_is_empty() -> None:
    gathered, index = distributed.gather_ragged(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert gathered.shape == (0, 4)
    assert index.shape == (0,)
