"""LightningModules: networks, objectives, and who steps when."""

from latent_lab.models.base import LatentModel
from latent_lab.models.pioneer import Pioneer

MODELS: dict[str, type[LatentModel]] = {"Pioneer": Pioneer}
"""Short names for configurations and checkpoints."""

__all__ = ["MODELS", "LatentModel", "Pioneer"]
