"""Gathering over two processes: batch statistics are global, in value and in gradient."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from latent_lab import distributed
from latent_lab.objectives.age import moment_kl

RANKS = 2


def _codes() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=rng, dtype=torch.float64) * 0.3 + 0.1


def _penalty(local: torch.Tensor) -> torch.Tensor:
    """Mean squared slope of scores that depend on the whole batch."""
    first = distributed.rank() * len(local)
    whole_batch = distributed.gather(local)
    scores = (local.sin() * whole_batch.square().mean(0)).sum(1) + whole_batch.pow(3).sum(1)[first : first + len(local)]
    (slope,) = torch.autograd.grad(scores.sum(), local, create_graph=True)
    return slope.square().sum(1).mean()


def _process(rank: int, port: int, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    result: dict[str, object] = {"rank": distributed.rank(), "world_size": distributed.world_size()}

    local = _codes().chunk(RANKS)[rank].clone().requires_grad_()
    gathered = distributed.gather(local)
    result["gathered"] = gathered.detach()
    divergence = moment_kl(gathered)
    divergence.backward()
    result["kl"], result["gradient"] = divergence.detach(), local.grad

    local = _codes().chunk(RANKS)[rank].clone().requires_grad_()
    penalty = _penalty(local)
    (gradient,) = torch.autograd.grad(penalty, local)
    result["penalty"], result["penalty_gradient"] = penalty.detach(), gradient

    # Rank 0 holds indices 4, 0, 2, 2; rank 1 holds 1, 2 and 4 with other values, or nothing.
    index = torch.tensor([[4, 0, 2, 2], [1, 2, 4, 3]][rank])
    rows = index[:, None].double() + torch.tensor([0.0, 100.0]) + 0.5 * rank
    result["ragged"] = distributed.gather_ragged(rows, index)
    keep = 4 if rank == 0 else 0
    result["one_empty"] = distributed.gather_ragged(rows[:keep], index[:keep])
    result["all_empty"] = distributed.gather_ragged(rows[:0], index[:0])

    result["mean"] = distributed.mean_over_ranks(torch.tensor([1.0, 3.0]) * (rank + 1))
    result["any"] = (distributed.any_rank(rank == 1), distributed.any_rank(False))
    torch.save(result, Path(results) / f"{rank}.pt")
    distributed.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run: Callable = torch.multiprocessing.spawn
    run(_process, args=(port, str(folder)), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def test_every_process_knows_its_place(results: list[dict]) -> None:
    assert [(result["rank"], result["world_size"]) for result in results] == [(0, 2), (1, 2)]


def test_gathered_rows_come_in_rank_order_on_every_rank(results: list[dict]) -> None:
    for result in results:
        assert torch.equal(result["gathered"], _codes())


def test_the_divergence_over_two_ranks_is_that_of_one_process(results: list[dict]) -> None:
    for result in results:
        torch.testing.assert_close(result["kl"], moment_kl(_codes()), rtol=1e-14, atol=0)


def test_it_is_not_the_mean_of_the_ranks_divergences(results: list[dict]) -> None:
    # What training without gathering would optimise; the test above would not notice it if both were alike.
    separate = torch.stack([moment_kl(part) for part in _codes().chunk(RANKS)]).mean()
    assert (separate - results[0]["kl"]).abs() > 0.1


def test_the_mean_over_ranks_of_the_gradients_is_that_of_one_process(results: list[dict]) -> None:
    codes = _codes().requires_grad_()
    moment_kl(codes).backward()
    # Each parameter's gradient is averaged over ranks, so each rank's part counts once for every W ranks.
    ours = torch.cat([result["gradient"] for result in results]) / RANKS
    torch.testing.assert_close(ours, codes.grad, rtol=1e-12, atol=1e-14)


def test_gathered_rows_can_be_differentiated_twice(results: list[dict]) -> None:
    codes = _codes().requires_grad_()
    penalty = _penalty(codes)
    (gradient,) = torch.autograd.grad(penalty, codes)
    torch.testing.assert_close(torch.stack([r["penalty"] for r in results]).mean(), penalty.detach())
    ours = torch.cat([result["penalty_gradient"] for result in results]) / RANKS
    torch.testing.assert_close(ours, gradient, rtol=1e-12, atol=1e-14)


def test_ragged_rows_are_ordered_and_duplicates_dropped_on_every_rank(results: list[dict]) -> None:
    for result in results:
        rows, index = result["ragged"]
        assert index.tolist() == [0, 1, 2, 3, 4]
        # 1 and 3 came from rank 1 only (there half a unit is added); of 2 and 4 the first rank's is kept.
        assert rows[:, 0].tolist() == [0.0, 1.5, 2.0, 3.5, 4.0]
        assert torch.equal(rows[:, 1] - rows[:, 0], torch.full((5,), 100.0, dtype=torch.float64))


def test_a_rank_may_hold_nothing(results: list[dict]) -> None:
    for result in results:
        rows, index = result["one_empty"]
        assert index.tolist() == [0, 2, 4]
        assert rows[:, 0].tolist() == [0.0, 2.0, 4.0]


def test_all_ranks_may_hold_nothing(results: list[dict]) -> None:
    for result in results:
        rows, index = result["all_empty"]
        assert rows.shape == (0, 2)
        assert index.shape == (0,)


def test_mean_over_ranks(results: list[dict]) -> None:
    for result in results:
        assert result["mean"].tolist() == [1.5, 4.5]


def test_a_flag_of_one_rank_reaches_all(results: list[dict]) -> None:
    assert [result["any"] for result in results] == [(True, False)] * RANKS
