"""StyleGAN: who learns in which step, mixing, the mean of w, resets, penalties, and what decodes."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.styles import repeat
from latent_lab.models import StyleGAN
from latent_lab.models.stylegan import StyleGANWeights
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(8, 0.032, 8), Stage(16, 0.064, 8, fade_kimg=0.032)])
SMALL: dict[str, Any] = {"latent_dim": 6, "widths": [8, 8, 4], "mapping_layers": 2, "seed": 3}
FADING, GROWN = 48, 96


def ready(schedule: GrowthSchedule = SCHEDULE, *, images_seen: int = 0, **options: Any) -> StyleGAN:
    """A model with its optimisers, outside of a trainer."""
    model = StyleGAN(schedule, **SMALL | options)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda *_, **__: optimizers  # type: ignore[method-assign,assignment]
    model.toggled_optimizer = lambda optimizer: nullcontext()  # type: ignore[method-assign,assignment]
    model.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    model.advance(images_seen)
    return model.train()


def real(model: StyleGAN, count: int = 8) -> Tensor:
    side = model.resolution
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def batch(model: StyleGAN) -> ImageBatch:
    return ImageBatch(real(model), torch.arange(8))


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: torch.nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


# Steps


def test_each_step_moves_its_own_network_alone():
    model = ready()
    generator, discriminator = weights(model.generator), weights(model.discriminator)
    model.update_discriminator(real(model), model.now)
    assert changed(model.discriminator, discriminator)
    assert not changed(model.generator, generator)
    discriminator = weights(model.discriminator)
    model.update_generator(real(model), model.now)
    assert not changed(model.discriminator, discriminator)
    assert changed(model.generator, generator)


@pytest.mark.parametrize("loss", ["logistic", "logistic_saturating", "wasserstein"])
@pytest.mark.parametrize("images_seen", [0, FADING, GROWN])
def test_a_step_reports_finite_numbers_without_gradient(loss: str, images_seen: int):
    model = ready(loss=loss, images_seen=images_seen)
    statistics = model.training_step(batch(model))
    assert {
        "train/discriminator/loss",
        "train/discriminator/penalty",
        "train/discriminator/score_real",
        "train/discriminator/score_fake",
        "train/generator/loss",
        "train/images/fake_deviation",
        "train/images/real_deviation",
        "train/images/diversity",
    } == set(statistics)
    assert all(value.isfinite() and not value.requires_grad for value in statistics.values())
    assert set(model.progress_names) <= set(statistics)
    assert model.images_seen == images_seen + 8


@pytest.mark.parametrize("images_seen", [0, FADING, GROWN])
def test_layers_above_the_present_resolution_have_no_part_in_a_step(images_seen: int):
    model = ready(images_seen=images_seen)
    phase = model.now.phase
    model.training_step(batch(model))
    for number, layer in enumerate(model.generator.synthesis.layers):
        assert (layer.bias.grad is not None) == (number < 2 * (phase + 1))
    for number, block in enumerate(model.discriminator.blocks):
        assert (block[0].bias.grad is not None) == (number <= phase)


def test_the_discriminators_loss_is_the_logistic_one_with_half_gamma_times_r1():
    model = ready(weights=StyleGANWeights(r1=4.0))
    statistics = model.update_discriminator(real(model), model.now)
    again = ready()
    with torch.no_grad():
        _, styles = again._styles(real(again), "discriminator", again.now)
        fake = again._synthesise(styles, real(again), "discriminator", again.now)
        on_fake = again.discriminator(fake, 1)
    images = real(again).requires_grad_()
    on_real = again.discriminator(images, 1)
    (slope,) = torch.autograd.grad(on_real.sum(), images)
    penalty = slope.square().sum((1, 2, 3)).mean()
    expected = F.softplus(on_fake).mean() + F.softplus(-on_real).mean() + 2.0 * penalty
    assert statistics["train/discriminator/loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert statistics["train/discriminator/penalty"].item() == pytest.approx(penalty.item(), rel=1e-5)


def test_the_published_scale_of_r1_grows_with_the_resolution():
    model = ready(r1_as_published=True)
    assert model._r1_gamma(model.now) == 10 / 4
    model.advance(FADING)
    assert model._r1_gamma(model.now) == 10
    assert ready()._r1_gamma(ready().now) == 10


def test_without_r1_no_second_gradient_is_taken():
    model = ready(weights=StyleGANWeights(r1=0.0))
    assert model.update_discriminator(real(model), model.now)["train/discriminator/penalty"] == 0


def test_a_step_follows_the_position_in_training_alone():
    first, second = ready(), ready()
    torch.manual_seed(0)
    a = first.training_step(batch(first))
    torch.manual_seed(1)
    b = second.training_step(batch(second))
    assert a == b
    assert first.training_step(batch(first))["train/generator/loss"] != a["train/generator/loss"]


# Mixing


def cuts(model: StyleGAN, layers: int, draws: int) -> list[int]:
    found = []
    for step in range(draws):
        model.images_seen = 8 * step
        found.append(model._cut(layers, "generator"))
    return found


def test_cuts_are_even_over_the_active_layers_and_as_frequent_as_asked_for():
    draws = 2000
    found = torch.bincount(torch.tensor(cuts(ready(mixing_probability=0.8), 4, draws)), minlength=5) / draws
    assert found[0] == 0
    # Five standard errors of a share.
    for share, expected in zip(found[1:], (0.8 / 3, 0.8 / 3, 0.8 / 3, 0.2), strict=True):
        assert share.item() == pytest.approx(expected, abs=5 * math.sqrt(0.25 / draws))


@pytest.mark.parametrize(("probability", "mixed"), [(0.0, 0), (1.0, 50)])
def test_mixing_may_be_never_or_always(probability: float, mixed: int):
    assert sum(cut < 4 for cut in cuts(ready(mixing_probability=probability), 4, 50)) == mixed


def test_a_mixed_batch_has_one_latent_below_the_cut_and_another_from_it_on():
    model = ready(mixing_probability=1.0)
    w, styles = model._styles(real(model), "generator", model.now)
    cut = model._cut(4, "generator")
    assert torch.equal(styles[:, :cut], repeat(w, cut))
    assert (styles[:, cut:] - w[:, None]).abs().amin((1, 2)).min() > 0
    other = model.training_normals(real(model), "generator/mixed", 6)
    assert torch.equal(styles[:, cut:], repeat(model.generator.mapping(other), 4 - cut))


def test_a_traditional_generator_is_not_mixed():
    model = ready(styles=False, constant_input=False, layer_noise=False, mapping_layers=0)
    assert model.layer_resolutions == (4,)
    _, styles = model._styles(real(model), "generator", model.now)
    assert styles.shape == (8, 1, 6)
    model.training_step(batch(model))
    assert model.eval().decode(torch.randn(2, 6)).shape == (2, 3, 8, 8)


# The mean of w


def test_the_mean_of_w_moves_once_in_a_step_towards_the_generators_batch():
    model = ready(w_average_decay=0.9)
    w = model.generator.mapping(model.training_normals(real(model), "generator", 6)).mean(0)
    model.training_step(batch(model))
    torch.testing.assert_close(model.generator.w_average, 0.1 * w)


def test_the_averaged_generator_has_the_same_mean_of_w_and_stored_noise():
    model = ready()
    for _ in range(3):
        model.training_step(batch(model))
    average = model.generator_average.network
    assert torch.equal(average.w_average, model.generator.w_average)
    assert torch.equal(average.synthesis.noise_5, model.generator.synthesis.noise_5)
    assert torch.equal(model.eval().mapped_average, average.w_average)


# Resets


def moments(model: StyleGAN) -> int:
    """Steps that Adam remembers."""
    states = [state for optimizer in model.optimizers() for state in optimizer.state.values()]
    return int(max(state["step"] for state in states))


def steps_remembered(model: StyleGAN, steps: int) -> list[int]:
    remembered = []
    for _ in range(steps):
        model.training_step(batch(model))
        remembered.append(moments(model))
    return remembered


def test_moments_are_forgotten_where_a_resolution_begins_and_where_it_has_faded_in():
    # Four steps at 8 px, four in which 16 px fade in, four more.
    assert steps_remembered(ready(), 12) == [1, 2, 3, 4] * 3


def test_moments_can_be_kept():
    assert steps_remembered(ready(reset_optimizers=False), 12) == list(range(1, 13))


def test_a_model_that_goes_on_forgets_nothing_twice():
    model = ready()
    steps_remembered(model, 5)
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    again = ready(images_seen=model.images_seen)
    for optimizer, other in zip(again.optimizers(), model.optimizers(), strict=True):
        optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    again.on_load_checkpoint(checkpoint)
    assert steps_remembered(again, 4) == steps_remembered(model, 4) == [2, 3, 4, 1]


# Decoding


def test_the_average_decodes_in_evaluation_mode_only():
    model = ready(images_seen=GROWN)
    for _ in range(3):
        model.training_step(batch(model))
    latents = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    now = model.now
    assert torch.equal(model.train().decode(latents), model.generator(latents, now.phase))
    assert torch.equal(model.eval().decode(latents), model.generator_average(latents, now.phase))
    assert not torch.equal(model.generator(latents, now.phase), model.generator_average(latents, now.phase))


def test_layers_decode_points_of_w_like_latents_that_are_mapped():
    model = ready(images_seen=GROWN).eval()
    styles = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0))
    mapped = model.map(styles.flatten(0, 1)).unflatten(0, (2, 6))
    torch.testing.assert_close(model.decode_mapped(mapped), model.decode_layers(styles))


def test_images_of_one_latent_are_the_same_in_any_company():
    model = ready().eval()
    latents = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.decode(latents)[2:3], model.decode(latents[2:3]))


# Input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixing_probability": 1.5}, r"mixing_probability must be in \[0, 1\], got 1.5"),
        ({"w_average_decay": 1.0}, r"w_average_decay must be in \[0, 1\), got 1.0"),
        ({"max_resolution": 8}, "max_resolution 8 is below the schedule's 16 pixels"),
        ({"styles": False}, "latents act nowhere"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        StyleGAN(SCHEDULE, **SMALL | options)


def test_batches_that_do_not_fall_into_groups_are_refused():
    with pytest.raises(ValueError, match="batch_size must be a multiple of the group size 4"):
        StyleGAN(GrowthSchedule([Stage(16, 1.0, 6)]), **SMALL)
