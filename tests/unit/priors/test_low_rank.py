"""The low-rank prior: dense formulas on both sides of Woodbury, expansion against autograd, unseen pairs and angles."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from latent_lab.priors.kernels import ObjectKernel, ProductKernel, ReleasedViewKernel, ViewKernel
from latent_lab.priors.low_rank import (
    LowRankCovariance,
    ObjectViewPrior,
    expand,
    negative_log_likelihood,
    predict,
)
from latent_lab.priors.poses import Poses
from tests.unit.priors.runs import about_y, normal, random_rotations

CLOSE = {"rtol": 1e-10, "atol": 1e-11}
VARIANCES = torch.tensor([0.7, 0.3], dtype=torch.float64)


def dense(factors: Tensor, variances: Tensor = VARIANCES) -> Tensor:
    return variances[0] * factors @ factors.mT + variances[1] * torch.eye(len(factors), dtype=torch.float64)


def prior(num_objects: int = 4, num_views: int = 6, rank: int = 3, features: str = "cholesky") -> ObjectViewPrior:
    poses = Poses(random_rotations(num_views))
    return ObjectViewPrior(ObjectKernel(num_objects, rank), ViewKernel(1.2), poses, features)


def pairs(num_objects: int = 4, num_views: int = 6, leave_out: tuple[int, ...] = (3, 10)) -> tuple[Tensor, Tensor]:
    every = list(itertools.product(range(num_objects), range(num_views)))
    kept = torch.tensor([pair for place, pair in enumerate(every) if place not in leave_out])
    return kept[:, 0], kept[:, 1]


@pytest.mark.parametrize(("count", "width"), [(20, 6), (6, 20), (8, 8)])
def test_what_is_asked_of_the_covariance_is_right_whichever_side_is_smaller(count: int, width: int) -> None:
    factors, right = normal(count, width), normal(count, 5, seed=1)
    covariance = LowRankCovariance(factors, VARIANCES)
    full = dense(factors)
    torch.testing.assert_close(covariance.solve(right), torch.linalg.solve(full, right), **CLOSE)
    torch.testing.assert_close(covariance.log_determinant(), torch.logdet(full), **CLOSE)
    torch.testing.assert_close(covariance.inverse_trace(), torch.linalg.inv(full).trace(), **CLOSE)


@pytest.mark.parametrize("width", [4, 30])
def test_the_likelihood_is_that_of_a_normal_distribution_without_its_constant(width: int) -> None:
    latents, factors = normal(12, 3), normal(12, width, seed=1)
    law = torch.distributions.MultivariateNormal(torch.zeros(12, dtype=torch.float64), dense(factors))
    expected = -law.log_prob(latents.mT).sum() - 0.5 * 36 * torch.log(torch.tensor(2.0 * torch.pi, dtype=torch.float64))
    torch.testing.assert_close(negative_log_likelihood(latents, factors, VARIANCES).sum(), expected, **CLOSE)


@pytest.mark.parametrize("features", ["cholesky", "released"])
def test_the_expansion_over_minibatches_has_the_gradient_of_the_whole_data_set(features: str) -> None:
    model, encoder = prior(features=features), nn.Linear(5, 4, dtype=torch.float64)
    objects, views = pairs()
    images, noise = normal(22, 5), 0.3 * normal(22, 4, seed=1)
    parameters = [*model.parameters(), *encoder.parameters()]

    def latents(rows: Tensor) -> Tensor:
        return encoder(images[rows]).sin() + noise[rows]

    everything = torch.arange(22)
    whole = negative_log_likelihood(latents(everything), model.factors(objects, views), model.variances()).sum()
    expected = torch.autograd.grad(whole, parameters)
    expansion = expand(latents(everything), model.factors(objects, views), model.variances())
    torch.testing.assert_close(expansion.negative_log_likelihood.sum(), whole.detach(), **CLOSE)
    found = [torch.zeros_like(parameter) for parameter in parameters]
    for rows in everything.split(7):
        factors = model.factors(objects[rows], views[rows])
        part = expansion.surrogate(rows, latents(rows), factors, model.variances()).sum()
        for total, slope in zip(found, torch.autograd.grad(part, parameters), strict=True):
            total += slope
    for total, slope in zip(found, expected, strict=True):
        torch.testing.assert_close(total, slope, rtol=1e-9, atol=1e-10)


def test_the_released_term_of_the_variances_counts_once_for_every_minibatch() -> None:
    latents, factors = normal(12, 3), normal(12, 5, seed=1)
    expansion = expand(latents, factors, VARIANCES)
    slopes = {}
    for term in ("shared", "released"):
        variances = VARIANCES.clone().requires_grad_()
        batches = torch.arange(12).split(4)
        total = sum(expansion.surrogate(b, latents[b], factors[b], variances, term).sum() for b in batches)
        slopes[term] = torch.autograd.grad(total, variances)[0]
    torch.testing.assert_close(slopes["shared"], expansion.variances, **CLOSE)
    torch.testing.assert_close(slopes["released"], 3.0 * expansion.variances, **CLOSE)


def test_cholesky_features_make_the_product_kernel_and_released_ones_its_views_squared() -> None:
    objects, views = pairs()
    model = prior()
    seen = Poses(model.poses.rotations[views], objects=objects)
    product = ProductKernel(model.objects, model.views)(seen, seen)
    factors = model.factors(objects, views)
    # The jitter of the views' matrix.
    torch.testing.assert_close(factors @ factors.mT, product, rtol=0, atol=2e-10)
    released = prior(features="released").factors(objects, views)
    matrix = model.views(model.poses(), model.poses())
    squared = (matrix @ matrix)[views][:, views] * model.objects(seen, seen)
    torch.testing.assert_close(released @ released.mT, squared, **CLOSE)


@pytest.mark.parametrize("features", ["cholesky", "released"])
def test_features_of_a_known_view_are_its_row(features: str) -> None:
    model = prior(features=features)
    again = model.view_features(model.poses()[[4, 1]])
    torch.testing.assert_close(again, model.view_features()[[4, 1]], rtol=0, atol=1e-8)


def test_predictions_at_unseen_angles_are_those_of_the_exact_process() -> None:
    known = torch.arange(0.0, 360.0, 30.0, dtype=torch.float64)
    model = ObjectViewPrior(ObjectKernel(3, 2), ViewKernel(0.4), Poses(about_y(known)))
    objects, views = pairs(3, 12, leave_out=(5, 20))
    latents = normal(34, 4)
    angles = Poses(about_y([15.0, 100.0, 241.0]), objects=torch.tensor([0, 1, 2]))
    new = model.factors(angles.objects, torch.arange(3), model.view_features(angles))
    ones = torch.ones(3, dtype=torch.float64)
    mean, variance = predict(latents, model.factors(objects, views), model.variances(), new, ones)
    seen = Poses(about_y(known)[views], objects=objects)
    kernel = ProductKernel(model.objects, model.views)
    signal, noise = model.variances()
    covariance = signal * kernel(seen, seen) + noise * torch.eye(34, dtype=torch.float64)
    cross = signal * kernel(angles, seen)
    torch.testing.assert_close(mean, cross @ torch.linalg.solve(covariance, latents), rtol=0, atol=1e-8)
    expected = signal - (cross * torch.linalg.solve(covariance, cross.mT).mT).sum(1)
    torch.testing.assert_close(variance, expected, rtol=0, atol=1e-8)
    # Without the prior's own variance, what the known views do not span is forgotten.
    assert (predict(latents, model.factors(objects, views), model.variances(), new)[1] <= variance).all()


def test_views_that_are_the_same_have_finite_features_and_gradients() -> None:
    poses = Poses(about_y([0.0, 0.0, 40.0]))
    model = ObjectViewPrior(ObjectKernel(2, 2), ViewKernel(0.5), poses)
    features = model.view_features()
    torch.testing.assert_close(features @ features.mT, model.views(poses, poses), rtol=0, atol=1e-9)
    objects, views = pairs(2, 3, leave_out=())
    total = negative_log_likelihood(normal(6, 2), model.factors(objects, views), model.variances()).sum()
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(total, list(model.parameters())))


def test_variances_begin_equal_and_add_up_to_one() -> None:
    model = prior()
    torch.testing.assert_close(model.variances(), torch.tensor([0.5, 0.5], dtype=torch.float64))
    with torch.no_grad():
        model.variance_logits.copy_(torch.tensor([2.0, -1.0]))
    assert model.variances().sum().item() == pytest.approx(1.0)


def test_the_prior_is_saved_with_its_views() -> None:
    model, other = prior(), ObjectViewPrior(ObjectKernel(4, 3, seed=5), ViewKernel(0.3), Poses(random_rotations(6, 9)))
    other.load_state_dict(model.state_dict())
    objects, views = pairs()
    assert torch.equal(other.factors(objects, views), model.factors(objects, views))


def test_bad_input_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="3 latents and 4 rows of features: give one row for each image"):
        expand(normal(3, 2), normal(4, 5), VARIANCES)
    with pytest.raises(ValueError, match="0 latents and 0 rows"):
        negative_log_likelihood(normal(0, 2), normal(0, 5), VARIANCES)
    with pytest.raises(ValueError, match="features must be cholesky or released, got rows"):
        prior(features="rows")
    with pytest.raises(ValueError, match="the matrix of the views is no covariance"):
        ObjectViewPrior(
            ObjectKernel(2, 2), ReleasedViewKernel((-3.0, -3.0, -3.0)), Poses(random_rotations(40))
        ).view_features()
