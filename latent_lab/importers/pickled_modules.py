"""Whole networks as torch.save wrote them until version 1.5, read without running anything that is in the file.

Such a file is a sequence of pickles (a magic number, a version, facts about the machine, the network, the storages'
keys) and then the storages' numbers. A pickle is a program: it names classes and functions, and loading runs them. Here
a reader with a short list of its own takes its place. A class becomes an inert holder of its state, a tensor becomes a
description of where its numbers lie, and any other name ends the reading. `torch.load(weights_only=True)` is the same
idea for tensors; it takes no networks.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_NUMBERS: Mapping[str, str] = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8"}

# What torch.nn's layers are pickled with, beside classes: the table of functions that torch 0.1 kept in each.
_BACKEND = "torch.nn.backends.thnn._get_thnn_function_backend"


class PickledModule(NamedTuple):
    """What a file of a pickled network holds."""

    tensors: dict[str, Tensor]
    """Parameters and buffers by name, as in a state dict."""
    settings: dict[str, Any]
    """Plain attributes of the outermost network: numbers, strings, flags."""


def read_pickled_module(path: Path, classes: Collection[str]) -> PickledModule:
    """The tensors of a pickled network.

    Args:
        path: of a file that `torch.save(network, path)` of torch 0.1 to 1.5 wrote; Python 2's, too.
        classes: full names of the classes that the network and its layers may have. None of them is looked up.

    Raises:
        ValueError: with one sentence, if it is another file, is damaged, or names anything else.
    """
    content = path.read_bytes()
    if content.startswith(b"PK"):
        raise ValueError(f"{path} is a zip archive, as torch writes from 1.6 on: this format is of earlier files")
    file = io.BytesIO(content)
    try:
        if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
            raise ValueError("it does not begin with torch's magic number")
        _Unpickler(file).load()  # facts about the machine that wrote it
        reader = _Unpickler(file, classes)
        network = reader.load()
        keys = [str(key) for key in _Unpickler(file).load()]
        numbers = {key: _read_numbers(file, reader.storages[key]) for key in keys}
        tensors = {name: place.tensor(numbers) for name, place in _places(network)}
    except _ForeignName as error:
        raise ValueError(f"{path} was not opened: it names {error}, which no network of this format needs") from None
    except RecursionError:
        raise ValueError(f"{path} holds no network: its parts contain each other") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a network that torch.save of torch 0.1 to 1.5 pickled ({reason})") from None
    settings = {name: value for name, value in network.state.items() if isinstance(value, bool | int | float | str)}
    return PickledModule(tensors, settings)


class _ForeignName(Exception):
    """A class or function that is not on the list."""


class _Inert:
    """Stands in for a class: keeps the state that is unpickled into it, and does nothing."""

    state: Mapping[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"a layer's state is a {type(state).__name__}")
        self.state = state


@dataclass
class _Storage:
    """Numbers that follow after the pickles."""

    key: str
    kind: str
    count: int


@dataclass
class _Place:
    """A tensor whose numbers are not read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Flags and hooks of a parameter mean nothing here."""

    def tensor(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """The numbers, copied out of their storage.

        Raises:
            ValueError: if there are more of them than the storage holds.
        """
        if math.prod(self.size) > self.storage.count:
            raise ValueError(f"a tensor of shape {self.size} lies in {self.storage.count} numbers")
        return torch.as_strided(numbers[self.storage.key], self.size, self.stride, self.offset).clone()


class _Unpickler(pickle.Unpickler):
    """Knows a list of names, and never imports one.

    Args:
        file: at the beginning of a pickle.
        classes: full names that become `_Inert`.
    """

    def __init__(self, file: io.BytesIO, classes: Collection[str] = ()) -> None:
        # Python 2 wrote its text as bytes, all of which are letters in this encoding.
        super().__init__(file, encoding="latin1")
        self._classes = classes
        self._functions: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "__builtin__.set": set,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": _rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch.nn.parameter.Parameter": _rebuild_parameter,
        }
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self._classes or full == _BACKEND:
            return _Inert
        if full in self._functions:
            return self._functions[full]
        if module in ("torch", "torch.cuda") and name.removesuffix("Storage") in _NUMBERS:
            return name.removesuffix("Storage")
        raise _ForeignName(full)

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("module", kind, _, _):  # a class, its file and its source text
                return kind
            case ("storage", str(kind), key, _, int(count), None):
                return self.storages.setdefault(str(key), _Storage(str(key), kind, count))
        raise ValueError("it has an entry that is neither a class nor a whole storage")


def _rebuild_tensor(storage: _Storage, offset: int, size: Any, stride: Any, *flags: Any) -> _Place:
    del flags
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor has no storage")
    return _Place(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(tensor: _Place, *flags: Any) -> _Place:
    del flags
    return tensor


def _read_numbers(file: io.BytesIO, storage: _Storage) -> Tensor:
    """A storage's numbers, which follow their own number."""
    count = int.from_bytes(file.read(8), "little")
    dtype = np.dtype(_NUMBERS[storage.kind])
    content = file.read(storage.count * dtype.itemsize)
    if count != storage.count or len(content) != count * dtype.itemsize:
        raise ValueError(f"it should hold {storage.count} numbers where it holds {len(content) // dtype.itemsize}")
    return torch.from_numpy(np.frombuffer(content, dtype).copy())


def _places(network: _Inert, prefix: str = "") -> Iterator[tuple[str, _Place]]:
    """Parameters and buffers of a network and of its layers, by name."""
    for group in ("_parameters", "_buffers"):
        for name, place in network.state[group].items():
            if place is not None:
                yield f"{prefix}{name}", place
    for name, layer in network.state["_modules"].items():
        yield from _places(layer, f"{prefix}{name}.")
