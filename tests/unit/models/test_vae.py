from __future__ import annotations

from typing import Any

import pytest
import torch

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.base import LatentModel
from latent_lab.models.vae import VAE, WAE
from latent_lab.objectives.mmd import mmd_squared
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(8, 1.0, 8)])


@pytest.fixture
def batch() -> ImageBatch:
    rng = torch.Generator().manual_seed(0)
    return ImageBatch(torch.rand(8, 3, 8, 8, generator=rng) * 2 - 1, torch.arange(8))


def step(model: Any, batch: ImageBatch) -> dict[str, torch.Tensor]:
    """One training step without a trainer."""
    optimizer = model.configure_optimizers()
    model.optimizers = lambda: optimizer
    model.manual_backward = lambda loss: loss.backward()
    return model.training_step(batch)


@pytest.mark.parametrize(("likelihood", "power", "factor"), [("gaussian", 2, 0.5), ("laplace", 1, 1.0)])
def test_the_loss_is_the_negative_evidence_bound_in_nats_per_image(
    likelihood: str, power: int, factor: float, batch: ImageBatch
):
    model = VAE(SCHEDULE, latent_dim=4, likelihood=likelihood, beta=3.0)
    model.eval()  # spectral vectors stay as they are
    posterior = model.posterior(batch.images)
    noise = model.training_normals(batch.images, "posterior", 4)
    rebuilt = model.decoder(posterior.mean + posterior.stddev * noise)
    image = factor * (rebuilt - batch.images).abs().pow(power).sum((1, 2, 3)).mean()
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    expected = (image + 3.0 * kl).detach()
    found = step(model, batch)
    torch.testing.assert_close(found["train/loss"], expected)
    torch.testing.assert_close(found["train/kl"], kl.detach())


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_the_loss_of_the_wae_adds_the_weighted_discrepancy(metric: str, batch: ImageBatch):
    model = WAE(SCHEDULE, latent_dim=4, decoder="adain", image_metric=metric, mmd_weight=7.0)
    model.eval()
    codes = model.encode(batch.images)
    difference = model.decoder(codes) - batch.images
    image = difference.abs().mean() if metric == "l1" else difference.square().mean()
    discrepancy = mmd_squared(codes, model.training_normals(batch.images, "prior", 4))
    found = step(model, batch)
    torch.testing.assert_close(found["train/loss"], (image + 7.0 * discrepancy).detach())


@pytest.mark.parametrize("model_class", [VAE, WAE])
@pytest.mark.parametrize("decoder", ["classical", "adain"])
def test_some_steps_lower_the_image_error(model_class: type[LatentModel], decoder: str, batch: ImageBatch):
    model: Any = model_class(
        GrowthSchedule([Stage(8, 1.0, 8, learning_rate=3e-3)]), latent_dim=8, widths=[16, 16], decoder=decoder
    )
    optimizer = model.configure_optimizers()
    model.optimizers = lambda: optimizer
    model.manual_backward = lambda loss: loss.backward()
    smooth = batch._replace(images=batch.images.mean((2, 3), keepdim=True).sign().expand(-1, -1, 8, 8))
    errors = [model.training_step(smooth)["train/image"].item() for _ in range(60)]
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("model_class", [VAE, WAE])
def test_statistics_carry_no_gradient_and_the_clock_moves_by_the_batch(
    model_class: type[LatentModel], batch: ImageBatch
):
    model = model_class(SCHEDULE, latent_dim=4)
    found = step(model, batch)
    assert not any(value.requires_grad for value in found.values())
    assert set(model.progress_names) <= set(found)
    assert {name for names in model.curve_panels.values() for name in names} <= set(found)
    assert model.images_seen == 8


@pytest.mark.parametrize("model_class", [VAE, WAE])
def test_decode_uses_the_averaged_decoder_in_evaluation_mode(model_class: type[LatentModel], batch: ImageBatch):
    model: Any = model_class(SCHEDULE, latent_dim=4)
    step(model, batch)
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    model.eval()
    assert torch.equal(model.decode(latents), model.generator_average(latents))
    assert not torch.equal(model.decode(latents), model.decoder(latents))


@pytest.mark.parametrize("model_class", [VAE, WAE])
def test_half_precision_leaves_codes_and_losses_in_float32(model_class: type[LatentModel], batch: ImageBatch):
    model: Any = model_class(SCHEDULE, latent_dim=4, decoder="adain")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encode(batch.images).dtype == torch.float32
        assert model.decode(model.encode(batch.images)).dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in step(model, batch).values())


@pytest.mark.parametrize("model_class", [VAE, WAE])
def test_grey_images_need_a_grey_model(model_class: type[LatentModel]):
    model: Any = model_class(SCHEDULE, latent_dim=4, image_channels=1).eval()
    assert model.channels == 1
    assert model.reconstruct(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("model_class", [VAE, WAE])
def test_a_growing_schedule_is_refused(model_class: type[LatentModel]):
    with pytest.raises(ValueError, match=f"{model_class.__name__} does not grow"):
        model_class(GrowthSchedule([Stage(4, 1.0, 8), Stage(8, 1.0, 8)]))


@pytest.mark.parametrize(
    ("model_class", "options", "message"),
    [
        (VAE, {"beta": -1.0}, "beta must not be negative, got -1"),
        (WAE, {"mmd_weight": -1.0}, "mmd_weight must not be negative"),
        (WAE, {"kernel_scales": [1.0, 0.0]}, "kernel_scales must be one or more positive numbers, got"),
        (WAE, {"kernel_scales": []}, "kernel_scales must be one or more positive numbers, got"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(model_class: type[LatentModel], options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        model_class(SCHEDULE, **options)
