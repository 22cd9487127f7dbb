"""Balance and losses of variational autoencoders against the three published programs.

Tolerance as in golden/latent/README.md: relative 1e-9 for float64 statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from latent_lab.models.gamma_balance import GammaBalance
from latent_lab.objectives import vae


@pytest.fixture(scope="module")
def golden(latent_golden: Callable) -> Mapping[str, Tensor]:
    return latent_golden("gamma_balancing")


def follow(rule: vae.GammaRule, errors: Tensor, start: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """gamma^2 as used for each minibatch, gamma^2 after it, statistic after it."""
    balance = GammaBalance(rule)
    if start is not None:
        balance.variance.fill_(start)
        balance.statistic.fill_(start)
    used, after, statistic = [], [], []
    for error in errors:
        used.append(balance(error))
        after.append(balance.variance.clone())
        statistic.append(balance.statistic.clone())
    return torch.stack(used), torch.stack(after), torch.stack(statistic)


def assert_close(ours: Tensor, published: Tensor) -> None:
    torch.testing.assert_close(ours, published.to(ours), rtol=1e-9, atol=0)


def test_the_running_minimum_of_the_latent_comparison(golden: Mapping) -> None:
    used, after, _ = follow("running_min", golden["err"])
    assert_close(used, golden["running_min_used_same_step"])
    assert_close(after, golden["running_min_used_same_step"])


@pytest.mark.parametrize(("prefix", "start"), [("balancing", None), ("balancing_init005", 0.05)])
def test_the_clipped_average_of_asperti_and_trentin(golden: Mapping, prefix: str, start: float | None) -> None:
    used, after, _ = follow("ema_min", golden["err"], start)
    assert_close(used, golden[f"{prefix}_mse_used"])
    assert_close(after, golden[f"{prefix}_mse_after"])
    if start is None:
        assert_close(used.sqrt(), golden["balancing_gamma_std_used"])


@pytest.mark.parametrize(("prefix", "start"), [("split_init1", None), ("split_init005", 0.05)])
def test_the_rule_of_split_vae(golden: Mapping, prefix: str, start: float | None) -> None:
    used, after, statistic = follow("split", golden["err"], start)
    assert_close(used, golden[f"{prefix}_gamma_used"])
    assert_close(after, golden[f"{prefix}_gamma_after"])
    assert_close(statistic, golden[f"{prefix}_mse_ema"])


def kl(golden: Mapping) -> Tensor:
    return vae.kl_to_standard_normal(golden["loss_mu"], golden["loss_logvar"]).mean()


def test_the_kl_term(golden: Mapping) -> None:
    assert_close(kl(golden), golden["loss_kl_mean"])


def test_the_loss_of_split_vae(golden: Mapping) -> None:
    """Its gamma is a variance, and it leaves out the constants."""
    x, y = golden["loss_x"], golden["loss_xhat"]
    term = vae.gaussian_term(vae.mean_squared_error(y, x), golden["loss_gamma"], x[0].numel(), with_constants=False)
    assert_close(term + 3 * kl(golden), golden["loss_split_beta3"])


def test_the_loss_of_asperti_and_trentin(golden: Mapping) -> None:
    """Its gamma is the root of the mean squared error; KL weight 4; the constant is rounded to five digits there."""
    x, y = golden["loss_x"], golden["loss_xhat"]
    term = vae.gaussian_term(vae.mean_squared_error(y, x), golden["loss_gamma"], x[0].numel())
    torch.testing.assert_close(term + 4 * kl(golden), golden["loss_balancing_k4"].to(term), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("case", "before"), [("inf", torch.inf), ("5", 5.0)])
def test_the_loss_of_the_latent_comparison(golden: Mapping, case: str, before: float) -> None:
    """Binary cross-entropy, mean over channels and sum over pixels; its gamma^2 is a variance of that sum."""
    x, y = golden["loss_x"], golden["loss_xhat"]
    pixels = x[0, ..., 0].numel()
    error = vae.binary_cross_entropy(torch.logit(y), x)
    torch.testing.assert_close(error * pixels, golden["loss_bce_rec"].to(error), rtol=1e-6, atol=0)
    balance = GammaBalance("running_min")
    balance.variance.fill_(before / pixels)
    term = vae.gaussian_term(error, balance(error), pixels, with_constants=False)
    # Keras clips predictions at 1e-7.
    torch.testing.assert_close(term + kl(golden), golden[f"loss_wlls_gamma2_prev_{case}"].to(term), rtol=1e-6, atol=0)
