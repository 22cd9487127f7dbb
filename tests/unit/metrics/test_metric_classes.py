"""What `latent_lab.metrics` offers."""

from __future__ import annotations

import pytest
import torchmetrics

from latent_lab import metrics

FOR_BUILDING_METRICS = {"AlreadyExtracted", "FeatureExtractor", "IndexedMetric"}


@pytest.mark.parametrize("name", sorted(set(metrics.__all__) - FOR_BUILDING_METRICS))
def test_every_metric_is_one_of_torchmetrics_with_an_interval(name: str) -> None:
    metric = getattr(metrics, name)
    assert issubclass(metric, torchmetrics.Metric)
    # The error of the mean image is no number of its own, but what others are divided by.
    assert hasattr(metric, "interval") == (name != "MeanImageError")


def test_every_family_of_numbers_can_be_had_alone() -> None:
    assert set(metrics.__all__) - FOR_BUILDING_METRICS == {
        "DensityCoverage",
        "FrechetDistance",
        "FrechetInfinity",
        "InceptionScore",
        "KernelDistance",
        "LatentRecovery",
        "ManifoldOverlap",
        "MeanImageError",
        "Memorisation",
        "PathLength",
        "PrecisionRecall",
        "ReconstructionError",
        "SlicedWasserstein",
    }
