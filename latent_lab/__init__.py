"""Train, evaluate and compare latent-space generative models of images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latent_lab.version import __version__

if TYPE_CHECKING:
    from latent_lab.models.loading import load as load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `latent-lab --help` answers at once because importing the package does not import torch.
    if name == "load":
        return importlib.import_module("latent_lab.models.loading").load
    raise AttributeError(f"module 'latent_lab' has no attribute {name!r}")
