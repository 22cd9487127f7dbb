"""Who learns what in the Automodulator, and tests for those defects of the published program that concern training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.automodulator import Automodulator, AutomodulatorWeights, _with_mirrored_neighbours
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.types import ImageBatch

GROWING = GrowthSchedule(
    [Stage(4, 0.016, 8, learning_rate=5e-4), Stage(8, 0.032, 8, fade_kimg=0.016), Stage(16, 0.032, 8, fade_kimg=0.016)]
)
STABLE = GrowthSchedule([Stage(16, 1.0, 8)])


def model(schedule: GrowthSchedule = STABLE, **options: Any) -> Automodulator:
    torch.manual_seed(0)
    return Automodulator(schedule, **{"latent_dim": 8, "sample_buffer": 0, "seed": 1, **options})


def pictures(n: int = 8, resolution: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def train(automodulator: Automodulator, steps: int = 1, step: Any = None) -> list[Any]:
    """What each step returned; `step(model, batch)` takes the place of the model's own."""
    returned: list[Any] = []
    own = automodulator.training_step

    def recorded(batch: Any) -> None:
        returned.append(step(automodulator, batch) if step else own(batch))

    automodulator.training_step = recorded  # type: ignore[assignment]
    schedule, seen, batches = automodulator.schedule, automodulator.images_seen, []
    for number in range(steps):
        resolution = schedule.at(seen + 8 * number).resolution
        batches.append(ImageBatch(pictures(8, resolution, number), torch.arange(8)))
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, barebones=True)
    trainer.fit(automodulator, torch.utils.data.DataLoader(batches, batch_size=None))
    automodulator.training_step = own  # type: ignore[assignment]
    return returned


def encoder_step(automodulator: Automodulator, batch: ImageBatch) -> Any:
    return automodulator.update_encoder(batch.images, automodulator.now)


def generator_step(automodulator: Automodulator, batch: ImageBatch) -> Any:
    return automodulator.update_generator(batch.images, automodulator.now, 0)


def with_gradient(automodulator: Automodulator) -> set[str]:
    return {
        name
        for name, parameter in automodulator.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


# Who learns what


def test_the_image_term_trains_the_encoder_and_the_robust_loss_of_this_resolution_alone() -> None:
    automodulator = model()
    train(automodulator, step=encoder_step)
    reached = with_gradient(automodulator)
    assert any(name.startswith("encoder.") for name in reached)
    assert {name for name in reached if not name.startswith("encoder.")} == {
        "robust.raw_shapes.2",
        "robust.raw_scales.2",
    }


def test_modulations_follow_the_encoder_on_demand() -> None:
    automodulator = model(affine_follows_encoder=True, image_metric="l1")
    before = [parameter.clone() for parameter in automodulator.generator.affine_parameters()]
    train(automodulator, step=encoder_step)
    reached = {name for name in with_gradient(automodulator) if not name.startswith("encoder.")}
    assert reached
    assert all(".adain." in name for name in reached)
    after = automodulator.generator.affine_parameters()
    # The published program's flag accumulated gradients and never took the step.
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_modulations_own_learning_rate_is_not_the_schedules() -> None:
    schedule = GrowthSchedule([Stage(4, 1.0, 8, learning_rate=0.25)])
    automodulator = model(schedule, affine_follows_encoder=True, affine_learning_rate=0.5)
    train(automodulator)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in automodulator._all_optimizers]
    assert rates == [0.25, 0.25, 0.5]


def test_the_generators_step_trains_the_generator_alone() -> None:
    automodulator = model()
    train(automodulator, step=generator_step)
    assert {name.partition(".")[0] for name in with_gradient(automodulator)} == {"generator"}


@pytest.mark.parametrize("trained", [False, True])
def test_the_fading_to_rgb_layer_is_trained_only_on_demand(trained: bool) -> None:
    automodulator = model(GROWING, train_coarse_rgb=trained)
    automodulator.advance(24)
    assert 0 < automodulator.now.alpha < 1
    train(automodulator, step=generator_step)
    assert ("generator.to_rgb.0.weight" in with_gradient(automodulator)) == trained


def test_everything_takes_a_gradient_again_after_a_step() -> None:
    automodulator = model()
    train(automodulator)
    learning = (automodulator.encoder, automodulator.generator, automodulator.robust)
    assert all(parameter.requires_grad for module in learning for parameter in module.parameters())
    assert not any(parameter.requires_grad for parameter in automodulator.generator_average.parameters())


# Mixing


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 2), (0.4, 3), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_rows_changes_codes_at_one_cut(share: float, expected: int) -> None:
    automodulator = model()
    mixture = automodulator._mixture(pictures(), "test", share, automodulator.now)
    changed = (mixture.styles != mixture.styles[:, :1]).any(-1)
    assert int(mixture.rows.sum()) == expected
    assert 1 <= mixture.cut <= 2
    assert torch.equal(changed, mixture.rows[:, None] & (torch.arange(3) >= mixture.cut))
    assert automodulator._count_mixed(pictures(), share, automodulator.now) == (expected, 8 - expected)


