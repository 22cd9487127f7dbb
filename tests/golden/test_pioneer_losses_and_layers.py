"""Objective terms, layers, great circles, averages and the sample buffer against AGE, Pioneer and Balanced Pioneer.

Tolerances as in golden/pioneer/README.md: 1e-5 for float32 forward values, 1e-4 for float32 gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from latent_lab.latent.spaces import Hypersphere
from latent_lab.models.sample_buffer import SampleBuffer
from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.layers import EqualizedConv2d, PixelNorm, SpectralConv2d
from latent_lab.objectives import age


@pytest.fixture(scope="module")
def golden(pioneer_golden: Callable) -> Mapping[str, Tensor]:
    return pioneer_golden("losses_and_ops")


def assert_close(ours: Tensor, published: Tensor, tolerance: float = 1e-5, *, relative: float = 0.0) -> None:
    torch.testing.assert_close(ours, published, rtol=relative, atol=tolerance)


# Objective terms


@pytest.mark.parametrize("codes", ["unit", "raw"])
@pytest.mark.parametrize("direction", ["qp", "pq"])
@pytest.mark.parametrize("form", ["pioneer", "age"])
def test_published_forms_of_the_divergence(golden: Mapping, form: str, direction: str, codes: str) -> None:
    ours = age.moment_kl(golden[f"kl.z_{codes}"], direction=direction, form=form)
    # The pq form of unit codes is 236674, where float32 keeps seven digits.
    assert_close(ours, golden[f"kl.{form}.{direction}.{codes}"], relative=1e-6)


@pytest.mark.parametrize("direction", ["qp", "pq"])
@pytest.mark.parametrize("form", ["pioneer", "age"])
def test_gradients_of_the_published_forms(golden: Mapping, form: str, direction: str) -> None:
    codes = golden["kl.z_raw"].clone().requires_grad_()
    age.moment_kl(codes, direction=direction, form=form).backward()
    assert_close(codes.grad, golden[f"kl.{form}.{direction}.raw.grad"], 1e-4)


def test_the_exact_form_is_pioneers_in_the_default_direction(golden: Mapping) -> None:
    assert_close(age.moment_kl(golden["kl.z_raw"]), golden["kl.pioneer.qp.raw"])


@pytest.mark.parametrize("codes", ["unit", "raw"])
@pytest.mark.parametrize("direction", ["qp", "pq"])
def test_the_exact_form_follows_from_the_recorded_moments(golden: Mapping, direction: str, codes: str) -> None:
    # torch's divergence between normals is the independent reference; the moments are the published program's.
    mean, deviation = golden[f"kl.mean.{codes}"].double(), golden[f"kl.var.{codes}"].double().sqrt()
    batch, prior = torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
    pair = (batch, prior) if direction == "qp" else (prior, batch)
    expected = torch.distributions.kl_divergence(*pair).mean()
    ours = age.moment_kl(golden[f"kl.z_{codes}"].double(), direction=direction)
    # The recorded moments are float32.
    assert_close(ours, expected, 0.0, relative=1e-6)


@pytest.mark.parametrize(("form", "system"), [("exact", "pioneer"), ("pioneer", "pioneer"), ("age", "age")])
def test_floors_on_the_sphere(golden: Mapping, form: str, system: str) -> None:
    published = float(golden[f"kl.{system}.qp.sphere_floor_D512"])
    assert age.sphere_floor(512, form=form) == pytest.approx(published, abs=1e-7)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_image_distances(golden: Mapping, metric: str) -> None:
    assert_close(age.image_distance(golden["mis.x"], golden["mis.y"], metric), golden[f"mis.{metric.upper()}"])


def test_latent_cosine(golden: Mapping) -> None:
    assert_close(age.latent_cosine(golden["mis.a"], golden["mis.b"]), golden["mis.cos"], 1e-6)


def test_mean_cosine(golden: Mapping) -> None:
    assert_close(age.mean_cosine(golden["mis.a"], golden["mis.b"]), golden["mis.mean_cosine_similarity"])


def test_margin_clamps_the_gap_of_divergences(golden: Mapping) -> None:
    rows = golden["margin.rows_klreal_klfake_margin_loss_losswithrealm"]
    assert len(rows) == 6
    for kl_real, kl_fake, margin, loss, loss_with_realm in rows:
        # The programs write "no margin" as 0; the realm option exists with a margin only.
        ours = age.clamp_gap(kl_real - kl_fake, float(margin) or None)
        # The recorded losses are float32 numbers.
        assert_close(ours, loss, 1e-7)
        if not math.isnan(loss_with_realm):
            assert_close(ours + kl_real, loss_with_realm, 1e-7)


# Layers


def test_pixel_norm(golden: Mapping) -> None:
    assert_close(PixelNorm()(golden["pixelnorm.in"]), golden["pixelnorm.out"])


def test_projection_to_the_sphere(golden: Mapping) -> None:
    assert_close(Hypersphere(32).project(golden["normalize.in"]), golden["normalize.out"])


@pytest.mark.parametrize(
    ("case", "layer"),
    [("equal", EqualizedConv2d(6, 5, 3, 1)), ("equal4", EqualizedConv2d(4, 5, 4, 3))],
    ids=["3x3", "4x4 on one pixel"],
)
def test_equalised_convolution(golden: Mapping, case: str, layer: EqualizedConv2d) -> None:
    layer.load_state_dict({"weight": golden[f"{case}.weight_orig"], "bias": golden[f"{case}.bias"]})
    assert_close(layer(golden[f"{case}.in"]), golden[f"{case}.out"])
    assert_close(layer.weight * layer.scale, golden[f"{case}.weight_effective"], 1e-6)


def test_gradient_of_the_equalised_convolution(golden: Mapping) -> None:
    layer = EqualizedConv2d(6, 5, 3, 1)
    layer.load_state_dict({"weight": golden["equal.weight_orig"], "bias": golden["equal.bias"]})
    layer(golden["equal.in"]).square().sum().backward()
    assert_close(layer.weight.grad, golden["equal.grad_weight_orig_of_sum_sq"], 1e-4)


def spectral(golden: Mapping, **options: bool) -> SpectralConv2d:
    layer = SpectralConv2d(6, 5, 3, 1, **options)
    state = {"weight": golden["sn.weight_orig"], "bias": golden["sn.bias"], "u": golden["sn.u0"].flatten()}
    layer.load_state_dict(state)
    return layer


def test_spectral_convolution_of_the_first_two_calls(golden: Mapping) -> None:
    layer = spectral(golden)
    assert_close(layer(golden["sn.in"]), golden["sn.out1"])
    assert_close(layer.u, golden["sn.u1"].flatten())
    assert_close(layer(golden["sn.in"]), golden["sn.out2"])
    assert_close(layer.u, golden["sn.u2"].flatten())


def test_spectral_weight_after_one_call(golden: Mapping) -> None:
    assert_close(spectral(golden).normalised_weight(), golden["sn.weight1"])


@pytest.mark.parametrize(
    ("through", "case"), [(True, "original_grad_through_uv"), (False, "constant_uv")], ids=["through v", "v constant"]
)
def test_both_gradient_conventions_of_the_spectral_convolution(golden: Mapping, through: bool, case: str) -> None:
    layer = spectral(golden, gradient_through_power_iteration=through)
    layer(golden["sn.in"]).square().sum().backward()
    # Entries reach 74, where four float32 units in the last place are 3e-5.
    assert_close(layer.weight.grad, golden[f"sn.grad_weight_orig.{case}"], 1e-4)


def test_spectral_vector_after_two_hundred_calls(golden: Mapping) -> None:
    layer = spectral(golden)
    for _ in range(199):
        layer.normalised_weight()
    assert_close(layer.normalised_weight(), golden["sn.weight200"])
    assert_close(layer.u, golden["sn.u200"].flatten())


def test_converging_at_once_ends_where_two_hundred_calls_do(golden: Mapping) -> None:
    layer = spectral(golden)
    layer.converge(200)
    assert_close(layer.u, golden["sn.u200"].flatten())
    layer.eval()
    assert_close(layer.normalised_weight(), golden["sn.weight200"])


def test_sigma_converges_to_the_recorded_largest_singular_value(golden: Mapping) -> None:
    layer = spectral(golden)
    layer.converge()
    sigma = (layer.weight / layer.eval().normalised_weight()).flatten()
    assert_close(sigma, golden["sn.sigma_exact"][0].expand_as(sigma))


# Great circles, averages, buffer


def test_great_circle_through_eight_points(golden: Mapping) -> None:
    times = golden["slerp.t"]
    start, end = (golden[f"slerp.{point}"].expand(len(times), -1) for point in ("p0", "p1"))
    # The recorded end points are unit vectors to 5e-8 only, which the two formulas spread differently.
    assert_close(Hypersphere(512).interpolate(start, end, times), golden["slerp.out"], 1e-8)


def test_average_of_one_published_step(golden: Mapping) -> None:
    network = nn.Linear(3, 2, bias=False)
    network.load_state_dict({"weight": golden["ema.avg0"]})
    average = AveragedNetwork(network, decay_per_step=0.999)
    network.load_state_dict({"weight": golden["ema.new"]})
    average.update(network, images=64, images_seen=0)
    assert_close(average.network.weight, golden["ema.avg1"], 1e-7)


def test_sample_buffer_follows_the_recorded_trace(golden: Mapping) -> None:
    capacity = int(golden["pool.capacity"])
    buffer = SampleBuffer(capacity)
    # Rows [0, p] decide on a swap (p above one half), a row [1, slot] follows where there is one. The published program
    # draws nothing while the buffer fills up.
    draws = iter([(int(kind), float(value)) for kind, value in golden["pool.draws_p_and_id"]])
    for batch, (new, returned) in enumerate(zip(golden["pool.in_ids"], golden["pool.out_ids"], strict=True)):
        swap, slot = torch.zeros(len(new), dtype=torch.bool), torch.zeros(len(new), dtype=torch.int64)
        for position in range(len(new)):
            if batch * len(new) + position < capacity:
                continue
            kind, probability = next(draws)
            assert kind == 0
            if probability > 0.5:
                kind, index = next(draws)
                assert kind == 1
                swap[position], slot[position] = True, int(index)
        ours = buffer.exchange(new[:, None, None, None], swap, slot)
        assert ours.flatten().tolist() == returned.tolist()
        contents = sorted(int(image) for image in buffer.images)
        recorded = [number for number in golden["pool.content_sorted_after_query"][batch].tolist() if number >= 0]
        assert contents == recorded
    assert next(draws, None) is None
