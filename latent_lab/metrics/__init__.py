"""Metrics that accumulate and synchronise; what they compute is in `latent_lab.metrics.functional`."""

from latent_lab.metrics.frechet import FrechetDistance
from latent_lab.metrics.indexed import AlreadyExtracted, FeatureExtractor, IndexedMetric
from latent_lab.metrics.kernel import KernelDistance
from latent_lab.metrics.path_length import PathLength
from latent_lab.metrics.reconstruction import MeanImageError, ReconstructionError
from latent_lab.metrics.sliced_wasserstein import SlicedWasserstein

__all__ = [
    "AlreadyExtracted",
    "FeatureExtractor",
    "FrechetDistance",
    "IndexedMetric",
    "KernelDistance",
    "MeanImageError",
    "PathLength",
    "ReconstructionError",
    "SlicedWasserstein",
]
