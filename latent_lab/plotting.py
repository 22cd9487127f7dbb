"""Figures from results; the only module that imports matplotlib.

Results hold numbers, so a figure can be drawn again without a model or a GPU.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from latent_lab.images import enlarge, from_bytes, make_grid
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


def schedule_panels(
    kimg: Sequence[float],
    resolutions: Sequence[int],
    fading: Sequence[bool],
    below: Mapping[str, Sequence[float]],
) -> Images:
    """How a run grows: resolutions with fades, and further curves below, over kimg; a picture (1, 3, H, W).

    Args:
        kimg: moments.
        resolutions: pixels per side at each.
        fading: whether new layers are fading in then.
        below: label -> values, each in a panel of its own.
    """
    figure = Figure(figsize=(9.0, 2.2 + 1.4 * len(below)), layout="constrained")
    top, *others = np.atleast_1d(figure.subplots(1 + len(below), sharex=True, height_ratios=(2, *(1 for _ in below))))
    top.plot(kimg, resolutions, drawstyle="steps-post")
    top.set_yscale("log", base=2)
    present = sorted(set(resolutions))
    top.set_yticks(present, [str(resolution) for resolution in present])
    top.set_ylim(present[0] / 1.5, present[-1] * 1.5)
    top.set_ylabel("pixels")
    if any(fading):
        top.fill_between(kimg, 0, present[-1] * 1.5, where=fading, alpha=0.2, label="new layers fade in")
        top.legend(fontsize="small", loc="lower right")
    for axes, (label, values) in zip(others, below.items(), strict=True):
        axes.plot(kimg, values)
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.1 * max(values))
    for axes in (top, *others):
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("kimg")
    return picture_of(figure)


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


def heat_map(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    low: float | None = None,
    high: float | None = None,
    reverse: bool = False,
) -> Images:
    """A coloured cell with its number for each value, as a picture (1, 3, H, W); NaN leaves a cell empty.

    Args:
        values: one sequence for each row.
        rows: their names, from the top.
        columns: names, from the left.
        title: above.
        low: value of the darkest colour; none: the smallest value.
        high: value of the lightest colour; none: the largest value.
        reverse: whether small values are light, as where less is better.
    """
    cells = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
    if cells.count() and low is None:
        low = float(cells.min())
    if cells.count() and high is None:
        high = float(cells.max())
    width = 2.6 + 0.75 * len(columns)
    figure = Figure(figsize=(width, 1.8 + 0.5 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(cells, cmap="viridis_r" if reverse else "viridis", vmin=low, vmax=high, aspect="auto")
    for row, column in np.ndindex(cells.shape):
        if cells[row, column] is not np.ma.masked:
            red, green, blue, _ = drawn.cmap(drawn.norm(cells[row, column]))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            axes.text(column, row, f"{cells[row, column]:.2f}", ha="center", va="center", color=ink, fontsize="small")
    axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), list(rows))
    # Over few columns a title is wider than the picture.
    axes.set_title(textwrap.fill(title, int(8 * width)), fontsize="medium")
    figure.colorbar(drawn, ax=axes)
    return picture_of(figure)


def heat_maps(
    shown: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str], *, title: str, reverse: Sequence[str] = ()
) -> Images:
    """A square heat map under each title, at most four in a row, as a picture (1, 3, H, W); NaN leaves a cell empty.

    Colours of each map run from its smallest to its largest value.

    Args:
        shown: title -> values, one sequence for each row.
        names: of the rows, and of the columns.
        title: above all.
        reverse: titles of the maps in which small values are light, as where less is better.
    """
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    side = max(1.6, 0.42 * len(names))
    figure = Figure(figsize=(columns * (side + 0.5) + 1.2, rows * (side + 0.5) + 1.2), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    for number, (axes, (label, values)) in enumerate(zip(places, shown.items(), strict=False)):
        cells = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
        drawn = axes.imshow(cells, cmap="viridis_r" if label in reverse else "viridis")
        for row, column in np.ndindex(cells.shape):
            if cells[row, column] is not np.ma.masked:
                red, green, blue, _ = drawn.cmap(drawn.norm(cells[row, column]))
                ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
                axes.text(column, row, f"{cells[row, column]:.2f}", ha="center", va="center", color=ink, fontsize=6.5)
        axes.set_title(label, fontsize="small")
        axes.set_yticks(range(len(names)), list(names), fontsize=7)
        axes.set_xticks(range(len(names)), list(names), fontsize=7, rotation=45, ha="right", rotation_mode="anchor")
        # Maps without another one below them say what their columns are.
        axes.tick_params(labelbottom=number + columns >= len(shown))
    figure.suptitle(title, fontsize="medium")
    return picture_of(figure)


@dataclass(frozen=True)
class Ranged:
    """A value with the range in which it may lie, and the range of what it is compared with."""

    value: float
    interval: tuple[float, float] | None
    other: tuple[float, float] | None


def ranges(shown: Mapping[str, Ranged], *, title: str, x: str, label: str, other: str) -> Images:
    """A dot with its interval for each named value, above a bar of what it is compared with, as a picture (1, 3, H, W).

    Args:
        shown: name -> value, the first on top.
        title: above.
        x: what the values are.
        label: what dots and intervals are.
        other: what bars are.
    """
    figure = Figure(figsize=(7.0, 1.6 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, one in enumerate(shown.values()):
        if one.other is not None:
            low, high = one.other
            axes.barh(row, high - low, left=low, height=0.7, color="0.8", label=other if row == 0 else None)
        ends = one.interval or (one.value, one.value)
        axes.plot(ends, (row, row), color="tab:blue", linewidth=3.0, alpha=0.5)
        axes.plot(one.value, row, "o", color="tab:blue", markersize=5, label=label if row == 0 else None)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel(x)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, fontsize="medium")
    figure.legend(fontsize="small", loc="outside lower center", ncols=2, frameon=False)
    return picture_of(figure)


def sorted_curves(curves: Mapping[str, Sequence[float]], *, title: str, x: str, y: str) -> Images:
    """Positive numbers of each name in falling order over a logarithmic axis, as a picture (1, 3, H, W).

    Args:
        curves: label -> numbers, of any length.
        title: above.
        x: what is counted.
        y: what the numbers are.
    """
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for label, values in curves.items():
        axes.plot(range(1, len(values) + 1), sorted(values, reverse=True), label=label, linewidth=1.2)
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return picture_of(figure)


@dataclass(frozen=True)
class Panel:
    """One of several diagrams of a kind: curves over x, and the range of many more that are not drawn one by one."""

    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    """Label -> y."""
    band: tuple[Sequence[float], Sequence[float]]
    """Lower and upper y."""
    band_label: str


def panels(shown: Mapping[str, Panel], *, x: str, y: str, diagonal: bool = False) -> Images:
    """A diagram under each title, at most four in a row, as a picture (1, 3, H, W).

    Args:
        shown: title -> diagram.
        x: what is to the right.
        y: what is upwards.
        diagonal: whether the line y = x is drawn, on which equal quantiles lie.
    """
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(5.4, 3.4 * columns), 3.0 * rows + 0.5), layout="constrained")
    for number, (title, panel) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.fill_between(panel.x, *panel.band, color="tab:orange", alpha=0.25, linewidth=0, label=panel.band_label)
        if diagonal:
            axes.plot([panel.x[0], panel.x[-1]], [panel.x[0], panel.x[-1]], color="black", linewidth=0.8, dashes=(4, 3))
        for label, values in panel.lines.items():
            axes.plot(panel.x, values, label=label, linewidth=1.2)
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.3)
        if number == 1:
            handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=len(labels), frameon=False)
    return picture_of(figure)


def labelled_rows(blocks: Mapping[str, Images], columns: int, *, factor: int = 1) -> Float[Tensor, "_ _ _ _"]:
    """Images row by row, with a name to the left of every block of rows, as a picture (1, 3, H, W).

    Args:
        blocks: name -> images (N, C, h, w), all of one size.
        columns: images in a row.
        factor: by which each image is enlarged.
    """
    sheets = [enlarge(make_grid(images, columns), factor) for images in blocks.values()]
    sheets = [sheet.expand(-1, 3, -1, -1) for sheet in sheets]
    height = sum(sheet.shape[2] for sheet in sheets)
    width = 20 + 8 * max(len(name) for name in blocks)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    top = 0
    for name, sheet in zip(blocks, sheets, strict=True):
        figure.text(1 - 6 / width, 1 - (top + sheet.shape[2] / 2) / height, name, ha="right", va="center", fontsize=9)
        top += sheet.shape[2]
    names = picture_of(figure)[:, :, :height]
    names = torch.nn.functional.pad(names, (0, 0, 0, height - names.shape[2]), value=1.0)
    return torch.cat([names, torch.cat(sheets, 2)], 3)


def column_heads(names: Sequence[str], width: int, *, height: int = 20) -> Images:
    """A strip with a name in the middle of each of several columns, as a picture (1, 3, height, W).

    Args:
        names: from the left.
        width: of each column in pixels.
        height: of the strip in pixels.
    """
    whole = width * len(names)
    figure = Figure(figsize=(whole / 100, height / 100), dpi=100)
    size = min(9.0, 1.15 * width / max(map(len, names)))
    for number, name in enumerate(names):
        figure.text((number + 0.5) / len(names), 0.5, name, ha="center", va="center", fontsize=size)
    strip = picture_of(figure)[:, :, :height, :whole]
    return torch.nn.functional.pad(strip, (0, whole - strip.shape[3], 0, height - strip.shape[2]), value=1.0)


def picture_of(figure: Figure) -> Images:
    """A figure as a picture (1, 3, H, W) in [-1, 1], to go where pictures of models go."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return from_bytes(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
