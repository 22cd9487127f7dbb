from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latent_lab.networks.batch_norm import BatchStatisticsNorm, GlobalBatchNorm, _moments_over_ranks, _scaled


def inputs_of(dims: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (8, 3, 4, 4)[:dims]
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 100


def prepared() -> GlobalBatchNorm:
    norm = GlobalBatchNorm(3, momentum=0.25).double()
    norm.weight.data = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    norm.bias.data = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    return norm


@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("training", [True, False])
def test_in_one_process_it_is_torchs_layer(dims: int, training: bool):
    ours, torchs = prepared(), (nn.BatchNorm1d(3, momentum=0.25) if dims == 2 else nn.BatchNorm2d(3, momentum=0.25))
    torchs = torchs.double()
    torchs.load_state_dict(ours.state_dict(), strict=False)
    ours.train(training)
    torchs.train(training)
    assert torch.equal(ours(inputs_of(dims)), torchs(inputs_of(dims)))
    assert torch.equal(ours.running_mean, torchs.running_mean)
    assert torch.equal(ours.running_var, torchs.running_var)


def test_moments_far_from_zero_lose_no_digits():
    # The mean of squares minus the square of the mean would be off by 1e-1 here, in float32.
    inputs = (torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e4).float()
    mean, variance, count = _moments_over_ranks(inputs)
    assert count == 64
    torch.testing.assert_close(variance.double(), inputs.double().var(0, correction=0), rtol=1e-4, atol=0)
    torch.testing.assert_close(mean.double(), inputs.double().mean(0))


def test_a_momentum_of_zero_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="momentum of a batch normalisation must be above 0 and at most 1, got 0"):
        GlobalBatchNorm(3, momentum=0.0)


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_of_batch_statistics_is_torchs_layer_in_training_mode_and_keeps_nothing(training: bool):
    ours, torchs = BatchStatisticsNorm(3).double().train(training), nn.BatchNorm2d(3).double()
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        torchs.weight.copy_(ours.weight)
    assert torch.equal(ours(inputs_of(4)), torchs(inputs_of(4)))
    assert list(ours.state_dict()) == ["weight", "bias"]


def test_the_formula_for_several_processes_is_torchs():
    norm, inputs = BatchStatisticsNorm(3).double(), inputs_of(4)
    mean, variance, _ = _moments_over_ranks(inputs)
    torch.testing.assert_close(_scaled(inputs, mean, variance + norm.eps, norm.weight, norm.bias), norm(inputs))


def test_one_value_for_each_feature_has_no_statistics():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchStatisticsNorm(3)(torch.zeros(1, 3, 1, 1))
