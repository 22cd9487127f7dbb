"""Tables of `make bench` about comparing latent spaces."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from latent_lab.latent.maps import Fit, NormalEquations, fit_least_squares
from latent_lab.metrics.functional import henze_zirkler, normality_null

_MAP_PAIRS = 50_000
_MAP_BATCH = 512


class _Cost(NamedTuple):
    """Of one call: median seconds, and megabytes that its process needed beside its input."""

    seconds: float
    megabytes: float


def peak_megabytes() -> float:
    """Largest resident memory of this process so far; NaN where the system does not tell (it is not Linux)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    peak = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def _ours(codes: np.ndarray) -> None:
    henze_zirkler(torch.from_numpy(codes))


def _pingouin(codes: np.ndarray) -> None:
    import pingouin

    pingouin.multivariate_normality(codes)


def _simulated(codes: np.ndarray) -> None:
    # Draws are remembered: every call needs a number of its own.
    normality_null(*codes.shape, numbers=[time.perf_counter_ns()])


def _cost(call: Callable[[np.ndarray], object], num_codes: int, dim: int, seconds: float) -> _Cost:
    rng = np.random.default_rng(123)
    # Libraries are loaded and warm before memory is looked at.
    call(rng.standard_normal((200, 4)))
    codes = rng.standard_normal((num_codes, dim))
    before = peak_megabytes()
    durations: list[float] = []
    while len(durations) < 3 or sum(durations) < seconds:
        begin = time.perf_counter()
        call(codes)
        durations.append(time.perf_counter() - begin)
        if len(durations) == 1:
            extra = peak_megabytes() - before
    return _Cost(statistics.median(durations), extra)


def _cost_alone(call: Callable[[np.ndarray], object], num_codes: int, dim: int, seconds: float) -> _Cost:
    """In a fresh process: memory that an earlier call gave back would hide what this one needs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cost, call, num_codes, dim, seconds).result()


def normality_table(seconds: float) -> list[str]:
    """Time and extra memory of the Henze-Zirkler test beside pingouin's, and of a draw of the simulated null.

    Args:
        seconds: measured time of each figure.
    """
    lines = [
        "| Henze-Zirkler test, 5,000 codes | s | extra MB | pingouin s | extra MB | time / pingouin's | "
        "memory / pingouin's | one draw of the null, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dim in (64, 512):
        ours, draw = (_cost_alone(call, 5000, dim, seconds) for call in (_ours, _simulated))
        cells = [f"{dim} dimensions", f"{ours.seconds:.2f}", f"{ours.megabytes:.0f}"]
        if find_spec("pingouin"):
            theirs = _cost_alone(_pingouin, 5000, dim, seconds)
            cells += [f"{theirs.seconds:.2f}", f"{theirs.megabytes:.0f}"]
            cells += [f"{ours.seconds / theirs.seconds:.2f}", f"{ours.megabytes / theirs.megabytes:.2f}"]
        else:
            cells += ["not installed", "", "", ""]
        lines.append(f"| {' | '.join([*cells, f'{draw.seconds:.2f}'])} |")
    return lines


def _halves(codes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of the source and of the target, side by side in one matrix."""
    source, target = torch.from_numpy(codes).float().chunk(2, dim=1)
    return source, target


def _accumulate(codes: np.ndarray) -> NormalEquations:
    source, target = _halves(codes)
    equations = NormalEquations(source.shape[1], target.shape[1])
    for batch in zip(source.split(_MAP_BATCH), target.split(_MAP_BATCH), strict=True):
        equations.add(*batch)
    return equations


def _one_pass_map(codes: np.ndarray) -> Fit:
    return fit_least_squares(_accumulate(codes))


def _torch_lstsq(codes: np.ndarray) -> None:
    source, target = _halves(codes)
    torch.linalg.lstsq(source.double(), target.double())


def _sklearn_regression(codes: np.ndarray) -> None:
    from sklearn.linear_model import LinearRegression

    source, target = (half.double().numpy() for half in _halves(codes))
    LinearRegression(fit_intercept=False).fit(source, target)


def _solving_share(dim: int) -> float:
    """Share of the solve in the time of a one-pass map, encoding not counted."""
    codes = np.random.default_rng(0).standard_normal((_MAP_PAIRS, 2 * dim))
    begin = time.perf_counter()
    equations = _accumulate(codes)
    between = time.perf_counter()
    fit_least_squares(equations)
    end = time.perf_counter()
    return (end - between) / (end - begin)


def map_table(seconds: float) -> list[str]:
    """Time and extra memory of a map by accumulated normal equations beside solvers that hold all codes at once.

    Args:
        seconds: measured time of each figure.
    """
    lines = [
        f"| map of {_MAP_PAIRS:,} pairs | s | of which solve | extra MB | torch.linalg.lstsq s | extra MB | "
        "scikit-learn s | extra MB | time / lstsq's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for dim in (64, 512):
        ours, torchs, sklearns = (
            _cost_alone(call, _MAP_PAIRS, 2 * dim, seconds)
            for call in (_one_pass_map, _torch_lstsq, _sklearn_regression)
        )
        cells = [f"{dim} to {dim} coordinates", f"{ours.seconds:.2f}", f"{_solving_share(dim):.1%}"]
        cells += [f"{ours.megabytes:.0f}"]
        for one in (torchs, sklearns):
            cells += [f"{one.seconds:.2f}", f"{one.megabytes:.0f}"]
        lines.append(f"| {' | '.join([*cells, f'{ours.seconds / torchs.seconds:.2f}'])} |")
    return lines
