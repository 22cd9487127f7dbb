"""Paths and surfaces through latent space as pictures: between pairs, four corners, or the six corners of a hexagon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import prior_latents, real_images, situation
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.types import Film, Images, ImageSource, Latents
from latent_lab.video import WITHOUT_MP4, can_write_mp4, check_video, film_frame, there_and_back, video_files

Layout = Literal["pairs", "corners", "hexagon"]

HEXAGON_ROWS = (3, 4, 5, 4, 3)
"""Nodes in each row of a hexagon with three nodes along each side."""
_HEXAGON_CORNERS = (0, 2, 7, 11, 16, 18)
_HEXAGON_EDGES = {1: (0, 2), 3: (0, 7), 6: (2, 11), 12: (7, 16), 15: (11, 18), 17: (16, 18)}
"""Nodes in the middle of a side -> its corners, all counted row by row."""
_GAP = 2
_ROUND: dict[str, tuple[int, ...]] = {"corners": (0, 1, 3, 2), "hexagon": (0, 1, 3, 5, 4, 2)}
"""Layout -> its corners, which are counted row by row, clockwise."""
_SMALLEST_FILMED = 128
"""Pixels that each image in a video has per side at least."""


def corner_grid(space: AbstractLatentSpace, corners: Float[Tensor, "4 D"], steps: int) -> Latents:
    """A surface between four latents, the space's own paths first down both sides and then across each row.

    Args:
        space: of the latents.
        corners: (4, D): upper left, upper right, lower left, lower right.
        steps: latents along each side.

    Returns:
        (steps * steps, D), row by row.
    """
    shares = torch.linspace(0.0, 1.0, steps, device=corners.device)
    left, right = (
        space.interpolate(corners[side].expand(steps, -1), corners[side + 2].expand(steps, -1), shares)
        for side in (0, 1)
    )
    return space.interpolate(left.repeat_interleave(steps, 0), right.repeat_interleave(steps, 0), shares.repeat(steps))


def hexagon(space: AbstractLatentSpace, corners: Float[Tensor, "6 D"]) -> Float[Tensor, "19 D"]:
    """A hexagon of 19 latents between six: corners, midpoints of its sides, and weighted means inside.

    As the Automodulator program has it: the latent in the middle of a side is halfway along the space's path between
    the side's corners; an inner one is the mean of all corners with weights 1 - d / d_max, projected, with d the
    distance of the node from the corner in the plane and d_max that of opposite corners.

    Args:
        space: of the latents.
        corners: (6, D), in the order of reading: two above, two at the sides, two below.

    Returns:
        (19, D), row by row, 3 + 4 + 5 + 4 + 3.
    """
    nodes = hexagon_nodes().to(corners)
    distances = torch.cdist(nodes, nodes[list(_HEXAGON_CORNERS)])
    weights = 1.0 - distances / distances.max()
    # The sum of weights matters in spaces of plain vectors alone.
    latents = space.project(weights / weights.sum(1, keepdim=True) @ corners)
    latents[list(_HEXAGON_CORNERS)] = corners
    ends = {node: [_HEXAGON_CORNERS.index(corner) for corner in side] for node, side in _HEXAGON_EDGES.items()}
    first, second = (corners[[side[end] for side in ends.values()]] for end in (0, 1))
    latents[list(ends)] = space.interpolate(first, second, 0.5)
    return latents


def hexagon_nodes() -> Float[Tensor, "19 2"]:
    """Places (x, y) of the hexagon's nodes, neighbours at distance 1."""
    places = [
        (column - (length - 1) / 2, (row - 2) * math.sqrt(3) / 2)
        for row, length in enumerate(HEXAGON_ROWS)
        for column in range(length)
    ]
    return torch.tensor(places, dtype=torch.float64)


