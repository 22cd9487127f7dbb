"""The numbers by which a model is judged: samples, reconstructions and paths, in one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

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
from latent_lab.analyses.set_numbers import (
    SET_METRICS,
    Numbers,
    Reference,
    Resampling,
    compare_sets,
    count_name,
    distance_name,
    frechet_numbers,
    reference_of,
)
from latent_lab.images import enlarge, make_grid, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, AbstractMappedDecoder, require
from latent_lab.latent.views import WSpaceView
from latent_lab.metrics import (
    LatentRecovery,
    MeanImageError,
    PathLength,
    ReconstructionError,
    SlicedWasserstein,
)
from latent_lab.metrics.functional import (
    FaceCropped,
    Moments,
    PairMeasure,
    mean_absolute_error,
    mean_squared_error,
    multiscale_structural_similarity,
    peak_signal_to_noise_ratio,
    pyramid_resolutions,
    relative_error_interval,
    root_mean_squared_error,
    structural_similarity,
)
from latent_lab.metrics.functional.path_length import RECIPES, PathRecipe
from latent_lab.metrics.functional.sliced_wasserstein import FEW_RESAMPLES, SlicedWassersteinIntervals
from latent_lab.metrics.functional.structural_similarity import SCALE_WEIGHTS, WINDOW
from latent_lab.metrics.statistics_files import ReferenceStatistics, read_statistics
from latent_lab.networks.extraction import Viewing
from latent_lab.networks.face_identity import DlibIdentity, IdentityDistance, find_identity
from latent_lab.networks.features import SEEING_FACES, AbstractExtractor, find_extractor
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.networks.pretrained import sha256_of
from latent_lab.progress import phase
from latent_lab.types import Features, Images, ImageSource

USUAL_METRICS = ("fd", "kd", "lpips", "rmse", "ppl", "swd")
METRICS = (*USUAL_METRICS, "fd_infinity", "pr", "is", "memorisation", "similarity", "recovery")
PATH_SAMPLINGS = ("end", "full")
PATH_SPACES = ("own", "w")
_SMALLEST_CROPPED = 64
_ROUNDED = "samples, images and reconstructions clamped and rounded to 8 bits, except for path lengths"


class _Instruments(NamedTuple):
    """What an evaluation measures with, on the CPU; none for what its metrics do not need."""

    extractor: AbstractExtractor | None
    statistics: ReferenceStatistics | None
    perceptual: AbstractPerceptualDistance | None
    identity: DlibIdentity | None


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
    identity: IdentityDistance | None
    statistics: ReferenceStatistics | None
    wasserstein: bool
    channels: int
    found: Numbers = field(default_factory=Numbers)
    protocol: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Images] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluate(AbstractAnalysis):
    """Distances of samples to reference images, errors of reconstructions of held-out images, perceptual path length.

    Give it a `HeldOut` source, whose reference (the training images) samples are compared with; with any other source
    the same images serve both ends, and the protocol says so. Names say what was measured by what: FID, KID and LPIPS
    are names of the canonical weights alone. One pass over the samples, and one over the reference, feeds all numbers
    of an extractor.
    """

    name = "evaluate"
    requires = AbstractDecoder
    needs_images = True
    needs_reference = True

    num_samples: int = 10_000
    """Samples of the prior."""
    num_reference: int | None = None
    """Reference images, evenly spaced over the source; none: all."""
    reference_statistics: str | None = None
    """File of `latent-lab statistics` or of another program (.npz), in place of reference images."""
    num_reconstructions: int | None = 1_000
    """Held-out images, evenly spaced over the source; none: all."""
    num_paths: int = 2_000
    """Pairs of latents for the path length."""
    num_swd: int = 2_000
    """Samples, and as many reference images, for the sliced Wasserstein distance."""
    num_recovered: int = 1_000
    """Samples of the prior whose latents are sought after decoding."""
    seed: int = 0
    """Of latents, paths and projections."""
    batch_size: int = 64
    """Images at a time on each device; it changes numbers by rounding alone."""
    metrics: tuple[str, ...] = USUAL_METRICS
    """Any of fd, kd, fd_infinity, pr, is, memorisation, swd, ppl (samples), lpips, rmse, similarity (reconstructions),
    recovery (latents)."""
    extractor: str = "auto"
    """inception, vgg16, efflite0, dlib_identity, dlib_age, random, or your own network's import path; auto: the first
    found of inception, efflite0 and random."""
    extractor_path: str | None = None
    """Its weights file, or a folder that holds it."""
    resize: str = "clean"
    """clean, tf1 (of older papers), torch or torchmetrics."""
    precision: str = "float32"
    """float32, or bfloat16, which is faster and deviates."""
    quantisation: str = "round"
    """round, truncate (as torchmetrics with normalize=True), or none."""
    perceptual: str = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best found."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    identity: Literal["dlib"] | None = None
    """dlib: how far apart the persons of images and of their reconstructions are."""
    identity_path: str | None = None
    """Its weights file, or a folder that holds it."""
    identity_box: tuple[float, ...] | str = "celeba"
    """How faces are framed: celeba, celeba_narrow, ffhq, or [left, top, right, bottom] in shares of the image; also for
    extractors dlib_identity and dlib_age."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    path_space: str = "own"
    """Where paths run: own (the model's latent space), or w, StyleGAN's second one."""
    path_sampling: str = "end"
    """Where speed is measured: end (start of the path, as in StyleGAN2) or full (anywhere)."""
    path_epsilon: float = 1e-4
    """Length of the step."""
    path_recipe: str | None = None
    """Published settings, in place of the three before and of the face crop: ppl_zfull, ppl_zend, ppl_wfull, ppl_wend
    (StyleGAN), ppl2_wend (StyleGAN2)."""
    face_crop: bool = False
    """Whether perceptual numbers see the middle of the face alone; from 64 pixels on."""
    keep_percent: int = 100
    """Share of every group of samples kept: those that encode(decode(z)) finds best."""
    group: int = 8
    """Samples in each of these groups."""
    mix_at_layer: int | None = None
    """Layer from which a second latent takes over in samples (decoders with layers)."""
    num_resamples: int = 200
    """Resamples from which intervals are made; 0: no intervals."""
    level: float = 0.95
    """Share of the resampled values inside an interval."""
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
        if self.path_recipe is not None and self.path_recipe not in RECIPES:
            raise ValueError(f"path_recipe must be one of {', '.join(RECIPES)}, got {self.path_recipe!r}")
        Viewing(self.resize, self.precision, self.quantisation)
        if self.path_epsilon <= 0:
            raise ValueError(f"path_epsilon must be positive, got {self.path_epsilon}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        if self.num_resamples < 0 or self.num_resamples == 1:
            raise ValueError(f"num_resamples must be 0 (no intervals) or at least 2, got {self.num_resamples}")
        for option in ("num_samples", "num_reference", "num_reconstructions", "num_swd", "num_recovered"):
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

    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.level, self.num_resamples, self.seed)

    def path(self, resolution: int) -> PathRecipe:
        """How path lengths are measured at a resolution."""
        if self.path_recipe is not None:
            return replace(RECIPES[self.path_recipe], num_pairs=self.num_paths)
        return PathRecipe(
            space="w" if self.path_space == "w" else "z",
            sampling="full" if self.path_sampling == "full" else "end",
            crop=self.face_crop and resolution >= _SMALLEST_CROPPED,
            epsilon=self.path_epsilon,
            noise="stored",
            num_pairs=self.num_paths,
        )

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Runs the parts that the chosen metrics need.

        Raises:
            TypeError: if the model cannot be sampled, or has no W, as the options say.
            ValueError: if it has no layer `mix_at_layer`, weights are absent, or a source has fewer than two images.
        """
        assert source is not None
        self._check(model)
        session = self._prepare(model, source)
        if self._of_sets or session.wasserstein:
            self._compare_samples(session)
        of_codes = {"fd", "lpips", "rmse", "swd", "similarity", "recovery"} & set(self.metrics)
        if isinstance(model, AbstractAutoencoder):
            if of_codes - {"recovery"} or self.identity is not None:
                self._compare_reconstructions(session, model)
            if "recovery" in of_codes:
                self._recover_latents(session, model)
        elif of_codes or self.identity is not None:
            session.found.notes.append(
                f"{type(model).__name__} cannot encode: numbers of reconstructions and recovered latents are left out"
            )
        if "ppl" in self.metrics:
            self._measure_paths(session)
        pictures = draw_samples(model, self.num_pictures, self.sampling(), self.batch_size).cpu()
        sheet = enlarge(make_grid(pictures, self.columns), magnification(model.resolution))
        found = session.found
        protocol = {**session.protocol, **found.protocol}
        if found.raw:
            protocol["raw"] = found.raw
        if found.intervals:
            protocol["intervals"] = {
                "level": self.level,
                "num_resamples": self.num_resamples,
                "of_swd": min(self.num_resamples, FEW_RESAMPLES),
                "seed": self.seed,
            }
        protocol["notes"] = found.notes
        return Result(
            self.name,
            found.values,
            protocol,
            {"samples": sheet, **session.pictures},
            intervals=found.intervals,
        )

    @property
    def _of_sets(self) -> frozenset[str]:
        return frozenset(self.metrics) & frozenset(SET_METRICS)

    def _maps_first(self, model: AbstractDecoder) -> bool:
        """Whether paths run in W of a model whose own latents are others."""
        return self.path(model.resolution).space == "w" and model.latent_space.symbol != "w"

    def look_ahead(self, model: Any) -> tuple[str, ...]:
        """As of any analysis; sentences say which networks take the place of those that have given numbers their names.

        Raises:
            TypeError: as of `run`.
            ValueError: as of `run`, images aside.
        """
        super().look_ahead(model)
        self._check(model)
        found = self._instruments(model)
        said = []
        for option, instrument, number in (
            (self.extractor, found.extractor, "FID"),
            (self.perceptual, found.perceptual, "LPIPS"),
        ):
            if option == "auto" and instrument is not None and not instrument.canonical:
                said.append(
                    f"{self.name} measures with {instrument.name} and gives no {number}, whose weights are not on this "
                    "machine (`latent-lab weights` says where to get them)"
                )
        return tuple(said)

    def _check(self, model: AbstractDecoder) -> None:
        """Whether the model can do what the options ask for."""
        self.sampling().check(model, by=self.name)
        if "ppl" in self.metrics and self._maps_first(model):
            require(model, AbstractMappedDecoder, by=f"{self.name} with path_space w")  # type: ignore[type-abstract]

    def _instruments(self, model: AbstractDecoder) -> _Instruments:
        """Everything whose weights or files may be absent."""
        extractor = statistics = perceptual = identity = None
        if self._of_sets:
            extractor = find_extractor(
                self.extractor,
                self.extractor_path,
                resize=self.resize,
                precision=self.precision,
                quantisation=self.quantisation,
                download=self.download,
                box=self.identity_box if self.extractor in SEEING_FACES else None,
            )
            if self.reference_statistics is not None:
                statistics = read_statistics(self.reference_statistics, extractor)
        if {"lpips", "ppl"} & set(self.metrics):
            perceptual = find_perceptual(self.perceptual, self.perceptual_path, download=self.download)
        if self.identity is not None and isinstance(model, AbstractAutoencoder):
            identity = find_identity(self.identity_path, self.identity_box)
        return _Instruments(extractor, statistics, perceptual, identity)

    def _prepare(self, model: AbstractDecoder, source: ImageSource) -> _Session:
        device = device_of(model)
        reference = source.reference if isinstance(source, HeldOut) else source
        for what, images in (("held-out", source), ("reference", reference)):
            if len(images) < 2:
                raise ValueError(f"evaluate needs at least 2 {what} images, got {len(images)}: name a larger data set")
        # Before anything is computed: what is wrong with a file should not cost an hour of samples.
        extractor, statistics, perceptual, identity = self._instruments(model)
        session = _Session(
            model=model,
            device=device,
            # Float64 sums do not exist on Apple's GPUs; NCCL exchanges only what is on a GPU.
            metric_device=device if device.type == "cuda" else torch.device("cpu"),
            held_out=source,
            reference=reference,
            extractor=None if extractor is None else extractor.to(device),
            perceptual=None if perceptual is None else perceptual.to(device),
            identity=None if identity is None else IdentityDistance(identity.to(device)),
            statistics=statistics,
            wasserstein="swd" in self.metrics,
            channels=reference.batch([0], model.resolution).images.shape[1],
        )
        session.protocol.update(situation(model))
        session.protocol.update(
            **self.sampling().describe(),
            quantised=_ROUNDED if self.quantisation == "round" else f"{_ROUNDED} and for the extractor, see there",
            reference=dict(reference.recipe),
        )
        for role, network in (("extractor", extractor), ("perceptual", perceptual)):
            if network is not None:
                session.protocol[role] = network.describe()
        notes = session.found.notes
        if not isinstance(source, HeldOut):
            notes.append("one set of images is both the reference of samples and the input of reconstructions")
        if self.face_crop and model.resolution < _SMALLEST_CROPPED:
            notes.append(f"face_crop is left out below {_SMALLEST_CROPPED} pixels: whole images are compared")
        if session.wasserstein:
            try:
                pyramid_resolutions(model.resolution)
            except ValueError as error:
                session.wasserstein = False
                notes.append(f"swd is left out: {error}")
        return session

    @phase("samples of the prior")
    def _compare_samples(self, session: _Session) -> None:
        """What one pass over samples tells: numbers of their features, sliced Wasserstein distance."""
        model, extractor, sampling = session.model, session.extractor, self.sampling()
        wasserstein = None
        num_swd = min(self.num_swd, self.num_samples, len(session.reference))
        if session.wasserstein:
            wasserstein = SlicedWasserstein(model.resolution, channels=session.channels, seed=self.seed)
            wasserstein.to(session.metric_device)
        scores = extractor is not None and "is" in self.metrics and extractor.num_classes is not None
        parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
        num_decoded = self.num_samples if extractor is not None else num_swd if wasserstein is not None else 0
        for samples, index in sampling.draw(model, num_decoded, self.batch_size, shared=True):
            if extractor is not None:
                if scores:
                    seen = extractor.observe(samples)
                    parts.append((index.cpu(), seen.features.cpu(), None if seen.logits is None else seen.logits.cpu()))
                else:
                    parts.append((index.cpu(), extractor(samples).cpu(), None))
            if wasserstein is not None:
                early = index < num_swd
                wasserstein.update(samples[early.to(samples.device)], index[early], real=False)

        if extractor is not None:
            fake = _gathered([(index, features) for index, features, _ in parts], extractor.num_features)
            logits = None
            if scores:
                rows = [(index, one) for index, _, one in parts if one is not None]
                logits = _gathered(rows, extractor.num_classes or 0)
            real = self._reference(session, extractor)
            session.protocol["num_samples"] = self.num_samples
            found = compare_sets(
                self._of_sets,
                real,
                fake.to(session.metric_device),
                logits,
                extractor,
                suffix=sampling.suffix,
                seed=self.seed,
                resampling=self.resampling(),
            )
            session.found.take(found)

        if wasserstein is not None:
            places = spread(len(session.reference), num_swd)
            for indices in batches(share(num_swd), self.batch_size):
                reals = real_images(model, session.reference, [places[i] for i in indices])
                wasserstein.update(reals, as_tensor(indices), real=True)
            name = f"swd_{count_name(num_swd)}{sampling.suffix}"
            intervals = self._wasserstein_intervals(wasserstein)
            session.found.add(name, wasserstein.compute().item(), intervals and intervals.mean)
            for size, value in wasserstein.levels.items():
                session.found.add(f"{name}_at_{size}px", value, intervals and intervals.levels[size])
            session.protocol["swd"] = {"images": num_swd, "scale": 1000, "patches": "128 per image and level, 7x7 px"}
            if session.statistics is not None:
                # These numbers are of images all the same, and the protocol's reference is the file.
                session.protocol["swd"]["reference"] = dict(session.reference.recipe)

    def _reference(self, session: _Session, extractor: AbstractExtractor) -> Reference:
        """What samples are compared with: a file's statistics, or the features of reference images."""
        if session.statistics is not None and self.reference_statistics is not None:
            statistics, file = session.statistics, Path(self.reference_statistics).expanduser()
            described = dict(statistics.protocol) or {"made_by": "another program"}
            if "data" not in described:
                described["sha256"] = sha256_of(file)
            session.protocol["reference"] = {"statistics": described}
            session.protocol["num_reference"] = statistics.moments.num_vectors
            session.found.notes += statistics.notes
            session.found.notes += _other_sizes(file.name, statistics.protocol, session.protocol)
            mean, covariance, num_vectors = statistics.moments
            there = session.metric_device
            return Reference(
                Moments(mean.to(there), covariance.to(there), num_vectors),
                None if statistics.features is None else statistics.features.to(there),
                is_training=False,
            )
        places = spread(len(session.reference), self.num_reference)
        session.protocol["num_reference"] = len(places)
        features = reference_features(
            session.model, session.reference, places, extractor, batch_size=self.batch_size
        ).to(session.metric_device)
        return reference_of(features, is_training=isinstance(session.held_out, HeldOut))

    @phase("reconstructions")
    def _compare_reconstructions(self, session: _Session, model: AbstractAutoencoder) -> None:
        """Errors of reconstructions of held-out images, and distances between the two sets."""
        places = spread(len(session.held_out), self.num_reconstructions)
        errors = {name: ReconstructionError(measure) for name, measure in self._measures(session).items()}
        baseline = wasserstein = None
        if "rmse" in self.metrics:
            baseline = MeanImageError(model.resolution, channels=session.channels).to(session.metric_device)
        if session.wasserstein:
            wasserstein = SlicedWasserstein(model.resolution, channels=session.channels, seed=self.seed)
            wasserstein.to(session.metric_device)
        for error in errors.values():
            error.to(session.metric_device)

        extractor = session.extractor if "fd" in self.metrics else None
        features: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
        for indices in batches(share(len(places)), self.batch_size):
            images = real_images(model, session.held_out, [places[i] for i in indices])
            rebuilt = model.reconstruct(images)
            originals, reconstructions = quantise(images), quantise(rebuilt)
            index = as_tensor(indices)
            for error in errors.values():
                error.update(originals, reconstructions, index)
            if baseline is not None:
                baseline.update(originals)
            if wasserstein is not None:
                wasserstein.update(originals, index, real=True)
                wasserstein.update(reconstructions, index, real=False)
            if extractor is not None:
                # It rounds by itself, in the way that its name says.
                features[True].append((index, extractor(images).cpu()))
                features[False].append((index, extractor(rebuilt).cpu()))

        of_count = count_name(len(places))
        session.protocol["num_reconstructions"] = len(places)
        found, resampling = session.found, self.resampling()
        for name, error in errors.items():
            found.add(name, error.compute().item(), resampling.of(error.interval))
        if baseline is not None:
            variance = max(baseline.compute().item(), 1e-12)
            found.add("rec_mse_relative", found.values["rec_mse"] / variance)
            if self.num_resamples:
                self._add_relative_interval(session, baseline, errors["rec_mse"], places)
            session.protocol["rec_mse_relative"] = "rec_mse over that of the mean of the same images"
        if extractor is not None:
            originals, reconstructed = (
                _gathered(features[real], extractor.num_features).to(session.metric_device) for real in (True, False)
            )
            name = f"rec_{distance_name(extractor, 'f')}_{of_count}"
            frechet_numbers(found, name, reference_of(originals, is_training=False), reconstructed, resampling)
        if wasserstein is not None:
            intervals = self._wasserstein_intervals(wasserstein, paired=True)
            found.add(f"rec_swd_{of_count}", wasserstein.compute().item(), intervals and intervals.mean)
        shown = places[: max(1, self.num_pictures // 2)]
        sheet = over_and_under(
            *reconstruct_places(model, session.held_out, shown, self.batch_size), columns=self.columns
        )
        session.pictures["reconstructions"] = enlarge(sheet, magnification(model.resolution))

    def _wasserstein_intervals(
        self, metric: SlicedWasserstein, *, paired: bool = False
    ) -> SlicedWassersteinIntervals | None:
        """From few resamples, each of which costs as much as the distance itself."""
        few = min(self.num_resamples, FEW_RESAMPLES)
        return metric.intervals(paired=paired, level=self.level, num_resamples=few, seed=self.seed) if few else None

    def _measures(self, session: _Session) -> dict[str, PairMeasure]:
        """What reconstructions are measured by, by the names of the numbers."""
        resolution = session.model.resolution
        measures: dict[str, PairMeasure] = {}
        if "rmse" in self.metrics:
            measures["rec_mse"] = mean_squared_error
            measures["rec_rmse"] = root_mean_squared_error
            measures["rec_l1"] = mean_absolute_error
        if "similarity" in self.metrics:
            measures["rec_psnr"] = peak_signal_to_noise_ratio
            if resolution >= WINDOW:
                measures["rec_ssim"] = structural_similarity
            if resolution >= WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1):
                measures["rec_ms_ssim"] = multiscale_structural_similarity
            session.protocol["similarity"] = {"data_range": "[-1, 1]", "window": WINDOW, "borders": "left out"}
        if "lpips" in self.metrics and session.perceptual is not None:
            measures[session.perceptual.name] = session.perceptual
            if self.face_crop and resolution >= _SMALLEST_CROPPED:
                cropped = FaceCropped(session.perceptual)
                measures[cropped.name] = cropped
        if session.identity is not None:
            measures[session.identity.name] = session.identity
            session.protocol["identity"] = session.identity.describe()
        return measures

    def _add_relative_interval(
        self, session: _Session, baseline: MeanImageError, error: ReconstructionError, places: list[int]
    ) -> None:
        """The interval of rec_mse_relative, for which images are read once more, since their mean is known only now."""
        mean = baseline.mean_image().to(session.device)
        deviations = []
        for indices in batches(share(len(places)), self.batch_size):
            originals = quantise(real_images(session.model, session.held_out, [places[i] for i in indices]))
            deviations.append((as_tensor(indices), mean_squared_error(originals, mean.expand_as(originals)).cpu()))
        spreads = _gathered([(index, one[:, None]) for index, one in deviations], 1, torch.float64)[:, 0]
        with error.synchronised():
            errors = error.table("errors").cpu()
        if spreads.any():
            interval = relative_error_interval(errors, spreads, **self.resampling().arguments())
            session.found.intervals["rec_mse_relative"] = (interval.low, interval.high)

    @phase("latents found again")
    def _recover_latents(self, session: _Session, model: AbstractAutoencoder) -> None:
        """How well encode(decode(z)) finds samples z of the prior."""
        recovery = LatentRecovery(model.latent_space.dim).to(session.metric_device)
        for indices in batches(share(self.num_recovered), self.batch_size):
            latents = prior_latents(model, self.seed, "evaluate/recovered", indices)
            recovery.update(model, latents, as_tensor(indices))
        recovery.compute()
        assert recovery.estimate is not None
        of_count = count_name(self.num_recovered)
        intervals = recovery.intervals(**self.resampling().arguments()) if self.num_resamples else (None, None, None)
        names = (f"i_mse_{of_count}", f"i_mse_relative_{of_count}", f"latent_cosine_{of_count}")
        for name, value, interval in zip(names, recovery.estimate, intervals, strict=True):
            session.found.add(name, value, interval)
        session.protocol["recovery"] = {"samples": self.num_recovered, "images": "not rounded"}

    @phase("path lengths")
    def _measure_paths(self, session: _Session) -> None:
        """Perceptual path length between pairs of prior samples, or of the points of W that they are mapped to."""
        model, perceptual = session.model, session.perceptual
        recipe = self.path(model.resolution)
        # Paths join mapped latents, not the view's own examples of W, of which one is then enough.
        view = WSpaceView(model, count=1) if self._maps_first(model) else None
        decoder = view or model
        assert perceptual is not None
        length = PathLength.of_recipe(recipe, perceptual, seed=self.seed).to(session.metric_device)
        shares = distributed.IndexedRandom(self.seed, "evaluate/path_shares")
        for indices in batches(share(self.num_paths), self.batch_size):
            a = prior_latents(model, self.seed, "evaluate/path_starts", indices)
            b = prior_latents(model, self.seed, "evaluate/path_ends", indices)
            if view is not None:
                a, b = view.map(a), view.map(b)
            t = shares.uniform(indices)[:, 0] if recipe.sampling == "full" else torch.zeros(len(indices))
            length.update(decoder, a, b, t.to(a), as_tensor(indices))
        name = recipe.label(decoder.latent_space.symbol, perceptual.name)
        session.found.add(name, length.compute().item(), self.resampling().of(length.interval))
        session.protocol["paths"] = recipe.describe()


def _other_sizes(file: str, made_with: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Whether a file's images had another resolution or fade than the samples, which moves distances by far."""
    for what in ("resolution", "alpha"):
        if what in made_with and made_with[what] != here[what]:
            yield (
                f"{file} is of images of {what} {made_with[what]}, samples have {here[what]}: distances to it measure "
                "that difference, too"
            )


def _gathered(parts: list[tuple[Tensor, Tensor]], width: int, dtype: torch.dtype = torch.float32) -> Features:
    """Rows (N, width) of all ranks in the order of their indices, on every rank; a rank may have none."""
    index = torch.cat([torch.empty(0, dtype=torch.int64), *(one for one, _ in parts)])
    rows = torch.cat([torch.empty(0, width, dtype=dtype), *(one.to(dtype) for _, one in parts)])
    return distributed.gather_ragged(rows, index)[0]
