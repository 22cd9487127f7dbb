"""Progress: loops report what they have done, and nothing happens where nobody listens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from latent_lab.analyses.feeding import batches
from latent_lab.metrics.functional import (
    frechet_infinity,
    frechet_interval,
    inception_score_interval,
    kernel_distance,
    manifold_indicators,
    mean_interval,
    sliced_wasserstein_interval,
)
from latent_lab.metrics.functional.neighbours import nearest
from latent_lab.progress import Task, one_by_one, phase, shown_by, tracked


@dataclass
class Listener:
    heard: list[tuple[str, int, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def update(self, task: Task) -> None:
        self.heard.append((task.what, task.done, task.total))

    def end(self, task: Task) -> None:
        self.ended.append(task.what)


def test_a_display_hears_of_every_piece_when_it_is_done() -> None:
    listener = Listener()
    with shown_by(listener):
        assert list(batches(range(5), 2, "faces")) == [range(0, 2), range(2, 4), range(4, 5)]
    assert listener.heard == [("faces", 2, 5), ("faces", 4, 5), ("faces", 5, 5)]
    assert listener.ended == ["faces"]


def test_loops_take_the_name_of_the_phase_that_they_begin_in() -> None:
    listener = Listener()

    @phase("samples")
    def draw() -> None:
        list(batches(range(1), 1))

    with shown_by(listener), phase("evaluate"):
        draw()
        list(batches(range(1), 1))
    assert [what for what, _, _ in listener.heard] == ["samples", "evaluate"]


def test_a_loop_that_is_left_early_is_over() -> None:
    listener = Listener()
    with shown_by(listener), contextlib.suppress(KeyError), contextlib.closing(tracked([[1], [2]], 2)) as pieces:
        for _ in pieces:
            raise KeyError
    assert (listener.heard, listener.ended) == ([], ["working"])


def test_nothing_is_heard_outside_of_a_display() -> None:
    listener = Listener()
    with shown_by(listener):
        pass
    assert list(batches(range(3), 2)) == [range(0, 2), range(2, 3)]
    assert listener.heard == []


def test_the_time_left_is_that_of_the_pace_so_far() -> None:
    assert Task("x", total=10, done=4, started=100.0).seconds_left(108.0) == pytest.approx(12.0)
    assert Task("x", total=10, started=0.0).seconds_left(5.0) == float("inf")


def test_items_are_steps_whatever_their_length() -> None:
    listener = Listener()
    with shown_by(listener):
        assert list(one_by_one(["a", "long one"], "words")) == ["a", "long one"]
    assert listener.heard == [("words", 1, 2), ("words", 2, 2)]


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (lambda: frechet_interval(noise(9, 0), noise(8, 1), num_resamples=5), "resamples for an interval"),
        (lambda: mean_interval(noise(9, 0)[:, 0], num_resamples=5), "resamples for an interval"),
        (lambda: inception_score_interval(noise(9, 0), splits=2, num_resamples=5), "resamples for an interval"),
        (
            lambda: sliced_wasserstein_interval(*torch.rand(2, 2, 3, 16, 16), num_resamples=5),
            "resamples for an interval",
        ),
        (lambda: frechet_infinity(noise(9, 0), noise(20, 1), num_points=5), "distances of subsets"),
        (lambda: nearest(noise(10, 0), noise(8, 1), 1, block=2), "nearest neighbours"),
        (lambda: manifold_indicators(noise(8, 0), noise(10, 1), block=2), "balls of the other set"),
        (lambda: kernel_distance(noise(20, 0), noise(20, 1), full_up_to=10, subset_size=4), "distances of subsets"),
    ],
)
def test_metrics_that_take_long_tell_how_far_they_are(work: Callable[[], object], what: str) -> None:
    listener = Listener()
    with shown_by(listener):
        work()
    assert [heard for heard in listener.heard if heard[0] == what] == [(what, done, 5) for done in range(1, 6)]