def test_every_cut_comes_up() -> None:
    automodulator = model(GrowthSchedule([Stage(32, 1.0, 8)]))
    cuts = []
    for _ in range(60):
        cuts.append(automodulator._mixture(pictures(), "test", 0.5, automodulator.now).cut)
        automodulator.advance(8)
    assert {cut: cuts.count(cut) > 8 for cut in (1, 2, 3)} == {1: True, 2: True, 3: True}


def test_the_first_resolution_has_no_cut() -> None:
    automodulator = model(GROWING)
    mixture = automodulator._mixture(pictures(resolution=4), "test", 0.5, automodulator.now)
    assert (mixture.cut, int(mixture.rows.sum())) == (0, 0)


def test_no_cut_lies_within_a_resolution_that_is_fading_in() -> None:
    automodulator = model(GROWING, flip_block=2)
    automodulator.advance(24)
    assert automodulator.now.resolution == 8
    assert automodulator._last_cut(automodulator.now) == 1
    automodulator.advance(16)
    assert automodulator._last_cut(automodulator.now) == 2


def test_the_mixing_loss_of_a_perfect_inverse_is_zero() -> None:
    automodulator = model(layer_noise=False)
    mixture = automodulator._mixture(pictures(), "test", 0.5, automodulator.now)
    below = automodulator.generator.modulate(mixture.styles, end=mixture.cut, phase=2)
    codes = mixture.styles[mixture.rows, 0]
    assert automodulator._mixing_error(codes, below, mixture, "test", automodulator.now) == 0


@pytest.mark.parametrize(("noise", "floor"), [("shared", False), ("fresh", True)])
def test_fresh_noise_leaves_a_floor_under_the_mixing_loss(noise: str, floor: bool) -> None:
    automodulator = model(mixing_noise=noise)
    for parameter in (p for name, p in automodulator.generator.named_parameters() if "noise_scale" in name):
        parameter.data.fill_(0.3)
    # Codes that the encoder inverts perfectly, cut behind a block with noise.
    mixture = automodulator._mixture(pictures(), "test", 0.5, automodulator.now)._replace(cut=2)
    drawn = automodulator._noise(pictures(), "test")
    below = automodulator.generator.modulate(mixture.styles[:, :1].expand(-1, 3, -1), drawn, end=2, phase=2)
    codes = mixture.styles[mixture.rows, 0]
    error = automodulator._mixing_error(codes, below, mixture, "test", automodulator.now)
    assert (error > 1e-3) == floor


# Layer noise


def test_decoding_is_a_function_of_the_latents_though_noise_is_added() -> None:
    automodulator, quiet = model().eval(), model(evaluation_noise=False).eval()
    for each in (automodulator, quiet):
        for parameter in (p for name, p in each.generator_average.named_parameters() if "noise_scale" in name):
            parameter.data.fill_(0.3)
    latents = automodulator.latent_space.sample(3, torch.Generator().manual_seed(0))
    images = automodulator.decode(latents)
    assert torch.equal(automodulator.decode(latents), images)
    torch.testing.assert_close(automodulator.decode(latents[1:2]), images[1:2])
    assert (images - quiet.decode(latents)).abs().max() > 0.01


def test_training_noise_depends_on_the_place_of_an_image_alone() -> None:
    automodulator = model()
    shape = torch.Size((8, 4, 2, 2))
    whole = automodulator._noise(pictures(), "test")
    first, second = whole(shape), whole(shape)
    assert not torch.equal(first, second)
    rows = torch.tensor([False, True, False, False, True, False, False, False])
    part = automodulator._noise(pictures(), "test", rows)
    assert torch.equal(part(torch.Size((2, 4, 2, 2))), first[rows])
    assert torch.equal(part(torch.Size((2, 4, 2, 2))), second[rows])


# The robust loss


def test_defect_2_gradients_of_the_robust_loss_start_at_zero_in_every_step() -> None:
    # One batch, three steps, nothing moves: the gradient is the same each time, or grows threefold as published.
    found = {}
    for kind in ("zeroed", "accumulated"):
        schedule = GrowthSchedule([Stage(4, 1.0, 8, learning_rate=1e-30)])
        automodulator = model(schedule, robust_gradients=kind, layer_noise=False, encoder_mixing_share=0.0)
        automodulator.encoder.eval()
        gradients = []

        def same_step(each: Automodulator, batch: ImageBatch, gradients: list[Tensor] = gradients) -> None:
            each.encoder.eval()  # keeps the spectral vectors
            encoder_step(each, ImageBatch(pictures(resolution=4), torch.arange(8)))
            gradients.append(each.robust.raw_shapes[0].grad.clone())

        train(automodulator, 3, same_step)
        found[kind] = gradients
    torch.testing.assert_close(found["zeroed"][2], found["zeroed"][0])
    torch.testing.assert_close(found["accumulated"][2], 3 * found["zeroed"][0])


