"""Translators one after another: which one makes which step, in which direction, and what a chain refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.images import quantise
from latent_lab.latent.chain import Chain
from latent_lab.latent.interfaces import AbstractTranslator, require

AGES = ("15", "25", "35", "45")


class Brighter(AbstractTranslator):
    """A step onward adds an amount, a step back takes it away."""

    def __init__(self, amount: float, *domains: str, resolution: int = 8) -> None:
        self.amount = amount
        self._domains = domains
        self._resolution = resolution

    @property
    def domains(self) -> tuple[str, ...]:
        return self._domains

    @property
    def resolution(self) -> int:
        return self._resolution

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        return images + self.amount * (self.domains.index(target) - self.domains.index(source))


@pytest.fixture
def chain() -> Chain:
    reused = Brighter(0.1, "25", "35", "45")
    return Chain(AGES, [Brighter(0.3, "15", "25"), reused, reused])


def black(value: float = 0.0) -> Tensor:
    return torch.full((2, 3, 8, 8), value)


def test_a_chain_is_a_translator(chain: Chain):
    assert require(chain, AbstractTranslator, by="the test") is chain
    assert chain.resolution == 8


def test_steps_add_up_in_both_directions(chain: Chain):
    torch.testing.assert_close(chain.translate(black(), "15", "45"), black(0.5))
    torch.testing.assert_close(chain.translate(black(), "45", "15"), black(-0.5))
    torch.testing.assert_close(chain.translate(black(), "25", "35"), black(0.1))


def test_the_way_to_where_one_is_has_no_step(chain: Chain):
    assert chain.way("35", "35") == ("35",)
    assert torch.equal(chain.translate(black(0.2), "35", "35"), black(0.2))


def test_every_station_is_seen(chain: Chain):
    values = [images.mean().item() for images in chain.stations(black(), "15", "45")]
    assert values == pytest.approx([0.3, 0.4, 0.5])
    assert chain.way("45", "15") == ("45", "35", "25", "15")


def test_a_reused_translator_makes_the_step_it_knows_wherever_it_stands():
    # It was never told of 55 and 65.
    again = Brighter(0.1, "25", "35")
    assert Chain(("25", "55", "65"), [again, again]).translate(black(), "25", "65").mean().item() == pytest.approx(0.2)


def test_the_structure_counts_steps_of_one_translator_in_a_row(chain: Chain):
    assert chain.structure == "1+2"
    # Two that are alike are still two.
    assert Chain(("a", "b", "c"), [Brighter(0.1, "a", "b"), Brighter(0.1, "b", "c")]).structure == "1+1"


def test_rounding_between_links_is_that_of_files():
    chain = Chain(("a", "b", "c"), [Brighter(0.0011, "a", "b"), Brighter(0.0011, "b", "c")], rounded=True)
    moved = chain.translate(quantise(black(0.1)), "a", "c")
    # Each step is less than half a level, so it is lost in the file; together they would have been one level.
    assert torch.equal(moved, quantise(black(0.1)))


@pytest.mark.parametrize(
    ("domains", "translators", "sentence"),
    [
        (("a",), [], "needs two or more domains with names of their own, got a"),
        (("a", "a"), [Brighter(0, "a", "b")], "needs two or more domains with names of their own, got a, a"),
        (("a", "b", "c"), [Brighter(0, "a", "b")], "a chain of 3 domains has 2 steps, got 1 translators"),
        (
            ("a", "b", "c"),
            [Brighter(0, "a", "b"), Brighter(0, "b", "c", resolution=16)],
            "must be for images of one size, got 8, 16",
        ),
    ],
)
def test_what_is_no_chain_is_refused(domains: tuple[str, ...], translators: list[AbstractTranslator], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        Chain(domains, translators)


def test_unknown_domains_and_leaps_are_refused(chain: Chain):
    with pytest.raises(ValueError, match="the chain has the domains 15, 25, 35, 45, got '99'"):
        chain.translate(black(), "15", "99")
    with pytest.raises(ValueError, match="leads from a domain to its neighbour, got 15 and 35"):
        chain.step(black(), "15", "35")
