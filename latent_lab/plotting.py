"""Figures from results; the only module that imports matplotlib.

Results hold numbers, so a figure can be drawn again without a model or a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from latent_lab.images import from_bytes
from latent_lab.types import Images

matplotlib.use("Agg")


def read_records(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Curves of a run's metrics.jsonl: name -> (kimg, values). A half-written last line is left out."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        for name, value in record.items():
            if name not in ("images", "kimg"):
                kimg, values = curves.setdefault(name, ([], []))
                kimg.append(record["kimg"])
                values.append(value)
    return curves


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], panels: Mapping[str, Sequence[str]], path: Path
) -> None:
    """One panel for each group of curves over kimg, written as a PNG.

    Args:
        curves: from `read_records`.
        panels: title -> names of curves; names without a curve are left out, and panels without any.
        path: of the PNG.
    """
    shown = {title: [name for name in names if name in curves] for title, names in panels.items()}
    shown = {title: names for title, names in shown.items() if names}
    figure = Figure(figsize=(4.2 * max(1, len(shown)), 3.2), layout="constrained")
    for number, (title, names) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(1, len(shown), number)
        for name in names:
            axes.plot(*curves[name], label=name.rpartition("/")[2].replace("_", " "), linewidth=1.2)
        axes.set_title(title)
        axes.set_xlabel("kimg")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def bars(heights: Sequence[float], *, title: str, y: str) -> Images:
    """A bar for each number, as a picture (1, 3, H, W)."""
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(heights)), heights, width=1.0)
    axes.set_title(title)
    axes.set_ylabel(y)
    return picture_of(figure)


def labelled_bars(
    lengths: Mapping[str, float], *, title: str, x: str, lines: Mapping[str, float] | None = None
) -> Images:
    """A lying bar for each named number, the first on top, as a picture (1, 3, H, W).

    Args:
        lengths: label -> number.
        title: above.
        x: what the numbers are.
        lines: label -> number of upright lines across all bars.
    """
    figure = Figure(figsize=(8.0, 1.4 + 0.28 * len(lengths)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(range(len(lengths)), list(lengths.values()), color="tab:blue", alpha=0.6)
    axes.bar_label(bars, fmt="%.4g", padding=3, fontsize="small")
    axes.set_yticks(range(len(lengths)), list(lengths))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    for number, (label, value) in enumerate((lines or {}).items()):
        axes.axvline(value, color=f"C{number + 1}", linewidth=1.2, label=f"{label} {value:.4g}")
    if lines:
        axes.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(lines), frameon=False)
    axes.set_title(title, loc="right", fontsize="medium")
    axes.set_xlabel(x)
    return picture_of(figure)


def picture_of(figure: Figure) -> Images:
    """A figure as a picture (1, 3, H, W) in [-1, 1], to go where pictures of models go."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return from_bytes(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
