"""Kernels of poses, Gaussian processes and their expansions against numbers of independent programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_lab.latent.spaces import Gaussian
from latent_lab.priors.gaussian_process import FACE_VIDEOS, GaussianProcess, two_frame_pacing
from latent_lab.priors.kernels import (
    AnisotropicViewKernel,
    EulerKernel,
    ObjectKernel,
    PoseMaternKernel,
    ProductKernel,
    QuaternionKernel,
    ReleasedQuaternionKernel,
    ReleasedViewKernel,
    ScaledKernel,
    TranslationKernel,
    ViewKernel,
    build_kernel,
)
from latent_lab.priors.linear_baseline import between, linear_fractions, linear_path, released_fractions
from latent_lab.priors.low_rank import ObjectViewPrior, expand, negative_log_likelihood, predict
from latent_lab.priors.poses import Poses
from latent_lab.priors.rotations import euler_angles, geodesic_angle, quaternions, trace_distance
from latent_lab.priors.sparse import SparseProcess

Arrays = Mapping[str, Tensor]

EXACT = {"rtol": 1e-9, "atol": 1e-10}
"""Float64 on both sides; what is solved has condition numbers up to 10^3."""


@pytest.fixture(scope="module")
def golden(shared: Path) -> Callable[[str], Arrays]:
    def read(name: str) -> Arrays:
        with np.load(shared / "golden" / "gp" / f"{name}.npz") as file:
            return {key: torch.from_numpy(np.asarray(file[key])) for key in file if file[key].dtype.kind != "U"}

    return read


@pytest.fixture(scope="module")
def rotations(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("rotations")


@pytest.fixture(scope="module")
def kernels(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("kernels")


@pytest.fixture(scope="module")
def poses(rotations: Arrays) -> Poses:
    return Poses(rotations["R"], rotations["t"])


def close(actual: Tensor | float, expected: Tensor) -> None:
    if isinstance(actual, Tensor):
        actual = actual.detach()
    torch.testing.assert_close(torch.as_tensor(actual, dtype=torch.float64), expected, **EXACT)


def matrix(kernel: torch.nn.Module, poses: Poses) -> Tensor:
    covariance = kernel(poses, poses)
    torch.testing.assert_close(kernel.diagonal(poses), covariance.diagonal(), rtol=1e-12, atol=0)
    return covariance


def test_distances_of_rotations(rotations: Arrays) -> None:
    r = rotations["R"]
    close(trace_distance(r, r), rotations["trace_distance_stable"])
    close(geodesic_angle(r, r), rotations["geodesic_atan2"])
    # Angles of 10^-8 have squares of 10^-16, where a relative tolerance is what counts.
    torch.testing.assert_close(trace_distance(r, r), rotations["trace_distance_stable"], rtol=1e-7, atol=1e-24)


def test_euler_angles_and_quaternions_of_rotations(rotations: Arrays) -> None:
    close(euler_angles(rotations["R"]), rotations["euler_xyz_extrinsic"])
    close(quaternions(rotations["R"]), rotations["quat_xyzw"])


@pytest.mark.parametrize(("length_scale", "name"), [(1.0, "1"), (0.5, "0p5"), (0.2686, "0p2686")])
def test_view_kernel(kernels: Arrays, poses: Poses, length_scale: float, name: str) -> None:
    close(matrix(ViewKernel(length_scale), poses), kernels[f"view_iso_ell{name}"])


def test_anisotropic_view_kernels(kernels: Arrays, poses: Poses) -> None:
    lengths = kernels["Lambda_aniso"].diagonal().rsqrt().tolist()
    close(matrix(AnisotropicViewKernel(lengths, "camera"), poses), kernels["view_aniso_RLRt"])
    close(matrix(AnisotropicViewKernel(lengths, "world"), poses), kernels["view_aniso_RtLR"])


def test_view_kernel_of_the_chairs_intended_and_released(kernels: Arrays, poses: Poses) -> None:
    logarithms = kernels["raw_ell_gppvae"]
    released = matrix(ReleasedViewKernel(logarithms.tolist()), poses)
    close(matrix(AnisotropicViewKernel((-0.5 * logarithms).exp().tolist()), poses), kernels["view_gppvae_intended"])
    close(released, kernels["view_gppvae_released"])
    close(released @ released.mT, kernels["view_gppvae_released_effective"])


def test_released_face_kernel(kernels: Arrays, poses: Poses) -> None:
    kernel = build_kernel("face_released", variance=FACE_VIDEOS.variance, length_scale=FACE_VIDEOS.length_scale)
    close(matrix(kernel, poses), kernels["face_released"])


def test_baseline_kernels(rotations: Arrays, kernels: Arrays) -> None:
    variance, length_scale = kernels["gamma2"].item(), kernels["ell"].item()
    angles, quaternion = rotations["euler_xyz_extrinsic"], rotations["quat_xyzw"]
    close(variance * EulerKernel(length_scale).of_angles(angles, angles), kernels["euler_separable"])
    chart = QuaternionKernel(length_scale).of_quaternions(quaternion, quaternion)
    close(variance * chart, kernels["quat_intended"])
    released = ReleasedQuaternionKernel(length_scale).of_quaternions(quaternion, quaternion)
    close(variance * released, kernels["quat_released"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        nearest = QuaternionKernel(length_scale, sign="nearest").of_quaternions(quaternion, quaternion)
    close(variance * nearest, kernels["quat_signfree"])


def test_kernels_with_translations(kernels: Arrays, poses: Poses) -> None:
    length_scale, variance = kernels["trans_ell"].item(), kernels["trans_var"].item()
    translation = TranslationKernel(length_scale)
    close(matrix(ScaledKernel(translation, variance), poses), kernels["trans_se"])
    close(matrix(ProductKernel(ViewKernel(1.0), translation), poses), kernels["product_view_ell1_trans"])
    matern = ScaledKernel(PoseMaternKernel(kernels["ell"].item()), kernels["gamma2"].item())
    close(matrix(matern, poses), kernels["gpmvs_matern"])


@pytest.mark.parametrize(("name", "prefix"), [("face_released", "face_released"), ("view", "view_eq39")])
def test_two_observed_frames(golden: Callable[[str], Arrays], name: str, prefix: str) -> None:
    file = golden("gp_two_frame")
    at, codes = Poses(file["R"], file["p"]), file["z_first_last"]
    ends = at[file["train_index"]]
    kernel = build_kernel(name, variance=file["gamma2"].item(), length_scale=file["ell"].item())
    process = GaussianProcess(kernel, file["sigma2"].item())
    posterior = process.posterior(ends, codes, at)
    close(posterior.mean, file[f"{prefix}_mean"])
    close(posterior.covariance, file[f"{prefix}_cov"])
    close(posterior.variance, file[f"{prefix}_var"])
    root = replace(posterior, eigenvalue_floor=1e-5).root
    close(root @ root.mT, file[f"{prefix}_cov_clipped_1e-5"])
    # The file takes k(P1, P1) for gamma^2, of which the released kernel, whose distances are at least 10^-6, is short.
    among = kernel(ends, ends)
    pull = process.noise - among[0, 1]
    expected = file[f"{prefix}_beta"] * (file["gamma2"] + pull) / (among[0, 0] + pull)
    close(two_frame_pacing(process, ends, at), expected.detach())


def smoothing_process(file: Arrays) -> GaussianProcess:
    kernel = build_kernel(
        "view_translation",
        variance=file["gamma2"].item(),
        length_scale=file["ell_view"].item(),
        translation_length_scale=file["ell_trans"].item(),
    )
    return GaussianProcess(kernel, file["sigma2"].item())


@pytest.mark.parametrize("prefix", ["all", "every4"])
def test_smoothing_and_prediction_of_a_run(golden: Callable[[str], Arrays], prefix: str) -> None:
    file = golden("gp_smoothing")
    at = Poses(file["R"], file["p"])
    rows = file[f"{prefix}_index"]
    observed, codes = at[rows], file["Z_observed"][rows]
    process = smoothing_process(file)
    close(process.kernel(observed, observed), file[f"{prefix}_Kff"])
    posterior = process.posterior(observed, codes, at)
    close(codes.mean(0), file[f"{prefix}_train_mean"])
    close(posterior.mean, file[f"{prefix}_post_mean"])
    close(posterior.covariance, file[f"{prefix}_post_cov"])
    close(posterior.variance, file[f"{prefix}_post_var"])


@pytest.mark.parametrize("prefix", ["all", "every4"])
def test_marginal_likelihood_its_gradient_and_the_best_scale(golden: Callable[[str], Arrays], prefix: str) -> None:
    file = golden("gp_smoothing")
    rows = file[f"{prefix}_index"]
    observed, codes = Poses(file["R"], file["p"])[rows], file["Z_observed"][rows]
    process = smoothing_process(file)
    likelihood = process.log_marginal_likelihood(observed, codes)
    close(likelihood, file[f"{prefix}_lml"])
    view, translation = process.kernel.kernel.kernels
    logarithms = [process.kernel.log_variance, view.log_length_scale, translation.log_length_scale, process.log_noise]
    slopes = torch.stack(torch.autograd.grad(likelihood, logarithms))
    close(slopes, file[f"{prefix}_lml_grad_log_g2_ellv_ellt_s2"])
    scale = process.best_scale(observed, codes)
    close(scale * file["gamma2"].item(), file[f"{prefix}_profiled_gamma2"])


def test_linear_baseline_right_and_released(golden: Callable[[str], Arrays]) -> None:
    for row in golden("linear_baseline")["table"]:
        first, last, count = (int(value) for value in row[1:4])
        right, released = linear_fractions(first, last), released_fractions(first, last)
        assert len(right) == len(released) == count
        close(right[-1], row[5])
        close(released[-1], row[4])


def test_linear_baseline_of_the_two_frame_run(golden: Callable[[str], Arrays]) -> None:
    file = golden("gp_two_frame")
    codes = file["z_first_last"]
    close(linear_path(Gaussian(5), file["train_index"], codes, torch.arange(21)), file["linear_mean"])
    close(between(Gaussian(5), codes[:1], codes[1:], linear_fractions(0, 20, step=1)), file["linear_mean"])


def object_view_prior(file: Arrays, prefix: str) -> ObjectViewPrior:
    logarithms = file["raw_ell"]
    if prefix == "released":
        views = ReleasedViewKernel(logarithms.tolist())
    else:
        views = AnisotropicViewKernel((-0.5 * logarithms).exp().tolist())
    objects = ObjectKernel(*file["x0"].shape)
    features = "released" if prefix == "released" else "cholesky"
    prior = ObjectViewPrior(objects, views, Poses(file["poses"]), features)
    with torch.no_grad():
        objects.raw_features.copy_(file["x0"])
        prior.variance_logits.copy_(file["lvs"])
    return prior


@pytest.mark.parametrize("prefix", ["released", "proper"])
def test_low_rank_prior(golden: Callable[[str], Arrays], prefix: str) -> None:
    file = golden("gppvae_lowrank")
    prior, latents = object_view_prior(file, prefix), file["Z"]
    close(prior.objects.features(torch.arange(4)), file["X"])
    close(prior.view_features(), file[f"{prefix}_view_feature_matrix"])
    factors, variances = prior.factors(file["obj_train"], file["view_train"]), prior.variances()
    close(variances, file["vs"])
    close(factors, file[f"{prefix}_V"])
    close(variances[0] * factors @ factors.mT + variances[1] * torch.eye(21, dtype=torch.float64), file[f"{prefix}_K"])
    close(negative_log_likelihood(latents, factors, variances), file[f"{prefix}_nll_per_sample"])
    expansion = expand(latents, factors, variances)
    close(expansion.negative_log_likelihood, file[f"{prefix}_nll_per_sample"])
    close(expansion.latents, file[f"{prefix}_Zbar"])
    close(expansion.factors, file[f"{prefix}_Vbar"])
    close(expansion.variances, file[f"{prefix}_vbar"])
    surrogate = expansion.surrogate(torch.arange(21), latents, factors, variances)
    close(surrogate, file[f"{prefix}_taylor_value_per_sample"])
    new = prior.factors(file["obj_test"], file["view_test"])
    mean, variance = predict(latents, factors, variances, new)
    close(mean, file[f"{prefix}_pred_mean"])
    close(variance, file[f"{prefix}_pred_var"])


def test_sparse_process(golden: Callable[[str], Arrays]) -> None:
    file = golden("sparse_gp")
    poses, codes = Poses(file["R"], file["p"]), file["Yc"]
    exact = smoothing_process(file)
    # The file's jitter is of the matrix; here it is a share of its diagonal.
    jitter = file["jitter"].item() / file["gamma2"].item()
    sparse = SparseProcess(exact.kernel, poses[file["inducing_index"]], jitter=jitter)
    noise = torch.full_like(codes, file["sigma2"].item())
    batch = sparse(poses, codes, noise)
    posterior = sparse.condition(poses, codes, noise)
    close(posterior.inducing_mean, file["q_u_mean"].mT)
    close(posterior.inducing_covariance, file["q_u_cov"].expand(5, 5, 5))
    close(batch.mean, file["f_mean"])
    close(batch.variance, file["f_var"].unsqueeze(1).expand(21, 5))
    close(batch.log_likelihood, file["expected_loglik"])
    close(batch.kl, file["kl"])
    close(batch.inner_bound, file["elbo"])
    close(exact.log_marginal_likelihood(poses, codes), file["exact_lml"])
    assert batch.inner_bound < file["exact_lml"]
