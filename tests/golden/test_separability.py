"""Linear separability's entropies and score, and path length's interpolation and percentiles, as StyleGAN's program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from latent_lab.latent.spaces import GaussianDirections, Hypersphere
from latent_lab.metrics.functional import conditional_entropy, separability_score, trimmed_mean


@pytest.fixture(scope="module")
def golden(automodulator_golden: Callable[[str], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    return automodulator_golden("metrics_helpers")


def test_entropies_of_tables_and_their_score(golden: Mapping[str, Tensor]) -> None:
    entropies = [conditional_entropy(table) for table in golden["ls_tables"]]
    # Float64 on both sides; the published log is that of p + 1e-16 or so.
    assert entropies == pytest.approx(golden["ls_cond_entropy"].tolist(), abs=1e-10)
    assert separability_score(entropies) == pytest.approx(golden["ls_score"].item(), rel=1e-10)


def test_mean_between_percentiles(golden: Mapping[str, Tensor]) -> None:
    distances = golden["ppl_dist"]
    kept = distances[(distances >= golden["ppl_lo"]) & (distances <= golden["ppl_hi"])]
    assert trimmed_mean(distances) == pytest.approx(golden["ppl_value"].item(), rel=1e-12)
    assert trimmed_mean(distances) == pytest.approx(kept.mean().item(), rel=1e-12)


def test_great_circles_of_the_published_path_length(golden: Mapping[str, Tensor]) -> None:
    a, b, t = golden["slerp_a"], golden["slerp_b"], golden["slerp_t"][:, 0]
    sphere = Hypersphere(a.shape[1])
    torch.testing.assert_close(
        sphere.interpolate(sphere.project(a), sphere.project(b), t), golden["slerp_y"], atol=1e-10, rtol=0
    )
    # The published program's points have unit length; here lengths pass from a's to b's, and the mapping reads none.
    path = GaussianDirections(a.shape[1]).interpolate(a, b, t)
    torch.testing.assert_close(sphere.project(path), golden["slerp_y"], atol=1e-10, rtol=0)
