"""Kernels of poses: closed forms, invariance, eigenvalues, gradients, what is refused."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch

from latent_lab.priors.kernels import (
    AbstractKernel,
    AnisotropicViewKernel,
    EulerKernel,
    GeodesicKernel,
    ObjectKernel,
    PoseMaternKernel,
    ProductKernel,
    QuaternionKernel,
    ReleasedFaceKernel,
    ReleasedQuaternionKernel,
    ReleasedViewKernel,
    ScaledKernel,
    TranslationKernel,
    ViewKernel,
    build_kernel,
)
from latent_lab.priors.poses import Poses
from latent_lab.priors.rotations import rotations_of
from tests.unit.priors.runs import about_y, normal, random_rotations

COVARIANCES: dict[str, Callable[[], AbstractKernel]] = {
    "view": lambda: ViewKernel(0.7),
    "wide view": lambda: ViewKernel(4.0),
    "camera axes": lambda: AnisotropicViewKernel((0.5, 1.0, 3.0), "camera"),
    "world axes": lambda: AnisotropicViewKernel((0.5, 1.0, 3.0), "world"),
    "translation": lambda: TranslationKernel(0.8),
    "object": lambda: ObjectKernel(7, 3),
    "product": lambda: ProductKernel(ViewKernel(0.9), TranslationKernel(1.3), ObjectKernel(7, 5)),
    "scaled": lambda: ScaledKernel(ViewKernel(0.9), 2.5),
    "matern": lambda: PoseMaternKernel(0.9),
    "euler": lambda: EulerKernel(0.9),
    "quaternion": lambda: QuaternionKernel(0.9),
    "released face": lambda: ReleasedFaceKernel(0.9),
    "released quaternion": lambda: ReleasedQuaternionKernel(0.9),
    "released view": lambda: ReleasedViewKernel((0.3, 0.5, 0.1)),
}
EVERY = pytest.mark.parametrize("name", COVARIANCES)


def scene(count: int = 120, seed: int = 0) -> Poses:
    """Random poses of seven objects; the last ten repeat the first ten."""
    rows = torch.cat([torch.arange(count - 10), torch.arange(10)])
    objects = torch.arange(count) % 7
    return Poses(random_rotations(count, seed), normal(count, 3, seed=seed), objects)[rows]


def lowest_eigenvalue(kernel: AbstractKernel, poses: Poses) -> float:
    return torch.linalg.eigvalsh(kernel(poses, poses)).min().item()


def test_about_one_axis_the_view_kernel_is_the_periodic_kernel() -> None:
    degrees = torch.arange(0.0, 360.0, 15.0, dtype=torch.float64)
    turntable = Poses(about_y(degrees))
    difference = torch.deg2rad(degrees.unsqueeze(1) - degrees)
    expected = torch.exp(-2.0 * (difference / 2.0).sin().square() / 0.6**2)
    torch.testing.assert_close(ViewKernel(0.6)(turntable, turntable), expected, rtol=1e-12, atol=1e-15)


def test_the_view_kernel_halves_at_72_degrees_and_has_a_lowest_value() -> None:
    half = math.degrees(2.0 * math.asin(math.sqrt(math.log(2.0) / 2.0)))
    assert half == pytest.approx(72.1, abs=0.05)
    values = ViewKernel(1.0)(Poses(about_y([0.0])), Poses(about_y([0.0, half, 180.0])))[0].tolist()
    assert values == pytest.approx([1.0, 0.5, math.exp(-2.0)])


def test_small_motion_is_resolved_in_single_precision() -> None:
    frames = Poses(about_y([0.0, 0.03]).float())
    # 1 - k of 0.03 degrees, at a length scale as small: an arc cosine of float32 numbers would see no motion.
    value = ViewKernel(math.radians(0.03))(frames, frames)[0, 1].item()
    assert value == pytest.approx(math.exp(-0.5), rel=1e-3)


@pytest.mark.parametrize("name", ["view", "geodesic", "face_released", "quaternion_nearest"])
def test_kernels_of_the_angle_do_not_change_when_camera_or_world_is_turned(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        kernel = build_kernel(name, length_scale=0.8)
    a, b, turn = random_rotations(6), random_rotations(5, seed=1), random_rotations(1, seed=2)[0]
    expected = kernel(Poses(a), Poses(b))
    torch.testing.assert_close(kernel(Poses(turn @ a), Poses(turn @ b)), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(kernel(Poses(a @ turn), Poses(b @ turn)), expected, rtol=1e-12, atol=1e-14)


def test_camera_axes_ignore_turns_of_the_world_and_world_axes_those_of_the_camera() -> None:
    a, b, turn = random_rotations(6), random_rotations(5, seed=1), random_rotations(1, seed=2)[0]
    camera, world = (AnisotropicViewKernel((0.5, 1.0, 3.0), axes) for axes in ("camera", "world"))
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(camera(Poses(turn @ a), Poses(turn @ b)), camera(Poses(a), Poses(b)), **close)
    torch.testing.assert_close(world(Poses(a @ turn), Poses(b @ turn)), world(Poses(a), Poses(b)), **close)
    assert (camera(Poses(a @ turn), Poses(b @ turn)) - camera(Poses(a), Poses(b))).abs().max() > 1e-2
    assert (world(Poses(turn @ a), Poses(turn @ b)) - world(Poses(a), Poses(b))).abs().max() > 1e-2


@pytest.mark.parametrize("axes", ["camera", "world"])
def test_equal_lengths_of_all_axes_are_the_view_kernel(axes: str) -> None:
    poses = scene()
    expected = ViewKernel(0.8)(poses, poses)
    torch.testing.assert_close(AnisotropicViewKernel((0.8,) * 3, axes)(poses, poses), expected, rtol=1e-11, atol=0)


def test_a_long_length_of_an_axis_allows_turns_that_move_that_axis_alone_no_more() -> None:
    # About x, the axes y and z move; an infinitely long length of both leaves nothing to tell the frames apart.
    turned = Poses(rotations_of(torch.tensor([[1.0, 0.0, 0.0]])))
    still = Poses(torch.eye(3).unsqueeze(0))
    assert AnisotropicViewKernel((0.1, 1e6, 1e6))(still, turned).item() == pytest.approx(1.0)
    assert AnisotropicViewKernel((1e6, 0.1, 1e6))(still, turned).item() < 1e-6


@EVERY
def test_covariances_have_no_negative_eigenvalue_even_for_repeated_poses(name: str) -> None:
    kernel = COVARIANCES[name]()
    assert kernel.positive_definite
    # Rounding alone: 120 times 10^-16 of the largest eigenvalue, about 100.
    assert lowest_eigenvalue(kernel, scene()) > -1e-11


@EVERY
def test_covariances_are_symmetric_and_know_their_diagonal(name: str) -> None:
    kernel, poses = COVARIANCES[name](), scene(40)
    covariance = kernel(poses, poses)
    torch.testing.assert_close(covariance, covariance.mT, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(kernel.diagonal(poses), covariance.diagonal(), rtol=1e-13, atol=0)
    assert kernel(poses, poses[:3]).shape == (40, 3)


@EVERY
def test_gradients_of_hyperparameters_are_those_of_finite_differences(name: str) -> None:
    kernel, a, b = COVARIANCES[name](), scene(12), scene(14, seed=3)
    parameters = list(kernel.parameters())
    assert parameters
    assert all(parameter.dtype == torch.float64 for parameter in parameters)
    assert torch.autograd.gradcheck(lambda *_: kernel(a, b), parameters)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(kernel(a, a).sum(), parameters))


@EVERY
def test_gradients_of_poses_are_finite_where_poses_are_equal(name: str) -> None:
    kernel, poses = COVARIANCES[name](), scene(20)
    vectors = torch.zeros(20, 3, dtype=torch.float64, requires_grad=True)
    places = poses.translations.clone().requires_grad_()
    moved = Poses(poses.rotations @ rotations_of(vectors), places, poses.objects)
    total = kernel(moved, moved).sum() + 0.0 * (vectors.sum() + places.sum())
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(total, (vectors, places)))


def test_geodesic_and_nearest_quaternion_warn_that_they_are_no_covariances() -> None:
    poses = Poses(random_rotations(300))
    with pytest.warns(UserWarning, match="the Gaussian of the geodesic angle is not positive semi-definite"):
        geodesic = GeodesicKernel(2.0)
    with pytest.warns(UserWarning, match="the kernel of the nearer quaternion is not positive semi-definite"):
        nearest = QuaternionKernel(1.0, sign="nearest")
    for kernel in (geodesic, nearest):
        assert not kernel.positive_definite
        assert not ScaledKernel(kernel).positive_definite
        assert not ProductKernel(ViewKernel(), kernel).positive_definite
        assert lowest_eigenvalue(kernel, poses) < -0.1


def test_euler_angles_tell_apart_what_the_view_kernel_does_not_at_gimbal_lock() -> None:
    a = about_y([89.999]) @ rotations_of(torch.tensor([[0.0, 0.0, 0.001]]))
    b = about_y([89.999]) @ rotations_of(torch.tensor([[0.0, 0.0, -0.001]]))
    assert ViewKernel(0.5)(Poses(a), Poses(b)).item() > 0.9999
    assert EulerKernel(0.5)(Poses(a), Poses(b)).item() < 0.1


def test_quaternions_of_one_chart_tear_neighbours_apart_which_the_nearer_one_does_not() -> None:
    a, b = Poses(rotations_of(torch.tensor([[0.0, 0.0, 3.14]]))), Poses(rotations_of(torch.tensor([[0.0, 0.0, -3.14]])))
    assert ViewKernel(1.0)(a, b).item() > 0.999
    with pytest.warns(UserWarning, match="nearer quaternion"):
        assert QuaternionKernel(1.0, sign="nearest")(a, b).item() > 0.999
    # Both have their largest entry positive here; at 90 degrees w and z change places.
    c, d = (Poses(rotations_of(torch.tensor([[0.0, 0.0, sign * 1.6]]))) for sign in (1.0, -1.0))
    assert QuaternionKernel(1.0)(c, d).item() == pytest.approx(QuaternionKernel(1.0)(d, c).item())
    e, f = (Poses(rotations_of(torch.tensor([[0.0, 0.0, angle]]))) for angle in (-1.56, -1.58))
    assert QuaternionKernel(1.0)(e, f).item() < 0.2 < 0.999 < ViewKernel(1.0)(e, f).item()


def test_the_released_face_kernel_is_the_exponential_of_the_chordal_distance() -> None:
    still, turned = Poses(about_y([0.0])), Poses(about_y([40.0]))
    chord = 2.0 * math.sin(math.radians(20.0))
    assert ReleasedFaceKernel(0.9)(still, turned).item() == pytest.approx(math.exp(-chord / (2.0 * 0.9**2)))
    assert ReleasedFaceKernel(0.9)(still, still).item() == pytest.approx(math.exp(-1e-6 / (2.0 * 0.9**2)), rel=1e-14)


def test_the_released_view_kernel_may_fail_to_be_a_covariance_for_small_scales() -> None:
    assert lowest_eigenvalue(ReleasedViewKernel((-3.0, -3.0, -3.0)), Poses(random_rotations(60))) < -1e-3


def test_products_multiply_and_scales_scale() -> None:
    poses = scene(30)
    view, place = ViewKernel(0.8), TranslationKernel(1.1)
    torch.testing.assert_close(ProductKernel(view, place)(poses, poses), view(poses, poses) * place(poses, poses))
    torch.testing.assert_close(ScaledKernel(view, 3.0)(poses, poses), 3.0 * view(poses, poses))


def test_features_of_objects_have_unit_length_and_a_first_entry_that_was_one() -> None:
    kernel = ObjectKernel(5, 4, seed=3)
    assert (kernel.raw_features[:, 0] == 1.0).all()
    torch.testing.assert_close(kernel.features(torch.arange(5)).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(ObjectKernel(5, 4, seed=3).raw_features, kernel.raw_features)
    assert not torch.equal(ObjectKernel(5, 4, seed=4).raw_features, kernel.raw_features)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("view", ViewKernel), ("view_translation", ProductKernel), ("quaternion_released", ReleasedQuaternionKernel)],
)
def test_kernels_are_built_by_name(name: str, kind: type[AbstractKernel]) -> None:
    kernel = build_kernel(name, variance=2.0, length_scale=0.5, translation_length_scale=0.7)
    assert isinstance(kernel.kernel, kind)
    assert kernel.variance.item() == pytest.approx(2.0)
    assert kernel(scene(20), scene(20)).shape == (20, 20)


def test_bad_input_gets_a_sentence() -> None:
    poses = Poses(random_rotations(3))
    with pytest.raises(ValueError, match="there is no kernel rbf: there are view, view_translation"):
        build_kernel("rbf")
    with pytest.raises(ValueError, match=r"length_scale must be positive, got 0\.0"):
        ViewKernel(0.0)
    with pytest.raises(ValueError, match="variance must be positive, got nan"):
        ScaledKernel(ViewKernel(), math.nan)
    with pytest.raises(ValueError, match="length_scales must be three numbers"):
        AnisotropicViewKernel((1.0, 2.0))
    with pytest.raises(ValueError, match="axes must be camera or world, got object"):
        AnisotropicViewKernel(axes="object")
    with pytest.raises(ValueError, match="sign must be chart or nearest, got plus"):
        QuaternionKernel(sign="plus")
    with pytest.raises(ValueError, match="log_scales must be three numbers"):
        ReleasedViewKernel((1.0, 2.0))
    with pytest.raises(ValueError, match="give poses with translations"):
        build_kernel("view_translation")(poses, poses)
    with pytest.raises(ValueError, match="give poses with objects"):
        ObjectKernel(2, 2)(poses, poses)
    with pytest.raises(ValueError, match="objects are numbered 0 to 1, got 0 to 2"):
        ObjectKernel(2, 2).features(torch.arange(3))
    with pytest.raises(ValueError, match="num_objects and rank must be at least 1, got 0 and 4"):
        ObjectKernel(0, 4)
    with pytest.raises(ValueError, match="a product needs at least one kernel"):
        ProductKernel()
