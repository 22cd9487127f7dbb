"""A tiny recipe of every model and data set: a new one is tested by adding a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latent_lab.callbacks import RunOptions, build_trainer
from latent_lab.data import AbstractImageData, OrderedDomains, SyntheticFaces, SyntheticViews
from latent_lab.latent.interfaces import AbstractTranslator, AbstractViewDecoder
from latent_lab.models import LatentModel
from latent_lab.models.loading import build

# Phases of 8, 16 and 16 steps; the buffer of 16 images is full two steps after a resolution has faded in.
GROWTH = {
    "stages": [
        {"resolution": 4, "kimg": 0.064, "fade_kimg": 0.032, "batch_size": 8},
        {"resolution": 8, "kimg": 0.128, "fade_kimg": 0.064, "batch_size": 8, "learning_rate": 5e-4, "margin": 0.05},
        {"resolution": 16, "kimg": 0.128, "fade_kimg": 0.064, "batch_size": 8, "learning_rate": 5e-4, "margin": 0.05},
    ]
}

# For models that do not grow.
FIXED = {"stages": [{"resolution": 16, "kimg": 0.32, "batch_size": 8, "learning_rate": 1e-3}]}

SMALL_GAN: dict[str, Any] = {
    "latent_dim": 8,
    "generator_widths": [8, 8],
    "discriminator_widths": [8, 8],
    "start_channels": 4,
}

SMALL_TRANSLATOR: dict[str, Any] = {
    # Updates of four small adversaries are chaotic: at a rate of 1e-3, a difference in the last bit grows tenfold in
    # every step.
    "schedule": {"stages": [{"resolution": 16, "kimg": 0.32, "batch_size": 8, "learning_rate": 5e-5}]},
    "generator_width": 4,
    "residual_blocks": 1,
    "discriminator_width": 4,
    "discriminator_halvings": 2,
    "pool_size": 16,
}

SMALL_GPVAE: dict[str, Any] = {
    "schedule": FIXED,
    "num_objects": 7,
    "num_views": 12,
    "latent_dim": 4,
    "width": 4,
    "object_rank": 3,
}

MODELS: dict[str, dict[str, Any]] = {
    "AGE": {
        "schedule": FIXED,
        "latent_dim": 8,
        "encoder_width": 8,
        "generator_width": 8,
        "encoder_plan": {"steps": 2, "match_x_final": 15.0, "final_from_kimg": 0.192},
        "generator_plan": {"steps": 2, "match_x": 1.0, "match_z": 100.0},
        "average_half_life_kimg": 0.1,
        "seed": 11,
    },
    "Pioneer": {
        "schedule": GROWTH,
        "latent_dim": 8,
        "normalisation": "pixel_norm_equalized",
        "generator_steps": 2,
        "sample_buffer": 16,
        "buffer_restarts_with_stage": True,
        "kl_form": "pioneer",
        "gradient_through_power_iteration": True,
        "average_decay_per_step": 0.999,
        "seed": 4,
    },
    "Automodulator": {
        "schedule": GROWTH,
        "latent_dim": 8,
        "sample_buffer": 16,
        "robust_gradients": "accumulated",
        "robust_growth": "scrambled",
        "affine_follows_encoder": True,
        "seed": 11,
    },
    "FlipAutomodulator": {
        "schedule": GROWTH,
        "latent_dim": 8,
        "widths": [8, 8, 4],
        "flip_block": 2,
        "mapping_layers": 1,
        "image_metric": "l1",
        "generator_mixing_share": 0.4,
        "sample_buffer": 16,
        "seed": 12,
    },
    "GammaVAE": {
        "schedule": FIXED,
        "latent_dim": 8,
        "encoder_widths": [8, 8],
        "decoder_widths": [8, 8, 8],
        "dropout": 0.2,
        "seed": 6,
    },
    "BalancedPioneer": {"schedule": GROWTH, "latent_dim": 8, "sample_buffer": 16, "seed": 3},
    "GAN": {"schedule": FIXED, "average_half_life_kimg": 0.1, "dropout": 0.2, "seed": 7} | SMALL_GAN,
    "GPVAE": SMALL_GPVAE | {"vae_kimg": 0.05, "seed": 17},
    "SparseGPVAE": SMALL_GPVAE | {"prior": "sparse", "vae_kimg": 0.1, "num_inducing": 8, "seed": 18},
    "Recoder": {
        "schedule": FIXED,
        "decoder": {"class_path": "GAN", "init_args": {"schedule": FIXED, "seed": 7} | SMALL_GAN},
        "widths": [8, 8],
        "dropout": 0.2,
        "seed": 8,
    },
    "SplitVAE": {"schedule": FIXED, "latent_dim": 8, "base_dim": 8, "embedding_dim": 32, "max_width": 32, "seed": 5},
    "StyleGAN": {
        "schedule": GROWTH,
        "latent_dim": 8,
        "widths": [8, 8, 4],
        "mapping_layers": 2,
        "fused_from": 16,
        "average_half_life_kimg": 0.1,
        "seed": 13,
    },
    "WassersteinStyleGAN": {
        "schedule": GROWTH,
        "latent_dim": 8,
        "widths": [8, 8, 4],
        "mapping_layers": 1,
        "constant_input": False,
        "layer_noise": False,
        "mixing_probability": 0.5,
        "loss": "wasserstein",
        "average_half_life_kimg": 0.1,
        "seed": 14,
    },
    "VAE": {
        "schedule": FIXED,
        "latent_dim": 8,
        "decoder": "classical",
        "likelihood": "laplace",
        "beta": 2.0,
        "seed": 9,
    },
    "WAE": {"schedule": FIXED, "latent_dim": 8, "decoder": "adain", "seed": 10},
    "Translator": {"domains": ["25", "35"], "average_half_life_kimg": 0.1, "seed": 15} | SMALL_TRANSLATOR,
    "ReusedTranslator": {
        "domains": ["25", "35", "45"],
        "padding": "same",
        "norm": "batch",
        "initial_weights": "glorot",
        "wrong_domain": "always",
        "pools": "shared",
        "seed": 16,
    }
    | SMALL_TRANSLATOR,
}
CLASS_OF = {
    "BalancedPioneer": "Pioneer",
    "FlipAutomodulator": "Automodulator",
    "SparseGPVAE": "GPVAE",
    "ReusedTranslator": "Translator",
    "WassersteinStyleGAN": "StyleGAN",
}


def build_model(name: str) -> LatentModel:
    """A fresh tiny model."""
    return build({"class_path": CLASS_OF.get(name, name), "init_args": MODELS[name]})


def build_data(cache: Path) -> SyntheticFaces:
    """60 + 7 + 9 drawn faces."""
    return SyntheticFaces(num_images=60, num_val=7, num_test=9, resolution=16, cache_dir=cache, epoch_kimg=0.1)


def build_data_for(model: LatentModel, cache: Path) -> AbstractImageData:
    """Those faces, domains of 10 + 2 + 2 drawn discs each for a translator of them, or 7 faces from 12 views."""
    if isinstance(model, AbstractViewDecoder):
        return SyntheticViews(num_objects=7, num_views=12, resolution=16, cache_dir=cache, epoch_kimg=0.1)
    if not isinstance(model, AbstractTranslator):
        return build_data(cache)
    discs = {"num_images": 60, "num_val": 12, "num_test": 12, "resolution": 16, "cache_dir": str(cache)}
    images = {"class_path": "SyntheticAgeing", "init_args": discs}
    return OrderedDomains(images, train_on=model.domains, epoch_kimg=0.1)


def train(
    name: str, folder: Path, cache: Path, *, images: int, resume: Path | None = None, **trainer_options: Any
) -> Path:
    """Trains a tiny model to a number of images; returns its last checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(name)
    data = build_data_for(model, cache)
    options = RunOptions(
        dir=str(folder), max_kimg=images / 1000, checkpoint_kimg=None, record_kimg=0.008, analyses=[], progress=False
    )
    trainer = build_trainer({"accelerator": "cpu", "devices": 1, **trainer_options}, options, folder)
    trainer.fit(model, datamodule=data, ckpt_path=str(resume) if resume else None)
    return folder / "checkpoints" / "last.ckpt"
