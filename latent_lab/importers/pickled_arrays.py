"""Pickles of numpy arrays by name, and of the networks of NVIDIA's programs, read without running anything in them.

A pickle is a program: it names classes and functions, and loading runs them. NVIDIA's are worse than most, since their
class compiles the source text of the network that lies beside its weights. Here a reader with a short list of its own
takes its place. A network becomes an inert holder whose source text is dropped unread, an array a description of its
bytes, which are looked at when everything is read; any other name ends the reading. Not even numpy's own functions are
called by the file.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

_NETWORK = "dnnlib.tflib.network.Network"
_VERSIONS = (2, 3)
_NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


def read_pickled_arrays(path: Path) -> Any:
    """What lies in a pickle: plain containers, numbers, text, `PickledArray` and `PickledNetwork`.

    Raises:
        ValueError: with one sentence, if it is no pickle, is damaged, or names anything else.
    """
    try:
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except _ForeignName as error:
        raise ValueError(f"{path} was not opened: it names {error}, which no file of this format needs") from None
    except RecursionError:
        raise ValueError(f"{path} holds no network: its parts are nested too deeply") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no pickle of networks or arrays, or is damaged ({reason})") from None


class PickledNetwork:
    """Stands in for a network of NVIDIA's programs: keeps what it is made of, and does nothing."""

    settings: Mapping[str, Any]
    """Arguments of the function that built it."""
    components: Mapping[str, PickledNetwork]
    variables: Mapping[str, PickledArray]
    """Its own, by name."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"a network's state is a {type(state).__name__}")
        if state.get("version") not in _VERSIONS:
            raise ValueError(f"a network is of version {state.get('version')!r}, StyleGAN's are of version 2 or 3")
        self.settings = _mapping(state.get("static_kwargs", {}), "settings of a network")
        self.components = _mapping(state.get("components", {}), "components of a network")
        if not all(isinstance(component, PickledNetwork) for component in self.components.values()):
            raise TypeError("a component of a network is none")
        pairs = state.get("variables")
        if not isinstance(pairs, list) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise TypeError("a network's variables are no list of names and values")
        self.variables = dict(pairs)
        if len(self.variables) != len(pairs):
            raise ValueError("a network has two variables of one name")
        if not is_named_arrays(self.variables):
            raise TypeError("a network has a variable that is no array")


class PickledArray:
    """Stands in for a numpy array or scalar until its bytes are looked at."""

    def __init__(self, *arguments: Any) -> None:
        """Numpy makes an empty array first, and fills it by `__setstate__`."""
        del arguments
        self._content: tuple[tuple[int, ...], _Kind, bytes, bool] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran_order, content = state
        self.fill(shape, kind, content, fortran_order=bool(fortran_order))

    def fill(self, shape: Any, kind: Any, content: Any, *, fortran_order: bool = False) -> PickledArray:
        """Keeps the bytes, once there are as many as the shape needs; returns itself.

        Raises:
            TypeError: if it is no array of numbers.
            ValueError: if there are fewer or more bytes.
        """
        if isinstance(content, str):  # how Python 2 wrote bytes
            content = content.encode("latin1")
        if not isinstance(kind, _Kind) or not isinstance(content, bytes | bytearray):
            raise TypeError("it has an array that does not hold plain numbers")
        shape = tuple(map(int, shape))
        if min(shape, default=0) < 0 or math.prod(shape) * kind.dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} has {len(content)} bytes")
        self._content = (shape, kind, bytes(content), fortran_order)
        return self

    @property
    def is_filled(self) -> bool:
        """Whether there are bytes."""
        return self._content is not None

    def numbers(self) -> np.ndarray:
        """The array, in float32."""
        assert self._content is not None
        shape, kind, content, fortran_order = self._content
        array = np.frombuffer(content, kind.dtype).reshape(shape, order="F" if fortran_order else "C")
        with np.errstate(over="ignore"):  # becomes infinite, which is refused later, by name
            return np.asarray(array, dtype=np.float32, order="C").copy()


def is_named_arrays(content: Any) -> TypeGuard[Mapping[str, PickledArray]]:
    """Whether it is a mapping of names to arrays, each with its numbers."""
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, PickledArray) and value.is_filled for name, value in content.items()
    )


class _ForeignName(Exception):
    """A class or function that is not on the list."""


class _Kind:
    """Stands in for a numpy dtype: one of the plain kinds of numbers, with a byte order."""

    def __init__(self, code: Any, *flags: Any) -> None:
        del flags
        if code not in _NUMBERS:
            raise TypeError(f"it has an array of {code!r}, which is no plain number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


class _Unpickler(pickle.Unpickler):
    """Knows a list of names, and never imports one.

    Args:
        file: at the beginning of a pickle.
    """

    def __init__(self, file: io.BytesIO) -> None:
        # Python 2 wrote its text as bytes, all of which are letters in this encoding.
        super().__init__(file, encoding="latin1")
        self._known: dict[str, Callable[..., Any]] = {
            _NETWORK: PickledNetwork,
            "dnnlib.util.EasyDict": dict,
            "collections.OrderedDict": OrderedDict,
            "_codecs.encode": _encode,
            "numpy.ndarray": PickledArray,
            "numpy.dtype": _Kind,
        }
        for numpy in ("numpy.core", "numpy._core"):
            self._known |= {
                f"{numpy}.multiarray._reconstruct": PickledArray,
                f"{numpy}.multiarray.scalar": _scalar,
                f"{numpy}.numeric._frombuffer": _from_buffer,
            }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self._known:
            raise _ForeignName(full)
        return self._known[full]


def _scalar(kind: Any, content: Any) -> PickledArray:
    return PickledArray().fill((), kind, content)


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
    return PickledArray().fill(shape, kind, content, fortran_order=order == "F")


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError("it has text in a foreign encoding")
    return text.encode("latin1")


def _mapping(content: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise TypeError(f"the {what} are a {type(content).__name__} where a dictionary by name belongs")
    return content
