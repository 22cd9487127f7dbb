"""Views along a camera's run from a few observed ones: a Gaussian process over poses against straight lines.

The experiment with face videos of Hou, Heljakka and Solin ("Gaussian Process Priors for View-Aware Inference", AAAI
2021), for any autoencoder and any run with known poses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latent_lab import distributed, plotting
from latent_lab.analyses.base import AbstractAnalysis, Result, Table
from latent_lab.analyses.camera_runs import ALL, ENDS, CameraRun, camera_runs
from latent_lab.analyses.feeding import HeldOut, batches, device_of, real_images, share, situation, spread
from latent_lab.analyses.run_processes import (
    Chart,
    Geometry,
    Start,
    described,
    fitted_process,
    published_process,
    scaled_process,
)
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, from_unit, quantise, to_unit
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.metrics.functional import mean_squared_error, peak_signal_to_noise_ratio, structural_similarity
from latent_lab.metrics.functional.bootstrap import interval_of, resample
from latent_lab.metrics.functional.structural_similarity import WINDOW
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.priors.gaussian_process import FACE_VIDEOS, GaussianProcess, Posterior
from latent_lab.priors.kernels import KernelName
from latent_lab.priors.linear_baseline import FRAME_STEP, FrameNumbers, between, linear_path
from latent_lab.types import Images, ImageSource, Latents, Scores
from latent_lab.video import WITHOUT_MP4, can_write_mp4, check_video, film_frame, video_files

Baseline = Literal["linear", "linear_released"]
Hyperparameters = Literal["scaled", "published", "fitted"]
FitTo = Literal["training", "observed", "run"]

RECONSTRUCTION, LINEAR, LINEAR_RELEASED = "reconstruction", "linear", "linear_released"
POSE_LABELS = ("yaw", "pitch")
"""Labels of a regressor that say how a head is turned, in degrees."""
GREY = (0.2989, 0.5870, 0.1140)
"""Shares of red, green and blue in the grey values whose deviation the published figure shows."""
SHOWN_DEVIATIONS = 3.0
"""Deviations of grey values in [0, 1] are multiplied by this in the figure, as published."""
_RUNS_TO_RESAMPLE = 8
"""So many runs are resampled as wholes; of fewer, blocks of frames are."""
_LARGEST_PSNR = 10.0 * math.log10(12.0 * 255.0**2)
"""Of 8-bit images that are equal: as if they differed by what rounding takes away, a twelfth of a squared level."""
_MOST_FRAMES = 1_000_000
"""Numbers a run's frames among all."""


@dataclass(frozen=True)
class _Instruments:
    """What decoded frames are measured with."""

    perceptual: AbstractPerceptualDistance
    regressor: LabelRegressor | None
    similarity: bool
    """Whether images are large enough for SSIM."""

    @property
    def turns(self) -> tuple[str, ...]:
        """Labels of the pose that the regressor estimates."""
        return () if self.regressor is None else tuple(one for one in POSE_LABELS if one in self.regressor.names)

    def of_pairs(self) -> dict[str, Callable[[Images, Images], Tensor]]:
        """Name -> measure of (true frames, frames)."""
        found: dict[str, Callable[[Images, Images], Tensor]] = {
            self.perceptual.name: self.perceptual,
            "mse": mean_squared_error,
            "psnr": _bounded_psnr,
        }
        return found | ({"ssim": structural_similarity} if self.similarity else {})

    def turned(self, images: Images) -> dict[str, Tensor]:
        """Label -> what the regressor reads from images, in degrees."""
        if self.regressor is None:
            return {}
        estimates = self.regressor(images)
        return {one: estimates[:, self.regressor.names.index(one)] for one in self.turns}


