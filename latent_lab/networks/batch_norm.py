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
        # F.batch_norm takes no moments that carry gradient, so this is its formula.
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        return ((wide - mean.reshape(shape)) * scale.reshape(shape) + self.bias.reshape(shape)).to(inputs)


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
