"""The numbers by which a model is judged: samples, reconstructions and paths, in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from latent_lab.analyses.reconstruct import over_and_under, reconstruct_places
from latent_lab.analyses.reference import reference_features
from latent_lab.analyses.sample import Sampling, draw_samples, magnification
from latent_lab.images import enlarge, make_grid, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, AbstractMappedDecoder, require
from latent_lab.latent.views import WSpaceView
from latent_lab.metrics import (
    AlreadyExtracted,
    FrechetDistance,
    KernelDistance,
    MeanImageError,
    PathLength,
    ReconstructionError,
    SlicedWasserstein,
)
from latent_lab.metrics.functional import (
    LARGEST_COMPARED,
    mean_absolute_error,
    mean_squared_error,
    pyramid_resolutions,
    root_mean_squared_error,
)
from latent_lab.networks.features import RESIZE_PROTOCOLS, AbstractExtractor, find_extractor
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.types import Images, ImageSource

METRICS = ("fd", "kd", "lpips", "rmse", "ppl", "swd")
PATH_SAMPLINGS = ("end", "full")
PATH_SPACES = ("own", "w")
_SMALLEST_CROPPED = 64


def distance_name(extractor: AbstractExtractor, kind: str = "f") -> str:
    """fid_clean or kid_clean for the canonical Inception; fd_NAME or kd_NAME for every other extractor."""
    return f"{kind}id_{extractor.resize}" if extractor.canonical else f"{kind}d_{extractor.label}"


def count_name(count: int) -> str:
    """Sample counts as they stand in names: 5000 is "5k", 1234 is "1234"."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)


@dataclass
class _Session:
    """What the parts of one evaluation share, and what they have found."""

    model: AbstractDecoder
    device: torch.device
    metric_device: torch.device
    held_out: ImageSource
    reference: ImageSource
    extractor: AbstractExtractor | None
    perceptual: AbstractPerceptualDistance | None
    wasserstein: bool
    channels: int
    numbers: dict[str, float] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, Images] = field(default_factory=dict)

    def frechet(self) -> FrechetDistance:
        assert self.extractor is not None
        return FrechetDistance(AlreadyExtracted(self.extractor.num_features)).to(self.metric_device)

    def note_small(self, what: str, count: int) -> None:
        assert self.extractor is not None
        if count <= self.extractor.num_features:
            self.notes.append(
                f"{what}: {count} images for {self.extractor.num_features} features, so the covariance lacks full rank "
                "and the distance is too large: compare it only with numbers of the same counts"
            )


