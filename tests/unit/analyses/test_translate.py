"""Translation as an analysis: which images, which way, which numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import HeldOut
from latent_lab.analyses.translate import Translate, images_of_domain
from latent_lab.data import OrderedDomains
from latent_lab.data.domains import DomainImages
from latent_lab.latent.interfaces import AbstractTranslator


class Brighter(AbstractTranslator):
    """A step onward adds 0.1, a step back takes 0.075 away."""

    domains = ("25", "35", "45")
    resolution = 16

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        steps = self.domains.index(target) - self.domains.index(source)
        return images + steps * (0.1 if steps > 0 else 0.075)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DomainImages:
    discs = {"num_images": 24, "num_val": 12, "num_test": 24, "resolution": 16}
    cache = str(tmp_path_factory.mktemp("cache"))
    images = {"class_path": "SyntheticAgeing", "init_args": discs | {"cache_dir": cache}}
    return OrderedDomains(images).source("test")


def test_numbers_are_of_the_whole_way_and_back(source: DomainImages):
    numbers = Translate(num=2)(Brighter(), source).numbers
    assert numbers["change"] == pytest.approx(0.2, abs=1e-5)
    assert numbers["cycle_error"] == pytest.approx(0.05, abs=1e-5)


def test_an_estimator_says_the_mean_age_at_each_station(source: DomainImages):
    result = Translate(estimator="drawn")(Brighter(), source)
    # Brightness hardly moves the oracle's edges: translations here stay as young as they were.
    for domain in ("25", "35", "45"):
        assert result.numbers[f"age_drawn_at_{domain}"] == pytest.approx(25.0, abs=2.5)
    assert result.protocol["estimator"]["name"] == "age_drawn"
    assert result.protocol["way"] == ["25", "35", "45"]


def test_the_sheet_has_a_row_for_each_station_and_one_for_the_way_back(source: DomainImages):
    picture = Translate(num=3)(Brighter(), source).pictures["translations"]
    # Four rows and three columns of 16 px with borders of 2 px, enlarged four times.
    assert picture.shape == (1, 3, 4 * (4 * 18 + 2), 4 * (3 * 18 + 2))
    rows = [picture[0, :, 4 * (2 + 18 * row), 8] for row in range(4)]
    torch.testing.assert_close(rows[1], rows[0] + 0.1)
    torch.testing.assert_close(rows[3], rows[0] + 0.05)


def test_the_way_may_lead_back(source: DomainImages):
    result = Translate(from_domain="45", to_domain="35")(Brighter(), source)
    assert result.protocol["way"] == ["45", "35"]
    assert result.numbers["change"] == pytest.approx(0.075, abs=1e-5)


def test_images_come_from_the_first_domain_of_the_way(source: DomainImages):
    held_out = HeldOut(source, reference=source)
    assert images_of_domain(held_out, "35").recipe["split"] == "test/35"
    assert Translate(from_domain="35")(Brighter(), held_out).protocol["num"] == 4


def test_a_source_without_domains_is_taken_whole(source: DomainImages):
    part = source.domain("25")
    assert images_of_domain(part, "45") is part


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_domain": "15"}, "translate knows the model's domains, 25, 35, 45, got 15"),
        ({"from_domain": "25", "to_domain": "25"}, "translate needs two domains, got 25 for both ends"),
    ],
)
def test_an_impossible_way_is_refused(options: dict[str, str], message: str, source: DomainImages):
    with pytest.raises(ValueError, match=message):
        Translate(**options)(Brighter(), source)


def test_models_that_do_not_translate_are_refused(source: DomainImages):
    with pytest.raises(TypeError, match="a Translator or a chain of them qualifies"):
        Translate()(object(), source)


def test_weights_of_an_estimator_that_has_none_are_refused(source: DomainImages, tmp_path: Path):
    with pytest.raises(ValueError, match="has no weights file"):
        Translate(estimator="drawn", estimator_path=str(tmp_path))(Brighter(), source)
