"""Tables of `make bench` about metrics, beside the programs that others use for them."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from latent_lab.analyses import Evaluate, HeldOut
from latent_lab.analyses.reference import CACHE_FOLDER_VARIABLE
from latent_lab.callbacks.precision import multiplies_bfloat16
from latent_lab.cli.bench_latent import peak_megabytes
from latent_lab.data import SyntheticFaces
from latent_lab.data.synthetic_renderer import render, sample_factors
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.images import to_bytes
from latent_lab.metrics.functional import frechet_distance, frechet_interval, moments, precision_recall
from latent_lab.models import Pioneer
from latent_lab.networks.features import find_extractor

_COUNT = 10_000
_WIDTH = 2048


def _features(seed: int, count: int = _COUNT, width: int = _WIDTH) -> Tensor:
    """Rectified Gaussian vectors with a falling spectrum, much like those of a network; float32."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng) / width**0.5 * torch.linspace(1.0, 0.01, width)
    return torch.relu(torch.randn(count, width, generator=rng) @ mixing + 0.1)


class _AsTheyAre(nn.Module):
    """The network of features that are computed already."""

    num_features = _WIDTH

    def forward(self, features: Tensor) -> Tensor:
        return features


def _ours(real: Tensor, fake: Tensor) -> float:
    return frechet_distance(moments(real), moments(fake)).value


def _torch_fidelity(real: Tensor, fake: Tensor) -> float:
    from torch_fidelity import metric_fid as fid

    ends = [fid.fid_features_to_statistics(features) for features in (real, fake)]
    return float(fid.fid_statistics_to_metric(*ends, verbose=False)["frechet_inception_distance"])


def _torchmetrics(real: Tensor, fake: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_AsTheyAre(), input_img_size=(3, 299, 299))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def _scipy(real: Tensor, fake: Tensor) -> float:
    """The original program's way, by a general matrix root."""
    from scipy.linalg import sqrtm

    (m, s), (n, t) = ((x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)) for x in (real, fake))
    return float(((m - n) ** 2).sum() + np.trace(s) + np.trace(t) - 2.0 * np.trace(sqrtm(s @ t).real))


