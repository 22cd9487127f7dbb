"""Metrics over two sets and their intervals do not depend on the number of processes, not even if one has no images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latent_lab.metrics import AlreadyExtracted, InceptionScore, KernelDistance, ManifoldOverlap, Memorisation
from latent_lab.metrics.functional.bootstrap import Interval

ROOT = Path(__file__).parents[2]
WIDTH = 6
# Last rows of the sets, in shares that no world divides evenly; the last of three processes has none.
SHARES = {1: ((0, 41),), 2: ((0, 9), (9, 41)), 3: ((0, 30), (30, 41), (41, 41))}
WORKER = """
import json, sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from tests.ddp.test_set_metrics_world_size import numbers
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
found = numbers(rank, world)
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


def numbers(rank: int = 0, world: int = 1) -> dict[str, float]:
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(41, WIDTH, generator=rng)
    fake = torch.randn(37, WIDTH, generator=rng) + 0.2
    start, stop = SHARES[world][rank]
    extractor = AlreadyExtracted(WIDTH)
    score = InceptionScore(extractor, splits=3)
    sets = (KernelDistance(extractor), ManifoldOverlap(extractor), Memorisation(extractor, threshold=0.9))
    index = torch.arange(start, stop)
    for batch in index.split(7) if len(index) else ():
        generated = batch[batch < len(fake)]
        for metric in sets:
            metric.update(real[batch], batch, real=True)
            metric.update(fake[generated], generated, real=False)
        score.update(fake[generated], generated)
    found: dict[str, float] = {}
    for metric in (score, *sets):
        name = type(metric).__name__
        # The score's interval comes first: it must not need what `compute` leaves behind.
        parts = {"interval": metric.interval(num_resamples=20), "value": metric.compute()}
        for part, values in parts.items():
            for key, value in (values if isinstance(values, dict) else {"": values}).items():
                ends = (value.low, value.high) if isinstance(value, Interval) else (value.item(),)
                found |= {f"{name}/{key}/{part}/{place}": end for place, end in enumerate(ends)}
    return found


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_every_process_of_a_group_finds_the_numbers_of_a_single_one(world: int, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(world), str(tmp_path)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        for worker in workers:
            output, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0, output[-3000:]
    finally:
        for worker in workers:
            worker.kill()
    alone = numbers()
    assert len(alone) == 3 * (1 + 1 + 4 + 3)
    for rank in range(world):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(alone, rel=1e-6, abs=1e-9)
