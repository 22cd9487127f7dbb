"""The translator: who learns when, in which order, from what; and what it makes of other domains."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import GAN, Translator
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.translator import Pair, TranslatorWeights
from latent_lab.types import DomainBatch, ImageBatch

SCHEDULE = GrowthSchedule([Stage(16, 1.0, 2, learning_rate=1e-3)])
SMALL: dict[str, Any] = {
    "generator_width": 2,
    "residual_blocks": 1,
    "discriminator_width": 2,
    "discriminator_halvings": 1,
    "seed": 3,
}
TRIPLET = ("25", "35", "45")


def ready(**options: Any) -> Translator:
    """A model with its optimisers, outside of a trainer."""
    model = Translator(SCHEDULE, **SMALL | options)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda *_, **__: optimizers  # type: ignore[method-assign,assignment]
    model.toggled_optimizer = lambda optimizer: nullcontext()  # type: ignore[method-assign,assignment]
    model.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    return model.train()


def batch(domains: tuple[str, ...] = ("young", "old"), count: int = 2) -> DomainBatch:
    images = torch.rand(len(domains), count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return DomainBatch(images, torch.arange(count), domains)


def pair(number: int = 0) -> Pair:
    source, target = batch().images
    return Pair(number, source, target)


class Constant(nn.Module):
    """A discriminator that says the same everywhere, and remembers what it was shown."""

    def __init__(self, score: float = 0.0) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(score))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.score * torch.ones(len(images), 1, 2, 2)


def judged(score: float = 0.0, **options: Any) -> Translator:
    """A model whose discriminators are constant and do not learn."""
    model = ready(**options)
    model.discriminator_source, model.discriminator_target = Constant(score), Constant(score)  # type: ignore[assignment]
    return model


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


# Losses


def test_discriminators_that_say_0_everywhere_pay_a_third_and_generators_two():
    model = judged(0.0)
    found = model.update_pair(pair())
    assert found["train/discriminator_source/loss"].item() == pytest.approx(1 / 3)
    assert found["train/discriminator_target/loss"].item() == pytest.approx(1 / 3)
    assert found["train/generator/adversarial"].item() == pytest.approx(2.0)


def test_the_generators_loss_is_adversarial_plus_ten_cycles_each():
    model = judged(0.5)
    found = model.update_pair(pair())
    # The mean cycle error of both directions is reported, and both are weighted.
    expected = 2 * 0.25 + 10 * 2 * found["train/generator/cycle"]
    torch.testing.assert_close(found["train/generator/loss"], expected)


def test_generators_that_change_nothing_have_no_cycle_error():
    model = judged(1.0, weights=TranslatorWeights(identity=5.0), double_cycle=True)
    model.generator = ToItself()  # type: ignore[assignment]
    model.descend = lambda loss, optimizer: None  # type: ignore[method-assign,assignment]
    _, _, found = model.update_generators(pair())
    assert found["train/generator/loss"] == 0.0


class ToItself(nn.Module):
    def forward(self, images: Tensor, direction: str) -> Tensor:
        return images


class Shift(nn.Module):
    """Onward adds 0.125, back subtracts 0.0625: each cycle leaves 0.0625."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor, direction: str) -> Tensor:
        return images + self.by * (0.125 if direction == "onward" else -0.0625)


@pytest.mark.parametrize(
    ("options", "cycle", "change", "loss"),
    [
        ({}, 0.0625, 0.125, 20 * 0.0625),
        # Two steps out and two back leave twice as much, weighted by 10 in each direction, too.
        ({"double_cycle": True}, 0.0625, 0.125, 20 * 0.0625 + 20 * 0.125),
        # Every translation is two applications, out and back.
        ({"transform_twice": True}, 0.125, 0.25, 20 * 0.125),
        ({"weights": TranslatorWeights(identity=4.0)}, 0.0625, 0.125, 20 * 0.0625 + 4 * (0.125 + 0.0625)),
    ],
)
def test_cycles_are_compared_where_they_began(options: dict[str, Any], cycle: float, change: float, loss: float):
    model = judged(1.0, **options)
    model.generator = Shift()  # type: ignore[assignment]
    _, _, found = model.update_generators(pair())
    assert found["train/generator/cycle"].item() == pytest.approx(cycle, abs=1e-6)
    assert found["train/images/change"].item() == pytest.approx(change, abs=1e-6)
    assert found["train/generator/loss"].item() == pytest.approx(loss, abs=1e-5)


# What discriminators see


