"""The vanilla GAN: who learns in which step, what is logged, and that nothing depends on how a batch is dealt out."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import GAN
from latent_lab.models.base import AdamSettings
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(16, 1.0, 8, learning_rate=1e-3)])
SMALL: dict[str, Any] = {
    "latent_dim": 6,
    "generator_widths": [8, 8],
    "discriminator_widths": [8, 8],
    "start_channels": 4,
    "seed": 3,
}


def ready(**options: Any) -> GAN:
    """A model with its optimisers, outside of a trainer."""
    model = GAN(SCHEDULE, **SMALL | options)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda *_, **__: optimizers  # type: ignore[method-assign,assignment]
    model.toggled_optimizer = lambda optimizer: nullcontext()  # type: ignore[method-assign,assignment]
    model.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    return model.train()


def real(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def batch(count: int = 8) -> ImageBatch:
    return ImageBatch(real(count), torch.arange(count))


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: torch.nn.Module, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_each_step_moves_its_own_network_alone():
    model = ready()
    generator, discriminator = weights(model.generator), weights(model.discriminator)
    model.update_discriminator(real())
    assert changed(model.discriminator, discriminator)
    assert not changed(model.generator, generator)
    discriminator = weights(model.discriminator)
    model.update_generator(real())
    assert not changed(model.discriminator, discriminator)
    assert changed(model.generator, generator)


def test_the_discriminator_sees_generated_and_real_images_in_one_batch():
    model = ready()
    seen = []
    model.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    model.update_discriminator(real(4))
    assert len(seen) == 1
    assert torch.equal(seen[0][4:], real(4))
    latents = model.training_normals(real(4), "discriminator", 6)
    torch.testing.assert_close(seen[0][:4], model.generator(latents))


def test_the_generator_gets_fresh_latents():
    model = ready()
    first, second = (model.training_normals(real(), stream, 6) for stream in ("discriminator", "generator"))
    assert not torch.equal(first, second)


def test_both_conventions_train_the_same_generator():
    # The discriminator of one is the other's with its last layer turned; without noise the two games are equal.
    usual, turned = (ready(label_noise=0.0, label_convention=name) for name in ("real_is_one", "fake_is_one"))
    with torch.no_grad():
        turned.discriminator.dense.weight.neg_()
        turned.discriminator.dense.bias.neg_()
    for model in (usual, turned):
        model.training_step(batch())
    for a, b in zip(usual.generator.parameters(), turned.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_step_reports_accuracies_losses_and_diversity():
    model = ready()
    statistics = model.training_step(batch())
    assert {
        "train/discriminator/loss",
        "train/discriminator/accuracy_real",
        "train/discriminator/accuracy_fake",
        "train/generator/loss",
        "train/images/fake_deviation",
        "train/images/real_deviation",
        "train/images/diversity",
    } == set(statistics)
    assert not any(value.requires_grad for value in statistics.values())
    assert statistics["train/images/real_deviation"].item() == pytest.approx(real().std(0).mean().item())
    assert model.images_seen == 8


def test_a_generator_that_ignores_its_latents_has_no_diversity():
    model = ready()
    torch.nn.init.zeros_(model.generator.dense.weight)
    statistics = model.update_generator(real())
    assert statistics["train/images/fake_deviation"].item() < 1e-6
    assert statistics["train/images/diversity"].item() < 1e-5


def test_accuracy_counts_images_that_are_judged_rightly():
    model = ready()
    with torch.no_grad():
        model.discriminator.dense.weight.zero_()
        model.discriminator.dense.bias.fill_(1.0)
    statistics = model.update_discriminator(real())
    assert statistics["train/discriminator/accuracy_real"] == 1.0
    assert statistics["train/discriminator/accuracy_fake"] == 0.0


def test_dropout_and_label_noise_follow_the_position_in_training_alone():
    first, second = ready(dropout=0.2), ready(dropout=0.2)
    torch.manual_seed(0)
    a = first.training_step(batch())
    torch.manual_seed(1)
    b = second.training_step(batch())
    assert a["train/discriminator/loss"] == b["train/discriminator/loss"]
    assert first.training_step(batch())["train/discriminator/loss"] != a["train/discriminator/loss"]


def test_without_an_average_the_current_generator_decodes():
    model = ready().eval()
    latents = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.decode(latents), model.generator(latents))


def test_with_an_average_it_decodes_in_evaluation_mode_only():
    model = ready(average_half_life_kimg=1.0)
    for _ in range(3):
        model.training_step(batch())
    latents = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.train().decode(latents), model.generator(latents))
    assert torch.equal(model.eval().decode(latents), model.generator_average(latents))  # type: ignore[misc]
    assert not torch.equal(model.generator(latents), model.generator_average(latents))  # type: ignore[misc]


def test_the_published_settings_can_be_asked_for():
    model = GAN(SCHEDULE, **SMALL, adam=AdamSettings(0.9, 0.999), label_convention="fake_is_one")
    assert {tuple(one.param_groups[0]["betas"]) for one in model.configure_optimizers()} == {(0.9, 0.999)}
    assert (model.fake_label, model.real_label) == (1.0, 0.0)


def test_a_growing_schedule_is_refused():
    with pytest.raises(ValueError, match="GAN does not grow, but its schedule has 8, 16 px"):
        GAN(GrowthSchedule([Stage(8, 1.0, 8), Stage(16, 1.0, 8)]), **SMALL)


def test_negative_label_noise_is_refused():
    with pytest.raises(ValueError, match=r"label_noise must not be negative, got -0\.1"):
        GAN(SCHEDULE, **SMALL, label_noise=-0.1)
