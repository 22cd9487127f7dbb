"""World size, gathering of tensors over processes, and random streams keyed by sample index.

Every function works unchanged in a single process, so nothing else in the package asks whether training is distributed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from latent_lab.types import Latents


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes (devices) that train together."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


class _GatherWithGradient(torch.autograd.Function):
    """Concatenation over ranks; the gradient is the sum over ranks of what each one derives for this rank's rows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        ctx.rows = local.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _OwnRowsOfSum.apply(gradients[0], ctx.rows)


class _OwnRowsOfSum(torch.autograd.Function):
    """This rank's rows of the sum over ranks: the adjoint of gathering, as gathering is its own.

    It is a function with a gradient, so that gathered rows can be differentiated twice, as gradient penalties need.
    """

    @staticmethod
    def forward(ctx: Any, everywhere: Tensor, rows: int) -> Tensor:
        total = everywhere.contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * rows : (rank() + 1) * rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _GatherWithGradient.apply(gradients[0]), None


def gather(local: Tensor) -> Tensor:
    """All ranks' rows in rank order, differentiable any number of times; every rank must hold equally many.

    A loss of the gathered rows, computed on every rank, has W times its gradient after the backward pass, which the
    mean over ranks of DistributedDataParallel turns into exactly the gradient of one process with the whole batch.
    """
    return _GatherWithGradient.apply(local) if is_distributed() else local


def gather_ragged(local: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of all ranks ordered by their global index; ranks may hold different numbers of rows, none included.

    Args:
        local: (n, ...) of this rank, without gradient.
        index: (n,) global index of each row.

    Returns:
        Rows and indices of all ranks, ascending. An index held by several ranks appears once.
    """
    if is_distributed():
        pieces: list[Any] = [None] * world_size()
        dist.all_gather_object(pieces, (local.detach().cpu(), index.cpu()))
        local = torch.cat([rows for rows, _ in pieces]).to(local.device)
        index = torch.cat([numbers for _, numbers in pieces]).to(index.device)
    unique, inverse = torch.unique(index, return_inverse=True)
    first = torch.full_like(unique, len(index)).scatter_reduce_(
        0, inverse, torch.arange(len(index), device=index.device, dtype=unique.dtype), reduce="amin"
    )
    return local[first], unique


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks, without gradient."""
    value = value.detach().clone()
    if is_distributed():
        dist.all_reduce(value)
        value /= world_size()
    return value


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on at least one rank; every rank must ask."""
    if not is_distributed():
        return flag
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    total = torch.tensor(float(flag), device=device)
    dist.all_reduce(total, op=dist.ReduceOp.MAX)
    return bool(total.item())


def barrier() -> None:
    """Waits for every rank."""
    if is_distributed():
        dist.barrier()


def leave() -> None:
    """Ends the process group, once every rank is done; without it, a process may abort when it exits."""
    if is_distributed():
        dist.barrier()
        dist.destroy_process_group()


class IndexedRandom:
    """Random numbers that depend on (seed, stream, index) alone.

    They do not depend on rank, batch size, order, or on what was drawn before.

    Two streams, two seeds or two indices give independent numbers; the same triple always gives the same, on every
    machine, because numbers are drawn on the CPU by torch's Mersenne twister.

    Args:
        seed: of the run.
        stream: what the numbers are for, e.g. "train/generator/0".
    """

    def __init__(self, seed: int, stream: str) -> None:
        self.seed = seed
        self.stream = stream
        self._key = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "little")

    def generator(self, index: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for one index; another kind of device gives other numbers."""
        # The multiplier (odd, from the golden ratio) spreads neighbouring indices over all 64 bits of the seed.
        mixed = (self._key + index * 0x9E3779B97F4A7C15) % 2**64
        return torch.Generator(device).manual_seed(mixed if mixed < 2**63 else mixed - 2**64)

    def normal(self, indices: range, width: int) -> Latents:
        """Standard normal rows (len(indices), width), one row for each index."""
        return torch.stack([torch.randn(width, generator=self.generator(index)) for index in indices])

    def uniform(self, indices: range, width: int = 1) -> Latents:
        """Rows of numbers uniform on [0, 1), (len(indices), width)."""
        return torch.stack([torch.rand(width, generator=self.generator(index)) for index in indices])
