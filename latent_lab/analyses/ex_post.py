"""Samples of priors that are fitted to the codes of a trained autoencoder, beside samples of its own prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import (
    HeldOut,
    as_tensor,
    batches,
    device_of,
    prior_latents,
    real_images,
    share,
    situation,
    spread,
)
from latent_lab.analyses.reference import reference_features
from latent_lab.analyses.sample import STREAM, Sampling, draw_samples, magnification
from latent_lab.analyses.second_stage import SecondStageSettings, train_second_stage
from latent_lab.analyses.set_numbers import count_name, distance_name
from latent_lab.distributed import IndexedRandom
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.density import Rescaled, SecondStage, WithPrior, fit_mixture
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractStochasticEncoder
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.metrics import AlreadyExtracted, FrechetDistance
from latent_lab.networks.features import RESIZE_PROTOCOLS, find_extractor
from latent_lab.types import ImageSource, Latents

FIT_ON = ("train", "published_leak")
_PUBLISHED_FIT = 10_000


@dataclass(frozen=True)
class ExPost(AbstractAnalysis):
    """Frechet distances of samples of the prior, of a mixture fitted to codes, and of a second-stage VAE.

    Give it a `HeldOut` source: densities are fitted to codes of its reference, the training images, and samples are
    compared with these. The SplitVAE program fits its mixture to the test images that it compares with, about a hundred
    of them for each full covariance, which comes close to showing them again: `published_leak` does so, under names
    that say so.
    """

    name = "ex_post"
    requires = AbstractAutoencoder
    needs_images = True
    needs_reference = True

    fit_on: str = "train"
    """train, or published_leak: the held-out images themselves, which samples are then compared with."""
    components: int | None = None
    """Of the mixture; none: 10 as in RAE, or under published_leak 100."""
    reg_covar: float | None = None
    """Added to the covariances' diagonals; none: 1e-3, or under published_leak 1e-6."""
    num_fit: int | None = None
    """Images that densities are fitted to, evenly spaced; none: all, or under published_leak the first 10,000."""
    second_stage: bool = False
    """Whether a second-stage VAE is trained and sampled, too."""
    second_stage_width: int = 1024
    """Of its hidden layers."""
    second_stage_steps: int = 5_000
    """Training steps with 100 codes each."""
    second_stage_learning_rate: float = 1e-4
    """At the start; falls to zero along a cosine."""
    renormalise: bool = False
    """Whether codes of the second stage are stretched to the deviation of the images' codes, in each coordinate."""
    num_samples: int = 10_000
    """Samples of each prior."""
    num_reference: int | None = None
    """Images that samples are compared with, evenly spaced; none: all. Under published_leak: those of the fit."""
    seed: int = 0
    """Of latents, of the mixture's start and of the second stage."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""
    num_pictures: int = 32
    """Samples of each prior on its sheet."""
    columns: int = 8
    """Pictures in each row of a sheet."""
    extractor: str = "auto"
    """inception, efflite0 or random; auto: the first of them whose weights are found."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    resize: str = "clean"
    """clean, or with inception tf1, the protocol of older papers."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""

    def __post_init__(self) -> None:
        if self.fit_on not in FIT_ON:
            raise ValueError(f"fit_on must be {' or '.join(FIT_ON)}, got {self.fit_on!r}")
        if self.resize not in RESIZE_PROTOCOLS:
            raise ValueError(f"resize must be {' or '.join(RESIZE_PROTOCOLS)}, got {self.resize!r}")
        if self.reg_covar is not None and self.reg_covar < 0:
            raise ValueError(f"reg_covar must not be negative, got {self.reg_covar}")
        least = {"components": 1, "num_fit": 2, "num_samples": 2, "num_reference": 2}
        least |= dict.fromkeys(("second_stage_width", "second_stage_steps", "batch_size", "num_pictures", "columns"), 1)
        for option, minimum in least.items():
            value = getattr(self, option)
            if value is not None and value < minimum:
                raise ValueError(f"ex_post needs {option} of at least {minimum}, got {value}")

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers: one Frechet distance for each prior.

        Raises:
            ValueError: if there are fewer images than components, or if weights are absent.
        """
        assert source is not None
        leak = self.fit_on == "published_leak"
        fitted_to = source if leak or not isinstance(source, HeldOut) else source.reference
        if leak:
            places = list(range(min(self.num_fit or _PUBLISHED_FIT, len(fitted_to))))
        else:
            places = spread(len(fitted_to), self.num_fit)
        if len(places) < 2:
            raise ValueError(f"ex_post needs at least 2 images to fit to, got {len(places)}: name a larger data set")
        compared = places if leak else spread(len(fitted_to), self.num_reference)
        protocol: dict[str, Any] = {
            **situation(model),
            "seed": self.seed,
            "stream": STREAM,
            "fitted_to": {"images": len(places), "data": dict(fitted_to.recipe)},
            "notes": self._notes(source, leak),
        }
        priors = self._priors(model, fitted_to, places, leak, protocol)
        suffix = "_leak" if leak else ""
        distances = self._distances(priors, fitted_to, compared, protocol)
        pictures = {
            f"samples_{label}": enlarge(
                make_grid(
                    draw_samples(prior, self.num_pictures, Sampling(self.seed), self.batch_size).cpu(), self.columns
                ),
                magnification(model.resolution),
            )
            for label, prior in priors.items()
        }
        return Result(self.name, {f"{name}{suffix}": value for name, value in distances.items()}, protocol, pictures)

    def _notes(self, source: ImageSource, leak: bool) -> list[str]:
        if leak:
            return ["densities are fitted to the very images that samples are compared with, as published: not a test"]
        if not isinstance(source, HeldOut):
            return ["densities are fitted to the images that samples are compared with: there is no training set apart"]
        return []

    def _priors(
        self,
        model: AbstractAutoencoder,
        source: ImageSource,
        places: list[int],
        leak: bool,
        protocol: dict[str, Any],
    ) -> dict[str, WithPrior]:
        mean, deviation = self._codes(model, source, places)
        components = self.components or (100 if leak else 10)
        reg_covar = self.reg_covar if self.reg_covar is not None else (1e-6 if leak else 1e-3)
        mixture = fit_mixture(mean, components, reg_covar=reg_covar, seed=self.seed)
        protocol["mixture"] = {"components": components, "reg_covar": reg_covar, "fitted_to": "means of the posteriors"}
        priors = {"prior": WithPrior(model, model.latent_space), f"gmm{components}": WithPrior(model, mixture)}
        if self.second_stage:
            priors["second_stage"] = WithPrior(model, self._second_stage(mean, deviation, device_of(model)))
            protocol["second_stage"] = {
                "layers": f"3 of {self.second_stage_width}",
                "steps": self.second_stage_steps,
                "batch_size": SecondStageSettings.batch_size,
                "fitted_to": "samples of the posteriors",
                "renormalised": self.renormalise,
            }
        return priors

    def _codes(self, model: AbstractAutoencoder, source: ImageSource, places: list[int]) -> tuple[Latents, Latents]:
        """Means and deviations (N, D) of the codes on every rank; deviations are zero if the encoder has none."""
        mine = share(len(places))
        rows = [torch.empty(0, 2, model.latent_space.dim)]
        for indices in batches(mine, self.batch_size):
            images = real_images(model, source, [places[i] for i in indices])
            if isinstance(model, AbstractStochasticEncoder):
                posterior = model.posterior(images)
                mean, deviation = posterior.mean, posterior.stddev
            else:
                mean = model.encode(images)
                deviation = torch.zeros_like(mean)
            rows.append(torch.stack([mean, deviation], 1).float().cpu())
        everywhere, _ = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))
        return everywhere[:, 0], everywhere[:, 1]

    def _second_stage(self, mean: Latents, deviation: Latents, device: torch.device) -> AbstractLatentSpace:
        settings = SecondStageSettings(
            self.second_stage_width,
            self.second_stage_steps,
            learning_rate=self.second_stage_learning_rate,
            seed=self.seed,
        )
        network = train_second_stage(mean, deviation, settings, device=device)
        space = SecondStage(mean.shape[1], network.decode)
        if not self.renormalise:
            return space
        normals = IndexedRandom(self.seed, "ex_post/deviation").normal(range(len(mean)), mean.shape[1])
        generated = torch.cat([space.from_normal(piece.to(device)).cpu() for piece in normals.split(self.batch_size)])
        # Of a code drawn from a posterior, over images: Var(mean) + mean(variance).
        wanted = (mean.var(0, correction=0) + deviation.square().mean(0)).sqrt()
        return Rescaled(space, generated.mean(0), wanted / generated.std(0, correction=0).clamp_min(1e-6))

    def _distances(
        self,
        priors: dict[str, WithPrior],
        source: ImageSource,
        places: list[int],
        protocol: dict[str, Any],
    ) -> dict[str, float]:
        model = priors["prior"]
        device = device_of(model)
        extractor = find_extractor(self.extractor, self.extractor_path, resize=self.resize, download=self.download).to(
            device
        )
        features = reference_features(model, source, places, extractor, batch_size=self.batch_size)
        mine = as_tensor(share(len(places)))
        protocol.update(extractor=extractor.describe(), num_samples=self.num_samples, num_reference=len(places))
        if min(self.num_samples, len(places)) <= extractor.num_features:
            protocol["notes"].append(
                f"{min(self.num_samples, len(places))} images for {extractor.num_features} features, so distances are "
                "too large: compare them only with numbers of the same counts"
            )
        distances = {}
        for label, prior in priors.items():
            # Float64 sums do not exist on Apple's GPUs; NCCL exchanges only what is on a GPU.
            distance = FrechetDistance(AlreadyExtracted(extractor.num_features)).to(
                device if device.type == "cuda" else torch.device("cpu")
            )
            distance.update(features[mine], real=True)
            for indices in batches(share(self.num_samples), self.batch_size):
                samples = prior.decode(prior_latents(prior, self.seed, STREAM, indices)).float()
                distance.update(extractor(samples), real=False)
            name = f"{distance_name(extractor)}_{count_name(self.num_samples)}_{label}"
            distances[name] = distance.compute().item()
        return distances
