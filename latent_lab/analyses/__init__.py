"""Protocols: what is fed to which metric, and which pictures come out. Each is a frozen dataclass of its options."""

from collections.abc import Mapping

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.condition import Condition
from latent_lab.analyses.directions import Exemplars
from latent_lab.analyses.edit import Edit
from latent_lab.analyses.evaluate import Evaluate
from latent_lab.analyses.ex_post import ExPost
from latent_lab.analyses.feeding import HeldOut
from latent_lab.analyses.interpolate import Interpolate
from latent_lab.analyses.invert import Invert
from latent_lab.analyses.layer_noise import LayerNoise
from latent_lab.analyses.mix import Mix
from latent_lab.analyses.overview import Overview
from latent_lab.analyses.posterior import Posterior
from latent_lab.analyses.reconstruct import Reconstruct
from latent_lab.analyses.report import write_report
from latent_lab.analyses.restore import Restore
from latent_lab.analyses.sample import Sample
from latent_lab.analyses.separability import Separability
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant
from latent_lab.analyses.split import Split
from latent_lab.analyses.truncation import Truncation
from latent_lab.analyses.why_frechet import WhyFrechet

ANALYSES: Mapping[str, type[AbstractAnalysis]] = {
    analysis.name: analysis
    for analysis in (
        Evaluate,
        WhyFrechet,
        Sample,
        Reconstruct,
        Restore,
        Interpolate,
        Mix,
        Condition,
        Truncation,
        LayerNoise,
        Separability,
        Overview,
        Invert,
        Posterior,
        Split,
        ExPost,
        Edit,
    )
}
"""Name on the command line -> class."""

__all__ = [
    "ANALYSES",
    "AbstractAnalysis",
    "AbstractSpacesAnalysis",
    "Condition",
    "Edit",
    "Evaluate",
    "ExPost",
    "Exemplars",
    "HeldOut",
    "Interpolate",
    "Invert",
    "LayerNoise",
    "Mix",
    "Overview",
    "Participant",
    "Posterior",
    "Reconstruct",
    "Restore",
    "Result",
    "Sample",
    "Separability",
    "Split",
    "Truncation",
    "WhyFrechet",
    "write_report",
]
