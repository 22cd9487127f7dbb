"""Averaged weights: half-life in images, buffers, modes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latent_lab.networks.averaging import AveragedNetwork
from latent_lab.networks.layers import SpectralConv2d

LATE = 10**9
"""Images seen long after the start, where the half-life has its full length."""


def scalar(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, value)
    return network


def test_the_average_starts_equal_and_apart() -> None:
    network = nn.Linear(3, 2)
    average = AveragedNetwork(network)
    assert torch.equal(average.network.weight, network.weight)
    network.weight.data += 1
    assert not torch.equal(average.network.weight, network.weight)


@pytest.mark.parametrize("batch_size", [1, 10, 100, 1000, 4000])
def test_after_a_half_life_the_distance_to_a_constant_target_has_halved(batch_size: int) -> None:
    average, target = AveragedNetwork(scalar(0.0), half_life_kimg=4.0), scalar(1.0)
    for step in range(4000 // batch_size):
        average.update(target, batch_size, LATE + step * batch_size)
    # 4000 roundings in float64.
    assert average.network.weight.item() == pytest.approx(0.5, abs=1e-11)


def test_the_half_life_grows_with_the_images_seen_at_first() -> None:
    # A quarter of what was seen: the random start is forgotten by the time the full half-life is reached.
    average, target = AveragedNetwork(scalar(0.0), half_life_kimg=20.0), scalar(1.0)
    average.update(target, 100, images_seen=400)
    assert average.network.weight.item() == pytest.approx(0.5)


def test_the_first_update_nearly_forgets_the_random_start() -> None:
    average, target = AveragedNetwork(scalar(0.0)), scalar(1.0)
    average.update(target, 64, images_seen=0)
    # Its half-life is a quarter of the batch.
    assert average.network.weight.item() == pytest.approx(1 - 0.5**4)


def test_the_early_half_life_does_not_depend_on_the_batch_size_either() -> None:
    ends = []
    for batch_size in (10, 40):
        average, target = AveragedNetwork(scalar(0.0), half_life_kimg=1000.0), scalar(1.0)
        for seen in range(4000, 8000, batch_size):
            average.update(target, batch_size, seen)
        ends.append(1 - average.network.weight.item())
    # Exactly 2^(-4 ln 2) = 0.146 in the limit of small batches; here each step uses the images seen before it.
    assert ends == pytest.approx([0.1464, 0.1464], rel=0.02)


def test_a_fixed_decay_counts_steps_whatever_the_batch_size() -> None:
    average, target = AveragedNetwork(scalar(0.0), decay_per_step=0.9), scalar(1.0)
    for images in (1, 1000):
        average.update(target, images, images_seen=0)
    assert average.network.weight.item() == pytest.approx(1 - 0.9**2)


def test_buffers_and_integers_are_copied() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), SpectralConv2d(3, 4, 3))
    average = AveragedNetwork(network)
    for _ in range(3):
        network(torch.randn(2, 3, 5, 5) + 5)
    average.update(network, 2, LATE)
    ours, theirs = dict(average.network.named_buffers()), dict(network.named_buffers())
    assert set(ours) == {"0.running_mean", "0.running_var", "0.num_batches_tracked", "1.u"}
    assert ours["0.num_batches_tracked"].item() == 3
    for name, buffer in theirs.items():
        assert torch.equal(ours[name], buffer)
        assert ours[name].data_ptr() != buffer.data_ptr()


def test_the_average_stays_in_evaluation_mode() -> None:
    parent = nn.ModuleDict({"average": AveragedNetwork(nn.Sequential(nn.Dropout()))})
    parent.train()
    assert parent.training
    assert not any(module.training for module in parent["average"].modules())
    assert parent["average"].train() is parent["average"]


def test_the_average_asks_for_no_gradient() -> None:
    network = nn.Linear(3, 2)
    average = AveragedNetwork(network)
    average.update(network, 8, 0)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert network.weight.requires_grad
    assert not average(torch.zeros(1, 3)).requires_grad


def test_updating_leaves_the_followed_network_alone() -> None:
    network = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    AveragedNetwork(network).update(network, 8, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_returns_what_the_averaged_network_returns() -> None:
    network = nn.Bilinear(2, 3, 4)
    a, b = torch.randn(1, 2), torch.randn(1, 3)
    assert torch.equal(AveragedNetwork(network)(a, b), network(a, b))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"half_life_kimg": 0.0}, "half_life_kimg must be positive, got 0"),
        ({"decay_per_step": 1.0}, r"decay_per_step must be in \[0, 1\) or null, got 1"),
        ({"decay_per_step": -0.1}, r"decay_per_step must be in \[0, 1\) or null, got -0.1"),
    ],
)
def test_settings_are_checked(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AveragedNetwork(nn.Linear(1, 1), **arguments)
