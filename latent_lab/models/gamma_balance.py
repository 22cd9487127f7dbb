"""The balance between reconstruction and prior that variational autoencoders compute from their own errors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab.objectives.vae import GammaRule, initial_variance, updated_variance


class GammaBalance(nn.Module):
    """gamma^2, the variance of the observation model, as a saved buffer that follows the errors of the minibatches.

    Args:
        rule: see `objectives.vae.updated_variance`. `ema_min` and `split` use the value that the minibatch before left,
            `running_min` that of this one.
        detach: whether gamma^2 is a constant for the gradient. False is a defect of the published `running_min`: where
            a minibatch sets a new minimum, error / gamma^2 is then a constant, and no gradient reaches the networks.
    """

    variance: Tensor
    statistic: Tensor

    def __init__(self, rule: GammaRule = "ema_min", *, detach: bool = True) -> None:
        super().__init__()
        if not detach and rule != "running_min":
            raise ValueError(
                f"detach can be false for running_min alone, which uses this minibatch's error, got {rule}"
            )
        self.rule: GammaRule = rule
        self.detach = detach
        # In float64, since a thousand steps of 0.99 m + 0.01 e should not drift with the precision of a run.
        self.register_buffer("variance", torch.tensor(initial_variance(rule), dtype=torch.float64))
        self.register_buffer("statistic", torch.tensor(initial_variance(rule), dtype=torch.float64))

    def forward(self, error: Tensor) -> Tensor:
        """The variance to use for this minibatch, a scalar of the error's type; in training mode, moves on.

        Args:
            error: mean error of this rank's images, a scalar; averaged over ranks here.
        """
        everywhere = distributed.gather(error[None]).mean()
        if self.detach:
            everywhere = everywhere.detach()
        before = self.variance.clone()
        after, statistic = updated_variance(self.rule, before, self.statistic.clone(), everywhere.double())
        if self.training:
            self.variance.copy_(after.detach())
            self.statistic.copy_(statistic.detach())
        return (after if self.rule == "running_min" else before).to(error)
