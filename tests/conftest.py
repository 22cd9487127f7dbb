"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Tensors in tests are small: a second thread would mostly wait, and stall whenever the machine does something else.
# Processes that tests start inherit the setting.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden vectors and specifications beside the repository; without it, tests are skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the golden vectors are not here: there is no folder {folder}")
    return folder