def _timed(call: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    value = call()
    return time.perf_counter() - begin, value


def _neighbour_cost(count: int, width: int) -> tuple[float, float]:
    """Seconds and extra megabytes of precision and recall; in a fresh process, see `peak_megabytes`."""
    warm = _features(0, 200, 8)
    precision_recall(warm, warm)
    real, fake = _features(1, count, width), _features(2, count, width)
    before = peak_megabytes()
    seconds, _ = _timed(lambda: precision_recall(real, fake).precision)
    return seconds, peak_megabytes() - before


def statistics_table(seconds: float) -> list[str]:
    """From features in memory to numbers: time of the Fréchet distance beside its peers; precision and recall.

    Args:
        seconds: measured time of each figure; programs take turns, so that all see the same machine.
    """
    real, fake = _features(1), _features(2)
    programs = {"latent-lab": _ours}
    if find_spec("torch_fidelity"):
        programs["torch-fidelity"] = _torch_fidelity
        programs["torchmetrics"] = _torchmetrics  # which asks for that package, too
    times: dict[str, list[float]] = {name: [] for name in programs}
    values: dict[str, float] = {}
    for call in programs.values():
        call(real[:3000, :], fake[:3000, :])
    while len(times["latent-lab"]) < 3 or sum(times["latent-lab"]) < seconds:
        for name, call in programs.items():
            taken, values[name] = _timed(lambda call=call: call(real, fake))  # type: ignore[misc]
            times[name].append(taken)
    programs["scipy's sqrtm, once"] = _scipy
    taken, values["scipy's sqrtm, once"] = _timed(lambda: _scipy(real, fake))
    times["scipy's sqrtm, once"] = [taken]

    ours = statistics.median(times["latent-lab"])
    lines = [
        f"| Fréchet distance, {_COUNT:,} + {_COUNT:,} x {_WIDTH} features | s | latent-lab / this | value differs by |",
        "|---|---|---|---|",
    ]
    for name in programs:
        median = statistics.median(times[name])
        deviation = abs(values[name] / values["latent-lab"] - 1.0)
        lines.append(f"| {name} | {median:.2f} | {ours / median:.2f} | {deviation:.0e} |")
    taken, _ = _timed(lambda: frechet_interval(real, fake).high)
    lines.append(f"| latent-lab, 95 % interval | {taken:.2f} | | |")
    del real, fake
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        taken, megabytes = pool.submit(_neighbour_cost, _COUNT, _WIDTH).result()
    return [
        *lines,
        "",
        f"| {_COUNT:,} + {_COUNT:,} x {_WIDTH} features | s | extra MB |",
        "|---|---|---|",
        f"| precision and recall | {taken:.2f} | {megabytes:.0f} |",
    ]


def _inception_file(folder: Path) -> Path:
    """Random weights in the layout of the published Inception file."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    network_class = theirs.FeatureExtractorInceptionV3
    # Their network cannot be built without weights, so loading is left out for once.
    with (
        mock.patch.object(theirs, "load_state_dict_from_url", return_value={}),
        mock.patch.object(network_class, "load_state_dict"),
    ):
        state = network_class("random", ["2048"]).state_dict()
    path = folder / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({name: value * 3.0 if name.endswith("conv.weight") else value for name, value in state.items()}, path)
    return path


def extractor_table(seconds: float) -> list[str]:
    """From bytes to features: the same Inception network here and in torch-fidelity.

    Here it is in float32, and in bfloat16 if the processor does not have to emulate it.

    Args:
        seconds: measured time of each figure; programs take turns, so that all see the same machine.
    """
    if not find_spec("torch_fidelity"):
        return ["torch-fidelity is not installed, so there is nothing to compare extractors with."]
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    count = 32
    images = render(sample_factors(0, range(count)), 64)
    pixels = to_bytes(images)
    with tempfile.TemporaryDirectory() as folder:
        file = _inception_file(Path(folder))
        theirs = FeatureExtractorInceptionV3("bench", ["2048"], feature_extractor_weights_path=str(file))
        precisions = ("float32", "bfloat16") if multiplies_bfloat16("cpu") else ("float32",)
        ours = {
            precision: find_extractor("inception", file, resize="tf1", precision=precision) for precision in precisions
        }

    @torch.inference_mode()
    def passed() -> Tensor:
        return theirs(pixels)[0]

    calls: dict[str, Callable[[], Tensor]] = {"torch-fidelity": passed}
    calls |= {f"latent-lab, {name}": functools.partial(network, images) for name, network in ours.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    features = {name: call() for name, call in calls.items()}
    while sum(times["torch-fidelity"]) < seconds or len(times["torch-fidelity"]) < 3:
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    peer, spread = statistics.median(times["torch-fidelity"]), features["torch-fidelity"].std(0).mean()
    lines = [
        f"| Inception, {count} faces of 64 px | images/s | time / torch-fidelity | deviation / spread of features |",
        "|---|---|---|---|",
    ]
    for name, taken in times.items():
        median = statistics.median(taken)
        deviation = ((features[name] - features["torch-fidelity"]).square().mean().sqrt() / spread).item()
        lines.append(f"| {name} | {count / median:.1f} | {median / peer:.2f} | {deviation:.1e} |")
    return lines


def usual_classifier() -> nn.Module:
    """An image classifier of usual cost, without its last layer: ResNet-18 at 224 pixels.

    Its weights are random, which cost as much as trained ones and need no file.
    """
    network = resnet18()
    network.fc = nn.Identity()
    network.input_resolution = 224
    return network


def evaluation_table(
    seconds: float,
    *,
    count: int = 128,
    resolution: int = 64,
    extractor: str = f"{__name__}.usual_classifier",
    repeats: int = 3,
) -> list[str]:
    """A whole evaluation of the Fréchet distance, twice: the second one finds the reference's features in the cache.

    Both are measured side by side, with an empty cache before each repetition of the first.

    Args:
        seconds: measured time of the first evaluations together.
        count: samples, and as many reference images.
        resolution: of the images, in pixels.
        extractor: as of `Evaluate`.
        repeats: both are measured at least so often.
    """
    widths = [16] * (resolution.bit_length() - 2)
    model = Pioneer(GrowthSchedule([Stage(resolution, 1.0, 16)]), latent_dim=16, widths=widths).eval()
    evaluation = Evaluate(
        metrics=("fd",), extractor=extractor, num_samples=count, num_reconstructions=2, num_pictures=1
    )
    times: dict[str, list[float]] = {"first": [], "second": []}
    with tempfile.TemporaryDirectory() as folder:
        data = SyntheticFaces(num_images=count, num_val=8, num_test=8, resolution=resolution, cache_dir=folder)
        data.prepare_data()
        data.setup()
        images = HeldOut(data.source("test"), reference=data.source("train"))
        with mock.patch.dict(os.environ, {CACHE_FOLDER_VARIABLE: f"{folder}/warm"}):
            replace(evaluation, num_samples=2, num_reference=2)(model, images)
        while len(times["first"]) < repeats or sum(times["first"]) < seconds:
            cache = f"{folder}/cache{len(times['first'])}"
            with mock.patch.dict(os.environ, {CACHE_FOLDER_VARIABLE: cache}):
                for which, taken in times.items():
                    begin = time.perf_counter()
                    result = evaluation(model, images)
                    taken.append(time.perf_counter() - begin)
                    if which == "first":
                        value = next(iter(result.numbers.values()))
    first, second = (statistics.median(times[which]) for which in ("first", "second"))
    deviation = abs(next(iter(result.numbers.values())) / value - 1.0)
    return [
        f"| Fréchet distance, {count} and {count} images of {resolution} px | s | time / first | value differs by |",
        "|---|---|---|---|",
        f"| first | {first:.2f} | 1.00 | |",
        f"| second, reference's features from the cache | {second:.2f} | {second / first:.2f} | {deviation:.0e} |",
        "",
        f"The extractor is {result.protocol['extractor']['label']}.",
    ]