@dataclass
class _Encoded:
    """One run with codes: of the encoder, and of each method for all frames."""

    run: CameraRun
    observed: Int64[Tensor, "n"]
    """Rows of the frames whose codes the methods know."""
    scored: Int64[Tensor, "S"]
    """Rows on which they are compared."""
    codes: Float64[Tensor, "T D"]
    """The encoder's, NaN where there is no image."""
    methods: dict[str, Latents] = field(default_factory=dict)
    """Name -> (T, D)."""
    chart: Chart | None = None
    posteriors: dict[str, Posterior] = field(default_factory=dict)
    """Name of a process -> what it says of all frames, in the chart."""
    held_out: dict[str, Posterior] = field(default_factory=dict)
    """The same of the scored frames, without having seen them."""
    processes: dict[str, GaussianProcess] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewSynthesis(AbstractAnalysis):
    """A run of frames is encoded; codes of missing frames are predicted from a few, or all are smoothed.

    A Gaussian process over the camera's poses predicts them, and the space's own paths, uniform in the frame number, as
    the baseline. Give a source with poses, of one or several runs.
    """

    name = "view-synthesis"
    requires = AbstractAutoencoder
    needs_images = True

    observed: str = ENDS
    """Frames whose codes are given: ends (the first and the last, as published), all (smoothing, as published), every:N
    (each N-th and the last), or frame numbers separated by commas."""
    kernels: tuple[str, ...] = ("view",)
    """Kernels of the process: view, view_translation, translation, pose_matern, euler, quaternion, quaternion_nearest,
    geodesic, face_released, quaternion_released; the first one is drawn."""
    baselines: tuple[str, ...] = (LINEAR,)
    """linear, linear_released (of the published program, which ends a fifth of the way beyond the last frame)."""
    hyperparameters: Hyperparameters = "scaled"
    """scaled (length scale and noise share as given, the variance that makes the observed codes most likely; for two
    observed frames), published (of the face videos, for StyleGAN's W+), or fitted by marginal likelihood (for more)."""
    length_scale: float = FACE_VIDEOS.length_scale
    """Of `scaled`, and where `fitted` begins."""
    noise_share: float = 0.01
    """Variance of the noise over that of the process, of `scaled`, and where `fitted` begins; published: 0.1."""
    translation_length_scale: float = 1.0
    """Of the camera's places, in their own unit."""
    fit_to: FitTo = "training"
    """Frames of `fitted`: those of training runs, the observed ones of each run, or all of each run, which tells the
    process a little of what it is to predict."""
    fit_runs: int = 8
    """Training runs, of `fitted`."""
    fit_frames: int = 12
    """Frames of each run, evenly spaced, of `fitted`."""
    geometry: Geometry = "tangent"
    """How a process lives on a sphere: in the tangent space at the mean of the observed codes, or around the sphere and
    then projected to it. Both are the same in flat spaces."""
    num_runs: int | None = None
    """Runs of the source; none: all."""
    step: int = FRAME_STEP
    """Every so many of the compared frames are decoded and measured; PERCEPTUAL_delta is between frames that far
    apart."""
    perceptual: str = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best found."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    regressor: str | None = None
    """File of `latent-lab train-regressor` with the labels yaw or pitch: with it, errors of the pose are measured."""
    num_samples: int = 16
    """Joint samples of the process, whose decoded frames give the uncertainty of pixels. Published: up to 100."""
    shown: int = 0
    """Which run is drawn, from 0."""
    columns: int = 10
    """Frames in the figure, evenly spaced over the run."""
    video_frames: int = 120
    """Frames in the video at most, evenly spaced; 0: no video."""
    frames_per_second: float = 12.0
    """Of the video."""
    num_resamples: int = 200
    """Resamples from which intervals are made; 0: no intervals."""
    level: float = 0.95
    """Share of the resampled values inside an interval, and of codes inside the process's own."""
    seed: int = 0
    """Of samples and resamples."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        for option, known in (("kernels", get_args(KernelName)), ("baselines", get_args(Baseline))):
            given = tuple(getattr(self, option))
            object.__setattr__(self, option, given)
            unknown = [one for one in given if one not in known]
            if unknown or not given or len(set(given)) < len(given):
                raise ValueError(
                    f"{option} must be some of {', '.join(known)}, each once, got {', '.join(given) or 'none'}"
                )
        if LINEAR not in self.baselines:
            raise ValueError("baselines must hold linear, with which the process is compared")
        least = {"step": 1, "columns": 1, "batch_size": 1, "fit_runs": 1, "fit_frames": 3, "num_samples": 2}
        for option, bound in {**least, "shown": 0}.items():
            if getattr(self, option) < bound:
                raise ValueError(f"{option} must be at least {bound}, got {getattr(self, option)}")
        if self.num_runs is not None and self.num_runs < 1:
            raise ValueError(f"num_runs must be at least 1, got {self.num_runs}")
        for option in ("length_scale", "noise_share", "translation_length_scale"):
            if not (getattr(self, option) > 0 and math.isfinite(getattr(self, option))):
                raise ValueError(f"{option} must be positive, got {getattr(self, option)}")
        check_video(self.name, self.video_frames, self.frames_per_second)
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        if self.num_resamples < 0 or self.num_resamples == 1:
            raise ValueError(f"num_resamples must be 0 (no intervals) or at least 2, got {self.num_resamples}")

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        """Training runs, where hyper-parameters are fitted to them."""
        return self.hyperparameters == "fitted" and self.fit_to == "training"

    @property
    def smoothing(self) -> bool:
        """Whether all frames are observed, and nothing is left to be predicted."""
        return self.observed == ALL

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers, means over frames, with METHOD one of reconstruction, linear, gp_KERNEL and PERCEPTUAL the name of
        the distance. Frames are those that were not observed; in smoothing, all.

            PERCEPTUAL_METHOD, mse_METHOD, psnr_METHOD, ssim_METHOD: against the true frames; pixels in [-1, 1]
            MEASURE_METHOD_to_reconstruction: the same against what the model makes of the true frames
            PERCEPTUAL_delta_METHOD: distance of a frame to one `step` frames later; a frozen video has 0, and the true
                frames have PERCEPTUAL_delta_frames
            code_distance_METHOD: distance to the encoder's code, of the latent space
            yaw_error_METHOD, pitch_error_METHOD: mean absolute error in degrees of what the regressor reads, against
                the source's label, else against what it reads from the true frame
            nlpd_gp_KERNEL: negative log density of the encoder's code, nats for each coordinate; in smoothing of each
                code given all others
            coverage_gp_KERNEL: share of the code's coordinates inside their central intervals of the level
            MEASURE_gp_KERNEL_minus_linear: paired differences; in smoothing, from reconstruction

        Raises:
            ValueError: if there are no poses, fewer than two frames, no training runs to fit to, or files are absent.
        """
        assert source is not None
        runs = camera_runs(source, self.num_runs)
        if self.shown >= len(runs):
            raise ValueError(f"shown must be one of {len(runs)} runs, counted from 0, got {self.shown}")
        device = device_of(model)
        instruments = _Instruments(
            find_perceptual(self.perceptual, self.perceptual_path, download=self.download).to(device),
            None if self.regressor is None else load_regressor(self.regressor).to(device),
            model.resolution >= WINDOW,
        )
        if instruments.regressor is not None and not instruments.turns:
            raise ValueError(f"the regressor {self.regressor} estimates neither {' nor '.join(POSE_LABELS)}")
        fitted, fits = self._fit_to_training(model, source)

        rows, index, names = [], [], []
        # A process without a share of its own repeats the first run, whose rows count once.
        for piece in batches(share(len(runs)) or range(1), 1):
            encoded = self._encode(model, source, runs[piece[0]], fitted)
            measured = self._measure(model, source, encoded, instruments)
            names = list(measured)
            rows.append(torch.stack(list(measured.values()), dim=1))
            index.append(piece[0] * _MOST_FRAMES + torch.arange(len(rows[-1])))
        values, order = distributed.gather_ragged(torch.cat(rows), torch.cat(index))
        found = self._summarise(dict(zip(names, values.unbind(1), strict=True)), order // _MOST_FRAMES)

        shown = self._encode(model, source, runs[self.shown], fitted)
        pictures, files, uncertainty = self._draw(model, source, shown)
        return Result(
            self.name,
            found.numbers,
            self._protocol(model, runs, shown, instruments, fits, found, uncertainty),
            pictures,
            found.tables,
            found.intervals,
            files,
        )

    # ------------------------------------------------------------------------------------------------------- codes

    def _fit_to_training(
        self, model: AbstractAutoencoder, source: ImageSource
    ) -> tuple[dict[str, GaussianProcess], dict[str, Any]]:
        """Kernel -> process fitted to training runs, and facts about the fits; nothing where they are not asked for."""
        if not self.needs_reference:
            return {}, {}
        if not isinstance(source, HeldOut):
            raise ValueError(
                "there are no training runs to which hyper-parameters could be fitted: take hyperparameters scaled, or "
                "fit_to observed or run"
            )
        reference = source.reference
        training = []
        for run in camera_runs(reference, self.fit_runs):
            kept = run.pictured[spread(len(run.pictured), self.fit_frames)]
            codes = self._codes(model, reference, run, kept)[kept]
            training.append((run.poses[kept], Chart.around(model.latent_space, codes, self.geometry).flat(codes)))
        return self._fit(training)

    def _fit(self, runs: Sequence[tuple[Any, Latents]]) -> tuple[dict[str, GaussianProcess], dict[str, Any]]:
        fitted = {kernel: fitted_process(kernel, self._start, runs) for kernel in self.kernels}
        return {kernel: one for kernel, (one, _) in fitted.items()}, {
            kernel: facts for kernel, (_, facts) in fitted.items()
        }

    @property
    def _start(self) -> Start:
        return Start(self.length_scale, self.translation_length_scale, self.noise_share)

    def _codes(
        self, model: AbstractAutoencoder, source: ImageSource, run: CameraRun, rows: Int64[Tensor, "P"]
    ) -> Float64[Tensor, "T D"]:
        """The encoder's codes of the frames in these rows, NaN elsewhere."""
        codes = torch.full((len(run.places), model.latent_space.dim), torch.nan, dtype=torch.float64)
        for some in rows.split(self.batch_size):
            codes[some] = model.encode(_frames(model, source, run, some)).double().cpu()
        if not codes[rows].isfinite().all():
            raise ValueError(f"codes of {run.name} are not finite: the model is damaged")
        return codes

    def _encode(
        self,
        model: AbstractAutoencoder,
        source: ImageSource,
        run: CameraRun,
        fitted: Mapping[str, GaussianProcess],
    ) -> _Encoded:
        """A run's codes, and what each method makes of the observed ones."""
        observed, pictured = run.observed(self.observed), run.pictured
        scored = pictured if self.smoothing else pictured[~torch.isin(pictured, observed)]
        if len(scored) == 0:
            raise ValueError(
                f"all {len(pictured)} images of {run.name} are observed, so there is nothing to predict: observe "
                "fewer, or all for smoothing"
            )
        space, poses, frames = model.latent_space, run.poses, run.trajectory.frames
        codes = self._codes(model, source, run, pictured)
        given = codes[observed]
        found = _Encoded(run, observed, scored, codes, chart=Chart.around(space, given, self.geometry))
        assert found.chart is not None
        found.methods[RECONSTRUCTION] = codes
        if not self.smoothing:
            for baseline in self.baselines:
                path = linear_path if baseline == LINEAR else _released_path
                found.methods[baseline] = path(space, frames[observed], given, frames)
        rows = found.chart.flat(given)
        if not fitted and self.hyperparameters == "fitted":
            known = observed if self.fit_to == "observed" else pictured
            known = known[spread(len(known), self.fit_frames)]
            fitted, _ = self._fit([(poses[known], found.chart.flat(codes[known]))])
        for kernel in self.kernels:
            if self.hyperparameters == "published":
                process = published_process(kernel, self.translation_length_scale)
            elif self.hyperparameters == "scaled":
                process = scaled_process(kernel, self._start, poses[observed], rows)
            else:
                process = fitted[kernel]
            name = _process_name(kernel)
            posterior = process.posterior(poses[observed], rows, poses)
            found.processes[name], found.posteriors[name] = process, posterior
            found.methods[name] = found.chart.curved(posterior.mean)
            found.held_out[name] = (
                process.leave_one_out(poses[observed], rows)
                if self.smoothing
                else Posterior(posterior.mean[scored], posterior.covariance[scored][:, scored], posterior.noise)
            )
        return found

    # ----------------------------------------------------------------------------------------------------- numbers

    def _measure(
        self, model: AbstractAutoencoder, source: ImageSource, encoded: _Encoded, instruments: _Instruments
    ) -> dict[str, Tensor]:
        """Name -> a number for each compared frame, float64; NaN where a frame has none."""
        run, space = encoded.run, model.latent_space
        chosen = torch.arange(0, len(encoded.scored), self.step)
        rows = encoded.scored[chosen]
        # The frame that is `step` images later, itself where there is none.
        place = torch.searchsorted(run.pictured, rows) + self.step
        follows = place < len(run.pictured)
        later = torch.where(follows, run.pictured[place.clamp(max=len(run.pictured) - 1)], rows)
        found: dict[str, list[Tensor]] = {}

        def note(name: str, values: Tensor) -> None:
            found.setdefault(name, []).append(values.double().cpu())

        delta = f"{instruments.perceptual.name}_delta"
        for part in torch.arange(len(rows)).split(self.batch_size):
            here, there = rows[part], later[part]
            apart = torch.where(follows[part], 1.0, torch.nan).double()
            truth, after = (quantise(_frames(model, source, run, some)) for some in (here, there))
            own = _decoded(model, encoded.codes[here])
            turned = self._true_turns(source, run, here, instruments.turned(truth))
            note(f"{delta}_frames", instruments.perceptual(truth, after).double().cpu() * apart)
            for name, codes in encoded.methods.items():
                made = own if name == RECONSTRUCTION else _decoded(model, codes[here])
                for measure, compare in instruments.of_pairs().items():
                    note(f"{measure}_{name}", compare(truth, made))
                    if name != RECONSTRUCTION:
                        note(f"{measure}_{name}_to_reconstruction", compare(own, made))
                next_made = _decoded(model, codes[there])
                note(f"{delta}_{name}", instruments.perceptual(made, next_made).double().cpu() * apart)
                if name != RECONSTRUCTION:
                    note(f"code_distance_{name}", space.distance(codes[here], encoded.codes[here]))
                for label, angles in instruments.turned(made).items():
                    note(f"{label}_error_{name}", (angles.double().cpu() - turned[label]).abs())
        assert encoded.chart is not None
        hidden = encoded.chart.flat(encoded.codes[encoded.scored])
        for name, posterior in encoded.held_out.items():
            note(f"nlpd_{name}", -posterior.log_density(hidden)[chosen] / hidden.shape[1])
            note(f"coverage_{name}", posterior.coverage(hidden, self.level)[chosen])
        return {name: torch.cat(values) for name, values in found.items()}

    def _true_turns(
        self, source: ImageSource, run: CameraRun, rows: Tensor, read: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Label -> the true pose of frames in degrees: the source's label, else what was read from the frames."""
        places = [run.places[row] for row in rows.tolist()]
        labels = source.batch([place for place in places if place is not None], 4).labels if read else None
        return {
            label: labels[:, source.label_names.index(label)].double()
            if labels is not None and label in source.label_names
            else angles.double().cpu()
            for label, angles in read.items()
        }

    def _summarise(self, columns: Mapping[str, Tensor], runs: Int64[Tensor, "N"]) -> _Summary:
        """Means over frames, differences of processes from what they are compared with, and intervals."""
        other = RECONSTRUCTION if self.smoothing else LINEAR
        names = [_process_name(kernel) for kernel in self.kernels]
        differences = {
            f"{name}_minus_{other}": values - columns[reference]
            for name, values in columns.items()
            for process in names
            if name.endswith((f"_{process}", f"_{process}_to_reconstruction"))
            and (reference := name.replace(f"_{process}", f"_{other}")) in columns
        }
        # What no frame has, such as distances to later frames in a run of three, is left out.
        whole = {name: values for name, values in {**columns, **differences}.items() if values.isfinite().any()}
        numbers = {name: values.nanmean().item() for name, values in whole.items()}
        units, kind = _units(runs)
        summary = _Summary(numbers, {}, {}, kind)
        if self.num_resamples and len(units) > 1:
            stacked = torch.stack(list(whole.values()), dim=1)
            sums = torch.stack([stacked[unit].nansum(0) for unit in units])
            counts = torch.stack([stacked[unit].isfinite().sum(0) for unit in units])
            drawn = [resample(len(units), number, self.seed) for number in range(self.num_resamples)]
            means = torch.stack([sums[some].sum(0) / counts[some].sum(0) for some in drawn])
            for place, name in enumerate(whole):
                if means[:, place].isfinite().all():
                    interval = interval_of(means[:, place], level=self.level)
                    summary.intervals[name] = (interval.low, interval.high)
        methods = [RECONSTRUCTION, *(() if self.smoothing else self.baselines), *names]
        summary.tables["means over frames"] = _by_method(numbers, methods)
        return summary

    # ---------------------------------------------------------------------------------------------------- pictures

    def _draw(
        self, model: AbstractAutoencoder, source: ImageSource, encoded: _Encoded
    ) -> tuple[dict[str, Images], dict[str, Callable[[Path], None]], dict[str, Any]]:
        """The figure, the videos, and how the uncertainty of pixels compares with errors."""
        run = encoded.run
        total = len(run.places)
        first = _process_name(self.kernels[0])
        factor = magnification(model.resolution)
        shown = torch.tensor(
            [place * (total - 1) // max(1, min(self.columns, total) - 1) for place in range(min(self.columns, total))]
        )
        figure = self._rows_of_pictures(model, source, encoded, shown)
        pictures = {"views": plotting.labelled_rows(figure.rows, len(shown), factor=factor)}
        facts = {
            "run": run.name,
            "frames": run.trajectory.frames[shown].tolist(),
            "samples": self.num_samples,
            "of": first,
            "shading": f"white: none, black: a deviation of the grey value of 1/{SHOWN_DEVIATIONS:g} or more",
            **figure.calibration,
        }
        if self.video_frames == 0:
            return pictures, {}, facts
        filmed = torch.tensor(spread(total, self.video_frames))
        film = self._rows_of_pictures(model, source, encoded, filmed)
        frames = torch.cat([enlarge(one, factor) for one in film.rows.values()], dim=3)
        head = plotting.column_heads(list(film.rows), frames.shape[3] // len(film.rows))
        frames = torch.cat([film_frame(torch.cat([head, one.expand(-1, 3, -1, -1)], dim=2)) for one in frames.split(1)])
        return pictures, video_files("views", frames, frames_per_second=self.frames_per_second), facts

    def _rows_of_pictures(
        self, model: AbstractAutoencoder, source: ImageSource, encoded: _Encoded, rows: Tensor
    ) -> _Pictures:
        """Name -> pictures of some frames: true ones, of each method, and the first process's uncertainty."""
        pictured = torch.isin(rows, encoded.run.pictured)
        resolution = model.resolution
        made = {name: _decoded_all(model, codes[rows], self.batch_size) for name, codes in encoded.methods.items()}
        truth = torch.ones_like(next(iter(made.values())))
        for part in pictured.nonzero()[:, 0].split(self.batch_size):
            truth[part] = _frames(model, source, encoded.run, rows[part]).float().cpu()
        first = _process_name(self.kernels[0])
        assert encoded.chart is not None
        posterior = encoded.posteriors[first]
        some = Posterior(posterior.mean[rows], posterior.covariance[rows][:, rows], posterior.noise)
        sums = torch.zeros(2, len(rows), 1, resolution, resolution, dtype=torch.float64)
        for number in range(self.num_samples):
            codes = encoded.chart.curved(some.sample(number, seed=self.seed))
            grey = _grey(_decoded_all(model, codes, self.batch_size)).double()
            sums += torch.stack([grey, grey.square()])
        mean = sums[0] / self.num_samples
        variance = (sums[1] / self.num_samples - mean.square()).clamp_min(0.0)
        variance = variance * self.num_samples / (self.num_samples - 1)
        shading = from_unit(1.0 - (SHOWN_DEVIATIONS * variance.sqrt()).clamp(0.0, 1.0)).float()
        named = {"frames": truth, **made, "uncertainty": shading.expand_as(truth)}
        ordered = ["frames", RECONSTRUCTION, *(one for one in made if one != RECONSTRUCTION), "uncertainty"]
        hidden = torch.isin(rows, encoded.scored)
        calibration = {}
        if hidden.any():
            errors = (_grey(made[first]) - _grey(made[RECONSTRUCTION]))[hidden].double().square().mean()
            calibration = {
                "root_mean_squared_error_to_reconstruction": errors.sqrt().item(),
                "root_mean_variance": variance[hidden].mean().sqrt().item(),
            }
        return _Pictures({_title(name): named[name] for name in ordered}, calibration)

    def _protocol(
        self,
        model: AbstractAutoencoder,
        runs: Sequence[CameraRun],
        shown: _Encoded,
        instruments: _Instruments,
        fits: Mapping[str, Any],
        found: _Summary,
        uncertainty: Mapping[str, Any],
    ) -> dict[str, Any]:
        notes = [f"{run.name}: {run.trajectory.describe()}" for run in runs if len(run.trajectory.missing_frames)]
        notes += [
            f"{len(run.places) - len(run.pictured)} frames of {run.name} have no image and are predicted, not compared"
            for run in runs
            if len(run.pictured) < len(run.places)
        ]
        if self.video_frames and not can_write_mp4():
            notes.append(WITHOUT_MP4)
        return {
            **situation(model),
            "mode": "smoothing" if self.smoothing else "prediction",
            "runs": len(runs),
            "shown": {
                "observed": shown.run.trajectory.frames[shown.observed].tolist(),
                "hyperparameters": {name: described(process) for name, process in shown.processes.items()},
            },
            "fits": dict(fits),
            "latents": repr(model.latent_space),
            "baseline": "the space's own path between the nearest observed frames, uniform in the frame number",
            "quantised": "frames and decoded images clamped and rounded to 8 bits",
            "perceptual": instruments.perceptual.describe(),
            "regressor": None if instruments.regressor is None else instruments.regressor.describe(),
            "uncertainty": dict(uncertainty),
            "intervals": {
                "level": self.level,
                "num_resamples": self.num_resamples,
                "seed": self.seed,
                "kind": f"bootstrap intervals over {found.resampled}",
            },
            "notes": notes,
        }


@dataclass(frozen=True)
class _Summary:
    numbers: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    tables: dict[str, Table]
    resampled: str


@dataclass(frozen=True)
class _Pictures:
    rows: dict[str, Images]
    calibration: dict[str, float]


def _bounded_psnr(images: Images, others: Images) -> Scores:
    """PSNR in decibels, 58.9 for equal images, so that one such frame does not make a mean infinite."""
    return peak_signal_to_noise_ratio(images, others).clamp_max(_LARGEST_PSNR)


def _frames(model: AbstractAutoencoder, source: ImageSource, run: CameraRun, rows: Tensor) -> Images:
    """True images of frames, as the model sees them."""
    places = [run.places[row] for row in rows.tolist()]
    return real_images(model, source, [place for place in places if place is not None])


def _decoded(model: AbstractAutoencoder, codes: Latents) -> Images:
    return quantise(model.decode(codes.float().to(device_of(model))).float())


def _decoded_all(model: AbstractAutoencoder, codes: Latents, batch_size: int) -> Images:
    """Pictures of codes, white where these are NaN, on the CPU."""
    known = codes.isfinite().all(1)
    parts = [_decoded(model, part).cpu() for part in codes[known].split(batch_size)]
    pictures = torch.cat(parts)
    every = pictures.new_ones(len(codes), *pictures.shape[1:])
    every[known] = pictures
    return every


def _grey(images: Images) -> Float[Tensor, "N 1 H W"]:
    """Grey values in [0, 1]."""
    if images.shape[1] == 1:
        return to_unit(images)
    weights = images.new_tensor(GREY).view(1, 3, 1, 1)
    return (to_unit(images) * weights).sum(1, keepdim=True)


def _released_path(
    space: AbstractLatentSpace, observed: FrameNumbers, latents: Float64[Tensor, "n D"], frames: Int64[Tensor, "M"]
) -> Float64[Tensor, "M D"]:
    """The published program's baseline: six frames' share of the line for every fifth frame."""
    if len(observed) != 2:
        raise ValueError(
            f"linear_released goes between two observed frames, got {len(observed)}: take linear, or observe the ends"
        )
    first, last = (int(one) for one in observed)
    fractions = (frames - first).double() * (FRAME_STEP + 1) / FRAME_STEP / (last - first + 1)
    return between(space, latents[:1], latents[1:], fractions)


def _units(runs: Int64[Tensor, "N"]) -> tuple[list[Tensor], str]:
    """Rows that are resampled together, as frames of a run are alike and neighbours most of all; and what they are."""
    of_runs = [(runs == one).nonzero()[:, 0] for one in runs.unique()]
    if len(of_runs) >= _RUNS_TO_RESAMPLE:
        return of_runs, f"{len(of_runs)} runs"
    blocks = [block for rows in of_runs for block in rows.split(max(1, round(math.sqrt(len(rows)))))]
    return blocks, f"{len(blocks)} blocks of neighbouring frames of {len(of_runs)} runs"


def _by_method(numbers: Mapping[str, float], methods: Sequence[str]) -> Table:
    """A row for each measure, a column for each method."""
    measures = [name.removesuffix(f"_{methods[-1]}") for name in numbers if name.endswith(f"_{methods[-1]}")]
    rows = [[one, *(numbers.get(f"{one}_{method}", "") for method in methods)] for one in measures]
    return [["measure", *methods], *rows]


def _process_name(kernel: str) -> str:
    return f"gp_{kernel}"


def _title(name: str) -> str:
    return name.replace("gp_", "GP ").replace("_", " ")


__all__ = ["ViewSynthesis"]
