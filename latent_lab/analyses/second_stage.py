"""Training of a second-stage VAE on the codes of a first one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from latent_lab.distributed import IndexedRandom
from latent_lab.networks.second_stage import SecondStageVAE
from latent_lab.objectives import vae
from latent_lab.types import Latents


@dataclass(frozen=True)
class SecondStageSettings:
    """How large it is, and how long it is trained."""

    width: int = 1024
    steps: int = 5_000
    batch_size: int = 100
    learning_rate: float = 1e-4
    """Falls to zero along a cosine."""
    seed: int = 0


def train_second_stage(
    mean: Latents, deviation: Latents, settings: SecondStageSettings, *, device: torch.device | str = "cpu"
) -> SecondStageVAE:
    """A second-stage VAE of codes drawn from the posteriors of images; in evaluation mode.

    Every step draws images with replacement, codes from their posteriors and noise for the second latents, all of it
    from streams that the step's number indexes. Loss: n e / (2 gamma^2) + n log gamma + KL per code, with a learnt
    gamma.

    Args:
        mean: (N, D) of the posteriors.
        deviation: (N, D); zeros for deterministic encoders.
        settings: size and length of the training.
        device: where it is trained.
    """
    dim = mean.shape[1]
    places = IndexedRandom(settings.seed, "second_stage/places")
    noise = IndexedRandom(settings.seed, "second_stage/noise")
    with torch.inference_mode(False), torch.enable_grad():
        # Clones, because tensors of an analysis may have been made in inference mode.
        mean, deviation = mean.float().clone().to(device), deviation.float().clone().to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = SecondStageVAE(dim, width=settings.width).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            indices = range(step * settings.batch_size, (step + 1) * settings.batch_size)
            rows = (places.uniform(indices)[:, 0] * len(mean)).long().clamp_max(len(mean) - 1).to(device)
            for_codes, for_latents = noise.normal(indices, 2 * dim).to(device).chunk(2, dim=1)
            codes = mean[rows] + deviation[rows] * for_codes
            second_mean, log_variance = network(codes)
            rebuilt = network.decode(second_mean + torch.exp(0.5 * log_variance) * for_latents)
            error = (rebuilt - codes).square().mean()
            loss = vae.gaussian_term(error, network.variance, dim)
            loss = loss + vae.kl_to_standard_normal(second_mean, log_variance).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.requires_grad_(False).eval()