def test_discriminators_see_real_images_translations_and_real_images_of_the_wrong_domain():
    model = judged()
    one = pair()
    made_target = model.generator(one.source, "onward").detach()
    made_source = model.generator(one.target, "back").detach()
    model.update_pair(one)
    # The first pictures are those of the generators' update.
    for judge, images in (
        (model.discriminator_target, [one.target, made_target, one.source]),
        (model.discriminator_source, [one.source, made_source, one.target]),
    ):
        seen = judge.seen[1:]  # type: ignore[union-attr,index]
        assert len(seen) == 3
        for found, expected in zip(seen, images, strict=True):  # type: ignore[call-overload]
            torch.testing.assert_close(found, expected)


def test_a_pool_holds_translations_from_before_the_generators_update():
    model = ready()
    one = pair()
    before = model.generator(one.source, "onward").detach()
    model.update_pair(one)
    kept = model.pools.state()["onward/0"]
    assert kept is not None
    torch.testing.assert_close(kept, before)
    assert not torch.allclose(kept, model.generator(one.source, "onward"))


def test_double_cycles_show_second_steps_of_earlier_translations():
    model = judged(double_cycle=True)
    earlier = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    model.update_discriminator(pair(), earlier, "onward")
    seen = model.discriminator_target.seen  # type: ignore[union-attr]
    assert len(seen) == 4
    torch.testing.assert_close(seen[3], model.generator(earlier, "onward"))


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, 3 / 4),
        ({"discriminator_divisor": "three"}, 1.0),
        ({"wrong_domain": "never"}, 2 / 3),
    ],
)
def test_four_terms_are_divided_by_four_or_as_published_by_three(options: dict[str, Any], loss: float):
    model = judged(1.0, double_cycle=True, **options)
    found = model.update_discriminator(pair(), pair().target, "onward")
    # Scores of 1 cost nothing for real images and 1 for each kind that is to be rejected.
    assert found["train/discriminator_target/loss"].item() == pytest.approx(loss)


@pytest.mark.parametrize(
    ("wrong_domain", "onward", "back"),
    [
        ("always", [True, True], [True, True]),
        ("consistent", [True, False], [False, True]),
        ("never", [False] * 2, [False] * 2),
    ],
)
def test_in_a_triplet_the_middle_domain_is_rejected_as_published_or_not_at_all(
    wrong_domain: str, onward: list[bool], back: list[bool]
):
    model = ready(domains=TRIPLET, wrong_domain=wrong_domain)
    assert [model._rejects_other_domain(number, "onward") for number in (0, 1)] == onward
    assert [model._rejects_other_domain(number, "back") for number in (0, 1)] == back


@pytest.mark.parametrize("wrong_domain", ["always", "consistent"])
def test_in_a_pair_both_rules_reject_the_wrong_domain(wrong_domain: str):
    model = ready(wrong_domain=wrong_domain)
    assert model._rejects_other_domain(0, "onward")
    assert model._rejects_other_domain(0, "back")


# Order


def test_a_step_updates_generators_then_the_targets_then_the_sources_discriminator():
    model = ready()
    networks = {name: getattr(model, name) for name in ("generator", "discriminator_target", "discriminator_source")}
    order = []
    descend = model.descend

    def watched(loss: Tensor, optimizer: Any = None) -> None:
        before = {name: weights(network) for name, network in networks.items()}
        descend(loss, optimizer)
        order.append([name for name, network in networks.items() if changed(network, before[name])])

    model.descend = watched  # type: ignore[method-assign]
    model.training_step(batch())
    assert order == [["generator"], ["discriminator_target"], ["discriminator_source"]]


def test_a_triplet_is_two_updates_of_the_same_networks_the_later_pair_first():
    model = ready(domains=TRIPLET)
    seen = []
    update = model.update_pair

    def watched(one: Pair) -> dict[str, Tensor]:
        seen.append(one)
        return update(one)

    model.update_pair = watched  # type: ignore[method-assign]
    triplet = batch(TRIPLET)
    before = weights(model.generator)
    model.training_step(triplet)
    assert [one.number for one in seen] == [1, 0]
    assert torch.equal(seen[0].source, triplet.images[1])
    assert torch.equal(seen[0].target, triplet.images[2])
    assert torch.equal(seen[1].source, triplet.images[0])
    assert torch.equal(seen[1].target, triplet.images[1])
    assert changed(model.generator, before)


@pytest.mark.parametrize(
    ("pools", "names"),
    [("per_pair", ["back/0", "back/1", "onward/0", "onward/1"]), ("shared", ["back", "onward"])],
)
def test_pairs_of_a_triplet_have_pools_of_their_own_or_share_them_as_published(pools: str, names: list[str]):
    model = ready(domains=TRIPLET, pools=pools)
    model.training_step(batch(TRIPLET))
    assert sorted(model.pools.state()) == names


def test_both_generators_share_an_optimiser_and_each_discriminator_has_its_own():
    model = ready()
    sizes = [sum(p.numel() for group in one.param_groups for p in group["params"]) for one in model.optimizers()]  # type: ignore[union-attr]
    networks = (model.generator, model.discriminator_target, model.discriminator_source)
    assert sizes == [sum(p.numel() for p in network.parameters()) for network in networks]
    assert {one.param_groups[0]["betas"] for one in model.optimizers()} == {(0.5, 0.999)}  # type: ignore[union-attr]


