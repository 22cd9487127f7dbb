"""Latent spaces: samples, projections, geodesics and distances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.latent.spaces import (
    AbstractLatentSpace,
    Empirical,
    Gaussian,
    GaussianDirections,
    Hypersphere,
    PerLayer,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(space: AbstractLatentSpace, n: int, seed: int = 0) -> Tensor:
    return space.sample(n, rng(seed)).double()


EXAMPLES = torch.randn(50, 6, generator=rng(9))
SPACES = [Gaussian(6), Hypersphere(6), GaussianDirections(6), Empirical(EXAMPLES)]
every_space = pytest.mark.parametrize("space", SPACES, ids=repr)


@every_space
def test_samples_are_a_function_of_the_generator(space: AbstractLatentSpace) -> None:
    assert space.sample(5, rng(1)).shape == (5, space.dim) == (5, 6)
    assert torch.equal(space.sample(5, rng(1)), space.sample(5, rng(1)))
    assert not torch.equal(space.sample(5, rng(1)), space.sample(5, rng(2)))


@every_space
def test_projection_leaves_points_of_the_space_alone(space: AbstractLatentSpace) -> None:
    sample = points(space, 20)
    torch.testing.assert_close(space.project(sample), sample, rtol=0, atol=1e-7)


@every_space
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("t_is_a_tensor", [False, True])
def test_ends_of_a_path_are_its_points_bit_for_bit(space: AbstractLatentSpace, end: int, t_is_a_tensor: bool) -> None:
    a, b = space.sample(20, rng(1)), space.sample(20, rng(2))
    t = torch.full((20,), float(end)) if t_is_a_tensor else float(end)
    assert torch.equal(space.interpolate(a, b, t), (a, b)[end])


@every_space
@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_a_path_between_equal_points_stays_there(space: AbstractLatentSpace, t: float) -> None:
    a = space.sample(20, rng())
    # cos 0 = 1 and sin 0 = 0 exactly; nothing is divided.
    torch.testing.assert_close(space.interpolate(a, a.clone(), t), a, rtol=0, atol=1e-7)


@every_space
@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_a_path_has_constant_speed(space: AbstractLatentSpace, t: float) -> None:
    a, b = points(space, 20, 1), points(space, 20, 2)
    middle, whole = space.interpolate(a, b, t), space.distance(a, b)
    torch.testing.assert_close(space.distance(a, middle), t * whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(space.distance(middle, b), (1 - t) * whole, rtol=0, atol=1e-6)


@every_space
def test_one_share_for_each_row_equals_the_rows_alone(space: AbstractLatentSpace) -> None:
    a, b = points(space, 4, 1), points(space, 4, 2)
    shares = torch.tensor([0.0, 0.3, 0.5, 1.0])
    together = space.interpolate(a, b, shares)
    # Shares are given in float32, the rows below in float64.
    for row, share in enumerate(shares.tolist()):
        alone = space.interpolate(a[row : row + 1], b[row : row + 1], share)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)


@every_space
def test_distance_is_symmetric_and_zero_between_equal_points(space: AbstractLatentSpace) -> None:
    a, b = space.sample(20, rng(1)), space.sample(20, rng(2))
    assert torch.equal(space.distance(a, b), space.distance(b, a))
    assert torch.equal(space.distance(a, a), torch.zeros(20))


@pytest.mark.parametrize("space", [Gaussian, Hypersphere])
def test_a_space_needs_a_dimension(space: type) -> None:
    with pytest.raises(ValueError, match="needs at least one dimension, got 0"):
        space(0)


# Gaussian


def test_gaussian_samples_are_standard_normal() -> None:
    sample = Gaussian(4).sample(20_000, rng())
    assert sample.mean(0).abs().max() < 5 / math.sqrt(20_000)
    torch.testing.assert_close(torch.cov(sample.T), torch.eye(4), rtol=0, atol=0.05)


def test_gaussian_paths_are_straight() -> None:
    a, b = torch.zeros(1, 2), torch.tensor([[4.0, -2.0]])
    assert Gaussian(2).interpolate(a, b, 0.25).tolist() == [[1.0, -0.5]]


def test_gaussian_distance_is_euclidean() -> None:
    assert Gaussian(2).distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item() == 5.0


# Hypersphere


def test_points_of_the_sphere_have_unit_norm() -> None:
    norms = torch.linalg.vector_norm(Hypersphere(512).sample(100, rng()), dim=1)
    torch.testing.assert_close(norms, torch.ones(100), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_sphere_is_sampled_uniformly(dim: int) -> None:
    count = 20_000
    sample = Hypersphere(dim).sample(count, rng())
    # Uniform: mean 0, covariance I/D, fourth moment of a coordinate 3/(D (D + 2)). Five standard errors each.
    assert sample.mean(0).abs().max() < 5 / math.sqrt(dim * count)
    torch.testing.assert_close(torch.cov(sample.T), torch.eye(dim) / dim, rtol=0, atol=5 / math.sqrt(count) / dim * 1.5)
    fourth = 3 / (dim * (dim + 2))
    assert sample.pow(4).mean().item() == pytest.approx(fourth, rel=0.05)


def test_a_zero_vector_projects_to_a_finite_one() -> None:
    assert torch.equal(Hypersphere(3).project(torch.zeros(1, 3)), torch.zeros(1, 3))


def test_projection_keeps_the_direction() -> None:
    vector = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(Hypersphere(2).project(vector), torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize(
    ("b", "angle"),
    [([1.0, 0.0], 0.0), ([0.0, 1.0], math.pi / 2), ([-1.0, 0.0], math.pi), ([math.cos(1e-4), math.sin(1e-4)], 1e-4)],
    ids=["equal", "orthogonal", "opposite", "close"],
)
def test_distance_on_the_sphere_is_the_angle(b: list[float], angle: float) -> None:
    # Of 1e-4 radians an arc cosine in float32 keeps nothing: cos differs from one by 5e-9.
    ours = Hypersphere(2).distance(torch.tensor([[1.0, 0.0]]), torch.tensor([b])).item()
    assert ours == pytest.approx(angle, rel=1e-6)


@pytest.mark.parametrize("t", [0.0, 1 / 7, 0.5, 2 / 3, 1.0])
def test_great_circle_between_orthogonal_points_is_a_quarter_turn(t: float) -> None:
    a, b = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    expected = torch.tensor([[math.cos(t * math.pi / 2), 0.0, math.sin(t * math.pi / 2)]])
    torch.testing.assert_close(Hypersphere(3).interpolate(a, b, t), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.5, 1.5, 3.0, math.pi - 1e-3])
def test_great_circle_is_the_rotation_in_the_plane_of_its_points(angle: float) -> None:
    basis = torch.linalg.qr(torch.randn(8, 2, generator=rng(), dtype=torch.float64)).Q.T
    a = basis[:1]
    b = math.cos(angle) * basis[:1] + math.sin(angle) * basis[1:]
    expected = math.cos(0.3 * angle) * basis[:1] + math.sin(0.3 * angle) * basis[1:]
    # Near opposite points the tangent is a small difference; float64 keeps twelve digits of it.
    torch.testing.assert_close(Hypersphere(8).interpolate(a, b, 0.3), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_between_opposite_points_the_path_stays_on_the_sphere_at_constant_speed(t: float, dtype: torch.dtype) -> None:
    space = Hypersphere(5)
    a = space.sample(20, rng()).to(dtype)
    a = space.project(a)
    middle = space.interpolate(a, -a, t)
    assert middle.isfinite().all()
    torch.testing.assert_close(torch.linalg.vector_norm(middle, dim=1), torch.ones(20, dtype=dtype), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        space.distance(a, middle), torch.full((20,), t * math.pi, dtype=dtype), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("t", [0.2, 0.5, 0.7])
def test_paths_do_not_leave_the_sphere_in_float32(t: float) -> None:
    space = Hypersphere(512)
    path = space.interpolate(space.sample(50, rng(1)), space.sample(50, rng(2)), t)
    torch.testing.assert_close(torch.linalg.vector_norm(path, dim=1), torch.ones(50), rtol=0, atol=1e-6)


def test_paths_turn_with_the_sphere() -> None:
    space = Hypersphere(6)
    a, b = points(space, 10, 1), points(space, 10, 2)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=rng(3), dtype=torch.float64)).Q
    turned = space.interpolate(a @ rotation, b @ rotation, 0.3)
    torch.testing.assert_close(turned, space.interpolate(a, b, 0.3) @ rotation, rtol=0, atol=1e-12)


def test_gradients_of_a_path_are_finite_at_equal_points() -> None:
    space = Hypersphere(4)
    a = points(space, 3).requires_grad_()
    space.interpolate(a, a.detach().clone(), 0.5).sum().backward()
    assert a.grad.isfinite().all()


# Directions


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_paths_of_directions_are_great_circles_on_which_lengths_change_evenly(t: float) -> None:
    space, sphere = GaussianDirections(6), Hypersphere(6)
    a, b = points(space, 10, 1), points(space, 10, 2)
    path = space.interpolate(a, b, t)
    expected = sphere.interpolate(sphere.project(a), sphere.project(b), t)
    torch.testing.assert_close(sphere.project(path), expected, rtol=0, atol=1e-12)
    lengths = torch.lerp(a.norm(dim=1), b.norm(dim=1), t)
    torch.testing.assert_close(path.norm(dim=1), lengths, rtol=0, atol=1e-12)


def test_distances_of_directions_are_angles_whatever_the_lengths() -> None:
    space = GaussianDirections(2)
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    assert space.distance(a, b).item() == pytest.approx(math.pi / 2)
    assert space.distance(a, 7 * a).item() == 0


# Empirical


def test_empirical_samples_are_examples() -> None:
    sample = Empirical(EXAMPLES).sample(200, rng())
    matches = (sample[:, None] == EXAMPLES[None]).all(-1)
    assert matches.any(1).all()


def test_empirical_samples_are_drawn_evenly() -> None:
    space = Empirical(torch.arange(10.0)[:, None].expand(10, 3))
    counts = torch.bincount(space.sample(10_000, rng())[:, 0].long(), minlength=10)
    # Chi-squared with 9 degrees of freedom exceeds 33 once in 10,000.
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 33


@pytest.mark.parametrize(("normal", "row"), [(-40.0, 0), (40.0, 9)])
def test_extreme_normals_give_the_first_and_last_example(normal: float, row: int) -> None:
    space = Empirical(torch.arange(10.0)[:, None].expand(10, 3))
    assert space.from_normal(torch.full((1, 3), normal))[0, 0] == row


def test_empirical_mean() -> None:
    torch.testing.assert_close(Empirical(EXAMPLES).mean, EXAMPLES.mean(0))


def test_an_empirical_space_needs_examples() -> None:
    with pytest.raises(ValueError, match="needs at least one example point, got none"):
        Empirical(torch.zeros(0, 3))


def test_spaces_say_which_law_their_prior_has() -> None:
    assert [space.prior_law for space in SPACES] == ["normal", "sphere", "normal", "other"]


@pytest.mark.parametrize("space", [Gaussian(6), Hypersphere(6), PerLayer(Hypersphere(3), 2)], ids=repr)
def test_tangents_lead_back_and_are_as_long_as_the_way(space):
    rng = torch.Generator().manual_seed(0)
    base, points = space.sample(1, rng).double(), space.sample(9, rng).double()
    points[0] = base[0]
    vectors = space.to_tangent(base, points)
    assert torch.allclose(space.from_tangent(base, vectors), points, atol=1e-12)
    assert torch.allclose(torch.linalg.vector_norm(vectors, dim=1), space.distance(base.expand_as(points), points))
    assert torch.allclose(
        space.from_tangent(base, 0.3 * vectors), space.interpolate(base.expand_as(points), points, 0.3), atol=1e-12
    )


def test_a_tangent_of_the_sphere_needs_a_point_of_it():
    with pytest.raises(ValueError, match="touches the sphere at a point of length 1, got one of length"):
        Hypersphere(3).to_tangent(torch.zeros(1, 3), torch.eye(3))
