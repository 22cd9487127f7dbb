"""Batch normalisation over two processes: values, gradients and running moments are those of one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from latent_lab.networks.batch_norm import GlobalBatchNorm

RANKS = 2


def inputs_of(dims: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (8, 3, 4, 4)[:dims]
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 100


def prepared() -> GlobalBatchNorm:
    norm = GlobalBatchNorm(3, momentum=0.25).double()
    norm.weight.data = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    norm.bias.data = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    return norm


def _process(rank: int, port: int, folder: str, dims: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    norm = prepared()
    mine = inputs_of(dims).chunk(RANKS)[rank].clone().requires_grad_()
    outputs = norm(mine)
    # A loss that is a mean over this rank's samples, as in training.
    (4 * outputs.sin().flatten(1).sum(1).mean()).backward()
    found = {
        "outputs": outputs.detach(),
        "input_gradient": mine.grad,
        "weight_gradient": norm.weight.grad,
        "bias_gradient": norm.bias.grad,
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("dims", [2, 4])
def test_two_processes_with_half_the_batch_each_follow_one_with_the_whole(dims: int, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run: Callable = torch.multiprocessing.spawn
    run(_process, args=(port, str(tmp_path), dims), nprocs=RANKS)
    zero, one = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))
    norm, inputs = prepared(), inputs_of(dims).requires_grad_()
    outputs = norm(inputs)
    (8 * outputs.sin().flatten(1).sum(1).mean()).backward()
    torch.testing.assert_close(torch.cat([zero["outputs"], one["outputs"]]), outputs.detach())
    # Each rank's loss is a mean over half the samples: their gradients add up to that of the sum over all.
    torch.testing.assert_close(torch.cat([zero["input_gradient"], one["input_gradient"]]), inputs.grad)
    torch.testing.assert_close(zero["weight_gradient"] + one["weight_gradient"], norm.weight.grad)
    torch.testing.assert_close(zero["bias_gradient"] + one["bias_gradient"], norm.bias.grad)
    for rank in (zero, one):
        torch.testing.assert_close(rank["running_mean"], norm.running_mean)
        torch.testing.assert_close(rank["running_var"], norm.running_var)
