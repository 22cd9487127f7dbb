"""Numbers of comparisons of latent spaces do not depend on the number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from latent_lab.analyses import (
    AbstractSpacesAnalysis,
    Directions,
    Distances,
    MapMatrix,
    MapSpaces,
    NearestNeighbours,
    Normality,
    Participant,
    Similarity,
)
from latent_lab.networks.label_regressor import LabelRegressor
from tests.unit.analyses.linear_spaces import first_half, plain, turned

ROOT = Path(__file__).parents[2]
_MAPS = {"num_held_out": 31, "num_images": 7, "num_fit": 41, "num_shuffles": 1, "num_resamples": 5, "batch_size": 4}
_MAP = {**_MAPS, "num_recovered": 5, "perceptual": "random_l2", "beside": ("orthogonal",)}
ANALYSES: dict[str, AbstractSpacesAnalysis] = {
    "map": MapSpaces(**_MAP),
    "map of sums": MapSpaces(**_MAP, keep_codes=False),
    "map of samples": MapSpaces(**_MAP, domain="target_samples", num_samples=23),
    "map-matrix": MapMatrix(**_MAPS),
    "normality": Normality(num=31, num_draws=5, num_projections=2, num_resamples=5, batch_size=4),
    "distances": Distances(num=31, num_reference=41, num_resamples=5, batch_size=4),
    "neighbours": NearestNeighbours(num=41, k=3, num_components=5, num_resamples=5, batch_size=4),
    "similarity": Similarity(num=31, num_permutations=3, num_resamples=3, num_reference=41, batch_size=4),
}
"""What is run; no count divides by 2."""
WORKER = """
import json, sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from tests.ddp.test_spaces_world_size import numbers
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
found = numbers()
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


def participants() -> list[Participant]:
    return [plain(), turned(), first_half()]


def directions(folder: Path) -> Directions:
    """With edits that a regressor measures; any will do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        regressor = LabelRegressor(("hat", "other"), (True, False), 8, widths=[2])
    path = folder / "regressor.safetensors"
    regressor.save(path)
    return Directions(num=31, num_reference=41, num_edited=7, num_resamples=5, regressor=str(path), batch_size=4)


def numbers() -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        analyses = {**ANALYSES, "directions": directions(Path(folder))}
        results = {title: analysis(participants()) for title, analysis in analyses.items()}
    for title, result in results.items():
        found |= {f"{title}: {name}": value for name, value in result.numbers.items()}
        for name, ends in result.intervals.items():
            found |= {f"{title}: {name} {end}": value for end, value in zip(("low", "high"), ends, strict=True)}
    return found


def test_two_processes_find_the_numbers_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), "2", str(tmp_path)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        alone = numbers()
        for worker in workers:
            output, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0, output[-3000:]
    finally:
        for worker in workers:
            worker.kill()
    for rank in range(2):
        # Batches are cut differently, so float32 sums round differently.
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(alone, rel=1e-4, abs=1e-7)
