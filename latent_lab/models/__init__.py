"""LightningModules: networks, objectives, and who steps when."""

from latent_lab.models.age import AGE
from latent_lab.models.automodulator import Automodulator
from latent_lab.models.base import LatentModel
from latent_lab.models.gamma_vae import GammaVAE
from latent_lab.models.gan import GAN
from latent_lab.models.gpvae import GPVAE
from latent_lab.models.pioneer import Pioneer
from latent_lab.models.recoder import Recoder
from latent_lab.models.split_vae import SplitVAE
from latent_lab.models.stylegan import StyleGAN
from latent_lab.models.translator import Translator
from latent_lab.models.vae import VAE, WAE

MODELS: dict[str, type[LatentModel]] = {
    "AGE": AGE,
    "Automodulator": Automodulator,
    "GAN": GAN,
    "GPVAE": GPVAE,
    "GammaVAE": GammaVAE,
    "Pioneer": Pioneer,
    "Recoder": Recoder,
    "SplitVAE": SplitVAE,
    "StyleGAN": StyleGAN,
    "Translator": Translator,
    "VAE": VAE,
    "WAE": WAE,
}
"""Short names for configurations and checkpoints."""

__all__ = [
    "AGE",
    "GAN",
    "GPVAE",
    "MODELS",
    "VAE",
    "WAE",
    "Automodulator",
    "GammaVAE",
    "LatentModel",
    "Pioneer",
    "Recoder",
    "SplitVAE",
    "StyleGAN",
    "Translator",
]
