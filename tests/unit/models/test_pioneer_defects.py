"""One test for each defect of the published programs: what the default does right, and the option that reproduces it.

Numbers are those of the list of defects in section 8 of the facts about AGE, Pioneer and Balanced Pioneer.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn

from latent_lab import images
from latent_lab.distributed import IndexedRandom
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.base import AdamSettings
from latent_lab.models.pioneer import Pioneer
from latent_lab.networks.layers import SpectralConv2d
from latent_lab.objectives import age
from latent_lab.types import ImageBatch

STABLE = GrowthSchedule([Stage(4, 1.0, 8), Stage(8, 1.0, 8)])


def model(schedule: GrowthSchedule = STABLE, **options: object) -> Pioneer:
    torch.manual_seed(0)
    return Pioneer(schedule, latent_dim=8, **options)


def pictures(n: int = 8, resolution: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def train(pioneer: Pioneer, steps: int = 2, **arguments: object) -> Trainer:
    resolution = pioneer.resolution
    batches = [ImageBatch(pictures(8, resolution, seed), torch.arange(8)) for seed in range(steps)]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(pioneer, torch.utils.data.DataLoader(batches, batch_size=None), **arguments)
    return trainer


def state(pioneer: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pioneer.state_dict().items()}


def assert_same_state(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert {name for name in theirs if not torch.equal(ours[name], theirs[name])} == set()


def test_defect_1_negative_code_values_are_squeezed_five_fold_by_a_misplaced_activation() -> None:
    right, published = model(), model(encoder_last_activation=True)
    published.load_state_dict(right.state_dict())
    codes, squeezed = (pioneer.eval().encoder(pictures(), 0) for pioneer in (right, published))
    assert (codes < 0).any()
    assert torch.equal(squeezed, torch.where(codes < 0, 0.2 * codes, codes))


def test_defect_2_every_device_has_the_same_spectral_vectors_whatever_data_it_saw() -> None:
    one = model().encoder
    other = copy.deepcopy(one)
    vectors = {name for name, _ in one.named_buffers()}
    assert len(vectors) == 4
    for step in range(3):
        one(pictures(seed=step), 0)
        other(pictures(4, seed=100 + step), 0)
    assert_same_state(dict(one.named_buffers()), dict(other.named_buffers()))


def test_defect_2_a_forward_pass_moves_the_stored_vector_itself() -> None:
    layer = SpectralConv2d(3, 4, 3)
    storage, before = layer.u.data_ptr(), layer.u.clone()
    layer(torch.randn(1, 3, 5, 5))
    assert layer.u.data_ptr() == storage
    assert not torch.equal(layer.u, before)


def test_defect_3_outputs_in_evaluation_do_not_depend_on_what_was_evaluated_before() -> None:
    pioneer = model().eval()
    before = state(pioneer)
    first = pioneer.reconstruct(pictures())
    pioneer.reconstruct(pictures(seed=1))
    assert torch.equal(pioneer.reconstruct(pictures()), first)
    assert_same_state(state(pioneer), before)


def test_defect_4_resuming_keeps_the_averaged_generator(tmp_path: Path) -> None:
    first = model()
    train(first).save_checkpoint(tmp_path / "last.ckpt")
    saved = state(first.generator_average)
    assert not torch.equal(saved["network.to_rgb.0.weight"], first.generator.to_rgb[0].weight)

    class Resumed(Exception):
        pass

    class Watch(Pioneer):
        def on_train_start(self) -> None:
            assert_same_state(state(self.generator_average), saved)
            assert_same_state(state(self.generator), state(first.generator))
            raise Resumed

    resumed = Watch(STABLE, latent_dim=8)
    resumed.recipe = first.recipe
    batches = [ImageBatch(pictures(), torch.arange(8))] * 3
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(Resumed):
        trainer.fit(
            resumed, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=str(tmp_path / "last.ckpt")
        )


def test_defect_5_spectral_vectors_are_part_of_the_state() -> None:
    pioneer = model()
    train(pioneer)
    vectors = [name for name in pioneer.state_dict() if name.endswith(".u")]
    assert len(vectors) == 4 * 3  # encoder, generator, averaged generator: two convolutions in two blocks each
    restored = Pioneer(STABLE, latent_dim=8, seed=1)
    restored.load_state_dict(pioneer.state_dict())
    codes = pioneer.eval().encode(pictures())
    assert torch.equal(restored.eval().encode(pictures()), codes)
    assert torch.equal(restored.decode(codes), pioneer.decode(codes))


@pytest.mark.parametrize("form", ["exact", "age"])
def test_defect_6_the_divergence_is_exact_unless_a_published_form_is_asked_for(form: str) -> None:
    pioneer = model(**({} if form == "exact" else {"kl_form": form}))
    codes = pioneer.latent_space.sample(8, torch.Generator().manual_seed(0))
    mean, variance = codes.mean(0), codes.var(0, correction=0)
    expected = {
        "exact": (variance + mean**2) / 2 - variance.log() / 2 - 0.5,
        "age": (variance**2 + mean**2) / 2 - variance.log() - 0.5,
    }
    torch.testing.assert_close(pioneer._kl(codes), expected[form].mean())


def test_defect_7_latents_are_unit_vectors_of_the_full_width() -> None:
    pioneer = model()
    for latents in (
        pioneer._latents(pictures(), "encoder"),
        pioneer.latent_space.sample(8, torch.Generator().manual_seed(0)),
    ):
        assert latents.shape == (8, 8)
        torch.testing.assert_close(latents.norm(dim=1), torch.ones(8))
        assert not torch.equal(latents[:, -1], latents[:, -2])


@pytest.mark.parametrize(
    ("options", "betas"),
    [({}, (0.0, 0.99)), ({"adam": AdamSettings(beta2=0.9)}, (0.0, 0.9))],
    ids=["right", "balanced"],
)
def test_defect_8_the_second_moment_decays_by_0_99_or_by_0_9_on_demand(options: dict, betas: tuple) -> None:
    optimizers = model(**options).configure_optimizers()
    assert [group["betas"] for optimizer in optimizers for group in optimizer.param_groups] == [betas, betas]


@pytest.mark.parametrize(
    ("rate", "margin", "clamped"), [(5e-4, 0.05, 1.0), (1e-3, None, 0.0)], ids=["right", "published"]
)
def test_defect_9_the_first_row_of_the_schedule_is_applied(rate: float, margin: float | None, clamped: float) -> None:
    # The published scheduler skips it; writing what it really did as the first row reproduces that.
    schedule = GrowthSchedule([Stage(4, 1.0, 8, learning_rate=rate, margin=margin)])
    pioneer = model(schedule)
    recorded = []
    step = pioneer.training_step
    pioneer.training_step = lambda batch: recorded.append(step(batch)) or recorded[-1]
    trainer = train(pioneer, steps=1)
    assert [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups] == [rate, rate]
    # An untrained Balanced Pioneer's gap is far beyond any margin.
    assert recorded[0]["train/encoder/clamped"].item() == clamped


def test_defect_10_networks_smaller_than_the_schedule_are_refused() -> None:
    with pytest.raises(ValueError, match="max_resolution 4 is below the schedule's 8 pixels: raise it or leave it"):
        model(max_resolution=4)


def test_defect_10_growth_ends_with_the_schedule() -> None:
    pioneer = model()
    pioneer.advance(10**9)
    assert pioneer.resolution == 8
    assert pioneer.eval().decode(pioneer.latent_space.project(torch.ones(1, 8))).shape == (1, 3, 8, 8)


def test_defect_10_a_run_ends_no_earlier_than_its_schedule() -> None:
    assert model().max_images == 2000


FADE = GrowthSchedule([Stage(8, 1.0, 8, fade_kimg=1.0)])


def test_defect_12_real_images_are_mixed_once_in_float() -> None:
    pioneer, published = model(FADE), model(FADE, published_fade=True)
    real = pictures(4, 8)
    right = pioneer.fade(real, 0.3)
    coarse = real.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    expected = 0.3 * real + 0.7 * coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(right, expected)
    # A constant between two levels of 8 bits stays what it is; the published loader rounds it, mixes, and cuts it off.
    level = torch.full((1, 3, 8, 8), 0.1234)
    torch.testing.assert_close(pioneer.fade(level, 0.3), level)
    twice = published.fade(level, 0.3)
    assert torch.equal(images.quantise(twice), twice)
    assert 1e-3 < (twice - level).abs().max() <= 1.5 / 127.5


def test_defect_15_as_many_codes_as_dimensions_are_normalised_along_the_right_axis() -> None:
    pioneer = model().eval()
    codes = pioneer.encode(pictures(8))
    assert codes.shape == (8, 8)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(codes[:2], pioneer.encode(pictures(8)[:2]))


@pytest.mark.parametrize("objective", [age.latent_cosine, age.mean_cosine])
def test_defect_15_the_latent_term_compares_row_by_row(objective: object) -> None:
    a, b = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    rows = torch.stack([objective(a[row : row + 1], b[row : row + 1]) for row in range(8)])
    torch.testing.assert_close(objective(a, b), rows.mean())


def test_defect_18_evaluation_between_steps_leaves_training_as_it_was() -> None:
    undisturbed, disturbed = model(), model()
    train(undisturbed)
    step = disturbed.training_step

    def evaluate_first(batch: ImageBatch) -> dict[str, Tensor]:
        flags = [parameter.requires_grad for parameter in disturbed.parameters()]
        disturbed.eval()
        with torch.no_grad():
            disturbed.reconstruct(pictures(3, seed=9))
            disturbed.decode(disturbed.latent_space.sample(3, torch.Generator().manual_seed(1)))
        disturbed.train()
        assert [parameter.requires_grad for parameter in disturbed.parameters()] == flags
        return step(batch)

    disturbed.training_step = evaluate_first
    train(disturbed)
    assert_same_state(state(disturbed), state(undisturbed))


def test_defect_20_spectral_norms_depend_on_weights_not_on_data() -> None:
    layer = SpectralConv2d(3, 4, 3)
    twin = copy.deepcopy(layer)
    layer(torch.zeros(1, 3, 5, 5))
    twin(1000 * torch.randn(7, 3, 9, 9))
    assert torch.equal(layer.u, twin.u)
    assert torch.equal(layer.eval().normalised_weight(), twin.eval().normalised_weight())


# What the published steps do, and readers of the papers would get wrong (section 0).


def test_the_image_loss_never_reaches_the_generator_and_a_step_touches_one_network_alone() -> None:
    pioneer = model()
    gradients: dict[str, list[list[Tensor | None]]] = {}
    configure = pioneer.configure_optimizers

    def record(step: str) -> None:
        gradients[step] = [
            [None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()]
            for network in (pioneer.encoder, pioneer.generator)
        ]

    def configure_and_watch() -> list[torch.optim.Optimizer]:
        optimizers = configure()
        for step, optimizer in zip(("encoder", "generator"), optimizers, strict=True):
            optimizer.register_step_pre_hook(lambda *_, step=step: record(step))
        return optimizers

    pioneer.configure_optimizers = configure_and_watch
    train(pioneer, steps=1)
    encoder_before, generator_before = gradients["encoder"]
    encoder_after, generator_after = gradients["generator"]
    # The image term passes through the generator in the encoder's step, and the divergence through the encoder in the
    # generator's; neither leaves anything there.
    assert all(gradient is None for gradient in generator_before)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in generator_after)
    for before, after in zip(encoder_before, encoder_after, strict=True):
        assert (before is None and after is None) or torch.equal(before, after)


def test_no_two_steps_of_an_iteration_draw_the_same_latents() -> None:
    pioneer = model()
    streams = ["encoder", "generator/0", "generator/1"]
    drawn = [pioneer._latents(pictures(), stream) for stream in streams]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(drawn[first], drawn[second])


def test_latents_of_a_batch_are_those_of_its_halves() -> None:
    pioneer = model()
    whole = pioneer._latents(pictures(8), "encoder")
    first = pioneer._latents(pictures(4), "encoder")
    pioneer.advance(4)
    assert torch.equal(whole, torch.cat([first, pioneer._latents(pictures(4), "encoder")]))
    expected = IndexedRandom(0, "train/encoder").normal(range(8), 8)
    torch.testing.assert_close(whole, nn.functional.normalize(expected, dim=1))


def test_the_averaged_generator_belongs_to_no_optimiser() -> None:
    pioneer = model()
    held = {id(p) for optimizer in pioneer.configure_optimizers() for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for network in (pioneer.encoder, pioneer.generator) for p in network.parameters()}
