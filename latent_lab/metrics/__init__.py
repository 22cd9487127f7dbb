"""Metrics that accumulate and synchronise; what they compute is in `latent_lab.metrics.functional`."""

from latent_lab.metrics.frechet import FrechetDistance, FrechetInfinity
from latent_lab.metrics.inception_score import InceptionScore
from latent_lab.metrics.indexed import AlreadyExtracted, FeatureExtractor, IndexedMetric
from latent_lab.metrics.kernel import KernelDistance
from latent_lab.metrics.latent_recovery import LatentRecovery
from latent_lab.metrics.manifold_overlap import DensityCoverage, ManifoldOverlap, PrecisionRecall
from latent_lab.metrics.memorisation import Memorisation
from latent_lab.metrics.path_length import PathLength
from latent_lab.metrics.reconstruction import MeanImageError, ReconstructionError
from latent_lab.metrics.sliced_wasserstein import SlicedWasserstein

__all__ = [
    "AlreadyExtracted",
    "DensityCoverage",
    "FeatureExtractor",
    "FrechetDistance",
    "FrechetInfinity",
    "InceptionScore",
    "IndexedMetric",
    "KernelDistance",
    "LatentRecovery",
    "ManifoldOverlap",
    "MeanImageError",
    "Memorisation",
    "PathLength",
    "PrecisionRecall",
    "ReconstructionError",
    "SlicedWasserstein",
]
