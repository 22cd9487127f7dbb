"""Two processes with half the batch each follow one process with the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latent_lab.models.loading import read_checkpoint
from tests.contract.recipes import MODELS, train

STEPS = 24
WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from latent_lab.distributed import leave
from tests.contract.recipes import train
folder, cache, images, *names = sys.argv[1:]
ddp = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "precision": "64-true"}
for name in names:
    train(name, Path(folder) / name, Path(cache), images=int(images), **ddp)
leave()
"""


# To start two processes takes longer than to train a model in them.
SHARES = [sorted(MODELS)[place::4] for place in range(4)]


def run_two_processes(names: list[str], folder: Path, cache: Path, images: int) -> None:
    run_workers(WORKER, str(folder), str(cache), str(images), *names)


def run_workers(program: str, *arguments: str) -> None:
    """Two processes that run the same Python program to a good end."""
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(29500 + os.getpid() % 2000),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": str(rank),
            "NODE_RANK": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-c", program, *arguments]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("names", SHARES, ids="-".join)
def test_losses_and_weights_agree(names: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    # 24 steps: the first phase, a whole fade, and steps with the sample buffer.
    run_two_processes(names, tmp_path / "two", cache, 8 * STEPS)
    for name in names:
        train(name, tmp_path / "one" / name, cache, images=8 * STEPS, precision="64-true")
        check_agreement(name, tmp_path / "one" / name, tmp_path / "two" / name)


def check_agreement(name: str, alone: Path, together: Path) -> None:
    one, two = records(alone), records(together)
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in (one_name for one_name in a if one_name.startswith("train/")):
            # In float64: sums in another order differ in the last bits, which 24 steps of Adam on these unhealthily
            # flat newborn networks amplify a thousandfold and more; in float32 that would reach 1e-4.
            assert a[key] == pytest.approx(b[key], abs=1e-6, rel=1e-6), (name, a["images"], key)
    weights_one, weights_two = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (alone, together)
    )
    for key, value in weights_one.items():
        torch.testing.assert_close(
            weights_two[key], value, atol=1e-5, rtol=1e-5, msg=lambda text, key=key: f"{name}, {key}: {text}"
        )
