"""Features of reference images, computed once per data recipe, resolution and extractor and kept in a cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from latent_lab import distributed
from latent_lab.analyses.feeding import alpha_of, as_tensor, batches, device_of, share
from latent_lab.images import fade_images
from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.networks.features import AbstractExtractor
from latent_lab.types import Features, ImageSource
from latent_lab.version import __version__

CACHE_FOLDER_VARIABLE = "LATENT_LAB_CACHE"
"""Environment variable that names the cache folder; otherwise it is ~/.cache/latent_lab."""


def cache_folder() -> Path:
    """Where features are kept."""
    named = os.environ.get(CACHE_FOLDER_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "latent_lab"


def _cache_file(
    source: ImageSource, places: Sequence[int], extractor: AbstractExtractor, resolution: int, alpha: float
) -> Path | None:
    """The file for exactly these images and this extractor; none if no hash in the recipe vouches for the content.

    Other versions of this package may resize, round or compute otherwise, so they have files of their own.
    """
    if not source.recipe.get("hash"):
        return None
    key = {
        "version": __version__,
        "recipe": dict(source.recipe),
        "available": len(source),
        "places": list(places),
        "resolution": resolution,
        "alpha": alpha,
        "extractor": extractor.describe(),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "features" / f"{extractor.name}-{digest[:32]}.safetensors"


def _read(path: Path | None, shape: tuple[int, int]) -> Features | None:
    if path is None or not path.is_file():
        return None
    try:
        features = load_file(path)["features"]
    except (OSError, KeyError, SafetensorError):
        return None  # damaged: computed and written anew
    return features if tuple(features.shape) == shape else None


def _write(path: Path, features: Features) -> None:
    # A name that no other process has, on this machine or on another with the same folder.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save({"features": features.contiguous()}))
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        warnings.warn(f"features of reference images cannot be kept in {path.parent}: {error}", stacklevel=2)


def reference_features(
    model: AbstractDecoder,
    source: ImageSource,
    places: Sequence[int],
    extractor: AbstractExtractor,
    *,
    batch_size: int,
) -> Features:
    """Features (len(places), F) of real images as the model sees them, float32 on the CPU, all rows on every rank.

    Args:
        model: gives resolution, fade and device.
        source: the reference images.
        places: which of them.
        extractor: on the model's device.
        batch_size: images at a time on each rank.
    """
    return features_of_source(
        source,
        places,
        extractor,
        resolution=model.resolution,
        alpha=alpha_of(model),
        device=device_of(model),
        batch_size=batch_size,
    )


def features_of_source(
    source: ImageSource,
    places: Sequence[int],
    extractor: AbstractExtractor,
    *,
    resolution: int,
    alpha: float,
    device: torch.device,
    batch_size: int,
) -> Features:
    """Features (len(places), F) of real images, float32 on the CPU, all rows on every rank; kept in the cache.

    Args:
        source: the images.
        places: which of them.
        extractor: on the device.
        resolution: pixels per side at which they are read.
        alpha: fade from half the resolution, in [0, 1]; 1: the images as they are.
        device: where features are computed.
        batch_size: images at a time on each rank.
    """
    path = _cache_file(source, places, extractor, resolution, alpha)
    kept = _read(path, (len(places), extractor.num_features))
    # Ranks may see different file systems: either all read or all compute, since computing exchanges rows.
    someone_lacks_them = distributed.any_rank(kept is None)
    if kept is not None and not someone_lacks_them:
        return kept
    mine = share(len(places))
    rows = [torch.empty(0, extractor.num_features)]
    for indices in batches(mine, batch_size, "features of reference images"):
        images = source.batch([places[i] for i in indices], resolution).images.to(device)
        rows.append(extractor(fade_images(images, alpha)).cpu())
    features, _ = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))
    if path is not None and distributed.rank() == 0:
        _write(path, features)
    return features
