from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch

from latent_lab.data.sampling import (
    EvaluationImages,
    EvaluationSampler,
    GrowingImages,
    GrowthSampler,
    ShuffledStream,
)
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.types import ImageBatch

GROWING = GrowthSchedule([Stage(4, 0.1, 20), Stage(8, 0.1, 10)])


class Numbered:
    """A source whose image i is filled with i, brighter to the right."""

    label_names = ("number",)
    recipe: ClassVar = {"hash": "none"}

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices, resolution) -> ImageBatch:
        index = torch.tensor(indices)
        images = index[:, None, None, None] + torch.linspace(0, 0.5, resolution).expand(1, 3, resolution, resolution)
        return ImageBatch(images, index, index[:, None].float(), torch.eye(4).repeat(len(index), 1, 1))


def taken(requests) -> list[tuple[int, int, int, bool]]:
    """(position, resolution, image, mirrored) of everything that was requested."""
    return [
        (position, request.resolution, int(index), bool(mirrored))
        for request in requests
        for position, index, mirrored in zip(request.positions, request.indices, request.mirrored, strict=True)
    ]


def sampler(start=0, **options) -> GrowthSampler:
    settings = {"seed": 1, "mirror": True, "epoch_images": 70, "max_images": 300, **options}
    return GrowthSampler(GROWING, 33, start, **settings)


def whole_run(**options) -> list[tuple[int, int, int, bool]]:
    """Everything that a model sees that trains epoch by epoch to the end."""
    seen, rows = 0, []
    while seen < 300:
        for request in sampler(seen, **options):
            rows += taken([request])
            seen += GROWING.at(seen).batch_size
    return rows


def test_each_epoch_of_the_stream_shows_every_image_once():
    stream = ShuffledStream(10, seed=0, mirror=False)
    for epoch in range(3):
        assert sorted(stream.at(range(10 * epoch, 10 * epoch + 10))[0]) == list(range(10))


def test_two_epochs_and_two_seeds_have_different_orders():
    orders = [
        ShuffledStream(50, seed=seed, mirror=False).at(range(50 * e, 50 * e + 50))[0] for seed in (0, 1) for e in (0, 1)
    ]
    for one, other in itertools.combinations(orders, 2):
        assert (one != other).any()


def test_a_position_holds_the_same_image_however_the_stream_is_cut():
    whole = np.stack(ShuffledStream(7, seed=3, mirror=True).at(range(40)))
    stream = ShuffledStream(7, seed=3, mirror=True)
    pieces = [np.stack(stream.at(range(first, first + 8))) for first in (32, 0, 8, 16, 24)]
    np.testing.assert_array_equal(np.concatenate([*pieces[1:], pieces[0]], axis=1), whole)


def test_about_half_of_the_images_are_mirrored_anew_in_every_epoch():
    stream = ShuffledStream(1000, seed=0, mirror=True)
    (order_a, flips_a), (order_b, flips_b) = stream.at(range(1000)), stream.at(range(1000, 2000))
    # Binomial: 500 expected, standard deviation 16.
    assert abs(int(flips_a.sum()) - 500) < 80
    assert abs(int((flips_a[np.argsort(order_a)] == flips_b[np.argsort(order_b)]).sum()) - 500) < 80


def test_nothing_is_mirrored_unless_asked():
    assert not ShuffledStream(100, seed=0, mirror=False).at(range(100))[1].any()


def test_batch_size_and_resolution_are_the_schedules_at_the_first_position():
    requests = list(sampler(epoch_images=1000, max_images=130))
    assert [(len(one.positions), one.resolution) for one in requests] == [(20, 4)] * 5 + [(10, 8)] * 3


def test_positions_follow_each_other_without_a_gap():
    assert [row[0] for row in whole_run()] == list(range(300))


def test_an_epoch_ends_when_a_multiple_of_its_length_is_crossed():
    ends = [list(sampler(start))[-1].positions.stop for start in (0, 20, 80, 140)]
    assert ends == [80, 80, 140, 210]


def test_training_ends_at_max_images_with_a_whole_batch():
    assert list(sampler(280, max_images=295, epoch_images=1000))[-1].positions == range(290, 300)
    assert list(sampler(300)) == []


