"""Protocols: what is fed to which metric, and which pictures come out. Each is a frozen dataclass of its options."""

from collections.abc import Mapping

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.evaluate import Evaluate
from latent_lab.analyses.feeding import HeldOut
from latent_lab.analyses.interpolate import Interpolate
from latent_lab.analyses.reconstruct import Reconstruct
from latent_lab.analyses.report import write_report
from latent_lab.analyses.sample import Sample

ANALYSES: Mapping[str, type[AbstractAnalysis]] = {
    analysis.name: analysis for analysis in (Evaluate, Sample, Reconstruct, Interpolate)
}
"""Name on the command line -> class."""

__all__ = [
    "ANALYSES",
    "AbstractAnalysis",
    "Evaluate",
    "HeldOut",
    "Interpolate",
    "Reconstruct",
    "Result",
    "Sample",
    "write_report",
]
