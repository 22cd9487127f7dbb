from __future__ import annotations

from itertools import chain

import pytest

from latent_lab.data.splits import split_names

NAMES = [f"{number:05d}.jpg" for number in range(2000)]


def members(split: dict[str, list[int]], names: list[str], part: str) -> set[str]:
    return {names[place] for place in split[part]}


def test_hashed_splits_are_disjoint_complete_and_about_90_5_5():
    split = split_names(NAMES)
    assert sorted(chain(*split.values())) == list(range(2000))
    # Binomial: 100 expected in 2000, standard deviation 9.7.
    assert 60 < len(split["val"]) < 140
    assert 60 < len(split["test"]) < 140


def test_a_file_keeps_its_hashed_split_when_others_are_added():
    before, after = split_names(NAMES[:1000]), split_names(NAMES)
    for part in ("train", "val", "test"):
        assert members(before, NAMES, part) <= members(after, NAMES, part)


def test_composed_and_decomposed_accents_fall_into_the_same_split():
    composed = [f"\u00e9{number}.png" for number in range(100)]
    decomposed = [f"e\u0301{number}.png" for number in range(100)]
    assert split_names(composed) == split_names(decomposed)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 10, 20])
def test_small_sets_still_get_an_image_in_every_split(count):
    for start in range(0, 200, 20):
        split = split_names(NAMES[start : start + count])
        assert all(split.values())
        assert sorted(chain(*split.values())) == list(range(count))


def test_two_images_are_too_few_for_three_splits():
    with pytest.raises(ValueError, match="at least 3 images"):
        split_names(NAMES[:2])


def test_split_folders_are_found():
    split = split_names(["test/a.png", "train/b.png", "train/c.png", "val/d.png", "x/e.png"])
    assert split == {"train": [1, 2], "val": [3], "test": [0]}


def test_a_missing_val_folder_is_served_by_test():
    assert split_names(["test/a.png", "train/b.png"])["val"] == [0]


def test_class_folders_named_by_digits_are_no_splits():
    with pytest.raises(ValueError, match="top folders must name training images"):
        split_names(["0/a.png", "1/b.png", "2/c.png"], "folders")


def test_a_split_column_wins_over_hashing():
    split = split_names(["a", "b", "c"], column=["test", "train", "val"])
    assert split == {"train": [1], "val": [2], "test": [0]}


def test_the_numbers_of_the_celeba_partition_are_understood():
    assert split_names(["a", "b", "c"], "column", column=["2", "0", "1"]) == {"train": [1], "val": [2], "test": [0]}


def test_a_column_that_holds_nothing_out_is_passed_over():
    split = split_names(NAMES, column=["train"] * 2000)
    assert split["test"]


def test_asking_for_a_column_that_holds_nothing_out_is_an_error():
    with pytest.raises(ValueError, match='choose split "last" or "hash"'):
        split_names(NAMES, "column", column=["train"] * 2000)


def test_last_holds_out_the_end_of_the_list_as_val_and_test():
    split = split_names(NAMES, "last", holdout=10)
    assert split["train"] == list(range(1990))
    assert split["val"] == split["test"] == list(range(1990, 2000))


def test_last_may_be_a_share():
    assert split_names(NAMES, "last", holdout=0.1) == split_names(NAMES, "last", holdout=200)
    assert split_names(NAMES[:4], "last", holdout=0.1) == split_names(NAMES[:4], "last", holdout=1)


@pytest.mark.parametrize("holdout", [0, 2000, -0.5, 1.5])
def test_last_must_leave_images_on_both_sides(holdout):
    with pytest.raises(
        ValueError, match=f"between 1 and 1999 for 2000 images, or a share of them between 0 and 1, got {holdout}"
    ):
        split_names(NAMES, "last", holdout=holdout)


def test_an_unknown_rule_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="auto, folders, column, last, hash, got 'random'"):
        split_names(NAMES, "random")
