"""Ordered domains: what belongs to them, how they are drawn, and what is said about bad ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_lab.data import ImageFolder, OrderedDomains
from latent_lab.data.domains import (
    PUBLISHED_AGES,
    Domain,
    DomainSampler,
    ImagesOfDomains,
    build_images,
    checked_domains,
    chosen_domains,
)
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.types import DomainSource, ImageSource

SCHEDULE = GrowthSchedule([Stage(8, 0.04, 4), Stage(8, 0.04, 2)])
YOUNG_AND_OLD = (Domain("young", 10, 30), Domain("old", 50, None, 60))


def discs(**options: Any) -> dict[str, Any]:
    return {
        "class_path": "SyntheticAgeing",
        "init_args": {"num_images": 60, "num_val": 12, "num_test": 12, "resolution": 8} | options,
    }


def data(**options: Any) -> OrderedDomains:
    return OrderedDomains(**{"images": discs(), "epoch_kimg": 0.1} | options)


@pytest.fixture
def folder(make_images, tmp_path: Path) -> Any:
    """Makes a folder of images with the ages of a table, and says where it is."""

    def make(ages: list[str], column: str = "age") -> dict[str, Any]:
        names = [f"{number:02d}.png" for number in range(len(ages))]
        root = make_images(names)
        table = "\n".join(f"{name},{age},{_split(n)}" for n, (name, age) in enumerate(zip(names, ages, strict=True)))
        (root / "labels.csv").write_text(f"file,{column},split\n{table}\n")
        return {"class_path": "ImageFolder", "init_args": {"root": str(root), "resolution": 8, "labels": "labels.csv"}}

    return make


def _split(number: int) -> str:
    return "test" if number % 4 == 3 else "train"


# Which images


def test_domains_hold_the_images_whose_label_is_in_their_interval():
    one = data()
    for split in ("train", "val", "test"):
        for domain in PUBLISHED_AGES:
            part = one.source(split).domain(domain.name)
            ages = part.batch(range(len(part)), 8).labels[:, 1]  # type: ignore[index]
            assert (ages >= domain.lower).all()
            assert (ages < domain.upper).all()
            assert len(part) == {"train": 10, "val": 2, "test": 2}[split]


def test_bounds_belong_to_the_upper_domain_and_what_is_outside_or_unknown_to_none(folder):
    domains = [Domain("a", 10, 20), Domain("b", 20, 30)]
    one = OrderedDomains(folder(["10", "19.99", "20", "20", "30", "", "9.9", "25"]), domains)
    source = one.source("train")
    # Every fourth image is held out.
    assert source.domain("a").names == ("00.png", "01.png")
    assert source.domain("b").names == ("02.png",)
    assert one.source("test").domain("b").names == ("03.png", "07.png")
    assert "3 images are in none" in one.describe()


def test_a_source_has_all_domains_in_their_order():
    source = data().source("test")
    assert isinstance(source, ImageSource)
    assert isinstance(source, DomainSource)
    assert source.domains == ("15", "25", "35", "45", "55", "65")
    ages = source.batch(range(len(source)), 8).labels[:, 1]  # type: ignore[index]
    assert (ages.view(6, 2).mean(1).diff() > 5).all()
    again = pickle.loads(pickle.dumps(source))
    assert again.domains == source.domains
    assert torch.equal(again.domain("35").batch([0], 8).images, source.domain("35").batch([0], 8).images)


def test_the_recipe_of_a_domain_says_which_images_they_are():
    source = data().source("test")
    hashes = {source.domain(name).recipe["hash"] for name in source.domains}
    assert len(hashes) == 6
    assert source.domain("25").recipe["split"] == "test/25"


def test_training_images_of_a_year_can_be_limited_to_so_many(folder):
    ages = ["21"] * 12 + ["22"] * 4 + ["31"] * 12
    domains = [Domain("25", 20, 30, images_per_unit=2), Domain("35", 30, 40)]
    images = folder(ages)
    one, other = (OrderedDomains(images, domains, seed=seed) for seed in (0, 1))
    part = one.source("train").domain("25")
    counts = part.batch(range(len(part)), 8).labels[:, 0].unique(return_counts=True)  # type: ignore[index]
    assert [values.tolist() for values in counts] == [[21.0, 22.0], [2, 2]]
    assert len(one.source("test").domain("25")) == 4
    assert part.names != other.source("train").domain("25").names
    assert part.names == OrderedDomains(images, domains).source("train").domain("25").names
    assert len(one.source("train").domain("35")) == 9


# Which batches


def batches(one: OrderedDomains, start: int = 0, **options: Any) -> list[Any]:
    return list(one.training_loader(SCHEDULE, start, **options))


def test_a_step_sees_one_image_of_each_domain():
    one = data(train_on=["25", "55"])
    for batch in batches(one, max_images=80):
        assert tuple(batch.domains) == ("25", "55")
        assert batch.images.shape[0] == 2
        # The disc of 55 years is larger, whatever person it is of.
        bright = (batch.images.mean(2) > 0).float().mean((2, 3))
        assert (bright[1] > bright[0]).all()


def test_batches_follow_the_schedule_and_the_positions():
    found = batches(data(), max_images=80)
    assert [len(batch.index) for batch in found] == [4] * 10 + [2] * 20
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(80))


def test_domains_are_drawn_independently_of_each_other_and_of_which_there_are():
    def drawn(sizes: dict[str, int]) -> dict[str, list[int]]:
        requests = list(DomainSampler(SCHEDULE, sizes, max_images=80, seed=4))
        rows = np.concatenate([request.indices for request in requests], axis=1).tolist()
        return dict(zip(sizes, rows, strict=True))

    pair, triplet = drawn({"25": 20, "35": 20}), drawn({"15": 7, "25": 20, "35": 20})
    assert pair["25"] == triplet["25"]
    assert pair["35"] == triplet["35"]
    assert pair["25"] != pair["35"]
    assert sorted(triplet["15"][:7]) == list(range(7))
    assert sorted(pair["25"][:20]) == list(range(20))


def test_the_same_images_are_drawn_after_an_interruption_and_by_any_number_of_processes():
    sizes = {"a": 11, "b": 5}
    whole = list(DomainSampler(SCHEDULE, sizes, max_images=80, mirror=True, seed=2))
    later = list(DomainSampler(SCHEDULE, sizes, 24, max_images=80, mirror=True, seed=2))
    assert [request.indices.tolist() for request in later] == [request.indices.tolist() for request in whole[6:]]
    ranks = [
        list(DomainSampler(SCHEDULE, sizes, max_images=80, mirror=True, seed=2, rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    for first, second, one in zip(*ranks, whole, strict=True):
        assert np.concatenate([first.indices, second.indices], 1).tolist() == one.indices.tolist()
        assert np.concatenate([first.mirrored, second.mirrored], 1).tolist() == one.mirrored.tolist()


def test_mirrored_images_are_mirrored():
    one = data(train_on=["25", "35"])
    source = one.source("train")
    parts = {name: source.domain(name) for name in one.train_on}
    request = next(iter(DomainSampler(SCHEDULE, {"25": 10, "35": 10}, mirror=True, seed=0)))
    assert request.mirrored.any()
    assert not request.mirrored.all()
    batch = ImagesOfDomains(parts)[request]
    for images, part, indices, mirrored in zip(
        batch.images, parts.values(), request.indices, request.mirrored, strict=True
    ):
        plain = part.batch(indices.tolist(), 8).images
        expected = torch.where(torch.from_numpy(mirrored)[:, None, None, None], plain.flip(-1), plain)
        assert torch.equal(images, expected)


def test_loader_processes_give_the_same_batches():
    here, there = batches(data(), max_images=12), batches(data(num_workers=1), max_images=12)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert tuple(one.domains) == tuple(other.domains)


# Refusals


def test_an_empty_domain_is_named_with_what_there_is():
    with pytest.raises(ValueError) as refusal:
        data(images=discs(ages=[25.0, 35.0, 45.0], num_images=30), train_on=["35", "55"]).setup()
    message = str(refusal.value)
    assert message.startswith("domain 55 (50 to below 60) has no training images, whose label age reaches from 23")
    assert message.endswith("change its bounds, or leave it out of data.train_on")


def test_an_empty_domain_that_is_not_trained_on_does_no_harm_until_it_is_asked_for():
    one = data(images=discs(ages=[25.0, 35.0, 45.0], num_images=30), train_on=["25", "35"])
    assert len(one.source("train").domain("35")) == 10
    with pytest.raises(ValueError, match="domain 65 has no images in the split test: widen its bounds"):
        one.source("test").domain("65")


def test_an_unknown_domain_is_refused():
    with pytest.raises(ValueError, match="there is no domain '20': there are 15, 25, 35, 45, 55, 65"):
        data().source("test").domain("20")


def test_images_without_labels_are_refused(make_images):
    root = make_images([f"{number}.png" for number in range(6)])
    images = {"class_path": "ImageFolder", "init_args": {"root": str(root), "resolution": 8}}
    with pytest.raises(
        ValueError, match="domains are told by the label age, and the images of ImageFolder have no lab"
    ):
        OrderedDomains(images).setup()


def test_a_missing_label_is_refused_with_those_there_are(folder):
    with pytest.raises(ValueError, match=r"have no label age: data.label must be one of years"):
        OrderedDomains(folder(["20", "30", "40", "50"], column="years")).setup()


def test_a_label_that_is_known_of_no_image_is_refused():
    pack = data().images.pack
    np.save(pack.folder / "labels.npy", np.full((84, 2), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="the label age is unknown for all 84 images of SyntheticAgeing: complete it"):
        data().setup()


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (
            [Domain("25", 20, 31), Domain("35", 30, 40)],
            r"domains must not overlap, got 25 \(20 to below 31\) and 35 \(30 to below 40\): high is the first value",
        ),
        ([Domain("65", 60, None, 65), Domain("75", 70, 80)], r"must not overlap, got 65 \(60 and more\) and 75"),
        ([Domain("35", 30, 40), Domain("25", 20, 30)], "must be in ascending order, got 25 .* after 35"),
        ([Domain("25", 20, 30), Domain("25", 30, 40)], "two or more domains with names of their own, got 25, 25"),
        ([Domain("25", 20, 30)], "two or more domains with names of their own, got 25"),
        ([], "two or more domains with names of their own, got none"),
    ],
)
def test_impossible_domains_are_refused_in_one_sentence(domains: list[Domain], message: str):
    with pytest.raises(ValueError, match=message):
        checked_domains(domains)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "25", "low": 30, "high": 20}, "domain 25 must have low below high, got 30 and 20"),
        (
            {"name": "25", "low": 20, "high": 30, "images_per_unit": 0},
            "of domain 25 must be at least 1 or null .all., got",
        ),
        ({"name": "65", "low": 60}, "domain 65 has an open end and so no middle: give its nominal value"),
    ],
)
def test_an_impossible_domain_is_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Domain(**arguments)


@pytest.mark.parametrize(
    ("train_on", "message"),
    [
        (["25", "30"], "train_on names a domain '30', which there is not: there are 15, 25, 35, 45, 55, 65"),
        (["25"], "train_on must name two or more of the domains .* in this order, got 25"),
        (["35", "25"], "in this order, got 35, 25"),
    ],
)
def test_impossible_choices_are_refused(train_on: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        chosen_domains(PUBLISHED_AGES, train_on)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"class_path": "ImageFodler", "init_args": {}},
            "must name a labelled data set, such as ImageFolder, got Image",
        ),
        ({"class_path": "OrderedDomains"}, "must name a labelled data set, such as ImageFolder, got OrderedDomains"),
        ({"root": "x"}, "images must be a mapping with class_path .* and init_args .*, got root"),
        (
            {"class_path": "SyntheticAgeing", "init_args": {"size": 3}},
            r"SyntheticAgeing has no option size \(images.init_args.size\): it has num_images, num_val",
        ),
        ({"class_path": "ImageFolder"}, r"images.init_args.root is missing: ImageFolder needs it"),
    ],
)
def test_a_wrong_recipe_of_the_images_is_refused(recipe: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_images(recipe)


def test_absent_images_are_said_with_where_they_are_to_be_had():
    images = {"class_path": "ImageFolder", "init_args": {"root": "nowhere"}}
    one = OrderedDomains(images, origin="https://example.org/faces")
    with pytest.raises(
        ValueError, match=r"'nowhere' does not exist: get the images from https://example\.org/faces and"
    ):
        one.setup()


def test_a_schedule_of_larger_images_is_refused():
    with pytest.raises(ValueError, match=r"the schedule has 16 px, but the data's resolution is 8: set data.images"):
        data().training_loader(GrowthSchedule([Stage(16, 1.0, 2)]))


# Recipes


def test_the_nominal_value_is_the_middle_unless_it_is_given():
    assert [domain.target for domain in PUBLISHED_AGES] == [15, 25, 35, 45, 55, 65]
    assert Domain("b", 20, 31).target == 25.5


def test_the_recipe_holds_everything_and_the_images_keep_their_class(folder):
    one = data(domains=YOUNG_AND_OLD)
    assert one.recipe["init_args"]["domains"][1] == {
        "name": "old",
        "low": 50,
        "high": None,
        "nominal": 60,
        "images_per_unit": None,
    }
    assert one.recipe["init_args"]["images"]["class_path"] == "SyntheticAgeing"
    assert isinstance(OrderedDomains(folder(["15", "35", "25", "45"])).images, ImageFolder)
