"""What happens around training: checkpoints, records, pictures, guards, graceful stops."""

from latent_lab.callbacks.run import AnalysisPlan, EarlyStopping, RunOptions, build_callbacks, build_trainer
from latent_lab.callbacks.stopping import GracefulStop, TrainingStopped

__all__ = [
    "AnalysisPlan",
    "EarlyStopping",
    "GracefulStop",
    "RunOptions",
    "TrainingStopped",
    "build_callbacks",
    "build_trainer",
]
