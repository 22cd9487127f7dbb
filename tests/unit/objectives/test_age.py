"""The adversarial generator-encoder's terms: closed forms, gradients, floors and biases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.latent.spaces import Hypersphere
from latent_lab.objectives import age

FORMS = ["exact", "pioneer", "age"]
DIRECTIONS = ["qp", "pq"]
every_form = pytest.mark.parametrize("form", FORMS)
both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(n: int = 6, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=rng(seed), dtype=torch.float64) * 0.7 + 0.2


# The divergence


@pytest.mark.parametrize(
    ("direction", "form", "expected"),
    [
        ("qp", "exact", (4 + 9) / 2 - math.log(4) / 2 - 0.5),
        ("qp", "pioneer", (4 + 9) / 2 - math.log(4) / 2 - 0.5),
        ("qp", "age", (16 + 9) / 2 - math.log(4) - 0.5),
        ("pq", "exact", (1 + 9) / 8 + math.log(4) / 2 - 0.5),
        ("pq", "pioneer", (1 + 9) / 32 + math.log(4) - 0.5),
        ("pq", "age", (1 + 9) / 32 + math.log(4) - 0.5),
    ],
)
def test_values_of_two_codes_with_mean_three_and_variance_four(direction: str, form: str, expected: float) -> None:
    two = torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    assert age.moment_kl(two, direction=direction, form=form).item() == pytest.approx(expected, rel=1e-14)


@both_directions
def test_the_exact_form_is_the_divergence_between_normals(direction: str) -> None:
    sample = codes()
    batch = torch.distributions.Normal(sample.mean(0), sample.std(0, correction=0))
    prior = torch.distributions.Normal(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    pair = (batch, prior) if direction == "qp" else (prior, batch)
    expected = torch.distributions.kl_divergence(*pair).mean()
    torch.testing.assert_close(age.moment_kl(sample, direction=direction), expected, rtol=1e-13, atol=0)


@every_form
@both_directions
def test_standard_moments_have_no_divergence(direction: str, form: str) -> None:
    standard = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert age.moment_kl(standard, direction=direction, form=form).item() == pytest.approx(0, abs=1e-7)


@both_directions
def test_the_exact_divergence_is_positive_elsewhere(direction: str) -> None:
    values = [age.moment_kl(codes(seed=seed), direction=direction) for seed in range(20)]
    assert min(values) > 0


@every_form
@both_directions
def test_gradients_agree_with_finite_differences(direction: str, form: str) -> None:
    sample = codes().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: age.moment_kl(z, direction=direction, form=form), sample, atol=1e-8)


@every_form
@both_directions
def test_order_of_samples_and_dimensions_does_not_matter(direction: str, form: str) -> None:
    sample = codes()
    mixed = sample[torch.randperm(6, generator=rng())][:, torch.randperm(4, generator=rng())]
    value = age.moment_kl(sample, direction=direction, form=form)
    torch.testing.assert_close(age.moment_kl(mixed, direction=direction, form=form), value, rtol=1e-13, atol=0)


def test_it_averages_over_dimensions() -> None:
    sample = codes()
    value = age.moment_kl(sample)
    torch.testing.assert_close(age.moment_kl(torch.cat([sample, sample], dim=1)), value, rtol=1e-13, atol=0)


def test_it_is_a_statistic_of_the_batch_not_a_mean_over_it() -> None:
    sample = codes()
    halves = (age.moment_kl(sample[:3]) + age.moment_kl(sample[3:])) / 2
    assert (age.moment_kl(sample) - halves).abs() > 0.01


def test_repeating_the_batch_changes_nothing_because_the_variance_is_biased() -> None:
    sample = codes()
    torch.testing.assert_close(age.moment_kl(sample.repeat(3, 1)), age.moment_kl(sample), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_codes_are_judged_in_float32(dtype: torch.dtype) -> None:
    sample = codes().to(dtype)
    value = age.moment_kl(sample)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, age.moment_kl(sample.float()), rtol=0, atol=0)


@every_form
@both_directions
def test_equal_codes_give_a_finite_divergence_and_gradient(direction: str, form: str) -> None:
    collapsed = torch.full((4, 3), 0.5, requires_grad=True)
    value = age.moment_kl(collapsed, direction=direction, form=form)
    value.backward()
    assert value.isfinite()
    assert collapsed.grad.isfinite().all()


@pytest.mark.parametrize("variance", [1e-11, 1e-8, 1 / 512])
def test_the_variance_floor_leaves_all_seen_variances_alone(variance: float) -> None:
    # 1e-11 is the least that was measured in an untrained Balanced Pioneer; 1/512 is healthy.
    pair = torch.tensor([[1.0], [-1.0]], dtype=torch.float64) * variance**0.5
    expected = variance / 2 - math.log(variance) / 2 - 0.5
    assert age.moment_kl(pair).item() == pytest.approx(expected, rel=1e-12)


# Floors and biases on the sphere


def test_floor_of_the_published_width() -> None:
    assert age.sphere_floor(512) == pytest.approx(2.6201, abs=5e-5)
    assert age.sphere_floor(512, form="pioneer") == age.sphere_floor(512)
    assert age.sphere_floor(512, form="age") == pytest.approx(5.7383, abs=5e-5)


@every_form
@pytest.mark.parametrize("dim", [2, 16, 512])
def test_codes_spread_evenly_over_the_sphere_reach_the_floor(dim: int, form: str) -> None:
    # All unit vectors of the axes and their opposites: mean 0 and variance 1/D in every dimension.
    even = torch.cat([torch.eye(dim), -torch.eye(dim)]).double()
    assert age.moment_kl(even, form=form).item() == pytest.approx(age.sphere_floor(dim, form=form), rel=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_no_codes_on_the_sphere_lie_below_the_floor(seed: int) -> None:
    sample = Hypersphere(16).sample(64, rng(seed)).double()
    assert age.moment_kl(sample) > age.sphere_floor(16)
    assert age.moment_kl(sample[:1].repeat(8, 1) + 0.1 * sample[:8]) > age.sphere_floor(16)


# Section 2.1 of the facts about the published programs.
BIAS = {4: 0.328, 8: 0.142, 16: 0.0663, 32: 0.0322, 64: 0.0159, 128: 0.0079, 256: 0.0039}


@pytest.mark.parametrize(("batch_size", "bias"), BIAS.items())
def test_finite_batch_bias_is_the_tabulated_one(batch_size: int, bias: float) -> None:
    # The table has three digits.
    digits = 5e-4 if bias > 0.1 else 5e-5
    assert age.finite_batch_bias(batch_size) == pytest.approx(bias, abs=digits)


@pytest.mark.parametrize("batch_size", BIAS)
def test_finite_batch_bias_is_what_uniform_codes_show(batch_size: int) -> None:
    dim, repetitions = 128, 40_000 // batch_size
    sample = Hypersphere(dim).sample(batch_size * repetitions, rng()).double()
    # Repetitions side by side: the divergence averages over dimensions, so this is the mean over all of them.
    side_by_side = sample.reshape(repetitions, batch_size, dim).transpose(0, 1).reshape(batch_size, -1)
    shown = age.moment_kl(side_by_side).item() - age.sphere_floor(dim)
    # Coordinates on the sphere are normal up to 1/D, which moves the bias by about 1/D of itself plus 1/(D B); at least
    # 20,000 dimensions at B = 256 and 1.3 million at B = 4 leave a standard error below 4e-4.
    expected = age.finite_batch_bias(batch_size)
    assert shown == pytest.approx(expected, abs=2e-3 if batch_size == 4 else 1e-3)


# Margin


def test_without_a_margin_the_gap_is_left_alone() -> None:
    gap = torch.tensor(-3.0)
    assert age.clamp_gap(gap, None) is gap


@pytest.mark.parametrize(("gap", "expected"), [(-0.3, -0.05), (-0.04, -0.04), (0.2, 0.2)])
def test_the_gap_falls_no_lower_than_the_margin(gap: float, expected: float) -> None:
    assert age.clamp_gap(torch.tensor(gap), 0.05).item() == pytest.approx(expected)


@pytest.mark.parametrize(("gap", "gradient"), [(-0.3, 0.0), (-0.04, 1.0)])
def test_where_the_margin_holds_there_is_no_gradient(gap: float, gradient: float) -> None:
    value = torch.tensor(gap, requires_grad=True)
    age.clamp_gap(value, 0.05).backward()
    assert value.grad.item() == gradient


@pytest.mark.parametrize(
    ("gap", "margin", "upper", "expected", "gradient"),
    [
        (0.2, 0.05, 0.025, 0.025, 0.0),
        (0.01, 0.05, 0.025, 0.01, 1.0),
        (-0.3, 0.05, 0.025, -0.05, 0.0),
        (-0.3, None, 0.025, -0.3, 1.0),
        (0.2, None, 0.025, 0.025, 0.0),
    ],
)
def test_an_upper_end_bounds_the_gap_above(
    gap: float, margin: float | None, upper: float, expected: float, gradient: float
) -> None:
    value = torch.tensor(gap, requires_grad=True)
    clamped = age.clamp_gap(value, margin, upper=upper)
    clamped.backward()
    assert clamped.item() == pytest.approx(expected)
    assert value.grad.item() == gradient


# Distances


@pytest.mark.parametrize(("sign", "cosine"), [(1.0, 1.0), (-1.0, -1.0)])
def test_latent_cosine_counts_a_dth_of_the_cosine(sign: float, cosine: float) -> None:
    sample = codes(6, 4)
    assert age.latent_cosine(sample, sign * 3 * sample).item() == pytest.approx(2 - cosine / 4)
    assert age.mean_cosine(sample, sign * 3 * sample).item() == pytest.approx(cosine)


def test_latent_cosine_and_mean_cosine_are_two_views_of_one_number() -> None:
    a, b = codes(6, 4, 1), codes(6, 4, 2)
    torch.testing.assert_close(age.latent_cosine(a, b), 2 - age.mean_cosine(a, b) / 4)


def test_cosines_of_zero_vectors_are_finite() -> None:
    zero, sample = torch.zeros(2, 4, requires_grad=True), torch.ones(2, 4)
    value = age.latent_cosine(zero, sample)
    value.backward()
    assert value.item() == 2.0
    assert zero.grad.isfinite().all()


def test_image_distances_are_means_over_all_elements() -> None:
    a, b = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    b[0, 0, 0, 0] = 2.0
    assert age.image_distance(a, b).item() == pytest.approx(2 / 24)
    assert age.image_distance(a, b, "l2").item() == pytest.approx(4 / 24)


@pytest.mark.parametrize(("metric", "expected"), [("l1", 2 / 8), ("l2", 4 / 8)])
def test_latent_distances_are_means_over_all_elements(metric: str, expected: float) -> None:
    a, b = torch.zeros(2, 4), torch.zeros(2, 4)
    b[0, 0] = -2.0
    assert age.latent_distance(a, b, metric).item() == pytest.approx(expected)


def test_the_default_latent_distance_is_the_cosine() -> None:
    a, b = codes(seed=1), codes(seed=2)
    assert torch.equal(age.latent_distance(a, b), age.latent_cosine(a, b))


# Images by the cosine


def test_image_cosine_compares_hues_pixel_by_pixel() -> None:
    a = torch.rand(2, 3, 4, 4, generator=rng()) + 0.1
    # Mean over elements: one unit of cosine counts a third.
    assert age.image_distance(a, 0.2 * a, "cos").item() == pytest.approx(2 - 1 / 3)
    assert age.image_distance(a, -a, "cos").item() == pytest.approx(2 + 1 / 3)


# The divergence by nearest neighbours


@pytest.mark.parametrize("a", [0.3, 2.0])
def test_nearest_neighbour_divergence_of_two_codes(a: float) -> None:
    two = torch.tensor([[a], [-a]], dtype=torch.float64)
    # psi(2) - psi(1) = 1; the unit ball of the line has length 2.
    expected = a**2 / 2 + math.log(2 * math.pi) / 2 - (1 + math.log(2) + math.log(2 * a))
    assert age.nearest_neighbour_kl(two).item() == pytest.approx(expected, rel=1e-13)


def test_nearest_neighbour_divergence_of_normal_codes_is_the_exact_one() -> None:
    sample = torch.randn(1000, 3, generator=rng(), dtype=torch.float64) * 0.5 + 1.0
    exact = (0.25 + 1) / 2 - math.log(0.5) - 0.5
    # The entropy's standard error is pi / sqrt(6 N) / D = 0.014, the cross-entropy's 0.01.
    assert age.nearest_neighbour_kl(sample).item() == pytest.approx(exact, abs=0.05)


def test_nearest_neighbours_see_a_shape_that_moments_do_not() -> None:
    square = 2 * torch.rand(1000, 2, generator=rng(), dtype=torch.float64) - 1
    exact = 1 / 6 + math.log(2 * math.pi) / 2 - math.log(2)
    # As above, and neighbours that are missing beyond the border add about 0.01.
    assert age.nearest_neighbour_kl(square).item() == pytest.approx(exact, abs=0.05)
    assert age.moment_kl(square).item() < exact - 0.1


def test_nearest_neighbour_divergence_is_the_same_in_every_orthogonal_basis() -> None:
    sample = codes(20, 4)
    turned = sample @ torch.linalg.qr(torch.randn(4, 4, generator=rng(), dtype=torch.float64)).Q
    value = age.nearest_neighbour_kl(sample)
    torch.testing.assert_close(age.nearest_neighbour_kl(turned[torch.randperm(20, generator=rng())]), value)


def test_gradient_of_the_nearest_neighbour_divergence_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(age.nearest_neighbour_kl, codes().requires_grad_(), atol=1e-8)


def test_equal_codes_have_a_finite_nearest_neighbour_divergence_and_gradient() -> None:
    collapsed = torch.full((4, 3), 0.5, requires_grad=True)
    value = age.nearest_neighbour_kl(collapsed)
    value.backward()
    assert value.isfinite()
    assert collapsed.grad.isfinite().all()
