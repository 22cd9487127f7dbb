from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from latent_lab.data import SyntheticFaces, SyntheticViews
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models.gpvae import GPVAE
from latent_lab.models.training_views import TrainingViews
from latent_lab.objectives.gpvae import negative_entropy
from latent_lab.priors.low_rank import negative_log_likelihood
from latent_lab.priors.poses import Poses
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(8, 1.0, 8)])
SIZE = {"num_objects": 4, "num_views": 8, "latent_dim": 3, "width": 4, "object_rank": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SyntheticViews:
    """23 training images of 4 persons from 7 of 8 views."""
    cache = tmp_path_factory.mktemp("cache")
    return SyntheticViews(num_objects=4, num_views=8, resolution=8, heldout_share=0.2, cache_dir=cache)


def attached(data: Any, **options: Any) -> Any:
    """A model that a trainer seems to train, with optimisers that keep the gradients of their steps."""
    model: Any = GPVAE(SCHEDULE, **{**SIZE, "vae_kimg": 0.0, **options})
    model._trainer = SimpleNamespace(datamodule=data)
    networks, prior = model.configure_optimizers()
    model.gradients = []
    step = networks.step

    def kept() -> None:
        # Both optimisers step together, the networks' first.
        named = model.named_parameters()
        model.gradients.append({name: value.grad.clone() for name, value in named if value.grad is not None})
        step()

    networks.step = kept
    model.optimizers = lambda: [networks, prior]
    model.manual_backward = lambda loss: loss.backward()
    return model


def batch_of(data: SyntheticViews, positions: range) -> ImageBatch:
    """Training images in their order, over and over."""
    source = data.source("train")
    batch = source.batch([position % len(source) for position in positions], 8)
    return batch._replace(index=torch.tensor(list(positions)))


def train(model: Any, data: SyntheticViews, batches: int, size: int = 8) -> list[dict[str, torch.Tensor]]:
    return [
        model.training_step(batch_of(data, range(model.images_seen, model.images_seen + size))) for _ in range(batches)
    ]


def loss_of_everything(model: Any, data: SyntheticViews, noise: torch.Tensor) -> torch.Tensor:
    """The joint loss of all training images at once, per image."""
    source = data.source("train")
    images = source.batch(range(len(source)), 8).images
    mean, deviation = model._moments(images)
    latents = mean + deviation * noise
    squares, errors = model._errors(latents, images)
    del squares
    views = model._views
    factors = model.prior.factors(views.objects, views.views)
    prior = negative_log_likelihood(latents, factors, model.prior.variances())
    return (errors + prior + negative_entropy(deviation)).mean()


def test_the_gradient_of_a_pass_is_that_of_all_images_at_once(data: SyntheticViews):
    model = attached(data)
    count = len(data.source("train"))
    model._views  # noqa: B018 (the prior takes the poses)
    noise = model._begin_pass(0, model.prior).noise
    loss = loss_of_everything(model, data, noise)
    parameters = dict(model.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    train(model, data, -(-count // 8))
    found = model.gradients[0]
    assert set(found) == set(expected)
    for name, value in expected.items():
        # Sums of float32 in another order; the loss itself is a few thousand nats.
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=2e-3 * float(value.abs().max()), msg=name)


def test_a_batch_over_the_end_of_a_pass_belongs_to_both(data: SyntheticViews):
    model = attached(data)
    count = len(data.source("train"))
    assert count % 8
    train(model, data, count // 8)
    assert model._pass is not None
    weights = model.decoder.dense[0].weight
    before, first = weights.detach().clone(), model._pass
    train(model, data, 1)
    assert not torch.equal(before, weights)
    assert model._pass is not None
    assert model._pass is not first
    assert weights.grad is not None


def test_nothing_moves_within_a_pass(data: SyntheticViews):
    model = attached(data)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train(model, data, 2)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_a_plain_vae_is_trained_up_to_the_beginning_of_a_pass(data: SyntheticViews):
    model = attached(data, vae_kimg=0.001)
    count = len(data.source("train"))
    assert model._joint_from == count
    train(model, data, count // 8)
    assert not model.joint
    train(model, data, 1)
    assert model.joint


def test_several_steps_in_each_pass_over_the_data_are_an_option(data: SyntheticViews):
    model = attached(data, images_per_update=8)
    before = model.decoder.dense[0].weight.detach().clone()
    train(model, data, 1)
    assert not torch.equal(before, model.decoder.dense[0].weight)


@pytest.mark.parametrize("prior", ["full", "sparse"])
def test_training_brings_the_loss_down(data: SyntheticViews, prior: str):
    schedule = GrowthSchedule([Stage(8, 1.0, 8, learning_rate=3e-3)])
    model = attached(data, prior=prior, images_per_update=8, num_inducing=6)
    model.schedule = schedule
    found = [float(step["train/reconstruction_mse"]) for step in train(model, data, 30)]
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


def test_released_options_take_the_published_programs_forms(data: SyntheticViews):
    options = {"view_kernel": "released", "view_features": "released"}
    options |= {"entropy_term": "released", "variance_term": "released"}
    model = attached(data, **options)
    model._views  # noqa: B018 (the prior takes the poses)
    features = model.prior.view_features()
    torch.testing.assert_close(features, features.mT)
    assert all(value.isfinite() for step in train(model, data, 4) for value in step.values())


def test_objects_may_be_equally_alike_at_first():
    model: Any = GPVAE(SCHEDULE, **{**SIZE, "object_rank": 6, "object_correlation": 0.3})
    everything = Poses(torch.eye(3).repeat(4, 1, 1), None, torch.arange(4))
    expected = 0.7 * torch.eye(4, dtype=torch.float64) + 0.3
    torch.testing.assert_close(model.prior.objects(everything, everything).detach(), expected)


# ------------------------------------------------------------------------------------------------------ predictions


def with_codes(model: Any, data: SyntheticViews, deviation: float = 0.1) -> tuple[TrainingViews, torch.Tensor]:
    """Random codes for all training images."""
    views = model._views
    codes = torch.randn(len(views), 3, generator=torch.Generator().manual_seed(1))
    model.codes.write(views, codes, torch.full_like(codes, deviation))
    model._trainer = None
    return views, codes


def heldout(data: SyntheticViews) -> ImageBatch:
    source = data.source("unseen_views")
    return source.batch(range(len(source)), 8)


def test_predictions_are_those_of_a_gaussian_process_over_objects_and_views(data: SyntheticViews):
    model = attached(data, signal_share=0.8, length_scale=0.5)
    views, codes = with_codes(model, data)
    batch = heldout(data)
    assert batch.labels is not None
    assert batch.pose is not None
    objects = batch.labels[:, 0].long()
    at = Poses.from_matrices(batch.pose, objects)

    def kernel(a: Poses, b: Poses) -> torch.Tensor:
        return 0.8 * model.prior.objects(a, b) * model.prior.views(a, b)

    covariance = kernel(views.poses, views.poses) + 0.2 * torch.eye(len(views))
    cross = kernel(at, views.poses)
    expected = cross @ torch.linalg.solve(covariance, codes.double())
    variance = 0.8 - (cross * torch.linalg.solve(covariance, cross.mT).mT).sum(1)
    found = model.view_latents(objects, batch.pose)
    torch.testing.assert_close(found.mean, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.variance[:, 0], variance.float(), rtol=1e-4, atol=1e-5)


def test_both_priors_predict_alike_if_all_images_are_inducing(data: SyntheticViews):
    # Codes with the variance v1 / v0 are to the sparse prior what v1 is to the full one.
    full = attached(data, signal_share=0.8, length_scale=0.5)
    sparse = attached(data, prior="sparse", num_inducing=len(data.source("train")), length_scale=0.5)
    with_codes(full, data)
    with_codes(sparse, data, deviation=0.5)
    batch = heldout(data)
    assert batch.labels is not None
    objects = batch.labels[:, 0].long()
    # The sparse prior's jitter of a millionth shows.
    torch.testing.assert_close(
        sparse.view_latents(objects, batch.pose).mean, full.view_latents(objects, batch.pose).mean, rtol=1e-3, atol=1e-4
    )


def test_a_model_in_training_predicts_with_its_present_codes(data: SyntheticViews):
    model = attached(data, images_per_update=8)
    train(model, data, 1)
    batch = heldout(data)
    assert batch.labels is not None
    before = model.view_latents(batch.labels[:, 0].long(), batch.pose).mean
    train(model, data, 1)
    assert not torch.equal(model.view_latents(batch.labels[:, 0].long(), batch.pose).mean, before)
    source = data.source("train")
    poses, views, means, _ = model.codes.read()
    rows = model._views.place[poses.objects, views]
    torch.testing.assert_close(means, model.encode(source.batch(rows.tolist(), 8).images).detach())


def test_predicted_views_are_decoded_latents(data: SyntheticViews):
    model = attached(data)
    with_codes(model, data)
    batch = heldout(data)
    assert batch.labels is not None
    objects = batch.labels[:, 0].long()
    latents = model.view_latents(objects, batch.pose).mean
    torch.testing.assert_close(model.predict_views(objects, batch.pose), model.decode(latents))


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_model_without_codes_says_so():
    model = GPVAE(SCHEDULE, **SIZE)
    with pytest.raises(ValueError, match="has no codes of training images"):
        model.view_latents(torch.tensor([0]), torch.eye(4)[None])


@pytest.mark.parametrize("number", [-1, 4, 99])
def test_an_object_that_training_does_not_show_is_refused(data: SyntheticViews, number: int):
    model = attached(data, num_objects=5)
    with_codes(model, data)
    with pytest.raises(ValueError, match=f"no training image shows the object {number}"):
        model.view_latents(torch.tensor([number]), torch.eye(4)[None])


def test_a_matrix_that_is_no_rotation_is_refused(data: SyntheticViews):
    model = attached(data)
    with_codes(model, data)
    with pytest.raises(ValueError, match="matrix 0 of 1 is no rotation"):
        model.view_latents(torch.tensor([0]), torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0]))[None])


def test_images_without_views_are_refused(tmp_path: Path):
    faces = SyntheticFaces(num_images=4, num_val=2, num_test=2, resolution=8, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="take the data set MultiViewImages or SyntheticViews"):
        TrainingViews.read(faces.source("train"), 4, 8, 8)


@pytest.mark.parametrize(("option", "least"), [("num_objects", 4), ("num_views", 8)])
def test_more_objects_or_views_than_the_model_knows_are_refused(data: SyntheticViews, option: str, least: int):
    known = {"num_objects": 4, "num_views": 8} | {option: 2}
    with pytest.raises(ValueError, match=f"{option} is 2, .* set it to {least} or more"):
        TrainingViews.read(data.source("train"), **known, resolution=8)


class Twice:
    """Four images, of which two and two are the same."""

    recipe: ClassVar[dict[str, Any]] = {}

    def __init__(self, data: SyntheticViews) -> None:
        self.source = data.source("train")
        self.label_names = self.source.label_names

    def __len__(self) -> int:
        return 4

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        return self.source.batch([place // 2 for place in indices], resolution)


def test_two_images_of_one_pair_are_refused(data: SyntheticViews):
    twice = Twice(data)
    with pytest.raises(ValueError, match="is shown twice from view"):
        TrainingViews.read(twice, 4, 8, 8)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("num_objects", 0, "num_objects must be positive, got 0"),
        ("observation_variance", 0.0, "observation_variance must be positive, got 0.0"),
        ("signal_share", 1.0, "signal_share must be a share between 0 and 1, got 1.0"),
        ("vae_kimg", -1.0, "vae_kimg must not be negative, got -1.0"),
        ("images_per_update", 0, "images_per_update must be positive, got 0"),
        ("object_correlation", 0.5, "got 0.5 with 3 features of 4 objects"),
    ],
)
def test_impossible_options_are_refused(option: str, value: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        GPVAE(SCHEDULE, **{**SIZE, option: value})


def test_a_growing_schedule_is_refused():
    with pytest.raises(ValueError, match="GPVAE does not grow"):
        GPVAE(GrowthSchedule([Stage(8, 1.0, 8), Stage(16, 1.0, 8)]), **SIZE)


def test_training_without_a_data_module_is_refused():
    model = GPVAE(SCHEDULE, **SIZE)
    model._trainer = SimpleNamespace(datamodule=None)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="GPVAE encodes all training images between steps"):
        model._views  # noqa: B018
