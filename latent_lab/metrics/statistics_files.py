"""Statistics of reference images in .npz files: our own, and those that other programs publish.

`mu` and `sigma` are the mean and the unbiased covariance of the features, as the programs of FID (Heusel et al. 2017),
pytorch-fid, clean-fid and NVIDIA's EDM write them; clean-fid's files for KID hold `feats` instead, the features
themselves. Our own files may hold all three, and beside them `num_images` and `protocol`, JSON text that says what they
were made with, which no foreign file does.
"""

from __future__ import annotations

import json
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from latent_lab.metrics.functional.frechet import Moments, moments
from latent_lab.types import Features

_MADE_WITH = {
    "sha256": "weights with sha256",
    "resize": "resize protocol",
    "quantised": "rounding",
    "precision": "precision",
    "box": "box",
}
"""Entries of an extractor's description that features depend on, as sentences call them."""


@runtime_checkable
class DescribedExtractor(Protocol):
    """What must be known of an extractor to tell whether statistics are of its features."""

    name: str
    num_features: int

    def describe(self) -> dict[str, Any]:
        """Plain data: name, sha256, resize, precision ..."""


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of reference images as a file has them."""

    moments: Moments
    features: Features | None
    """(N, F) float32 of the images, for metrics that need more than moments; None if the file has moments alone."""
    protocol: Mapping[str, Any]
    """What the file says of its making; empty for files of other programs."""
    notes: tuple[str, ...] = field(default=())
    """What is not known about them, as sentences for a report."""


def write_statistics(
    path: str | Path, statistics: Moments, *, protocol: Mapping[str, Any], features: Features | None = None
) -> None:
    """Writes a file that appears complete or not at all.

    Args:
        path: ends in .npz.
        statistics: mean and covariance.
        protocol: plain data; its entry "extractor" is what the extractor says of itself.
        features: (N, F) to be stored as well, as float32.

    Raises:
        ValueError: if the name ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"statistics are written to a .npz file, got {path.name}: name it {path.stem}.npz")
    arrays: dict[str, Any] = {
        "mu": statistics.mean.cpu().numpy(),
        "sigma": statistics.covariance.cpu().numpy(),
        "protocol": np.array(json.dumps(dict(protocol))),
    }
    if statistics.num_vectors is not None:
        arrays["num_images"] = np.array(statistics.num_vectors)
    if features is not None:
        arrays["feats"] = features.cpu().float().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_statistics(path: str | Path, extractor: DescribedExtractor) -> ReferenceStatistics:
    """Statistics of a file, checked: what they are, and as far as the file says so, that this extractor made them.

    Nothing in the file is run. Files of other programs do not say what they were made with; they are accepted with a
    note.

    Args:
        path: .npz file.
        extractor: whose features they are to be compared with.

    Raises:
        ValueError: if there is no such file, it is damaged or of another kind, its numbers are not a mean and a
            covariance, or they belong to another extractor or resize protocol.
    """
    path = Path(path).expanduser()
    arrays = _arrays(path)
    if "feats" not in arrays and not {"mu", "sigma"} <= arrays.keys():
        raise ValueError(
            f"{path} lacks mu and sigma, or feats, got {', '.join(sorted(arrays)) or 'nothing'}: arrays of statistics "
            "have these names"
        )
    protocol = _protocol(path, arrays)
    _check_maker(path, protocol, extractor)
    features = _features(path, arrays, extractor) if "feats" in arrays else None
    found = _moments(path, arrays, extractor) if {"mu", "sigma"} <= arrays.keys() else None
    if found is None:
        assert features is not None
        found = moments(features)
    elif found.num_vectors is None and features is not None:
        found = found._replace(num_vectors=len(features))
    return ReferenceStatistics(found, features, protocol, tuple(_notes(path, protocol, found)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Everything in the file that is of interest."""
    if not path.is_file():
        raise ValueError(f"there is no file of reference statistics at {path}")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with archive:
            names = {"mu", "sigma", "feats", "num_images", "protocol"} & set(archive.files)
            return {name: archive[name] for name in names} or dict.fromkeys(archive.files, np.empty(0))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no .npz file ({error}): copy it again") from error
    except ValueError as error:
        # numpy's own sentence about pickled objects ends in advice to run them.
        why = "it holds Python objects" if "pickle" in str(error) else str(error)
        raise ValueError(f"{path} is no archive of plain arrays ({why}): give a .npz file of statistics") from error


def _protocol(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if "protocol" not in arrays:
        return {}
    try:
        protocol = json.loads(str(arrays["protocol"][()]))
    except (ValueError, IndexError) as error:
        raise ValueError(f"the protocol in {path} is no JSON text ({error}): write the file anew") from error
    if not isinstance(protocol, dict):
        raise ValueError(
            f"the protocol in {path} must name entries, got {type(protocol).__name__}: write the file anew"
        )
    return protocol


def _check_maker(path: Path, protocol: Mapping[str, Any], extractor: DescribedExtractor) -> None:
    made_by, ours = protocol.get("extractor"), extractor.describe()
    if not isinstance(made_by, Mapping):
        return
    theirs = made_by.get("name", ours["name"])
    for key, what in _MADE_WITH.items():
        if key in made_by and key in ours and made_by[key] != ours[key]:
            raise ValueError(
                f"{path} was made with {theirs} and {what} {made_by[key]}, this is {ours['name']} with {ours[key]}: "
                "use the same extractor and options, or write the statistics anew"
            )


def _numbers(path: Path, arrays: Mapping[str, np.ndarray], name: str, dimensions: int, width: int) -> np.ndarray:
    """An array whose last dimension is the number of features, all of it finite."""
    array = arrays[name]
    if array.ndim != dimensions or array.dtype.kind != "f" or array.size == 0:
        kind = {1: "a vector", 2: "a matrix"}[dimensions]
        raise ValueError(f"{name} in {path} must be {kind} of real numbers, got {array.dtype} of shape {array.shape}")
    if array.shape[-1] != width:
        raise ValueError(
            f"{name} in {path} is of {array.shape[-1]} features, this extractor has {width}: it is another extractor's"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} in {path} contains NaN or infinite values: make the statistics anew")
    return array


def _features(path: Path, arrays: Mapping[str, np.ndarray], extractor: DescribedExtractor) -> Tensor:
    rows = _numbers(path, arrays, "feats", 2, extractor.num_features)
    if len(rows) < 2:
        raise ValueError(f"feats in {path} are of a single image: statistics need at least 2")
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


def _moments(path: Path, arrays: Mapping[str, np.ndarray], extractor: DescribedExtractor) -> Moments:
    width = extractor.num_features
    mean, covariance = _numbers(path, arrays, "mu", 1, width), _numbers(path, arrays, "sigma", 2, width)
    if covariance.shape != (width, width):
        raise ValueError(f"sigma in {path} must have the shape {(width, width)}, got {covariance.shape}")
    # Programs round in different orders; half the digits of the stored type tell rounding from something else.
    rounding = float(np.finfo(covariance.dtype).eps) ** 0.5
    sigma = torch.from_numpy(covariance.astype(np.float64))
    largest = sigma.abs().max()
    if (sigma - sigma.T).abs().max() > rounding * largest:
        raise ValueError(f"sigma in {path} is not symmetric and hence no covariance: make the statistics anew")
    sigma = (sigma + sigma.T) / 2.0
    lowest = torch.linalg.eigvalsh(sigma)[0]
    if lowest < -rounding * largest:
        raise ValueError(f"sigma in {path} has the eigenvalue {lowest:.3g} below 0 and hence is no covariance")
    return Moments(torch.from_numpy(mean.astype(np.float64)), sigma, _count(path, arrays))


def _count(path: Path, arrays: Mapping[str, np.ndarray]) -> int | None:
    if "num_images" not in arrays:
        return None
    count = arrays["num_images"]
    if count.shape != () or count.dtype.kind not in "iu" or count < 2:
        raise ValueError(f"num_images in {path} must be a whole number of at least 2, got {count}")
    return int(count)


def _notes(path: Path, protocol: Mapping[str, Any], found: Moments) -> list[str]:
    unknown = [
        what
        for what, known in (
            ("which extractor and resize protocol", "extractor" in protocol),
            ("which images", "data" in protocol),
            ("how many images", found.num_vectors is not None),
        )
        if not known
    ]
    return (
        [f"{path.name} does not say {', '.join(unknown)} its statistics are of: check that they fit"] if unknown else []
    )


__all__ = ["DescribedExtractor", "ReferenceStatistics", "read_statistics", "write_statistics"]
