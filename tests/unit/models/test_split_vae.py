from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import SplitVAE
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(16, 1.0, 8, learning_rate=1e-3)])


def small(**options: Any) -> SplitVAE:
    return SplitVAE(SCHEDULE, **{"latent_dim": 4, "base_dim": 4, "embedding_dim": 16, "max_width": 16, **options})


def pictures(count: int = 8, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def steps(model: SplitVAE, count: int, images: Tensor | None = None, **trainer: Any) -> list[dict[str, Tensor]]:
    """Statistics of the first steps of training."""
    found: list[dict[str, Tensor]] = []
    original = model.training_step

    def recorded(batch: Any) -> dict[str, Tensor]:
        found.append(original(batch))
        return found[-1]

    model.training_step = recorded  # type: ignore[method-assign]
    batches = [ImageBatch(pictures(seed=seed) if images is None else images, torch.arange(8)) for seed in range(count)]
    Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    ).fit(model, torch.utils.data.DataLoader(batches, batch_size=None))
    return found


def test_the_loss_is_its_formula():
    model = small(kl_weight=3.0).double()
    again = small().double()
    again.load_state_dict(model.state_dict())
    (statistics,) = steps(model, 1, precision="64-true")
    # Again from the start weights, with every sum written out; gamma^2 starts at 1.
    unit = (pictures().double() + 1) / 2
    mean, log_variance = again.bottleneck(again.encoder(unit))
    noise = IndexedRandom(0, "train/posterior").normal(range(8), 4)
    split = again.decoder(again.bottleneck.to_embedding(mean + log_variance.exp().sqrt() * noise))
    rebuilt = split.map * split.first + (1 - split.map) * split.second
    squared = (unit - rebuilt).square().flatten(1).sum(1)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    torch.testing.assert_close(statistics["train/loss"], (squared / 2 + 3 * kl).mean().detach())
    torch.testing.assert_close(statistics["train/reconstruction_mse"], squared.mean().detach() / unit[0].numel())


def test_gamma_of_a_step_is_the_one_that_the_step_before_left():
    first, second = steps(small(), 2)
    assert first["train/gamma_squared"] == 1.0
    expected = 0.99 + 0.01 * first["train/reconstruction_mse"]
    torch.testing.assert_close(second["train/gamma_squared"], expected)


def test_decode_is_the_mixture_of_the_parts():
    model = small().eval()
    latents = torch.randn(3, 4)
    first, second, mixing = model.parts(latents)
    torch.testing.assert_close(model.decode(latents), mixing * first + (1 - mixing) * second)


def test_parts_are_images_from_minus_one_to_one_and_a_map_from_zero_to_one():
    first, second, mixing = small().eval().parts(100 * torch.randn(64, 4))
    for image in (first, second):
        assert -1.0 <= image.min() < -0.5
        assert 0.5 < image.max() <= 1.0
    assert mixing.shape == (64, 1, 16, 16)
    assert 0.0 <= mixing.min() <= mixing.max() <= 1.0


def test_encode_is_the_mean_of_the_posterior():
    model = small().eval()
    posterior = model.posterior(pictures())
    torch.testing.assert_close(model.encode(pictures()), posterior.mean)
    assert posterior.stddev.shape == (8, 4)


def test_running_moments_move_at_the_stated_rate():
    model = small(batch_norm_momentum=0.25)
    norm = model.decoder.convolutions[1][0].main[0]
    batch_means: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: batch_means.append(inputs[0].mean((0, 2, 3)).detach()))
    steps(model, 1)
    torch.testing.assert_close(norm.running_mean, 0.25 * batch_means[0])


def test_under_half_precision_everything_of_the_loss_is_float32():
    (statistics,) = steps(small(), 1, precision="bf16-mixed")
    assert {value.dtype for value in statistics.values()} == {torch.float32}


def test_training_lowers_the_error():
    plain_colours = torch.linspace(-1, 1, 8).reshape(8, 1, 1, 1).expand(8, 3, 16, 16)
    found = steps(small(), 40, plain_colours)
    assert found[-1]["train/reconstruction_mse"] < 0.5 * found[0]["train/reconstruction_mse"]


def test_grey_images_pass_through_a_grey_model():
    model = small(image_channels=1).eval()
    assert model.channels == 1
    assert model.reconstruct(pictures(channels=1)).shape == (8, 1, 16, 16)


def test_the_published_optimiser_is_the_default():
    group = small().configure_optimizers().param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-7)


def test_a_growing_schedule_is_refused():
    with pytest.raises(ValueError, match="SplitVAE does not grow, but its schedule has 16, 32 px"):
        SplitVAE(GrowthSchedule([Stage(16, 1.0, 8), Stage(32, 1.0, 8)]))


def test_a_negative_weight_of_the_kl_is_refused():
    with pytest.raises(ValueError, match="kl_weight must not be negative, got -1"):
        small(kl_weight=-1.0)
