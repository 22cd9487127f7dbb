"""Protocols: what is fed to which metric, and which pictures come out. Each is a frozen dataclass of its options."""

from collections.abc import Mapping

from latent_lab.analyses.attribute_directions import Directions
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.compare_spaces import CompareSpaces
from latent_lab.analyses.condition import Condition
from latent_lab.analyses.directions import Exemplars
from latent_lab.analyses.distances import Distances
from latent_lab.analyses.edit import Edit
from latent_lab.analyses.evaluate import Evaluate
from latent_lab.analyses.ex_post import ExPost
from latent_lab.analyses.feeding import HeldOut
from latent_lab.analyses.interpolate import Interpolate
from latent_lab.analyses.invert import Invert
from latent_lab.analyses.latent_health import LatentHealth
from latent_lab.analyses.layer_noise import LayerNoise
from latent_lab.analyses.map_matrix import MapMatrix
from latent_lab.analyses.map_spaces import MapSpaces
from latent_lab.analyses.mix import Mix
from latent_lab.analyses.nearest_neighbours import NearestNeighbours
from latent_lab.analyses.normality import Normality
from latent_lab.analyses.overview import Overview
from latent_lab.analyses.posterior import Posterior
from latent_lab.analyses.reconstruct import Reconstruct
from latent_lab.analyses.report import write_report
from latent_lab.analyses.restore import Restore
from latent_lab.analyses.sample import Sample
from latent_lab.analyses.separability import Separability
from latent_lab.analyses.similarity import Similarity
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant
from latent_lab.analyses.split import Split
from latent_lab.analyses.training_neighbours import TrainingNeighbours
from latent_lab.analyses.translate import Translate
from latent_lab.analyses.truncation import Truncation
from latent_lab.analyses.view_synthesis import ViewSynthesis
from latent_lab.analyses.views import Views
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
        LatentHealth,
        TrainingNeighbours,
        Posterior,
        Views,
        Split,
        ExPost,
        Edit,
        Normality,
        Distances,
        NearestNeighbours,
        MapSpaces,
        MapMatrix,
        Similarity,
        Directions,
        Translate,
        CompareSpaces,
        ViewSynthesis,
    )
}
"""Name on the command line -> class."""

__all__ = [
    "ANALYSES",
    "AbstractAnalysis",
    "AbstractSpacesAnalysis",
    "CompareSpaces",
    "Condition",
    "Directions",
    "Distances",
    "Edit",
    "Evaluate",
    "ExPost",
    "Exemplars",
    "HeldOut",
    "Interpolate",
    "Invert",
    "LatentHealth",
    "LayerNoise",
    "MapMatrix",
    "MapSpaces",
    "Mix",
    "NearestNeighbours",
    "Normality",
    "Overview",
    "Participant",
    "Posterior",
    "Reconstruct",
    "Restore",
    "Result",
    "Sample",
    "Separability",
    "Similarity",
    "Split",
    "TrainingNeighbours",
    "Translate",
    "Truncation",
    "ViewSynthesis",
    "Views",
    "WhyFrechet",
    "write_report",
]
