"""Exact Gaussian processes: dense formulas, likelihood, fits, samples, two frames, repeated and missing frames."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from latent_lab.priors.factorising import cholesky
from latent_lab.priors.gaussian_process import FACE_VIDEOS, GaussianProcess, Posterior, two_frame_pacing
from latent_lab.priors.kernels import GeodesicKernel, ScaledKernel, ViewKernel, build_kernel
from latent_lab.priors.poses import Poses
from tests.unit.priors.runs import about_y, camera_run, normal, prior_sample, random_rotations

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def process(noise: float = 0.2, name: str = "view_translation") -> GaussianProcess:
    return GaussianProcess(
        build_kernel(name, variance=1.5, length_scale=0.6, translation_length_scale=0.8),
        noise,
    )


def dense(model: GaussianProcess, observed: Poses, codes: Tensor, at: Poses) -> tuple[Tensor, Tensor]:
    inverse = torch.linalg.inv(
        model.kernel(observed, observed) + model.noise * torch.eye(len(observed), dtype=torch.float64)
    )
    cross = model.kernel(at, observed)
    mean = codes.double().mean(0)
    return cross @ inverse @ (codes - mean) + mean, model.kernel(at, at) - cross @ inverse @ cross.mT


def test_the_posterior_is_that_of_the_dense_formulas() -> None:
    run, codes = camera_run(), normal(12, 5)
    model = process()
    posterior = model.posterior(run[::2], codes, run)
    mean, covariance = dense(model, run[::2], codes, run)
    torch.testing.assert_close(posterior.mean, mean.detach(), **CLOSE)
    torch.testing.assert_close(posterior.covariance, covariance.detach(), **CLOSE)
    assert posterior.noise == pytest.approx(0.2)


def test_each_coordinate_has_a_process_of_its_own_with_the_same_covariance() -> None:
    run, codes = camera_run(), normal(24, 7)
    together = process().posterior(run, codes, run)
    for column in range(7):
        alone = process().posterior(run, codes[:, [column]], run)
        torch.testing.assert_close(alone.mean[:, 0], together.mean[:, column], **CLOSE)
        assert torch.equal(alone.covariance, together.covariance)


def test_shifting_the_codes_shifts_the_posterior() -> None:
    run, codes = camera_run(), normal(24, 3)
    model = process()
    moved = model.posterior(run, codes + 100.0, run)
    torch.testing.assert_close(moved.mean, model.posterior(run, codes, run).mean + 100.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("side", ["world", "camera"])
def test_the_posterior_does_not_change_when_world_or_camera_is_turned(side: str) -> None:
    run, codes, turn = camera_run(), normal(12, 4), random_rotations(1)[0]
    turned = Poses(turn @ run.rotations if side == "world" else run.rotations @ turn)
    model = process(name="view")
    expected = model.posterior(run[::2], codes, run)
    found = model.posterior(turned[::2], codes, turned)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.covariance, expected.covariance, rtol=1e-9, atol=1e-11)


def test_the_marginal_likelihood_is_the_sum_of_normal_densities() -> None:
    run, codes = camera_run(), normal(24, 3)
    model = process()
    covariance = (model.kernel(run, run) + model.noise * torch.eye(24, dtype=torch.float64)).detach().numpy()
    centred = (codes - codes.mean(0)).numpy()
    expected = stats.multivariate_normal(cov=covariance).logpdf(centred.T).sum()
    assert model.log_marginal_likelihood(run, codes).item() == pytest.approx(expected, rel=1e-10)


def test_the_gradient_of_the_marginal_likelihood_is_that_of_finite_differences() -> None:
    run, codes = camera_run(6), normal(6, 8).requires_grad_()
    model = process()
    parameters = [*model.parameters(), codes]
    assert torch.autograd.gradcheck(lambda *_: model.log_marginal_likelihood(run, codes), parameters)


@pytest.mark.parametrize("dim", [3, 60])
def test_no_other_scale_of_variance_and_noise_is_more_likely_than_the_best(dim: int) -> None:
    run, codes = camera_run(), normal(24, dim) * 3.0
    model = process()
    best = model.best_scale(run, codes)

    def likelihood(scale: float) -> float:
        kernel = build_kernel("view_translation", variance=1.5 * scale, length_scale=0.6, translation_length_scale=0.8)
        return GaussianProcess(kernel, 0.2 * scale).log_marginal_likelihood(run, codes).item()

    assert likelihood(best) > max(likelihood(best * 0.99), likelihood(best * 1.01))
    scaled = GaussianProcess(
        build_kernel("view_translation", variance=1.5 * best, length_scale=0.6, translation_length_scale=0.8),
        0.2 * best,
    )
    assert scaled.best_scale(run, codes) == pytest.approx(1.0, rel=1e-9)


def test_a_fit_finds_the_hyperparameters_that_made_the_codes() -> None:
    # Three times around: in a short run, the mean that is taken off takes much of the variance with it.
    share = torch.linspace(0.0, 1.0, 80, dtype=torch.float64)
    places = 3.0 * torch.stack([(9.0 * share).sin(), 0.0 * share, (5.0 * share).cos()], dim=1)
    run = Poses(about_y(1080.0 * share), places)
    truth = GaussianProcess(build_kernel("view_translation", variance=2.0, length_scale=0.5), 0.05)
    codes = prior_sample(truth.kernel(run, run).detach(), 400) + math.sqrt(0.05) * normal(80, 400, seed=1)
    model = GaussianProcess(
        build_kernel("view_translation", variance=30.0, length_scale=2.0, translation_length_scale=3.0), 9.0
    )
    fit = model.fit(run, codes)
    assert fit.converged
    assert fit.log_likelihood > fit.initial_log_likelihood
    assert fit.log_likelihood == pytest.approx(model.log_marginal_likelihood(run, codes).item(), rel=1e-9)
    assert fit.log_likelihood > truth.log_marginal_likelihood(run, codes).item() - 1.0
    view, translation = model.kernel.kernel.kernels
    # 400 coordinates of 80 frames: relative deviations of a few per cent.
    assert model.noise.item() == pytest.approx(0.05, rel=0.1)
    assert model.kernel.variance.item() == pytest.approx(2.0, rel=0.1)
    assert view.length_scale.item() == pytest.approx(0.5, rel=0.1)
    assert translation.length_scale.item() == pytest.approx(1.0, rel=0.1)


def test_a_fit_leaves_frozen_parameters_alone() -> None:
    run, codes = camera_run(), normal(24, 4)
    model = process(name="view")
    model.kernel.kernel.log_length_scale.requires_grad_(False)
    model.fit(run, codes)
    assert model.kernel.kernel.length_scale.item() == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["view", "view_translation", "face_released"])
def test_two_frames_give_a_straight_line_whose_pace_is_known_in_closed_form(name: str) -> None:
    run, ends = camera_run(), normal(2, 9)
    kernel = build_kernel(name, variance=FACE_VIDEOS.variance, length_scale=FACE_VIDEOS.length_scale)
    model = GaussianProcess(kernel, FACE_VIDEOS.noise)
    posterior = model.posterior(run[[0, 23]], ends, run)
    pace = two_frame_pacing(model, run[[0, 23]], run)
    line = ends.mean(0) + pace.unsqueeze(1) * (ends[0] - ends[1]) / 2.0
    torch.testing.assert_close(posterior.mean, line, rtol=0, atol=1e-12)
    # Noise keeps both ends from being reached, by as much on either side.
    assert 0.0 < pace[0].item() < 1.0
    assert pace[0].item() == pytest.approx(-pace[-1].item(), abs=1e-12)


def test_between_two_frames_latents_wait_while_the_camera_does_and_go_back_when_it_does() -> None:
    run = Poses(about_y([0.0, 0.0, 0.0, 20.0, 40.0, 20.0, 60.0]))
    model = GaussianProcess(build_kernel("view", variance=1.0, length_scale=0.5), 0.01)
    pace = two_frame_pacing(model, run[[0, 6]], run)
    assert pace[0] == pace[1] == pace[2]
    assert pace[3] == pace[5] > pace[4]


def test_repeated_poses_have_one_latent_the_mean_of_their_codes() -> None:
    still = Poses(about_y([10.0]).expand(6, 3, 3))
    far = Poses(about_y([170.0]))
    run = Poses(torch.cat([still.rotations, far.rotations]))
    codes = normal(7, 4)
    model = GaussianProcess(build_kernel("view", variance=1e6, length_scale=0.05), 1.0)
    posterior = model.posterior(run, codes, run)
    # A variance of 10^6 leaves everything to the codes; a length of 3 degrees separates both places.
    torch.testing.assert_close(posterior.mean[:6], codes[:6].mean(0).expand(6, 4), rtol=0, atol=1e-4)
    torch.testing.assert_close(posterior.variance[:6], torch.full((6,), 1.0 / 6.0).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("noise", [1e-6, 1e-20])
def test_a_standstill_without_noise_is_made_invertible(noise: float) -> None:
    run = Poses(about_y([0.0, 0.0, 0.0, 30.0, 30.0, 60.0]))
    codes = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0], [2.0]])
    posterior = GaussianProcess(build_kernel("view", length_scale=0.5), noise).posterior(run, codes, run)
    torch.testing.assert_close(posterior.mean, codes.double(), rtol=0, atol=1e-4)
    assert posterior.sample().isfinite().all()


def test_missing_frames_are_predicted_with_more_doubt_the_farther_they_are() -> None:
    run = Poses(about_y([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]))
    model = GaussianProcess(build_kernel("view", length_scale=0.5), 0.01)
    variance = model.posterior(run[[0, 6]], normal(2, 3), run).variance
    assert (variance[:4].diff() > 0).all()
    assert (variance[3:].diff() < 0).all()
    assert model.posterior(run[[0, 6]], normal(2, 3), run[[3]]).mean.shape == (1, 3)


def test_leaving_out_each_frame_is_predicting_it_from_the_others() -> None:
    run, codes = camera_run(9), normal(9, 4)
    model = process()
    left_out = model.leave_one_out(run, codes)
    for frame in range(9):
        others = [other for other in range(9) if other != frame]
        expected = model.posterior(run[others], codes[others], run[[frame]])
        torch.testing.assert_close(left_out.mean[frame], expected.mean[0], rtol=0, atol=1e-11)
        torch.testing.assert_close(left_out.variance[frame], expected.variance[0], rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="leaving a frame out of 2 leaves too few"):
        model.leave_one_out(run[:2], codes[:2])


def test_samples_have_the_posteriors_mean_and_covariance() -> None:
    run = camera_run(8)
    wide = process().posterior(run[::3], torch.zeros(3, 40_000), run)
    sample = wide.sample()
    # Deviations of 40,000 samples: a share of 0.7 % of variances of about 1.
    torch.testing.assert_close(sample @ sample.mT / 40_000, wide.covariance, rtol=0, atol=0.03)
    noisy = wide.sample(noisy=True)
    difference = noisy - sample
    torch.testing.assert_close(
        difference @ difference.mT / 40_000, 0.2 * torch.eye(8, dtype=torch.float64), rtol=0, atol=0.01
    )


def test_a_sample_is_known_by_its_number_and_seed() -> None:
    run = camera_run(8)
    posterior = process().posterior(run, normal(8, 3), run)
    assert torch.equal(posterior.sample(5, seed=2), posterior.sample(5, seed=2))
    assert not torch.equal(posterior.sample(5), posterior.sample(6))
    assert not torch.equal(posterior.sample(5), posterior.sample(5, seed=1))


def test_the_root_of_a_covariance_is_symmetric_and_has_the_floor() -> None:
    run = camera_run(8)
    posterior = process(noise=1e-9).posterior(run, normal(8, 3), run)
    torch.testing.assert_close(posterior.root @ posterior.root, posterior.covariance, rtol=0, atol=1e-9)
    torch.testing.assert_close(posterior.root, posterior.root.mT, rtol=0, atol=1e-15)
    floored = replace(posterior, eigenvalue_floor=1e-5).root
    assert torch.linalg.eigvalsh(floored).min().item() == pytest.approx(math.sqrt(1e-5), rel=1e-9)


def test_predictive_densities_and_coverage_are_those_of_normal_distributions() -> None:
    run, codes = camera_run(), normal(12, 5)
    posterior = process().posterior(run[::2], codes, run[1::2])
    held_out = normal(12, 5, seed=3)
    deviation = (posterior.variance + 0.2).sqrt().unsqueeze(1).numpy()
    normals = stats.norm(posterior.mean.numpy(), deviation)
    expected = normals.logpdf(held_out.numpy()).sum(1)
    torch.testing.assert_close(posterior.log_density(held_out), torch.from_numpy(expected), **CLOSE)
    low, high = normals.interval(0.8)
    inside = (held_out.numpy() >= low) & (held_out.numpy() <= high)
    torch.testing.assert_close(posterior.coverage(held_out, 0.8), torch.from_numpy(inside.mean(1)))


def test_intervals_cover_as_often_as_they_say_if_the_prior_is_right() -> None:
    run = camera_run()
    model = process()
    codes = prior_sample((model.kernel(run, run) + model.noise * torch.eye(24, dtype=torch.float64)).detach(), 2000)
    posterior = model.posterior(run[::2], codes[::2], run[1::2])
    # The mean of the twelve observed frames is taken for exact, which costs a little.
    assert posterior.coverage(codes[1::2]).mean().item() == pytest.approx(0.95, abs=0.015)


def test_bad_input_gets_a_sentence() -> None:
    run, codes = camera_run(6), normal(6, 3)
    model = process()
    with pytest.raises(ValueError, match=r"noise must be positive, got 0\.0"):
        GaussianProcess(ViewKernel(), 0.0)
    with pytest.raises(ValueError, match="needs at least 2 observed frames, got 1"):
        model.posterior(run[:1], codes[:1], run)
    with pytest.raises(ValueError, match="6 poses need as many codes, got 5"):
        model.posterior(run, codes[:5], run)
    with pytest.raises(ValueError, match="codes have no coordinates"):
        model.posterior(run, codes[:, :0], run)
    broken = codes.clone()
    broken[[2, 4], 1] = torch.nan
    with pytest.raises(ValueError, match="codes of 2 of 6 frames are not finite, first of frame 2: leave out missing"):
        model.log_marginal_likelihood(run, broken)
    with pytest.raises(ValueError, match="2 frames do not determine hyper-parameters"):
        model.fit(run[:2], codes[:2])
    with pytest.raises(ValueError, match="all 6 frames have one pose"):
        model.fit(run[[0] * 6], codes)
    with pytest.raises(ValueError, match="all 6 frames have one code"):
        model.fit(run, codes[[0] * 6])
    with pytest.raises(ValueError, match="no parameter of the process has a gradient"):
        process().requires_grad_(False).fit(run, codes)
    with pytest.raises(ValueError, match="pacing is between two observed frames, got 3"):
        two_frame_pacing(model, run[:3], run)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        model.posterior(run, codes, run).coverage(codes, 1.0)


def test_a_kernel_that_is_no_covariance_is_refused_where_it_fails() -> None:
    poses = Poses(random_rotations(200))
    with pytest.warns(UserWarning, match="geodesic"):
        model = GaussianProcess(ScaledKernel(GeodesicKernel(2.0)), 1e-3)
    with pytest.raises(ValueError, match="the covariance of the observed frames is no covariance: its lowest eigenval"):
        model.posterior(poses, normal(200, 2), poses)


def test_factors_are_exact_where_they_exist_and_jittered_where_rounding_spoils_them() -> None:
    regular = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(cholesky(regular, "it"), torch.linalg.cholesky(regular))
    singular = torch.ones(5, 5, dtype=torch.float64) * 1e8
    factor = cholesky(singular, "it")
    torch.testing.assert_close(factor @ factor.mT, singular, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="it is not finite"):
        cholesky(regular * torch.nan, "it")


@pytest.mark.slow
def test_a_run_of_195_frames_in_9216_dimensions_takes_less_than_a_second() -> None:
    run, codes = camera_run(195), normal(195, 9216).float()
    model = process()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert isinstance(model.posterior(run, codes, run), Posterior)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0
