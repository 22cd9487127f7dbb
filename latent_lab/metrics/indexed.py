"""What metric classes are built from: rows tagged with their index, and things held outside the module tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from latent_lab.types import Indices

Held = TypeVar("Held")


@runtime_checkable
class FeatureExtractor(Protocol):
    """Turns a batch into one row of features each."""

    num_features: int

    def __call__(self, batch: Any, /) -> Any:
        """Features (N, num_features) of a batch of N."""


class AlreadyExtracted:
    """The extractor for batches that are features already: several metrics can be fed from one pass over the images."""

    def __init__(self, num_features: int) -> None:
        self.num_features = num_features

    def __call__(self, batch: Tensor, /) -> Tensor:
        """The batch itself."""
        return batch


class Borrowed(Generic[Held]):
    """Something a metric uses without owning it: no submodule, in no state dict, shared by copies of the metric."""

    def __init__(self, value: Held) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Borrowed[Held]:
        return self


@contextmanager
def synchronised(metric: Metric) -> Iterator[None]:
    """Inside, the metric's states are those of all ranks together; afterwards they are this rank's own again.

    Every rank must enter. It does nothing in a single process, and nothing more inside `compute`, whose states are
    synchronised already. Unlike torchmetrics' `sync_context` it gives a rank's states back after an error, too.

    Args:
        metric: any; its `compute` does by itself what other methods, such as `interval`, need this for.
    """
    already = metric._is_synced
    if not already:
        metric.sync(dist_sync_fn=metric.dist_sync_fn)
    try:
        yield
    finally:
        if metric._is_synced and not already:
            metric.unsync()


class IndexedMetric(Metric):
    """A metric whose states are tables of rows, each row with its global index.

    After synchronisation the rows are in the order of their indices and each index appears once, so results depend
    neither on the number of ranks nor on batches, and padding by repetition does no harm. A rank without rows takes
    part.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self._row_shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}

    def add_table(self, name: str, row_shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Declares a table; the shape of a row is needed where a rank has none."""
        self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state(f"{name}_index", [], dist_reduce_fx="cat")
        self._row_shapes[name] = (row_shape, dtype)

    def append(self, name: str, rows: Tensor, index: Indices) -> None:
        """Adds rows (N, ...) with their global indices (N,).

        Raises:
            ValueError: if there are not as many indices as rows, or rows have another shape than declared.
        """
        shape, dtype = self._row_shapes[name]
        if len(index) != len(rows) or tuple(rows.shape[1:]) != shape:
            raise ValueError(
                f"{type(self).__name__} expects rows of shape {shape} and one index for each, "
                f"got {tuple(rows.shape)} and {len(index)} indices"
            )
        getattr(self, name).append(rows.detach().to(self.device, dtype))
        getattr(self, f"{name}_index").append(index.to(self.device, torch.int64))

    def table(self, name: str) -> Tensor:
        """All rows in the order of their indices, each index once."""
        self._fill_empty()
        rows, index = dim_zero_cat(getattr(self, name)), dim_zero_cat(getattr(self, f"{name}_index"))
        ordered, order = index.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return rows[order[first]]

    def synchronised(self) -> AbstractContextManager[None]:
        """Inside, `table` has the rows of all ranks; every rank must enter: `with self.synchronised(): ...`."""
        return synchronised(self)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Exchanges rows; a rank that has none sends an empty table of the right shape, since all must take part."""
        self._fill_empty()
        super().sync(*args, **kwargs)

    def _fill_empty(self) -> None:
        for name, (shape, dtype) in self._row_shapes.items():
            rows = getattr(self, name)
            if isinstance(rows, list) and not rows:
                rows.append(torch.empty(0, *shape, dtype=dtype, device=self.device))
                getattr(self, f"{name}_index").append(torch.empty(0, dtype=torch.int64, device=self.device))
