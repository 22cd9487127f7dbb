"""Batch normalisation whose statistics are those of the whole batch, on however many devices it lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab import distributed


class GlobalBatchNorm(nn.Module):
    """Batch normalisation over everything but dimension 1, with the mean and variance of all ranks' samples.

    Where one process trains, and in evaluation mode, it is `torch.nn.BatchNorm2d` (or 1d). Where several do, moments
    are gathered with gradient, so that W ranks with batch B / W each do what one does with batch B; every rank must
    hold equally many samples. Torch's own synchronised layer needs GPUs.

    Args:
        features: size of dimension 1.
        momentum: share of a batch's moments in the running ones that evaluation uses (Keras counts the other way round:
            1 - momentum).
        eps: added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"momentum of a batch normalisation must be above 0 and at most 1, got {momentum}")
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (N, C) or (N, C, H, W), same shape and type; in training mode, moves the running moments.

        Raises:
            ValueError: in training mode, if there is only one value for each feature: its variance would be 0.
        """
        if not (self.training and distributed.is_distributed()):
            return F.batch_norm(
                inputs,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
        wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        mean, variance, count = _moments_over_ranks(wide)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        return _scaled(wide, mean, variance + self.eps, self.weight, self.bias).to(inputs)


class BatchStatisticsNorm(nn.Module):
    """Batch normalisation that never leaves training mode: it always takes the statistics of the batch at hand.

    What it makes of an image depends on the others in the batch, unless the batch has one image; there it is instance
    normalisation. While several processes train, the batch is that of all of them; in evaluation, each one's own.

    Args:
        features: size of dimension 1.
        eps: added to the variance.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (N, C) or (N, C, H, W), same shape and type.

        Raises:
            ValueError: if there is only one value for each feature: its variance would be 0.
        """
        if not (self.training and distributed.is_distributed()):
            return F.batch_norm(inputs, None, None, self.weight, self.bias, training=True, eps=self.eps)
        wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        mean, variance, _ = _moments_over_ranks(wide)
        return _scaled(wide, mean, variance + self.eps, self.weight, self.bias).to(inputs)


def _scaled(inputs: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.batch_norm's formula, which itself takes no moments that carry gradient."""
    scale = weight * torch.rsqrt(variance)
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    return (inputs - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)


def _moments_over_ranks(inputs: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance (C,) of all ranks' values, and their number.

    One exchange of each rank's own moments, m_r and v_r: the mean is that of the m_r, the variance the mean of the v_r
    plus the variance of the m_r, which cancels no digits.
    """
    others = [dimension for dimension in range(inputs.ndim) if dimension != 1]
    variance, mean = torch.var_mean(inputs, others, correction=0)
    everywhere = distributed.gather(torch.stack([mean, variance])[None])
    means, variances = everywhere.unbind(1)
    count = inputs.numel() // inputs.shape[1] * distributed.world_size()
    return means.mean(0), variances.mean(0) + means.var(0, correction=0), count
