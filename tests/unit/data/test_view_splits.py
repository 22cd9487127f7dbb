from __future__ import annotations

import itertools

import pytest

from latent_lab.data.view_splits import UNSEEN_VIEWS, hold_out_views


def grid(num_objects: int, num_views: int) -> tuple[list[int], list[int]]:
    pairs = list(itertools.product(range(num_objects), range(num_views)))
    return [one for one, _ in pairs], [view for _, view in pairs]


def split(objects: list[int], views: list[int], **options) -> dict[str, list[int]]:
    return hold_out_views(objects, views, **{"unseen_share": 0.1, "heldout_share": 0.2, "seed": 0, **options})


def test_every_image_of_a_grid_is_in_exactly_one_part():
    parts = split(*grid(20, 72))
    assert sorted(itertools.chain(*parts.values())) == list(range(1440))
    assert {name: len(places) for name, places in parts.items()} == {
        "train": 1040,
        "val": 130,
        "test": 130,
        UNSEEN_VIEWS: 140,
    }


def test_unseen_views_are_those_of_all_objects_and_lie_between_the_others():
    objects, views = grid(3, 20)
    unseen = split(objects, views)[UNSEEN_VIEWS]
    assert [(objects[place], views[place]) for place in unseen] == [(one, view) for one in range(3) for view in (5, 15)]


@pytest.mark.parametrize("size", [(2, 3), (2, 6), (5, 5), (30, 4)])
@pytest.mark.parametrize("heldout_share", [0.2, 0.9])
def test_training_keeps_every_object_and_every_view_that_is_not_unseen(size, heldout_share):
    objects, views = grid(*size)
    for seed in range(5):
        parts = split(objects, views, heldout_share=heldout_share, seed=seed)
        unseen = {views[place] for place in parts[UNSEEN_VIEWS]}
        assert {objects[place] for place in parts["train"]} == set(objects)
        assert {views[place] for place in parts["train"]} == set(views) - unseen
        assert not unseen & {views[place] for place in parts["val"] + parts["test"]}


def test_pairs_are_held_out_at_random_and_the_seed_decides():
    objects, views = grid(10, 20)
    assert split(objects, views)["test"] == split(objects, views)["test"]
    assert split(objects, views)["test"] != split(objects, views, seed=1)["test"]
    assert split(objects, views)[UNSEEN_VIEWS] == split(objects, views, seed=1)[UNSEEN_VIEWS]


def test_two_images_of_the_same_pair_stay_together():
    objects, views = grid(4, 8)
    parts = split(objects * 2, views * 2)
    for places in parts.values():
        assert {place % 32 for place in places if place < 32} == {place % 32 for place in places if place >= 32}


def test_a_grid_with_holes_is_split_as_well():
    objects, views = grid(6, 10)
    kept = [place for place in range(60) if place % 7]
    parts = split([objects[place] for place in kept], [views[place] for place in kept])
    assert sorted(itertools.chain(*parts.values())) == list(range(len(kept)))


def test_the_unseen_views_of_a_single_run_are_val_and_test():
    parts = split([0] * 30, list(range(30)))
    assert parts["val"] == parts["test"] == parts[UNSEEN_VIEWS] == [5, 15, 25]
    assert len(parts["train"]) == 27


def test_without_unseen_views_there_is_no_such_part():
    assert set(split(*grid(5, 5), unseen_share=0.0)) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen_share": 1.0}, "unseen_share must be a share of at least 0 and below 1, got 1"),
        ({"heldout_share": -0.1}, "heldout_share must be a share of at least 0 and below 1, got -0.1"),
        ({"unseen_share": 0.0, "heldout_share": 0.0}, "hold out none of 16 .object, view. pairs: raise one of them"),
    ],
)
def test_shares_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        split(*grid(4, 4), **options)


def test_an_object_with_unseen_views_only_is_named():
    with pytest.raises(
        ValueError, match=r"object number 1 has only views that unseen_share 0\.1 holds out wholly: lower"
    ):
        split([0, 0, 0, 1], [0, 1, 2, 1])
