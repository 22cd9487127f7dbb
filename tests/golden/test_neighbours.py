"""Neighbours, hubness, principal components and pair distances, against stored ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from latent_lab.metrics.functional import (
    distinct_neighbours,
    hubness,
    neighbour_occurrence,
    norms_of_differences,
    principal_axes,
)


@pytest.fixture(scope="module")
def golden(latent_golden: Callable[[str], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    return latent_golden("neighbours")


def test_exact_neighbours(golden: Mapping[str, Tensor]) -> None:
    found = distinct_neighbours(golden["F"], 10)
    assert torch.equal(found.indices, golden["nn_idx"])
    torch.testing.assert_close(found.distances, golden["nn_dist"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("k", [1, 10])
def test_occurrence_and_hubness(golden: Mapping[str, Tensor], k: int) -> None:
    occurrence = neighbour_occurrence(golden["nn_idx"][:, :k], 300)
    assert torch.equal(occurrence, golden[f"k_occurrence_{k}"])
    found = hubness(occurrence)
    assert found.skewness == pytest.approx(golden[f"k_skew_{k}"].item(), rel=1e-9)
    assert found.robin_hood == pytest.approx(golden[f"robin_hood_{k}"].item(), rel=1e-9)


def test_principal_components_and_distances_within_them(golden: Mapping[str, Tensor]) -> None:
    features = golden["F"]
    axes = principal_axes(features.split(70), 8)
    coordinates = axes.project(features)
    torch.testing.assert_close(axes.variances, golden["pca_var"], rtol=1e-9, atol=0)
    torch.testing.assert_close(coordinates[:5].abs(), golden["pca_absproj_first5"], rtol=1e-9, atol=1e-9)
    i, j = golden["pair_i"], golden["pair_j"]
    everyone, nearest = torch.arange(len(features)), golden["nn_idx"][:, 0]
    for points, first, second, name in (
        (features, i, j, "pair_meandist_raw"),
        (coordinates, i, j, "pair_meandist_pca8"),
        (coordinates, everyone, nearest, "nn_meandist_pca8_of_raw_nn"),
    ):
        mean = norms_of_differences(points, first, second).mean().item()
        assert mean == pytest.approx(golden[name].item(), rel=1e-9)
