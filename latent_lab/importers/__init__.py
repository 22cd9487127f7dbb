"""Published weights to native checkpoints."""

from collections.abc import Mapping

from latent_lab.importers.age import AGEModules
from latent_lab.importers.attribute_delta import AttributeDelta
from latent_lab.importers.automodulator import AutomodulatorState
from latent_lab.importers.base import AbstractFormat, AbstractImporter
from latent_lab.importers.gamma_vae import GammaVAETensors
from latent_lab.importers.gan import GANTensors
from latent_lab.importers.pioneer import BalancedPioneerState, PioneerState
from latent_lab.importers.split_vae import SplitVAEKeras
from latent_lab.importers.stylegan import (
    StyleGANArrays,
    StyleGANGenforce,
    StyleGANLernapparat,
    StyleGANPickle,
    StyleGANRosinality,
)

FORMATS: Mapping[str, type[AbstractFormat]] = {
    one.name: one
    for one in (
        PioneerState,
        BalancedPioneerState,
        AutomodulatorState,
        AttributeDelta,
        AGEModules,
        SplitVAEKeras,
        GammaVAETensors,
        GANTensors,
        StyleGANPickle,
        StyleGANArrays,
        StyleGANGenforce,
        StyleGANRosinality,
        StyleGANLernapparat,
    )
}
"""Name on the command line -> class."""

__all__ = [
    "FORMATS",
    "AGEModules",
    "AbstractFormat",
    "AbstractImporter",
    "AttributeDelta",
    "AutomodulatorState",
    "BalancedPioneerState",
    "GANTensors",
    "GammaVAETensors",
    "PioneerState",
    "SplitVAEKeras",
    "StyleGANArrays",
    "StyleGANGenforce",
    "StyleGANLernapparat",
    "StyleGANPickle",
    "StyleGANRosinality",
]
