from __future__ import annotations

import torch

from latent_lab.analyses.second_stage import SecondStageSettings, train_second_stage


def ring(count: int) -> torch.Tensor:
    """Codes on a circle, which a normal distribution misses."""
    angle = torch.linspace(0, 2 * torch.pi, count)
    return torch.stack([angle.cos(), angle.sin()], 1)


def test_its_samples_are_nearer_to_a_ring_than_those_of_a_normal_distribution():
    codes = ring(200)
    settings = SecondStageSettings(width=32, steps=300, batch_size=50, learning_rate=1e-2)
    network = train_second_stage(codes, torch.zeros_like(codes), settings)
    u = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    radius = network.decode(u).norm(dim=1)
    # The radius of a normal distribution with the ring's covariance deviates by 0.47 from 1 (root mean square).
    assert (radius - 1).square().mean().sqrt() < 0.4


def test_training_twice_gives_the_same_network_and_leaves_the_random_state_alone():
    codes, settings = ring(20), SecondStageSettings(width=8, steps=5, batch_size=10)
    before = torch.get_rng_state()
    with torch.inference_mode():
        first = train_second_stage(codes, 0.1 * torch.ones_like(codes), settings)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(3)
    second = train_second_stage(codes, 0.1 * torch.ones_like(codes), settings)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_network_is_returned_frozen_and_in_evaluation_mode():
    network = train_second_stage(ring(20), torch.zeros(20, 2), SecondStageSettings(width=8, steps=1, batch_size=10))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
