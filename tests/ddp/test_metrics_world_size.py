"""Numbers of an evaluation do not depend on the number of processes, not even if a process has nothing to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latent_lab import distributed
from latent_lab.analyses import Evaluate, HeldOut
from latent_lab.analyses.evaluate import METRICS
from latent_lab.metrics import AlreadyExtracted, FrechetDistance, FrechetInfinity
from tests.unit.analyses.toys import Noise, ToyAutoencoder

ROOT = Path(__file__).parents[2]
# 11 samples, 13 reference images and 7 reconstructions divide by neither 2 nor 3; 2 paths leave a third process idle.
OPTIONS = {
    "num_samples": 11,
    "num_reconstructions": 7,
    "num_paths": 2,
    "num_swd": 2,
    "num_recovered": 5,
    "num_resamples": 10,
    "metrics": METRICS,
    "batch_size": 3,
    "num_pictures": 4,
    # Processes batch and thereby round differently in float32; a step of 1e-4 would magnify that to 1e-4 of the value.
    "path_epsilon": 0.1,
}
WORKER = """
import json, sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from tests.ddp.test_metrics_world_size import numbers
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
found = numbers()
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


def numbers() -> dict[str, float]:
    result = Evaluate(extractor="random", perceptual="random_l2", **OPTIONS)(
        ToyAutoencoder(), HeldOut(Noise(9, seed=1), Noise(13))
    )
    ends = {f"{name}_{end}": value for name, both in result.intervals.items() for end, value in enumerate(both)}
    return dict(result.numbers) | ends | frechet_numbers()


def frechet_numbers() -> dict[str, float]:
    """Of features far from 0; the second process gets one real vector alone, a third none at all."""
    rng = torch.Generator().manual_seed(0)
    rank, world = distributed.rank(), distributed.world_size()
    distance = FrechetDistance(AlreadyExtracted(5), keep_rows=True)
    infinity = FrechetInfinity(AlreadyExtracted(5), num_points=3)
    for count, real in ((30, True), (40, False)):
        # Float32 values, since tables of rows hold these.
        rows = (torch.randn(count, 5, generator=rng) + 1e3).double() * (1.0 if real else 1.001)
        rows, ends = rows.float(), {1: [0, count], 2: [0, count - 1, count], 3: [0, count - 1, count, count]}[world]
        for places in torch.arange(ends[rank], ends[rank + 1]).split(7):
            distance.update(rows[places], real=real)
            infinity.update(rows[places], places, real=real)
    found = {"frechet": distance.compute().item(), "infinity": infinity.compute().item()}
    for name, metric in (("frechet", distance), ("infinity", infinity)):
        interval = metric.interval(num_resamples=20)
        found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENT_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return numbers()


@pytest.mark.parametrize("world", [2, 3])
def test_every_process_of_a_group_finds_the_numbers_of_a_single_one(
    world: int, alone: dict[str, float], tmp_path: Path
) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "LATENT_LAB_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
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
    for rank in range(world):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(alone, rel=1e-6, abs=1e-9)