@pytest.mark.parametrize("growth", ["nearest", "scrambled"])
def test_defect_4_a_resolution_inherits_the_parameters_of_the_one_below_in_their_places(growth: str) -> None:
    automodulator = model(GROWING, robust_growth=growth)
    train(automodulator, 2)
    coarse = automodulator.robust.raw_scales[0].detach().clone()
    assert coarse.abs().max() > 0
    seen = []
    train(automodulator, step=lambda each, batch: (each._grow_robust_loss(each.now), seen.append(each.now.phase)))
    assert seen == [1]
    doubled = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(automodulator.robust.raw_scales[1], doubled) == (growth == "nearest")


def test_the_robust_loss_grows_once_and_a_checkpoint_knows_it() -> None:
    automodulator = model(GROWING)
    train(automodulator, 3)
    checkpoint: dict[str, Any] = {}
    automodulator.on_save_checkpoint(checkpoint)
    assert checkpoint[CHECKPOINT_KEY]["robust"]["phase"] == 1
    restored = model(GROWING)
    restored.on_load_checkpoint(checkpoint)
    restored.load_state_dict(automodulator.state_dict())
    before = restored.robust.raw_scales[1].clone()
    restored._grow_robust_loss(restored.now)
    assert torch.equal(restored.robust.raw_scales[1], before)


# Other defects


@pytest.mark.parametrize(("upper", "clamped"), [(0.5, True), (None, False)])
def test_defect_3_the_clamps_upper_end_and_the_second_real_term_are_options(upper: float | None, clamped: bool) -> None:
    schedule = GrowthSchedule([Stage(4, 1.0, 8, margin=1e-9)])
    weights = AutomodulatorWeights(kl_real=1.0, kl_fake=0.0, kl_real_outside_margin=0.5)
    (statistics,) = train(model(schedule, margin_upper=upper, weights=weights), step=encoder_step)
    real = statistics["train/encoder/kl_real"]
    adversarial = 5e-10 if clamped else real
    expected = statistics["train/encoder/image_loss"] + 0.5 * real + adversarial
    torch.testing.assert_close(statistics["train/encoder/loss"], expected)


def test_defect_6_the_first_row_of_the_schedule_is_applied() -> None:
    automodulator = model(GROWING)
    train(automodulator)
    assert automodulator._all_optimizers[0].param_groups[0]["lr"] == 5e-4


def test_defect_14_decoding_uses_the_state_of_growth_whichever_way_it_is_called() -> None:
    automodulator = model(GROWING, flip_block=2).eval()
    automodulator.advance(56)
    assert 0 < automodulator.now.alpha < 1
    latents = automodulator.latent_space.sample(2, torch.Generator().manual_seed(0))
    styles = latents[:, None].expand(-1, automodulator.num_layers, -1)
    assert torch.equal(automodulator.decode(latents), automodulator.decode_layers(styles))


# Flip invariance


def test_every_second_image_is_the_mirror_image_of_its_neighbour() -> None:
    real = pictures()
    pairs = _with_mirrored_neighbours(real)
    assert torch.equal(pairs[0::2], real[0::2])
    assert torch.equal(pairs[1::2], real[0::2].flip(3))


def test_neighbours_exchange_their_codes_from_the_supporting_block_on() -> None:
    automodulator = model(flip_block=2)
    codes = automodulator.latent_space.sample(4, torch.Generator().manual_seed(0))
    styles = automodulator._exchanged_between_neighbours(codes)
    assert automodulator.layer_resolutions == (4, 8, 8, 16)
    assert torch.equal(styles[:, :2], codes[:, None].expand(-1, 2, -1))
    assert torch.equal(styles[:, 2:], codes[[1, 0, 3, 2], None].expand(-1, 2, -1))


def test_the_flip_loss_does_not_depend_on_which_of_a_pair_comes_first() -> None:
    def losses(images: Tensor) -> list[Tensor]:
        automodulator = model(flip_block=2, image_metric="l1", encoder_mixing_share=0.0)
        (found,) = train(automodulator, step=lambda each, batch: each.update_encoder(images, each.now))
        return [found["train/encoder/image_loss"], found["train/encoder/kl_real"]]

    real = pictures()
    torch.testing.assert_close(losses(real.flip(3)), losses(real))


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_steps": 0}, "generator_steps must be at least 1, got 0"),
        ({"encoder_mixing_share": 1.5}, r"encoder_mixing_share must be in \[0, 1\], got 1.5"),
        ({"generator_mixing_share": 1.0}, "generator_mixing_share must be below 1"),
        ({"max_resolution": 8}, "max_resolution 8 is below the schedule's 16 pixels"),
        ({"flip_block": 9}, "support_block must be a place from 1 to"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_pairs_need_even_batches() -> None:
    with pytest.raises(ValueError, match="batch sizes must be even"):
        model(GrowthSchedule([Stage(16, 1.0, 7)]), flip_block=2)
