"""The buffer of earlier samples, alone and in the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.pioneer import Pioneer
from latent_lab.models.sample_buffer import SampleBuffer


def pictures(*numbers: float, resolution: int = 1) -> Tensor:
    return torch.tensor(numbers)[:, None, None, None].expand(-1, 1, resolution, resolution).clone()


def exchange(buffer: SampleBuffer, new: Tensor, swap: list[bool], slot: list[int]) -> list[float]:
    return buffer.exchange(new, torch.tensor(swap), torch.tensor(slot)).flatten().tolist()


def contents(buffer: SampleBuffer) -> list[float]:
    return [image.item() for image in buffer.images]


def full(capacity: int = 3) -> SampleBuffer:
    buffer = SampleBuffer(capacity)
    exchange(buffer, pictures(*map(float, range(capacity))), [True] * capacity, [0] * capacity)
    return buffer


def test_while_there_is_room_images_are_stored_and_returned() -> None:
    buffer = SampleBuffer(3)
    assert exchange(buffer, pictures(0.0, 1.0), [True, True], [1, 0]) == [0.0, 1.0]
    assert contents(buffer) == [0.0, 1.0]


def test_a_full_buffer_returns_an_old_image_for_each_that_it_takes() -> None:
    buffer = full()
    assert exchange(buffer, pictures(8.0, 9.0), [True, True], [2, 0]) == [2.0, 0.0]
    assert contents(buffer) == [9.0, 1.0, 8.0]


def test_a_full_buffer_leaves_the_others_alone() -> None:
    buffer = full()
    assert exchange(buffer, pictures(8.0, 9.0), [False, False], [2, 0]) == [8.0, 9.0]
    assert contents(buffer) == [0.0, 1.0, 2.0]


def test_images_of_a_batch_are_handled_one_after_another() -> None:
    buffer = full()
    assert exchange(buffer, pictures(8.0, 9.0), [True, True], [1, 1]) == [1.0, 8.0]
    assert contents(buffer) == [0.0, 9.0, 2.0]


def test_a_buffer_can_fill_up_in_the_middle_of_a_batch() -> None:
    buffer = SampleBuffer(1)
    assert exchange(buffer, pictures(0.0, 1.0), [True, True], [0, 0]) == [0.0, 0.0]
    assert contents(buffer) == [1.0]


def test_a_buffer_without_capacity_returns_its_input() -> None:
    new = pictures(1.0, 2.0)
    buffer = SampleBuffer(0)
    assert buffer.exchange(new, torch.tensor([True, True]), torch.tensor([0, 0])) is new
    assert buffer.images == []


def test_stored_images_do_not_follow_changes_of_the_batch() -> None:
    buffer, new = SampleBuffer(2), pictures(1.0, 2.0)
    buffer.exchange(new, torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64))
    new += 10
    assert contents(buffer) == [1.0, 2.0]
    exchange(buffer, new, [True, False], [1, 0])
    new += 10
    assert contents(buffer) == [1.0, 11.0]


def test_state_round_trip() -> None:
    buffer, restored = full(), SampleBuffer(3)
    restored.restore(buffer.state())
    arguments = ([True, True], [2, 0])
    assert exchange(restored, pictures(8.0, 9.0), *arguments) == exchange(buffer, pictures(8.0, 9.0), *arguments)
    assert contents(restored) == contents(buffer)


def test_an_empty_buffer_has_an_empty_state() -> None:
    buffer = full()
    buffer.clear()
    assert buffer.state() is None
    restored = full()
    restored.restore(None)
    assert restored.images == []


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must not be negative, got -1"):
        SampleBuffer(-1)


# In the model


def model(**options: object) -> Pioneer:
    schedule = GrowthSchedule(
        [
            Stage(4, 1.0, 4, fade_kimg=0.5),
            Stage(4, 1.0, 4, margin=0.1),
            Stage(8, 1.0, 4, fade_kimg=0.5),
        ]
    )
    return Pioneer(schedule, latent_dim=4, sample_buffer=4, **options)


def recall(pioneer: Pioneer, images_seen: int, *numbers: float) -> list[float]:
    pioneer.images_seen = images_seen
    now = pioneer.now
    return pioneer.recall(pictures(*numbers, resolution=now.resolution), now)[:, 0, 0, 0].tolist()


def test_the_buffer_waits_until_a_resolution_has_faded_in() -> None:
    pioneer = model()
    recall(pioneer, 400, 1.0, 2.0)
    assert pioneer.recall.buffer.images == []
    recall(pioneer, 500, 1.0, 2.0)
    assert len(pioneer.recall.buffer.images) == 2


def test_the_buffer_is_emptied_when_a_new_resolution_begins() -> None:
    pioneer = model()
    recall(pioneer, 600, 1.0, 2.0)
    recall(pioneer, 2000, 3.0, 4.0)
    assert pioneer.recall.buffer.images == []


@pytest.mark.parametrize(("restarts", "kept"), [(False, 4), (True, 2)])
def test_a_row_that_changes_the_margin_alone_empties_the_buffer_only_on_demand(restarts: bool, kept: int) -> None:
    pioneer = model(buffer_restarts_with_stage=restarts)
    recall(pioneer, 600, 1.0, 2.0)
    recall(pioneer, 1000, 3.0, 4.0)
    assert len(pioneer.recall.buffer.images) == kept


def test_about_half_of_the_samples_are_exchanged_from_every_slot() -> None:
    pioneer = model()
    recall(pioneer, 500, 0.0, 0.0, 0.0, 0.0)
    exchanged = 0
    for step in range(100):
        new = [float(step)] * 4
        exchanged += sum(value != step for value in recall(pioneer, 504 + 4 * step, *new))
    # An image may also come back within its own batch; 400 draws of one half have a standard deviation of 10.
    assert 120 < exchanged < 250


def test_draws_depend_on_the_position_alone() -> None:
    first, second = model(), model()
    recall(first, 500, 1.0, 2.0, 3.0, 4.0)
    recall(second, 500, 1.0, 2.0)
    recall(second, 502, 3.0, 4.0)
    batch = [5.0, 6.0, 7.0, 8.0]
    assert recall(first, 504, *batch) == recall(second, 504, *batch[:2]) + recall(second, 506, *batch[2:])


def test_large_images_have_a_smaller_buffer() -> None:
    pioneer = Pioneer(GrowthSchedule([Stage(256, 1.0, 4)]), latent_dim=2, sample_buffer_large=1)
    pioneer.recall(torch.zeros(2, 3, 256, 256), pioneer.now)
    assert len(pioneer.recall.buffer.images) == 1


def test_the_buffer_survives_a_checkpoint() -> None:
    pioneer = model()
    recall(pioneer, 600, 1.0, 2.0, 3.0, 4.0)
    checkpoint: dict = {}
    pioneer.on_save_checkpoint(checkpoint)
    restored = model()
    restored.on_load_checkpoint(checkpoint)
    new = [5.0, 6.0, 7.0, 8.0]
    assert recall(restored, 604, *new) == recall(pioneer, 604, *new)