@dataclass(frozen=True)
class Evaluate(AbstractAnalysis):
    """Distances of samples to reference images, errors of reconstructions of held-out images, perceptual path length.

    Give it a `HeldOut` source, whose reference (the training images) samples are compared with; with any other source
    the same images serve both ends, and the protocol says so. Names say what was measured by what: FID, KID and LPIPS
    are names of the canonical weights alone.
    """

    name = "evaluate"
    requires = AbstractDecoder
    needs_images = True
    needs_reference = True

    num_samples: int = 10_000
    """Samples of the prior."""
    num_reference: int | None = None
    """Reference images, evenly spaced over the source; none: all."""
    num_reconstructions: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    num_paths: int = 2_000
    """Pairs of latents for the path length."""
    num_swd: int = 2_000
    """Samples and reference images for the sliced Wasserstein distance, which compares equally many."""
    seed: int = 0
    """Of latents, paths and projections."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding (path lengths: about 1e-4 of the value)."""
    metrics: tuple[str, ...] = METRICS
    """Any of fd, kd (samples), lpips, rmse (reconstructions), ppl, swd."""
    extractor: str = "auto"
    """inception, vgg16, efflite0, dlib_identity, dlib_age, random, or the dotted path of a network of your own; auto:
    inception, efflite0 or random, the first of them whose weights are found."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    resize: str = "clean"
    """clean, tf1 (of older papers), torch or torchmetrics."""
    perceptual: str = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best whose weights are found."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    path_space: str = "own"
    """Where paths run: own (the model's latent space), or w, the space that StyleGAN maps its latents to."""
    path_sampling: str = "end"
    """Where on the path speed is measured: end (at its start, as StyleGAN2 reports) or full (anywhere)."""
    path_epsilon: float = 1e-4
    """Length of the step."""
    face_crop: bool = False
    """Whether path lengths compare the middle of the face alone; from 64 pixels on."""
    keep_percent: int = 100
    """Share of every group of samples that is kept: those whose latents encode(decode(z)) finds best."""
    group: int = 8
    """Samples in each of these groups."""
    mix_at_layer: int | None = None
    """Layer from which on a second random latent takes over in samples, in decoders with layers; null: none."""
    num_pictures: int = 64
    """Samples, and image-reconstruction pairs up to half as many, on the sheets."""
    columns: int = 8
    """Pictures in each row of a sheet."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
        if self.path_space not in PATH_SPACES:
            raise ValueError(f"path_space must be {' or '.join(PATH_SPACES)}, got {self.path_space!r}")
        if self.path_sampling not in PATH_SAMPLINGS:
            raise ValueError(f"path_sampling must be {' or '.join(PATH_SAMPLINGS)}, got {self.path_sampling!r}")
        if self.resize not in RESIZE_PROTOCOLS:
            raise ValueError(f"resize must be one of {', '.join(RESIZE_PROTOCOLS)}, got {self.resize!r}")
        if self.path_epsilon <= 0:
            raise ValueError(f"path_epsilon must be positive, got {self.path_epsilon}")
        for option in ("num_samples", "num_reference", "num_reconstructions", "num_swd"):
            value = getattr(self, option)
            if value is not None and value < 2:
                raise ValueError(f"{option} must be at least 2, got {value}")
        for option in ("num_paths", "batch_size", "num_pictures", "columns"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, got {getattr(self, option)}")
        self.sampling()

    def sampling(self) -> Sampling:
        """How the samples come about; impossible options are refused."""
        return Sampling(self.seed, self.keep_percent, self.group, self.mix_at_layer)

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Runs the parts that the chosen metrics need.

        Raises:
            TypeError: if the model cannot be sampled, or has no W, as the options say.
            ValueError: if it has no layer `mix_at_layer`, weights are absent, or a source has fewer than two images.
        """
        assert source is not None
        self.sampling().check(model, by=self.name)
        if self.path_space == "w" and "ppl" in self.metrics:
            require(model, AbstractMappedDecoder, by=f"{self.name} with path_space w")  # type: ignore[type-abstract]
        session = self._prepare(model, source)
        if {"fd", "kd", "swd"} & set(self.metrics):
            self._compare_samples(session)
        if {"fd", "lpips", "rmse", "swd"} & set(self.metrics):
            if isinstance(model, AbstractAutoencoder):
                self._compare_reconstructions(session, model)
            else:
                session.notes.append(f"{type(model).__name__} cannot encode: numbers of reconstructions are left out")
        if "ppl" in self.metrics:
            self._measure_paths(session)
        pictures = draw_samples(model, self.num_pictures, self.sampling(), self.batch_size).cpu()
        sheet = enlarge(make_grid(pictures, self.columns), magnification(model.resolution))
        protocol = {**session.protocol, "notes": session.notes}
        return Result(self.name, session.numbers, protocol, {"samples": sheet, **session.pictures})

    def _prepare(self, model: AbstractDecoder, source: ImageSource) -> _Session:
        device = device_of(model)
        reference = source.reference if isinstance(source, HeldOut) else source
        for what, images in (("held-out", source), ("reference", reference)):
            if len(images) < 2:
                raise ValueError(f"evaluate needs at least 2 {what} images, got {len(images)}: name a larger data set")
        extractor = perceptual = None
        if {"fd", "kd"} & set(self.metrics):
            extractor = find_extractor(
                self.extractor, self.extractor_path, resize=self.resize, download=self.download
            ).to(device)
        if {"lpips", "ppl"} & set(self.metrics):
            perceptual = find_perceptual(self.perceptual, self.perceptual_path, download=self.download).to(device)
        session = _Session(
            model=model,
            device=device,
            # Float64 sums do not exist on Apple's GPUs; NCCL exchanges only what is on a GPU.
            metric_device=device if device.type == "cuda" else torch.device("cpu"),
            held_out=source,
            reference=reference,
            extractor=extractor,
            perceptual=perceptual,
            wasserstein="swd" in self.metrics,
            channels=reference.batch([0], model.resolution).images.shape[1],
        )
        session.protocol.update(situation(model))
        session.protocol.update(
            **self.sampling().describe(),
            quantised="samples, images and reconstructions clamped and rounded to 8 bits, except for path lengths",
            reference=dict(reference.recipe),
        )
        for role, network in (("extractor", extractor), ("perceptual", perceptual)):
            if network is not None:
                session.protocol[role] = network.describe()
        if not isinstance(source, HeldOut):
            session.notes.append("one set of images is both the reference of samples and the input of reconstructions")
        if session.wasserstein:
            try:
                pyramid_resolutions(model.resolution)
            except ValueError as error:
                session.wasserstein = False
                session.notes.append(f"swd is left out: {error}")
        return session

    def _compare_samples(self, session: _Session) -> None:
        """Frechet, kernel and sliced Wasserstein distance of samples to reference images."""
        model, extractor, sampling = session.model, session.extractor, self.sampling()
        frechet = kernel = wasserstein = None
        if extractor is not None and "fd" in self.metrics:
            frechet = session.frechet()
        if extractor is not None and "kd" in self.metrics:
            passed = AlreadyExtracted(extractor.num_features)
            kernel = KernelDistance(passed, seed=self.seed).to(session.metric_device)
        num_swd = min(self.num_swd, self.num_samples, len(session.reference))
        if session.wasserstein:
            wasserstein = SlicedWasserstein(model.resolution, channels=session.channels, seed=self.seed)
            wasserstein.to(session.metric_device)
        num_decoded = self.num_samples if extractor is not None else num_swd if wasserstein is not None else 0
        for samples, index in sampling.draw(model, num_decoded, self.batch_size, shared=True):
            if extractor is not None:
                features = extractor(samples)
                if frechet is not None:
                    frechet.update(features, real=False)
                if kernel is not None:
                    kernel.update(features, index, real=False)
            if wasserstein is not None:
                early = index < num_swd
                wasserstein.update(samples[early.to(samples.device)], index[early], real=False)

        if extractor is not None:
            places = spread(len(session.reference), self.num_reference)
            session.protocol["num_reference"] = len(places)
            session.protocol["num_samples"] = self.num_samples
            features = reference_features(model, session.reference, places, extractor, batch_size=self.batch_size)
            mine = as_tensor(share(len(places)))
            of_count = count_name(self.num_samples) + sampling.suffix
            if frechet is not None:
                frechet.update(features[mine], real=True)
                name = f"{distance_name(extractor, 'f')}_{of_count}"
                session.numbers[name] = frechet.compute().item()
                session.protocol["raw"] = {name: frechet.raw}
                session.note_small(name, min(self.num_samples, len(places)))
            if kernel is not None:
                kernel.update(features[mine], mine, real=True)
                name = f"{distance_name(extractor, 'k')}_{of_count}"
                session.numbers[name] = kernel.compute().item()
                session.numbers[f"{name}_standard_error"] = kernel.standard_error

        if wasserstein is not None:
            places = spread(len(session.reference), num_swd)
            for indices in batches(share(num_swd), self.batch_size):
                reals = real_images(model, session.reference, [places[i] for i in indices])
                wasserstein.update(reals, as_tensor(indices), real=True)
            name = f"swd_{count_name(num_swd)}{sampling.suffix}"
            session.numbers[name] = wasserstein.compute().item()
            for size, value in wasserstein.levels.items():
                session.numbers[f"{name}_at_{size}px"] = value
            session.protocol["swd"] = {"images": num_swd, "scale": 1000, "patches": "128 per image and level, 7x7 px"}

    def _compare_reconstructions(self, session: _Session, model: AbstractAutoencoder) -> None:
        """Errors of reconstructions of held-out images, and distances between the two sets."""
        places = spread(len(session.held_out), self.num_reconstructions)
        errors: dict[str, ReconstructionError] = {}
        baseline = frechet = wasserstein = None
        if "rmse" in self.metrics:
            errors["rec_mse"] = ReconstructionError(mean_squared_error)
            errors["rec_rmse"] = ReconstructionError(root_mean_squared_error)
            errors["rec_l1"] = ReconstructionError(mean_absolute_error)
            baseline = MeanImageError(model.resolution, channels=session.channels).to(session.metric_device)
        if "lpips" in self.metrics and session.perceptual is not None:
            errors[session.perceptual.name] = ReconstructionError(session.perceptual)
        if "fd" in self.metrics:
            frechet = session.frechet()
        if session.wasserstein:
            wasserstein = SlicedWasserstein(model.resolution, channels=session.channels, seed=self.seed)
            wasserstein.to(session.metric_device)
        for error in errors.values():
            error.to(session.metric_device)

        for indices in batches(share(len(places)), self.batch_size):
            images = real_images(model, session.held_out, [places[i] for i in indices])
            originals, reconstructions = quantise(images), quantise(model.reconstruct(images))
            index = as_tensor(indices)
            for error in errors.values():
                error.update(originals, reconstructions, index)
            if baseline is not None:
                baseline.update(originals)
            if wasserstein is not None:
                wasserstein.update(originals, index, real=True)
                wasserstein.update(reconstructions, index, real=False)
            if frechet is not None and session.extractor is not None:
                frechet.update(session.extractor(originals), real=True)
                frechet.update(session.extractor(reconstructions), real=False)

        of_count = count_name(len(places))
        session.protocol["num_reconstructions"] = len(places)
        for name, error in errors.items():
            session.numbers[name] = error.compute().item()
        if baseline is not None:
            session.numbers["rec_mse_relative"] = session.numbers["rec_mse"] / max(baseline.compute().item(), 1e-12)
            session.protocol["rec_mse_relative"] = "rec_mse over that of the mean of the same images"
        if frechet is not None and session.extractor is not None:
            name = f"rec_{distance_name(session.extractor, 'f')}_{of_count}"
            session.numbers[name] = frechet.compute().item()
            session.protocol.setdefault("raw", {})[name] = frechet.raw
            session.note_small(name, len(places))
        if wasserstein is not None:
            session.numbers[f"rec_swd_{of_count}"] = wasserstein.compute().item()
        shown = places[: max(1, self.num_pictures // 2)]
        sheet = over_and_under(
            *reconstruct_places(model, session.held_out, shown, self.batch_size), columns=self.columns
        )
        session.pictures["reconstructions"] = enlarge(sheet, magnification(model.resolution))

    def _measure_paths(self, session: _Session) -> None:
        """Perceptual path length between pairs of prior samples, or of the points of W that they are mapped to."""
        model, perceptual = session.model, session.perceptual
        # Paths join mapped latents, not the view's own examples of W, of which one is then enough.
        view = WSpaceView(model, count=1) if self.path_space == "w" else None
        decoder = view or model
        assert perceptual is not None
        crop = self.face_crop and model.resolution >= _SMALLEST_CROPPED
        if self.face_crop and not crop:
            session.notes.append(f"face_crop is left out below {_SMALLEST_CROPPED} pixels: whole images are compared")
        length = PathLength(perceptual, epsilon=self.path_epsilon, crop=crop).to(session.metric_device)
        shares = distributed.IndexedRandom(self.seed, "evaluate/path_shares")
        for indices in batches(share(self.num_paths), self.batch_size):
            a = prior_latents(model, self.seed, "evaluate/path_starts", indices)
            b = prior_latents(model, self.seed, "evaluate/path_ends", indices)
            if view is not None:
                a, b = view.map(a), view.map(b)
            t = shares.uniform(indices)[:, 0] if self.path_sampling == "full" else torch.zeros(len(indices))
            length.update(decoder, a, b, t.to(a), as_tensor(indices))
        name = f"ppl_{decoder.latent_space.symbol}_{self.path_sampling}{'_crop' if crop else ''}_{perceptual.name}"
        session.numbers[name] = length.compute().item()
        session.protocol["paths"] = {
            "pairs": self.num_paths,
            "epsilon": self.path_epsilon,
            "sampling": self.path_sampling,
            "crop": crop,
            "trimmed": "1st to 99th percentile",
            "reduced": f"above {LARGEST_COMPARED} px by means of blocks",
        }
