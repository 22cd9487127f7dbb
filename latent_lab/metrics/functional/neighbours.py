"""Exact nearest neighbours, and which points lie in which balls, in blocks of the distance matrix.

Float32 products find what can matter, float64 differences decide it: a pair whose float32 value is so near a decision
that rounding could turn it is computed again from the coordinates themselves. Results are those of float64 throughout,
a vector is at distance 0 from its copies, and memory is that of one block beside the sets.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.metrics.functional.checks import OtherVectors, check_pair
from latent_lab.progress import one_by_one
from latent_lab.types import Features

Radii: TypeAlias = Float[Tensor, "K"]
"""One radius for each vector of a set."""

BLOCK = 1024
"""Rows of a block of the distance matrix."""
_LARGEST_BLOCK = 2**24
"""Entries of a block: 64 MB in float32."""
_REFINED_VALUES = 2**22
"""Coordinates that are refined at a time."""
CROWD = 64
"""Doubtful pairs for each row above which a block's products are computed in float64, too."""


class Neighbours(NamedTuple):
    """The nearest points of each query, nearest first; of equally near ones those with smaller numbers."""

    distances: Float[Tensor, "N k"]
    """(N, k) Euclidean, float64."""
    indices: Int[Tensor, "N k"]
    """(N, k) rows of the points."""


