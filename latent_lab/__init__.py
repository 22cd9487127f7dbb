"""Train, evaluate and compare latent-space generative models of images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latent_lab.version import __version__

if TYPE_CHECKING:
    from latent_lab.data.own_images import read_images as read_images
    from latent_lab.images import to_picture as to_picture
    from latent_lab.latent.mapped import mapped as mapped
    from latent_lab.latent.maps import load_map as load_map
    from latent_lab.models.loading import load as load
    from latent_lab.models.loading import load_chain as load_chain

__all__ = ["__version__", "load", "load_chain", "load_map", "mapped", "read_images", "to_picture"]

_HOMES = {
    "load": "models.loading",
    "load_chain": "models.loading",
    "load_map": "latent.maps",
    "mapped": "latent.mapped",
    "read_images": "data.own_images",
    "to_picture": "images",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `latent-lab --help` answers at once because importing the package does not import torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"latent_lab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'latent_lab' has no attribute {name!r}")
