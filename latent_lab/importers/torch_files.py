"""Files that another program wrote with torch.save: opened without running anything, and used up to the last tensor."""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_torch(path: Path) -> Any:
    """The content of a file of torch.save, old or new container, on the CPU: tensors and plain containers only.

    Raises:
        ValueError: with one sentence, if the file asks for anything else (nothing of it is run), or is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ValueError(f"{path} was not opened: it is no file of torch.save, or damaged") from error
        raise ValueError(
            f"{path} was not opened: it asks for {found[1]}, which is neither a tensor nor a plain container"
        ) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch looks for its index before the beginning of a file that was cut
            raise
        raise ValueError(f"{path} was not opened: it is no file of torch.save, or damaged") from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, LookupError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} was not opened: it is no file of torch.save, or damaged") from error


def checked_entries(content: Any, path: Path, needed: Collection[str], others: Collection[str] = ()) -> dict[str, Any]:
    """The content as a dictionary with every needed entry and none but the needed and the other ones.

    Raises:
        ValueError: with one sentence, otherwise.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__} where a dictionary with {_listed(needed)} belongs")
    if missing := [name for name in needed if name not in content]:
        raise ValueError(f"{path} has no {_listed(missing)}: it is a checkpoint of another program, or damaged")
    if unknown := [str(name) for name in content if name not in needed and name not in others]:
        raise ValueError(f"{path} has entries that no known version of its program writes: {_listed(unknown)}")
    return {str(name): value for name, value in content.items()}


class PublishedTensors:
    """Tensors of another program by name, each of which is to be taken once or dropped by name.

    Args:
        content: name -> tensor; the prefix that DataParallel gives all names is removed.
        entry: of the file, for messages.
        path: of the file, for messages.

    Raises:
        ValueError: if it is no such mapping.
    """

    def __init__(self, content: Any, entry: str, path: Path) -> None:
        self.entry = entry
        self.what = f"{entry} of {path}"
        if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
            raise ValueError(f"{self.what} is no mapping of names to tensors: it is a checkpoint of another program")
        self._left = {str(name).removeprefix("module."): value for name, value in content.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def add(self, name: str, value: Any) -> None:
        """Puts a tensor in that the program keeps elsewhere.

        Raises:
            ValueError: if it is none.
        """
        if not isinstance(value, Tensor):
            raise ValueError(f"{self.what}: a {type(value).__name__} stands where the tensor {name} belongs")
        self._left[name] = value

    def peek(self, name: str, dimensions: int) -> Tensor:
        """A tensor, which does not count as used.

        Raises:
            ValueError: if it is not there or has another number of dimensions.
        """
        value = self._find(name)
        if value.ndim != dimensions:
            raise ValueError(
                f"{self.what}: {name} has shape {tuple(value.shape)} where {dimensions} dimensions belong: it is "
                "another network"
            )
        return value

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor in float32, which counts as used from now on.

        Raises:
            ValueError: if it is not there, has another shape, or has values that are not finite.
        """
        value = self._find(name)
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"{self.what}: {name} has shape {tuple(value.shape)} where {tuple(shape)} belongs: it is "
                "another network"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"{self.what}: {name} has values that are not finite")
        del self._left[name]
        return value.detach().float()

    def names(self, pattern: str) -> list[str]:
        """Of the tensors that are still there and whose whole name matches a regular expression."""
        return [name for name in self._left if re.fullmatch(pattern, name)]

    def drop(self, pattern: str) -> list[str]:
        """Names of the tensors that match, which count as used from now on."""
        found = self.names(pattern)
        for name in found:
            del self._left[name]
        return found

    def finish(self) -> None:
        """Raises ValueError with one sentence if a tensor was neither taken nor dropped."""
        if self._left:
            raise ValueError(
                f"{self.what} has tensors that belong to no part of the network: {_listed(in_short(self._left))}"
            )

    def _find(self, name: str) -> Tensor:
        if name not in self._left:
            raise ValueError(f"{self.what} has no tensor {name}: it is another network, or damaged")
        return self._left[name]


def in_short(names: Iterable[str]) -> list[str]:
    """Names with those of one numbered part joined: progression.8.conv.0.conv.bias ... -> progression.8.*."""
    groups: dict[str, list[str]] = {}
    for name in names:
        part = re.match(r"\w+\.\d+(?=\.)", name)
        groups.setdefault(part[0] if part else name, []).append(name)
    return [f"{part}.*" if len(found) > 1 else found[0] for part, found in groups.items()]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names if len(names) <= 8 else [*names[:7], f"and {len(names) - 7} more"])