@dataclass(frozen=True)
class Interpolate(AbstractAnalysis):
    """Pictures along the space's own paths: between encoded real images if a source is given, else between samples.

    With real images each row of pairs begins and ends with the images themselves; in the other layouts they are the
    first row, corners in the order of reading.
    """

    name = "interpolate"
    requires = AbstractDecoder

    layout: Layout = "pairs"
    """pairs: a row for each path; corners: a square between four; hexagon: 19 pictures between six."""
    pairs: int = 8
    """How many paths, one row each, in the layout of pairs."""
    steps: int = 8
    """Pictures along each path, its two ends included; the hexagon always has 3 along each side."""
    seed: int = 0
    """Of the latents, or of the choice of images."""
    video_frames: int = 0
    """Frames of a video (GIF, WebP, and MP4 where the package av is installed): all pairs there and back, or once round
    the corners of a square or hexagon. 0: no video."""
    frames_per_second: float = 12.0
    """Of the video."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"interpolate needs at least one pair, got {self.pairs}")
        if self.steps < 2:
            raise ValueError(f"interpolate needs at least 2 steps, the ends of the path, got {self.steps}")
        check_video(self.name, self.video_frames, self.frames_per_second)
        if 0 < self.video_frames < len(_ROUND.get(self.layout, ())):
            corners = len(_ROUND[self.layout])
            raise ValueError(
                f"a video round a {self.layout} needs a frame for each of its {corners} corners at least, got "
                f"{self.video_frames}"
            )

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers: of pairs and corners `largest_step_ratio`, of the hexagon `largest_link_ratio`.

        Steps are root mean squared differences of neighbouring pictures. The ratio is the longest step of a path over
        the path's mean step, the largest of all paths (of corners: all rows and columns); 1 is an even path, steps - 1
        a jump. The hexagon's is the longest of its 42 links of neighbours over their mean.

        Raises:
            TypeError: if real images are given and the model cannot encode.
            ValueError: if the source has fewer images than a pair, a square or a hexagon has ends.
        """
        count = {"pairs": 2 * self.pairs, "corners": 4, "hexagon": 6}[self.layout]
        if source is None:
            ends = prior_latents(model, self.seed, "interpolate/latents", range(count))
            between, frame = "samples", None
        else:
            encoder = require(model, AbstractAutoencoder, by="interpolate")  # type: ignore[type-abstract]
            frame = real_images(model, source, self._places(len(source), count))
            ends, between = encoder.encode(frame), "encoded images"
        draw = {"pairs": self._pairs, "corners": self._corners, "hexagon": self._hexagon}[self.layout]
        numbers, sheet = draw(model, ends, frame)
        protocol: dict[str, Any] = {
            **situation(model),
            "between": between,
            "layout": self.layout,
            "pairs": self.pairs,
            "steps": self.steps,
            "seed": self.seed,
            "path": repr(model.latent_space),
            "curated": False,
        }
        pictures = {"interpolations": enlarge(sheet.cpu(), magnification(model.resolution))}
        files: dict[str, Callable[[Path], None]] = {}
        if self.video_frames:
            film = self._film(model, ends)
            files = video_files("interpolations", film, frames_per_second=self.frames_per_second)
            if not can_write_mp4():
                protocol["notes"] = [WITHOUT_MP4]
        return Result(self.name, numbers, protocol, pictures, files=files)

    def _film(self, model: AbstractDecoder, ends: Latents) -> Film:
        """Frames (T, C, H, W): all pairs at once on their ways there and back, or one image on its way round."""
        factor = magnification(model.resolution, _SMALLEST_FILMED)
        walk = self._tour if self.layout in _ROUND else self._ways
        frames = []
        for latents in walk(model.latent_space, ends):
            sheet = make_grid(_decoded(model, latents), math.ceil(math.sqrt(len(latents))))
            frames.append(film_frame(enlarge(sheet.cpu(), factor)))
        return torch.cat(frames)

    def _ways(self, space: AbstractLatentSpace, ends: Latents) -> Iterator[Latents]:
        """A latent of every pair for each frame."""
        for share in there_and_back(self.video_frames):
            yield space.interpolate(ends[0::2], ends[1::2], share)

    def _tour(self, space: AbstractLatentSpace, corners: Latents) -> Iterator[Latents]:
        """One latent (1, D) for each frame, along the space's paths from corner to corner."""
        order = _ROUND[self.layout]
        for frame in range(self.video_frames):
            side, share = divmod(frame * len(order) / self.video_frames, 1.0)
            first, second = (corners[[order[(int(side) + end) % len(order)]]] for end in (0, 1))
            yield space.interpolate(first, second, share)

    def _pairs(self, model: AbstractDecoder, ends: Latents, frame: Tensor | None) -> tuple[dict[str, float], Tensor]:
        shares = torch.linspace(0.0, 1.0, self.steps, device=ends.device)
        rows, largest = [], 0.0
        for pair in range(self.pairs):
            a, b = (end.expand(self.steps, -1) for end in ends[2 * pair : 2 * pair + 2])
            path = _decoded(model, model.latent_space.interpolate(a, b, shares))
            largest = max(largest, _step_ratio(path))
            if frame is not None:
                path = torch.cat([frame[2 * pair : 2 * pair + 1], path, frame[2 * pair + 1 : 2 * pair + 2]])
            rows.append(path)
        return {"largest_step_ratio": largest}, make_grid(torch.cat(rows), len(rows[0]))

    def _corners(self, model: AbstractDecoder, ends: Latents, frame: Tensor | None) -> tuple[dict[str, float], Tensor]:
        latents = corner_grid(model.latent_space, ends, self.steps)
        square = torch.stack([_decoded(model, row) for row in latents.split(self.steps)])
        largest = max(_step_ratio(path) for path in (*square, *square.transpose(0, 1)))
        above = [] if frame is None else _in_rows(frame, self.steps)
        return {"largest_step_ratio": largest}, make_grid(torch.cat([*above, *square]), self.steps)

    def _hexagon(self, model: AbstractDecoder, ends: Latents, frame: Tensor | None) -> tuple[dict[str, float], Tensor]:
        pictures = _decoded(model, hexagon(model.latent_space, ends))
        nodes = hexagon_nodes()
        # Neighbours are 1 apart, all others at least the square root of 3.
        first, second = (torch.cdist(nodes, nodes).triu(1).sub(1).abs() < 0.1).nonzero(as_tuple=True)
        links = (pictures[first] - pictures[second]).square().mean((1, 2, 3)).sqrt()
        rows = list(pictures.split(HEXAGON_ROWS))
        ratio = (links.max() / links.mean().clamp_min(1e-12)).item()
        return {"largest_link_ratio": ratio}, centred_rows(rows if frame is None else [frame, *rows])

    def _places(self, available: int, count: int) -> list[int]:
        """Places without choice; in the layout of pairs, images come again if there are too few."""
        least = 2 if self.layout == "pairs" else count
        if available < least:
            raise ValueError(f"interpolate needs at least {least} images, got a source with {available}")
        order = torch.randperm(available, generator=torch.Generator().manual_seed(self.seed)).tolist()
        return [order[i % (available - available % 2)] for i in range(count)]


