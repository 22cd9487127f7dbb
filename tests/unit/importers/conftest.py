from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.importers.keras_by_hand import Array


@pytest.fixture
def images() -> Array:
    """Four images of 16 pixels in [0, 1], channels last."""
    return np.random.default_rng(9).random((4, 16, 16, 3))


@pytest.fixture
def latents() -> Array:
    return np.random.default_rng(10).standard_normal((4, 5))


def native(images: Array) -> Tensor:
    """Channels first, in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() * 2 - 1


def assert_images(ours: Tensor, keras: Array) -> None:
    # Float32 here against float64 there, through a dozen layers.
    torch.testing.assert_close(ours.detach(), native(keras), atol=2e-5, rtol=0)
