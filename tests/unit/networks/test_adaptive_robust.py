"""Learned shapes and scales: where they begin, what they can be, how they learn and grow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latent_lab.networks.adaptive_robust import AdaptiveRobustLoss, double_map
from latent_lab.objectives.robust import adaptive_nll, log_partition


def loss(resolution: int = 8, channels: int = 3) -> AdaptiveRobustLoss:
    return AdaptiveRobustLoss(resolution, adaptive_nll, channels)


def residuals(resolution: int = 8, n: int = 4) -> Tensor:
    return torch.randn(n, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))


def test_every_resolution_has_one_shape_and_scale_for_each_value() -> None:
    assert [tuple(raw.shape) for raw in loss(16).raw_shapes] == [(3, 4, 4), (3, 8, 8), (3, 16, 16)]
    assert [tuple(raw.shape) for raw in loss(4, channels=1).raw_scales] == [(1, 4, 4)]


def test_shapes_and_scales_begin_at_one() -> None:
    fresh = loss()
    torch.testing.assert_close(fresh.shapes(1), torch.ones(3, 8, 8))
    torch.testing.assert_close(fresh.scales(1), torch.ones(3, 8, 8))
    residual = residuals()
    torch.testing.assert_close(fresh(residual), (residual**2 + 1).sqrt() - 1 + log_partition(torch.ones(())))


def test_whatever_is_learned_is_a_density() -> None:
    extreme = loss()
    with torch.no_grad():
        extreme.raw_shapes[1].fill_(50.0)[0].fill_(-50.0)
        extreme.raw_scales[1].fill_(50.0)[0].fill_(-50.0)
    assert extreme.shapes(1).min().item() == pytest.approx(0.001)
    assert extreme.shapes(1).max().item() == pytest.approx(1.999)
    assert extreme.scales(1).min().item() == pytest.approx(1e-5)
    assert extreme(residuals()).isfinite().all()


def test_each_resolution_learns_its_own_maps() -> None:
    growing = loss(16)
    growing(residuals(8)).mean().backward()
    reached = {name for name, parameter in growing.named_parameters() if parameter.grad is not None}
    assert reached == {"raw_shapes.1", "raw_scales.1"}


def test_scales_learn_the_size_of_residuals_in_their_places() -> None:
    # Normal residuals of deviation 0.1 on the left and 0.4 on the right; the Gaussian member fits them.
    learner = loss(4, channels=1)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.2)
    residual = torch.randn(256, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    residual *= torch.tensor([0.1, 0.1, 0.4, 0.4])
    for _ in range(60):
        optimizer.zero_grad()
        learner(residual).mean().backward()
        optimizer.step()
    found = learner.scales(0).detach()[0].mean(0)
    # 8 x 256 residuals give a deviation to 2 %; a shape below 2 trades against the scale.
    assert found[:2].mean().item() == pytest.approx(0.1, rel=0.2)
    assert found[2:].mean().item() == pytest.approx(0.4, rel=0.2)
    assert learner.shapes(0).mean().item() > 1.5


def test_a_map_doubles_in_place() -> None:
    coarse = torch.arange(8.0).view(2, 2, 2)
    fine = double_map(coarse)
    assert fine[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert fine[1].tolist() == [[4, 4, 5, 5], [4, 4, 5, 5], [6, 6, 7, 7], [6, 6, 7, 7]]


def test_the_published_order_keeps_channels_and_scrambles_places() -> None:
    fine = double_map(torch.arange(8.0).view(2, 2, 2), scrambled=True)
    assert fine[0].tolist() == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
    assert fine[1].tolist() == [[4] * 4, [5] * 4, [6] * 4, [7] * 4]


@pytest.mark.parametrize("scrambled", [False, True])
def test_growing_hands_both_maps_to_the_next_resolution_alone(scrambled: bool) -> None:
    growing = loss(16)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for raw in growing.parameters():
            raw.copy_(torch.randn(raw.shape, generator=rng))
    before = {name: raw.clone() for name, raw in growing.state_dict().items()}
    growing.grow(1, scrambled)
    after = growing.state_dict()
    for kind in ("raw_shapes", "raw_scales"):
        assert torch.equal(after[f"{kind}.1"], double_map(before[f"{kind}.0"], scrambled))
        assert torch.equal(after[f"{kind}.0"], before[f"{kind}.0"])
        assert torch.equal(after[f"{kind}.2"], before[f"{kind}.2"])
    assert all(raw.requires_grad for raw in growing.parameters())


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 8, 8)])
def test_residuals_it_was_not_made_for_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"made for 3 channels of at most 8 pixels per side, got residuals of shape"):
        loss()(torch.zeros(shape))


def test_an_average_over_many_residuals_is_the_entropy_at_the_true_density() -> None:
    # At shape near 2 the density is a normal one, whose entropy is ln(sigma sqrt(2 pi e)).
    learner = loss(4)
    with torch.no_grad():
        learner.raw_shapes[0].fill_(50.0)
    residual = torch.randn(2000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    # 96,000 normal values leave a standard error of 0.0023; shape 1.999 differs from 2 by less than that.
    assert learner(residual).mean().item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.01)
