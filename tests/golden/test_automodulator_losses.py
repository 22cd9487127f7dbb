"""Divergences, distances and the two-ended clamp of the Automodulator's program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.objectives import age


@pytest.fixture(scope="module")
def golden(automodulator_golden: Callable) -> Mapping[str, Tensor]:
    return automodulator_golden("losses")


def assert_close(ours: Tensor, published: Tensor, relative: float = 1e-6) -> None:
    torch.testing.assert_close(ours, published.to(ours.dtype).view_as(ours), rtol=relative, atol=1e-7)


def test_divergences(golden: Mapping) -> None:
    assert_close(age.moment_kl(golden["emb"]), golden["kl_qp"])
    assert_close(-age.moment_kl(golden["emb"]), golden["kl_qp_max"])
    # The program's other direction squares a variance.
    assert_close(age.moment_kl(golden["emb"], direction="pq", form="pioneer"), golden["kl_pq"])


def test_variances_are_biased(golden: Mapping) -> None:
    assert_close(golden["emb"].var(0, correction=0), golden["var_biased"])


@pytest.mark.parametrize("metric", ["L1", "L2", "cos"])
def test_distances_of_codes(golden: Mapping, metric: str) -> None:
    ours = age.latent_distance(golden["emb"], golden["emb2"], metric.lower())
    assert_close(ours, golden[f"mismatch_emb_{metric}"])


def test_distances_of_codes_row_by_row(golden: Mapping) -> None:
    rows = torch.stack(
        [age.latent_cosine(a[None], b[None]) for a, b in zip(golden["emb"], golden["emb2"], strict=True)]
    )
    assert_close(rows, golden["mismatchV_cos"])
    cosine = F.cosine_similarity(golden["emb"], golden["emb2"])
    assert_close(2 - cosine / golden["emb"].shape[1], golden["mismatchV_cos"])


@pytest.mark.parametrize("metric", ["L1", "L2"])
def test_distances_of_images(golden: Mapping, metric: str) -> None:
    ours = age.image_distance(golden["img"], golden["img2"], metric.lower())
    assert_close(ours, golden[f"mismatch_img_{metric}"])


def test_the_gap_is_clamped_at_minus_the_margin_and_at_half_of_it(golden: Mapping) -> None:
    clamped = 0
    for kl_real, kl_fake, margin, loss, loss_with_real in golden["margin_cases"]:
        # The fake term is stored negative; no margin is written as 0.
        limit = float(margin) or None
        gap = kl_real + kl_fake
        ours = age.clamp_gap(gap, limit, upper=limit / 2 if limit else None)
        assert_close(ours, loss)
        assert_close(kl_real + ours, loss_with_real)
        clamped += int(ours != gap)
    assert clamped > 0
