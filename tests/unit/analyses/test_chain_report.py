"""What a report says of a chain, with translators and an estimator whose effect is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.analyses.base import Result
from latent_lab.analyses.chain_report import BuiltChain, ChainReport, Looks, chain_report, strip, translated
from latent_lab.analyses.report import write_report
from latent_lab.latent.chain import Chain
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.types import ImageBatch

AGES = ("15", "25", "35")
TARGETS = {"15": 15.0, "25": 25.0, "35": 35.0}


class Grey:
    """Images of one grey, which is their age / 100."""

    def __init__(self, *ages: float) -> None:
        self.ages = torch.tensor(ages)

    label_names = ("age",)
    recipe: Mapping[str, Any] = {"source": "greys", "hash": "0"}

    def __len__(self) -> int:
        return len(self.ages)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        ages = self.ages[list(indices)]
        images = (ages / 100.0)[:, None, None, None].expand(-1, 3, resolution, resolution).contiguous()
        return ImageBatch(images, torch.tensor(list(indices)), ages[:, None])


class Greys(Grey):
    """Three domains of them."""

    domains = AGES

    def domain(self, name: str) -> Grey:
        middle = float(name)
        return Grey(*(middle + off for off in (-1.0, 0.0, 1.0)))


class Older(AbstractTranslator):
    """A step onward makes so many years older; a step back nine years younger."""

    resolution = 8

    def __init__(self, years: float, *domains: str) -> None:
        self.years = years
        self._domains = domains

    @property
    def domains(self) -> tuple[str, ...]:
        return self._domains

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        steps = self.domains.index(target) - self.domains.index(source)
        return images + steps * (self.years if steps > 0 else 9.0) / 100.0


class Estimator:
    """A year too much."""

    label = "age_grey"

    def __call__(self, images: Tensor) -> Tensor:
        return 100.0 * images.mean((1, 2, 3)) + 1.0

    def describe(self) -> dict[str, Any]:
        return {"name": self.label}


@pytest.fixture
def built() -> BuiltChain:
    first, reused = Older(10.0, "15", "25"), Older(8.0, "15", "25", "35")
    return BuiltChain(Chain(AGES, [reused, reused]), ["r", "r"], [first, Older(10.0, "25", "35")], [None, reused])


@pytest.fixture
def result(built: BuiltChain) -> Result:
    greys = Greys(15.0)
    return chain_report(
        ChainReport(extractor="none", num_shown=2),
        built,
        greys,
        greys,
        label="age",
        estimator=Estimator(),
        targets=TARGETS,
    )


def test_ages_of_each_use_stand_beside_each_other(result: Result):
    numbers = result.numbers
    assert numbers["age_grey_specialised_at_25"] == pytest.approx(26.0, abs=1e-4)
    assert numbers["age_grey_specialised_at_35"] == pytest.approx(36.0, abs=1e-4)
    # From real images of 25 years, eight years older and a year too much.
    assert numbers["age_grey_reused_at_35"] == pytest.approx(34.0, abs=1e-4)
    # From 15 by two steps of eight years.
    assert numbers["age_grey_recursive_at_35"] == pytest.approx(32.0, abs=1e-4)
    assert numbers["age_grey_recursive_error_at_35"] == pytest.approx(3.0, abs=1e-4)
    assert "age_grey_reused_at_25" not in numbers


def test_the_estimators_own_error_on_real_images_is_beside_them(result: Result):
    assert result.numbers["age_grey_mean_error_on_real"] == pytest.approx(1.0, abs=1e-4)
    rows = next(rows for title, rows in result.tables.items() if title.startswith("The estimator's own error"))
    assert rows[1][:3] == ("15", "3", "15.0")
    assert rows[1][-1] == "1.0"


def test_the_way_back_and_cycles_are_measured(result: Result):
    # From 35 down by nine years twice, and a year too much.
    assert result.numbers["age_grey_backward_at_15"] == pytest.approx(18.0, abs=1e-4)
    # Eight years up and nine down are a year of a hundredth.
    assert result.numbers["cycle_error_15_25"] == pytest.approx(0.01, abs=1e-5)
    assert result.numbers["cycle_error_whole_chain"] == pytest.approx(0.02, abs=1e-5)


def test_means_lie_in_their_intervals(result: Result):
    low, high = result.intervals["age_grey_recursive_at_35"]
    assert low <= 32.0 <= high
    assert high - low < 3.0


def test_a_domain_with_few_images_has_no_distance(built: BuiltChain):
    greys = Greys(15.0)
    options = ChainReport(extractor="random", least_for_distances=4)
    result = chain_report(options, built, greys, greys, label="age", estimator=Estimator(), targets=TARGETS)
    assert not [name for name in result.numbers if name.startswith("fd_")]
    options = ChainReport(extractor="random", least_for_distances=3)
    result = chain_report(options, built, greys, greys, label="age", estimator=Estimator(), targets=TARGETS)
    # Real held-out images are the training images here.
    assert result.numbers["fd_random_real_at_35_3"] == pytest.approx(0.0, abs=1e-4)
    assert "fd_random_recursive_at_25_3" in result.numbers


def test_the_strip_has_a_row_for_each_image_and_a_column_for_each_domain(result: Result):
    # Two rows and three columns of 8 px with borders of 2 px, enlarged.
    _, _, height, width = result.pictures["strip"].shape
    factor = height // (2 * 10 + 2)
    assert (height, width) == (factor * 22, factor * 32)
    picture = strip({"a": torch.zeros(1, 3, 8, 8), "b": torch.ones(1, 3, 8, 8)}, 8)
    middle = picture[0, 0, picture.shape[2] // 2]
    assert middle[6 * factor].item() == pytest.approx(0.0)
    assert middle[16 * factor].item() == 1.0


def test_the_report_is_a_page_with_its_tables_and_strip(result: Result, tmp_path: Path):
    text = write_report(result, tmp_path).read_text()
    assert "Estimated age after each link" in text
    assert "![strip](strip.png)" in text
    assert (tmp_path / "strip_backward.png").is_file()


def test_stations_begin_with_the_images_themselves_and_do_not_depend_on_the_batch(built: BuiltChain):
    images = Grey(15.0, 16.0, 17.0).batch(range(3), 8).images
    one, other = (translated(built.chain, images, AGES, size) for size in (1, 3))
    assert torch.equal(one[0], images)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("kind", "options"), [(Looks, {"num_shown": 0}), (ChainReport, {"num": 1})])
def test_impossible_options_are_refused(kind: Any, options: dict[str, Any]):
    with pytest.raises(ValueError, match="must be at least"):
        kind(**options)