def test_the_rate_stays_or_falls_linearly_to_zero_with_the_images_seen():
    schedule = GrowthSchedule([Stage(16, 0.004, 2, learning_rate=2e-4), Stage(16, 0.004, 2, 0.0, 2e-4, 0.0)])
    model = ready()
    model.schedule = schedule
    rates = []
    for _ in range(4):
        model.training_step(batch())
        rates.append([one.param_groups[0]["lr"] for one in model.optimizers()])  # type: ignore[union-attr]
    assert [one for one in rates if len(set(one)) > 1] == []
    assert [one[0] for one in rates] == pytest.approx([2e-4, 2e-4, 2e-4, 1e-4])


def test_a_step_counts_one_image_of_each_domain_as_one():
    model = ready(domains=TRIPLET)
    statistics = model.training_step(batch(TRIPLET))
    assert model.images_seen == 2
    assert not any(value.requires_grad for value in statistics.values())
    assert set(statistics) >= {"train/generator/cycle", "train/discriminator_source/loss", "train/images/change"}


# Translation


def test_translation_goes_step_by_step_in_either_direction():
    model = ready(domains=TRIPLET).eval()
    images = batch().images[0]
    onward, back = model.generator.onward, model.generator.back
    assert torch.equal(model.translate(images, "25", "45"), onward(onward(images)))
    assert torch.equal(model.translate(images, "45", "25"), back(back(images)))
    assert torch.equal(model.translate(images, "35", "35"), images)


def test_with_transform_twice_a_step_is_two_applications():
    model = ready(transform_twice=True).eval()
    images = batch().images[0]
    assert torch.equal(model.translate(images, "young", "old"), model.generator.onward(model.generator.onward(images)))


def test_the_averaged_generators_translate_in_evaluation_only():
    model = ready(average_half_life_kimg=1.0)
    for _ in range(2):
        model.training_step(batch())
    images = batch().images[0]
    assert torch.equal(model.train().translate(images, "young", "old"), model.generator(images, "onward"))
    assert torch.equal(model.eval().translate(images, "young", "old"), model.generator_average(images, "onward"))  # type: ignore[misc]
    assert not torch.equal(model.generator(images, "onward"), model.generator_average(images, "onward"))  # type: ignore[misc]


# Checkpoints


def test_a_translator_that_goes_on_with_other_domains_keeps_its_weights_and_begins_with_empty_pools():
    model = ready(domains=TRIPLET[:2])
    model.training_step(batch(TRIPLET[:2]))
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    same, other = ready(domains=TRIPLET[:2]), ready(domains=TRIPLET)
    same.on_load_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(model.state_dict())
    assert same.pools.state().keys() == checkpoint[CHECKPOINT_KEY]["image_pools"].keys()
    assert other.pools.state() == {}
    assert other.images_seen == 2


# Refusals


def test_data_of_other_domains_is_refused():
    model = ready()
    with pytest.raises(ValueError, match="between the domains young, old, the data gives 25, 35: make"):
        model.training_step(batch(("25", "35")))


def test_data_without_domains_is_refused():
    images = batch().images[0]
    with pytest.raises(ValueError, match="name it in the option images of the data set OrderedDomains"):
        ready().training_step(ImageBatch(images, torch.arange(2)))  # type: ignore[arg-type]


def test_an_unknown_domain_is_refused():
    with pytest.raises(ValueError, match="this translator knows the domains young, old, got '70'"):
        ready().translate(batch().images[0], "70", "old")


def test_batches_of_one_are_for_translators_only():
    schedule = GrowthSchedule([Stage(16, 1.0, 1)])
    Translator(schedule, **SMALL)
    with pytest.raises(ValueError, match=r"schedule.stages.0: batch_size must be at least 2 for GAN, got 1"):
        GAN(schedule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ["25"]}, "two or more domains with names of their own, got 25"),
        ({"domains": ["25", "25"]}, "two or more domains with names of their own, got 25, 25"),
        ({"pool_size": -1}, "pool_size must not be negative, got -1"),
        ({"discriminator_halvings": 3}, "discriminator_halvings 3 leave too small a map of scores of images of 16 px"),
        ({"schedule": GrowthSchedule([Stage(4, 1.0, 2)])}, "needs images of at least 8 px, got 4"),
        ({"schedule": GrowthSchedule([Stage(8, 1.0, 2), Stage(16, 1.0, 2)])}, "Translator does not grow"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Translator(**{"schedule": SCHEDULE} | SMALL | options)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights.cycle must not be negative, got -1"):
        TranslatorWeights(cycle=-1.0)
