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

from latent_lab.metrics.functional import henze_zirkler, normality_null


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


def _cost(call: Callable[[np.ndarray], None], num_codes: int, dim: int, seconds: float) -> _Cost:
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


def _cost_alone(call: Callable[[np.ndarray], None], num_codes: int, dim: int, seconds: float) -> _Cost:
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
