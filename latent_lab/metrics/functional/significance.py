"""p-values of statistics whose law is only known by simulation, and of many tests at once."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Alternative: TypeAlias = Literal["larger", "smaller", "two-sided"]
"""Which values of a statistic speak against the hypothesis."""


class MonteCarloTest(NamedTuple):
    """A statistic beside values of it that were simulated under the hypothesis."""

    statistic: float
    p_value: float
    """Never below 1 / (1 + num_draws)."""
    null_mean: float
    null_deviation: float
    num_draws: int

    @property
    def deviations(self) -> float:
        """How many of the null's standard deviations the statistic lies above its mean: tells strong evidence apart
        where p-values have reached their smallest.
        """
        difference = self.statistic - self.null_mean
        return difference / self.null_deviation if self.null_deviation > 0 else float("nan")


def monte_carlo_test(
    statistic: float, null: Float[Tensor, "R"], *, alternative: Alternative = "larger"
) -> MonteCarloTest:
    """The rank of a statistic among simulated ones: p = (1 + number as extreme) / (1 + R) (Phipson & Smyth 2010).

    With this p-value a test at any level is exact: the statistic is one more draw under the hypothesis.

    Args:
        statistic: of the data.
        null: (R,) of data simulated under the hypothesis, R at least 2.
        alternative: two-sided doubles the smaller of the two p-values.

    Raises:
        ValueError: with fewer than two simulated values.
    """
    if len(null) < 2:
        raise ValueError(f"a Monte-Carlo test needs at least 2 draws of the null, got {len(null)}")
    null = null.double()
    larger = (1 + int((null >= statistic).sum())) / (1 + len(null))
    smaller = (1 + int((null <= statistic).sum())) / (1 + len(null))
    p_value = {"larger": larger, "smaller": smaller, "two-sided": min(1.0, 2.0 * min(larger, smaller))}[alternative]
    return MonteCarloTest(statistic, p_value, null.mean().item(), null.std().item(), len(null))


def holm(p_values: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """p-values adjusted for being K (Holm 1979): rejecting those below a level errs at all with at most that chance.

    The i-th smallest is multiplied by K - i + 1, made ascending and capped at 1. No independence is assumed.

    Args:
        p_values: (K,); NaN stands for a test that could not be made: it stays and does not count.
    """
    p_values = p_values.double()
    made = ~p_values.isnan()
    ascending, order = p_values[made].sort()
    factors = torch.arange(len(ascending), 0, -1, dtype=torch.float64, device=p_values.device)
    raised = (ascending * factors).clamp_max(1.0)
    adjusted = torch.empty_like(raised)
    # cummax has no empty case.
    adjusted[order] = raised.cummax(0).values if len(raised) else raised
    result = p_values.clone()
    result[made] = adjusted
    return result
