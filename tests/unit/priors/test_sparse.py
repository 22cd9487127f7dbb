"""The sparse process: exact with all points, the paper's formulas, minibatches, choice of inducing poses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.priors.gaussian_process import GaussianProcess
from latent_lab.priors.kernels import ObjectKernel, ProductKernel, TranslationKernel, ViewKernel, build_kernel
from latent_lab.priors.poses import Poses
from latent_lab.priors.sparse import SparseProcess, choose_inducing
from tests.unit.priors.runs import about_y, camera_run, normal, random_rotations


def kernel() -> torch.nn.Module:
    return build_kernel("view_translation", variance=1.4, length_scale=0.3, translation_length_scale=0.4)


def encoded(count: int = 24, dim: int = 4) -> tuple[Tensor, Tensor]:
    """Means, and variances that differ between frames and latents."""
    return normal(count, dim), 0.1 + normal(count, dim, seed=1).square()


def test_with_all_poses_inducing_it_is_the_exact_process() -> None:
    run, (means, _) = camera_run(), encoded()
    means = means - means.mean(0)
    noise = torch.full_like(means, 0.3)
    exact = GaussianProcess(kernel(), 0.3)
    sparse = SparseProcess(exact.kernel, run, jitter=1e-12)
    batch = sparse(run, means, noise)
    likelihood = exact.log_marginal_likelihood(run, means).item()
    assert batch.inner_bound.item() == pytest.approx(likelihood, rel=1e-9)
    posterior = exact.posterior(run[:12], means[:12] - means[:12].mean(0), run)
    fewer = SparseProcess(exact.kernel, run, jitter=1e-12)
    half = fewer.condition(run[:12], means[:12] - means[:12].mean(0), noise[:12])
    mean, variance = fewer.predict(half, run)
    torch.testing.assert_close(mean, posterior.mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(variance, posterior.variance.unsqueeze(1).expand(24, 4), rtol=0, atol=1e-8)


def test_with_all_poses_it_is_exact_for_noise_of_any_kind() -> None:
    run, (means, variances) = camera_run(), encoded()
    sparse = SparseProcess(kernel(), run, jitter=1e-12)
    expected = 0.0
    for mean, variance in zip(means.mT, variances.mT, strict=True):
        covariance = sparse.kernel(run, run) + torch.diag(variance)
        expected += torch.distributions.MultivariateNormal(torch.zeros_like(mean), covariance).log_prob(mean).item()
    assert sparse(run, means, variances).inner_bound.item() == pytest.approx(expected, rel=1e-9)


def test_more_inducing_poses_make_a_tighter_bound() -> None:
    run, (means, variances) = camera_run(), encoded()
    chosen = choose_inducing(kernel(), run, 24)
    bounds = [
        SparseProcess(kernel(), run[chosen[:count]], jitter=1e-12)(run, means, variances).inner_bound.item()
        for count in (2, 5, 10, len(chosen))
    ]
    assert bounds == sorted(bounds)


def test_a_minibatch_gives_the_numbers_of_the_papers_formulas() -> None:
    run, (means, variances) = camera_run(), encoded()
    rows, total = torch.arange(3, 11), 24
    sparse = SparseProcess(kernel(), run[[0, 6, 12, 18, 23]], jitter=1e-6)
    batch = sparse(run[rows], means[rows], variances[rows], total)
    inducing = run[[0, 6, 12, 18, 23]]
    k_mm = sparse.kernel(inducing, inducing)
    k_mm = k_mm + 1e-6 * 1.4 * torch.eye(5, dtype=torch.float64)
    k_bm = sparse.kernel(run[rows], inducing)
    inverse = torch.linalg.inv(k_mm)
    inner = cross_entropy = kl = torch.zeros((), dtype=torch.float64)
    scale = total / len(rows)
    for mean, variance in zip(means[rows].mT, variances[rows].mT, strict=True):
        sigma = torch.linalg.inv(k_mm + scale * k_bm.mT @ torch.diag(1.0 / variance) @ k_bm)
        mu = scale * k_mm @ sigma @ k_bm.mT @ (mean / variance)
        a = k_mm @ sigma @ k_mm
        fitted = k_bm @ inverse @ mu
        unexplained = 1.4 - (k_bm @ inverse * k_bm).sum(1)
        spread = (k_bm @ sigma * k_bm).sum(1)
        lambdas = torch.einsum("bi,bj->bij", k_bm @ inverse, k_bm @ inverse)
        traces = torch.einsum("ij,bji->b", a, lambdas)
        law = torch.distributions.Normal(fitted, variance.sqrt())
        q = torch.distributions.MultivariateNormal(mu, (a + a.mT) / 2)
        p = torch.distributions.MultivariateNormal(torch.zeros_like(mu), k_mm)
        kl = kl + torch.distributions.kl_divergence(q, p)
        inner = inner + (law.log_prob(mean) - (unexplained + traces) / (2.0 * variance)).sum()
        moments = (fitted - mean).square() + unexplained + spread
        cross_entropy = cross_entropy - 0.5 * (moments / variance + (2.0 * math.pi * variance).log()).sum()
    inner = inner - kl / scale
    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(batch.kl, kl, **close)
    torch.testing.assert_close(batch.inner_bound, inner, **close)
    torch.testing.assert_close(batch.log_likelihood, cross_entropy, **close)
    # All of the paper's prior term but the KL cancels.
    torch.testing.assert_close(batch.prior_term, cross_entropy - inner, rtol=1e-7, atol=1e-7)


def test_images_of_a_minibatch_count_as_often_as_the_data_set_has_more() -> None:
    run, (means, variances) = camera_run(), encoded()
    sparse = SparseProcess(kernel(), run[::4])
    thrice = [0, 1, 2, 3] * 3
    expected = sparse.condition(run[thrice], means[thrice], variances[thrice])
    found = sparse.condition(run[:4], means[:4], variances[:4], 12)
    torch.testing.assert_close(found.inducing_mean, expected.inducing_mean, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.inducing_covariance, expected.inducing_covariance, rtol=1e-9, atol=1e-11)
    assert sparse(run[:4], means[:4], variances[:4], 12).share == pytest.approx(1 / 3)


def test_an_encoder_that_knows_nothing_is_answered_by_the_prior() -> None:
    run = camera_run()
    sparse = SparseProcess(kernel(), run[::4])
    batch = sparse(run, torch.zeros(24, 2), torch.full((24, 2), 1e12))
    torch.testing.assert_close(batch.mean, torch.zeros(24, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(batch.variance, torch.full((24, 2), 1.4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert batch.kl.item() == pytest.approx(0.0, abs=1e-8)


def test_gradients_reach_encoder_kernel_and_inducing_poses() -> None:
    run = camera_run(5)
    means, variances = (tensor.requires_grad_() for tensor in encoded(5, 2))
    sparse = SparseProcess(kernel(), run[[1, 3]], learn_inducing=True)
    parameters = [means, variances, *sparse.parameters()]
    assert len(parameters) == 7

    def loss(*_: Tensor) -> Tensor:
        batch = sparse(run, means, variances, 20)
        return batch.prior_term + batch.mean.square().sum() + batch.variance.sum()

    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_objects_and_views_make_a_prior_over_pairs() -> None:
    objects = torch.arange(3).repeat_interleave(8)
    poses = Poses(about_y([45.0 * view for view in range(8)] * 3), objects=objects)
    product = ProductKernel(ObjectKernel(3, 3), ViewKernel(0.6))
    sparse = SparseProcess(product, poses[choose_inducing(product, poses, 12)])
    means, variances = encoded()
    seen = torch.arange(24) != 10
    posterior = sparse.condition(poses[seen], means[seen], variances[seen])
    mean, variance = sparse.predict(posterior, poses[[10]])
    assert mean.shape == variance.shape == (1, 4)
    assert (variance > 0).all()


def test_inducing_poses_are_chosen_where_least_is_explained_and_never_twice() -> None:
    run = Poses(about_y([0.0, 0.0, 1.0, 90.0, 180.0, 180.0]))
    chosen = choose_inducing(ViewKernel(0.5), run, 6)
    # The opposite view is the least explained by the first; copies explain each other.
    assert chosen.tolist() == [0, 4, 3, 2]
    assert choose_inducing(ViewKernel(0.5), run, 2).tolist() == [0, 4]


def test_chosen_poses_explain_more_than_the_first_ones() -> None:
    poses = Poses(random_rotations(80))
    view = ViewKernel(0.8)

    def unexplained(rows: Tensor) -> float:
        cross, among = view(poses, poses[rows]), view(poses[rows], poses[rows])
        return (1.0 - (cross @ torch.linalg.inv(among) * cross).sum(1)).sum().item()

    assert unexplained(choose_inducing(view, poses, 20)) < 0.9 * unexplained(torch.arange(20))


def test_inducing_poses_may_be_equal() -> None:
    run, (means, variances) = camera_run(), encoded()
    batch = SparseProcess(kernel(), run[[0, 0, 5, 10]])(run, means, variances)
    once = SparseProcess(kernel(), run[[0, 5, 10]])(run, means, variances)
    torch.testing.assert_close(batch.mean, once.mean, rtol=0, atol=1e-4)


def test_bad_input_gets_a_sentence() -> None:
    run, (means, variances) = camera_run(), encoded()
    sparse = SparseProcess(kernel(), run[::4])
    with pytest.raises(ValueError, match="needs at least one inducing pose, got none"):
        SparseProcess(kernel(), run[:0])
    with pytest.raises(ValueError, match=r"jitter must not be negative, got -1\.0"):
        SparseProcess(kernel(), run, jitter=-1.0)
    with pytest.raises(ValueError, match="23 poses need as many means and variances"):
        sparse(run[:23], means, variances)
    with pytest.raises(ValueError, match="between 1 image and the data set's 20, got 24"):
        sparse(run, means, variances, 20)
    with pytest.raises(ValueError, match="variances must be positive, got -"):
        sparse(run, means, -0.5 * variances)
    with pytest.raises(ValueError, match="num must be 1 to 24, got 25"):
        choose_inducing(kernel(), run, 25)
    with pytest.raises(ValueError, match="give poses with translations"):
        SparseProcess(TranslationKernel(), Poses(run.rotations))(run, means, variances)
