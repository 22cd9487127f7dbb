"""Published weights to native checkpoints."""

from collections.abc import Mapping

from latent_lab.importers.base import AbstractImporter
from latent_lab.importers.gamma_vae import GammaVAETensors
from latent_lab.importers.gan import GANTensors
from latent_lab.importers.split_vae import SplitVAEKeras

FORMATS: Mapping[str, type[AbstractImporter]] = {
    importer.name: importer for importer in (SplitVAEKeras, GammaVAETensors, GANTensors)
}
"""Name on the command line -> class."""

__all__ = ["FORMATS", "AbstractImporter", "GANTensors", "GammaVAETensors", "SplitVAEKeras"]
