"""AGE: whom each term teaches, what the plans ask for, both priors, and the right forms of what was published wrong."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.spaces import Gaussian, Hypersphere
from latent_lab.models import AGE
from latent_lab.models.age import EncoderPlan, GeneratorPlan
from latent_lab.objectives import age
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(16, 0.08, 8, learning_rate=1e-3), Stage(16, 1.0, 8, learning_rate=5e-4)])
SMALL: dict[str, Any] = {"latent_dim": 6, "encoder_width": 4, "generator_width": 4, "seed": 3}
NOTHING: dict[str, float] = {"kl_fake": 0.0, "match_x": 0.0, "match_z": 0.0}


def ready(**options: Any) -> AGE:
    """A model with its optimisers, outside of a trainer."""
    model = AGE(SCHEDULE, **SMALL | options)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda *_, **__: optimizers  # type: ignore[method-assign,assignment]
    model.toggled_optimizer = lambda optimizer: nullcontext()  # type: ignore[method-assign,assignment]
    model.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    return model.train()


def encoder_plan(**weights: Any) -> EncoderPlan:
    """Only the given terms."""
    return EncoderPlan(**{"kl_real": 0.0} | NOTHING | weights)


def generator_plan(**weights: Any) -> GeneratorPlan:
    """One step down the given terms only."""
    return GeneratorPlan(**{"steps": 1} | NOTHING | weights)


def real(count: int = 8, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(count: int = 8) -> ImageBatch:
    return ImageBatch(real(count), torch.arange(count))


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def has_gradient(module: nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in module.parameters())


def passes(network: nn.Module) -> list[int]:
    """Counts forward passes: one entry for each, the number of its inputs."""
    seen: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


# Whom each term teaches


def test_each_step_moves_its_own_network_alone():
    model = ready()
    encoder, generator = weights(model.encoder), weights(model.generator)
    model.update_encoder(real(), model.now)
    assert changed(model.encoder, encoder)
    assert not changed(model.generator, generator)
    encoder = weights(model.encoder)
    model.update_generator(real())
    assert not changed(model.encoder, encoder)
    assert changed(model.generator, generator)


@pytest.mark.parametrize("term", ["kl_real", "kl_fake", "match_x", "match_z"])
def test_every_term_of_the_encoders_plan_teaches_the_encoder(term: str):
    model = ready(encoder_plan=encoder_plan(**{term: 1.0}))
    encoder = weights(model.encoder)
    model.update_encoder(real(), model.now)
    assert changed(model.encoder, encoder)


@pytest.mark.parametrize("term", ["kl_fake", "match_x", "match_z"])
def test_every_term_of_the_generators_plan_teaches_the_generator(term: str):
    model = ready(generator_plan=generator_plan(**{term: 1.0}))
    generator = weights(model.generator)
    model.update_generator(real())
    assert changed(model.generator, generator)


def test_generated_images_are_given_to_the_encoder_without_their_history():
    model = ready(encoder_plan=encoder_plan(kl_fake=1.0, match_z=1.0))
    model.update_encoder(real(), model.now)
    assert not has_gradient(model.generator)


def test_codes_are_given_to_the_generators_image_term_without_their_history():
    model = ready(generator_plan=generator_plan(match_x=1.0))
    model.update_generator(real())
    assert not has_gradient(model.encoder)


def test_the_encoder_climbs_the_divergence_of_fakes_and_the_generator_descends_it():
    divergence = {}
    for who, steps in (("encoder", "update_encoder"), ("generator", "update_generator")):
        model = ready(encoder_plan=encoder_plan(kl_fake=1.0), generator_plan=generator_plan(kl_fake=1.0))
        arguments = (real(), model.now) if who == "encoder" else (real(),)
        name = f"train/{who}/kl" + ("_fake" if who == "encoder" else "")
        values = [getattr(model, steps)(*arguments)[name].item() for _ in range(10)]
        divergence[who] = values[-1] - values[0]
    assert divergence["encoder"] > 0.05
    assert divergence["generator"] < -0.05


def test_real_and_generated_images_pass_the_encoder_apart():
    model = ready()
    seen = passes(model.encoder)
    model.update_encoder(real(), model.now)
    assert seen == [8, 8]


# Plans


def test_a_plan_says_how_often_each_network_steps():
    model = ready(encoder_plan=EncoderPlan(steps=2), generator_plan=GeneratorPlan(steps=3))
    model.training_step(batch())
    encoder, generator = model.optimizers()  # type: ignore[misc]
    assert {int(state["step"]) for state in encoder.state.values()} == {2}
    assert {int(state["step"]) for state in generator.state.values()} == {3}
    assert model.images_seen == 8


def test_every_step_draws_fresh_latents():
    model = ready(encoder_plan=EncoderPlan(steps=2), generator_plan=GeneratorPlan(steps=2))
    seen: list[Tensor] = []
    model.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    model.training_step(batch())
    # Each encoder step decodes codes first, then latents.
    latents = [seen[1], seen[3], seen[4], seen[5]]
    assert all(not torch.equal(a, b) for place, a in enumerate(latents) for b in latents[:place])


@pytest.mark.parametrize(
    ("plan", "encoded", "decoded"),
    [
        (encoder_plan(kl_real=1.0), 1, 0),
        (encoder_plan(kl_fake=1.0), 1, 1),
        (encoder_plan(match_x=1.0), 1, 1),
        (encoder_plan(match_z=1.0), 1, 1),
        (EncoderPlan(), 2, 2),
    ],
)
def test_terms_of_weight_0_are_not_computed_for_the_encoder(plan: EncoderPlan, encoded: int, decoded: int):
    model = ready(encoder_plan=plan)
    encoder, generator = passes(model.encoder), passes(model.generator)
    model.update_encoder(real(), model.now)
    assert (len(encoder), len(generator)) == (encoded, decoded)


@pytest.mark.parametrize(
    ("plan", "encoded", "decoded"),
    [
        (generator_plan(kl_fake=1.0), 1, 1),
        (generator_plan(match_x=1.0), 1, 1),
        (generator_plan(kl_fake=1.0, match_x=1.0, match_z=1.0), 2, 2),
    ],
)
def test_terms_of_weight_0_are_not_computed_for_the_generator(plan: GeneratorPlan, encoded: int, decoded: int):
    model = ready(generator_plan=plan)
    encoder, generator = passes(model.encoder), passes(model.generator)
    model.update_generator(real())
    assert (len(encoder), len(generator)) == (encoded, decoded)


def test_losses_are_the_weighted_sums_of_their_terms():
    model = ready(
        encoder_plan=EncoderPlan(kl_real=2.0, kl_fake=3.0, match_x=5.0, match_z=7.0),
        generator_plan=GeneratorPlan(steps=1, kl_fake=2.0, match_x=3.0, match_z=5.0),
    )
    s = model.training_step(batch())
    e, g = (lambda name: s[f"train/encoder/{name}"]), (lambda name: s[f"train/generator/{name}"])
    torch.testing.assert_close(
        e("loss"), 2 * e("kl_real") - 3 * e("kl_fake") + 5 * e("image") + 7 * e("latent"), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(g("loss"), 2 * g("kl") + 3 * g("image") + 5 * g("latent"), rtol=1e-5, atol=1e-5)
    assert not any(value.requires_grad for value in s.values())


def test_the_image_weight_can_change_once():
    plan = EncoderPlan(match_x=10.0, match_x_final=15.0, final_from_kimg=0.5)
    assert [plan.match_x_at(images) for images in (0, 499, 500, 10_000)] == [10.0, 10.0, 15.0, 15.0]
    assert EncoderPlan(match_x=10.0).match_x_at(10_000) == 10.0


def test_the_learning_rate_drops_where_the_schedule_says():
    model = ready()
    for _ in range(11):
        model.training_step(batch())
    assert {one.param_groups[0]["lr"] for one in model.optimizers()} == {5e-4}  # type: ignore[union-attr]


# Distances, divergences and priors


@pytest.mark.parametrize("metric", ["l1", "l2", "cos"])
def test_images_are_matched_by_the_metric_asked_for(metric: Any):
    model = ready(match_x=metric)
    rebuilt: list[Tensor] = []
    model.generator.register_forward_hook(lambda module, inputs, output: rebuilt.append(output.detach()))
    statistics = model.update_encoder(real(), model.now)
    torch.testing.assert_close(statistics["train/encoder/image"], age.image_distance(rebuilt[0], real(), metric))


@pytest.mark.parametrize("metric", ["l1", "l2", "cos"])
def test_latents_are_matched_by_the_metric_asked_for(metric: Any):
    model = ready(match_z=metric)
    codes: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, inputs, output: codes.append(output.detach()))
    statistics = model.update_generator(real())
    latents = model.latent_space.from_normal(model.training_normals(real(), "generator/0", 6))
    expected = age.latent_distance(model.latent_space.project(codes[0]), latents, metric)
    torch.testing.assert_close(statistics["train/generator/latent"], expected)


def test_without_metrics_the_game_alone_is_played():
    # The published program has the same option, and stops where the term is missing.
    model = ready(match_x="none", match_z="none")
    statistics = model.training_step(batch())
    assert not {"train/encoder/image", "train/generator/latent"} & set(statistics)
    assert all(value.isfinite() for value in statistics.values())


@pytest.mark.parametrize("form", ["exact", "age", "nonparametric"])
def test_the_divergence_has_the_form_asked_for(form: Any):
    model = ready(kl_form=form)
    codes: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, inputs, output: codes.append(output.detach()))
    statistics = model.update_encoder(real(), model.now)
    unit = model.latent_space.project(codes[0])
    expected = age.nearest_neighbour_kl(unit) if form == "nonparametric" else age.moment_kl(unit, form=form)
    torch.testing.assert_close(statistics["train/encoder/kl_real"], expected)


def test_both_directions_of_the_divergence_can_be_trained_with():
    values = [ready(kl_direction=one).training_step(batch())["train/encoder/kl_real"] for one in ("qp", "pq")]
    assert values[0] != values[1]


def test_codes_and_latents_are_on_the_sphere_or_left_alone():
    sphere, gaussian = ready(), ready(prior="gaussian")
    assert isinstance(sphere.latent_space, Hypersphere)
    assert isinstance(gaussian.latent_space, Gaussian)
    torch.testing.assert_close(sphere.encode(real()).norm(dim=1), torch.ones(8))
    assert torch.equal(gaussian.eval().encode(real()), gaussian.encoder(real()))
    seen: list[Tensor] = []
    gaussian.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    gaussian.train().update_generator(real())
    assert torch.equal(seen[0], gaussian.training_normals(real(), "generator/0", 6))


# What was published wrong


def test_the_divergence_is_exact_unless_the_published_form_is_named():
    # Mean 3, variance 4: the published form takes the variance for the deviation.
    codes = torch.tensor([[1.0], [5.0]])
    assert ready()._kl(codes).item() == pytest.approx(age.moment_kl(codes).item())
    assert ready(kl_form="age")._kl(codes).item() == pytest.approx((16 + 9) / 2 - 1.3862944 - 0.5)


def test_as_many_codes_as_dimensions_are_still_one_code_for_each_image():
    # The published program relied on shapes that today's torch would spread to (B, D, B, D), or divide along the wrong
    # axis where B = D.
    model = ready(latent_dim=8)
    codes = model.encode(real(8))
    assert codes.shape == (8, 8)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(8))
    assert not torch.allclose(codes.norm(dim=0), torch.ones(8), atol=1e-3)
    cosine = model.update_generator(real(8))["train/generator/cosine"]
    assert cosine.ndim == 0
    assert cosine.abs() <= 1


def test_in_evaluation_a_code_depends_on_its_image_alone_and_moves_nothing():
    # The published program encodes in training mode, so that a code depends on the images beside it.
    model = ready()
    model.training_step(batch())
    alone = model.eval().encode(real(8)[:2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.testing.assert_close(model.encode(real(8))[:2], alone)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.allclose(model.train().encode(real(8))[:2], model.encode(real(8)[:2]))


# Records, the average, refusals


def test_a_step_reports_what_progress_and_curves_name():
    model = ready()
    statistics = set(model.training_step(batch()))
    assert set(model.progress_names) <= statistics
    assert {name for names in model.curve_panels.values() for name in names} <= statistics


def test_without_an_average_the_current_generator_decodes():
    model = ready().eval()
    latents = model.latent_space.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(model.decode(latents), model.generator(latents))
    assert model.training_only == ()


def test_with_an_average_it_decodes_in_evaluation_mode_only():
    model = ready(average_half_life_kimg=1.0)
    for _ in range(3):
        model.training_step(batch())
    latents = model.eval().latent_space.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(model.decode(latents), model.generator_average(latents))  # type: ignore[misc]
    assert not torch.equal(model.decode(latents), model.generator(latents))
    assert model.training_only == ("generator",)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda: EncoderPlan(steps=0), "encoder_plan must have at least 1 step, got 0"),
        (lambda: GeneratorPlan(kl_fake=-1.0), r"generator_plan: kl_fake must not be negative, got -1\.0"),
        (lambda: encoder_plan(), "encoder_plan has no term to step down"),
        (lambda: EncoderPlan(match_x_final=0.0), r"match_x_final must be positive or null, got 0\.0"),
        (lambda: ready(match_z="none", generator_plan=generator_plan(match_z=1.0)), "generator_plan has no term"),
        (lambda: ready(kl_form="nonparametric", kl_direction="pq"), "a nonparametric KL has the direction qp only"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(plan: Any, message: str):
    with pytest.raises(ValueError, match=message):
        plan()


def test_a_growing_schedule_is_refused():
    with pytest.raises(ValueError, match="AGE does not grow, but its schedule has 16, 32 px"):
        AGE(GrowthSchedule([Stage(16, 1.0, 8), Stage(32, 1.0, 8)]), **SMALL)