class SquaredDistances:
    """Squared distances of all pairs of two sets, block by block, with a bound on their errors; exact ones on demand.

    Both sets are moved by the points' mean, so that large means cost no digits, and scaled so that the points lie in
    the unit ball: squared distances are in units of `scale` squared.

    Args:
        rows: (N, F) float32 or float64.
        points: (M, F); the same tensor where they are one set.
    """

    def __init__(self, rows: Features, points: OtherVectors) -> None:
        self._rows, self._points = rows, points
        centre = points.mean(0, dtype=torch.float64)
        largest = float(points.abs().max()) or 1.0
        reach = max(((part.double() - centre) / largest).square().sum(1).max().sqrt() for part in points.split(BLOCK))
        # A power of two rescales without rounding.
        self.scale = 2.0 ** math.ceil(math.log2(float(reach) * largest)) if reach > 0 else 1.0
        self._centre = centre
        self._moved_points, self._squares = moved = self._move(points, torch.float32)
        self._moved_rows, self.row_squares = moved if rows is points else self._move(rows, torch.float32)

    def _move(self, vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        moved = torch.empty(vectors.shape, dtype=dtype, device=vectors.device)
        squares = torch.empty(len(vectors), dtype=torch.float64, device=vectors.device)
        for start in range(0, len(vectors), BLOCK):
            part = slice(start, start + BLOCK)
            exact = (vectors[part].double() - self._centre) / self.scale
            moved[part], squares[part] = exact, exact.square().sum(1)
        return moved, squares

    def block(self, part: slice, *, precise: bool = False) -> tuple[Tensor, Tensor]:
        """|p|² - 2 x·p for the rows x of a part and all points p, (B, M), and how far each row's can be off, (B, 1).

        With `row_squares`, the |x|², they are squared distances.

        Args:
            part: of the rows.
            precise: float64 instead of float32, at several times the cost.
        """
        if precise:
            rows, _ = self._move(self._rows[part], torch.float64)
            values = torch.empty(len(rows), len(self._points), dtype=torch.float64, device=rows.device)
            for start in range(0, len(self._points), BLOCK):
                points, squares = self._move(self._points[start : start + BLOCK], torch.float64)
                values[:, start : start + BLOCK] = torch.addmm(squares, rows, points.T, alpha=-2.0)
        else:
            values = torch.addmm(self._squares.float(), self._moved_rows[part], self._moved_points.T, alpha=-2.0)
        # A sum of F rounded products is off by at most F roundings of |x| |p|, however it is ordered; |p| is at most 1.
        width = self._points.shape[1]
        unit = (width + 8) * torch.finfo(values.dtype).eps / 2 + (0.0 if precise else _loss_of_fast_products())
        lengths = self.row_squares[part].sqrt()[:, None]
        return values, (unit * (1.0 + 2.0 * lengths)).to(values.dtype)

    def exact(self, rows: Tensor, points: Tensor) -> Tensor:
        """Squared distances of the pairs of row numbers (P,) and point numbers (P,), float64, from differences."""
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        step = max(1, _REFINED_VALUES // self._points.shape[1])
        for start in range(0, len(rows), step):
            pairs = slice(start, start + step)
            difference = self._rows[rows[pairs]].double().sub_(self._points[points[pairs]].double())
            found[pairs] = difference.div_(self.scale).square_().sum(1)
        return found


def _loss_of_fast_products() -> float:
    """Relative error of products that torch was allowed to compute from shortened factors."""
    return {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-7}[torch.get_float32_matmul_precision()]


def parts_of(rows: int, columns: int, block: int = BLOCK) -> list[slice]:
    """Parts of the rows of a distance matrix, of at most `block` rows and limited size."""
    size = max(1, min(block, _LARGEST_BLOCK // columns))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def as_vectors(vectors: Tensor) -> Tensor:
    """Without gradient and at least float32; float64 stays what it is."""
    vectors = vectors.detach()
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def _without_surplus_copies(points: Tensor, kept: int) -> Tensor:
    """Numbers, ascending, of the points left when only the first `kept` copies of each vector stay."""
    # Sums of the bits times odd numbers, modulo 2^64, are equal for copies; others meet about never, and are compared.
    bits = points.contiguous().view(torch.int32)
    rng = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=rng).mul_(2).add_(1).to(points.device)
    keys = torch.cat([(part * factors).sum(1) for part in bits.split(BLOCK)])
    order = keys.sort(stable=True).indices
    ordered = keys[order]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    place = torch.arange(len(points), device=points.device)
    first = torch.where(starts, place, 0).cummax(0).values
    surplus = (place - first >= kept).nonzero()[:, 0]
    copies = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for some in surplus.split(BLOCK):
        copies[order[some]] = (points[order[some]] == points[order[first[some]]]).all(1)
    return (~copies).nonzero()[:, 0]


def nearest(
    queries: Features, points: OtherVectors, k: int, *, exclude_same: bool = False, block: int = BLOCK
) -> Neighbours:
    """The k nearest points of each query by Euclidean distance.

    Args:
        queries: (N, F).
        points: (M, F), on the same device.
        k: neighbours of each query.
        exclude_same: whether row i of the points is left out for query i: queries and points are one set, and a vector
            is no neighbour of itself (its copies are).
        block: queries at a time; changes no result.

    Raises:
        ValueError: if there are fewer than k points (besides the query itself), or vectors of different widths, or not
            finite ones, or other numbers of rows where the same is left out.
    """
    if k < 1:
        raise ValueError(f"the number of neighbours k must be at least 1, got {k}")
    if exclude_same and len(queries) != len(points):
        raise ValueError(
            f"leaving out the query itself needs queries and points to be one set, got {len(queries)} and {len(points)}"
        )
    if len(points) < k + exclude_same:
        besides = " besides the vector itself" if exclude_same else ""
        raise ValueError(
            f"{k} nearest neighbours need at least {k + exclude_same} points, got {len(points)}: "
            f"k counts points{besides}, so use a smaller k or more vectors"
        )
    same = queries is points
    check_pair(queries, points, names=("queries", "points"), least=0, by="a search for neighbours")
    queries = as_vectors(queries)
    points = queries if same else as_vectors(points)
    distances = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    # Of a vector's copies the first k + 1 suffice, one of which may be the query; collapsed sets would be all ties.
    kept = _without_surplus_copies(points, k + 1)
    if len(kept) < len(points):
        points = points[kept]
    squared = SquaredDistances(queries, points)
    for part in one_by_one(parts_of(len(queries), len(points), block), "nearest neighbours"):
        own = torch.arange(part.start, part.stop, device=queries.device) if exclude_same else None
        pairs = _candidates(squared, part, k, own, kept)
        squares = squared.exact(pairs[0] + part.start, pairs[1])
        counts = torch.bincount(pairs[0], minlength=part.stop - part.start)
        place = torch.arange(len(squares), device=squares.device) - (counts.cumsum(0) - counts)[pairs[0]]
        table = squares.new_full((len(counts), int(counts.max())), float("inf"))
        table[pairs[0], place] = squares
        column = torch.zeros_like(table, dtype=torch.int64)
        column[pairs[0], place] = kept[pairs[1]]
        ordered, order = table.sort(dim=1, stable=True)
        distances[part] = ordered[:, :k].sqrt() * squared.scale
        indices[part] = column.gather(1, order[:, :k])
    return Neighbours(distances, indices)


def _candidates(
    squared: SquaredDistances, part: slice, k: int, own: Int[Tensor, "B"] | None, kept: Int[Tensor, "M"]
) -> tuple[Tensor, Tensor]:
    """Pairs (row within the part, point) that hold the k nearest of every row, by rows and then by points."""
    for precise in (False, True):
        values, error = squared.block(part, precise=precise)
        if own is not None:
            itself = torch.searchsorted(kept, own).clamp_max(len(kept) - 1)
            present = (kept[itself] == own).nonzero()[:, 0]
            values[present, itself[present]] = float("inf")
        limit = values.topk(k, dim=1, largest=False, sorted=False).values.amax(1, keepdim=True)
        chosen = values <= limit + 2.0 * error
        if precise or int(chosen.sum()) <= (k + CROWD) * len(chosen):
            break
    row, point = chosen.nonzero(as_tuple=True)
    return row, point