def centred_rows(rows: list[Tensor]) -> Float[Tensor, "1 C h w"]:
    """A white sheet with rows of images (n, C, R, R), each row centred, so that those of a hexagon interlock."""
    _, channels, height, width = rows[0].shape
    longest = max(map(len, rows))
    across, down = width + _GAP, height + _GAP
    sheet = rows[0].new_ones(1, channels, len(rows) * down + _GAP, longest * across + _GAP)
    for number, row in enumerate(rows):
        top = _GAP + number * down
        for column, image in enumerate(row.float().clamp(-1.0, 1.0)):
            left = _GAP + column * across + (longest - len(row)) * across // 2
            sheet[0, :, top : top + height, left : left + width] = image
    return sheet


def _decoded(model: AbstractDecoder, latents: Latents) -> Images:
    return model.decode(latents).float().clamp(-1.0, 1.0)


def _step_ratio(path: Images) -> float:
    """The longest step between neighbouring pictures over the mean step."""
    steps = (path[1:] - path[:-1]).square().mean((1, 2, 3)).sqrt()
    return (steps.max() / steps.mean().clamp_min(1e-12)).item()


def _in_rows(images: Images, columns: int) -> list[Tensor]:
    """The images, and white ones up to whole rows."""
    missing = -len(images) % columns
    return [images, images.new_ones(missing, *images.shape[1:])]