def test_a_run_resumed_at_any_step_goes_on_as_if_nothing_had_happened():
    whole = whole_run()
    for start in (0, 20, 60, 80, 100, 140, 150, 290):
        assert taken(sampler(start)) == [row for row in whole if start <= row[0]][: len(taken(sampler(start)))]


def test_epochs_end_at_the_same_images_after_a_resume():
    ends = {list(sampler(start))[-1].positions.stop for start in (80, 100, 110, 130)}
    assert ends == {140}


def test_each_iteration_begins_where_training_stands_then():
    seen = 0
    one = sampler(lambda: seen)
    first = next(iter(one))
    # A second look at the loader, as Lightning's check of it, takes nothing away.
    assert next(iter(one)).positions == first.positions
    seen = 80
    assert next(iter(one)).positions.start == 80


@pytest.mark.parametrize("world_size", [2, 5])
def test_all_processes_together_see_what_one_would(world_size):
    parts = [list(sampler(world_size=world_size, rank=rank)) for rank in range(world_size)]
    merged = [row for requests in zip(*parts, strict=True) for row in taken(requests)]
    assert merged == taken(sampler())


def test_a_batch_that_the_devices_cannot_share_is_refused_with_ones_they_can():
    with pytest.raises(ValueError, match=r"multiple of their number 4, got 10 at 8 px: use 8 or 12"):
        sampler(world_size=4)


def test_a_sampler_has_no_length():
    with pytest.raises(TypeError):
        len(sampler())


def test_training_batches_carry_stream_positions_and_mirrored_images():
    request = list(sampler())[2]
    batch = GrowingImages(Numbered(33))[request]
    assert batch.index.tolist() == list(request.positions)
    plain = Numbered(33).batch(request.indices.tolist(), 4).images
    for row, mirrored in enumerate(request.mirrored):
        torch.testing.assert_close(batch.images[row], plain[row].flip(-1) if mirrored else plain[row])
    assert request.mirrored.any()
    assert not request.mirrored.all()


def test_a_mirrored_pose_takes_mirrored_points_to_mirrored_points():
    angle = torch.tensor(0.3)
    pose = torch.eye(4)
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = angle.cos(), angle.sin(), -angle.sin(), angle.cos()
    pose[0, 3] = 0.7

    class Posed(Numbered):
        def batch(self, indices, resolution):
            return super().batch(indices, resolution)._replace(pose=pose.repeat(len(indices), 1, 1))

    request = list(sampler())[2]
    row = int(np.flatnonzero(request.mirrored)[0])
    mirrored = GrowingImages(Posed(33))[request].pose[row]
    point, flip = torch.tensor([0.2, -0.4, 0.9, 1.0]), torch.tensor([-1.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored @ (flip * point), flip * (pose @ point))


@pytest.mark.parametrize(
    ("count", "batch_size", "world_size"), [(10, 4, 1), (10, 4, 2), (7, 3, 3), (1, 8, 4), (9, 5, 2)]
)
def test_evaluation_visits_every_image_once_with_equal_steps_on_all_processes(count, batch_size, world_size):
    ranks = [
        list(EvaluationSampler(count, batch_size, 4, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    indices = np.concatenate([request.indices for requests in ranks for request in requests])
    assert sorted(indices[indices >= 0]) == list(range(count))
    for step in zip(*ranks, strict=True):
        assert len({len(request.indices) for request in step}) == 1
    assert (indices < 0).sum() < world_size


def test_a_single_process_evaluates_without_padding():
    requests = list(EvaluationSampler(10, 4, 8))
    assert [request.indices.tolist() for request in requests] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(EvaluationSampler(10, 4, 8)) == 3


def test_padding_rows_have_index_minus_one_and_say_nothing():
    (request,) = EvaluationSampler(1, 2, 4, rank=1, world_size=2)
    batch = EvaluationImages(Numbered(1))[request]
    assert batch.index.tolist() == [-1]
    assert (batch.images == 0).all()
    assert batch.labels.isnan().all()


def test_evaluation_asks_for_the_resolution_whenever_it_begins():
    resolution = 4
    one = EvaluationSampler(3, 2, lambda: resolution)
    assert next(iter(one)).resolution == 4
    resolution = 8
    assert next(iter(one)).resolution == 8
