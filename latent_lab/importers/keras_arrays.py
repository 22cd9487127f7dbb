"""Arrays as Keras keeps them, and where each one belongs in a network of the same layers.

Kernels of convolutions are (height, width, in, out), of transposed ones (height, width, out, in), of dense layers (in,
out). Images are (height, width, channels), so dense layers behind a flattened image, or before one is unflattened,
count its values in another order. Names in files depend on how many layers a session had made before; arrays are
therefore recognised by their order and shape.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from latent_lab.networks.batch_norm import GlobalBatchNorm

Arrays: TypeAlias = Sequence[np.ndarray]


@dataclass(frozen=True)
class Flattened:
    """A dense layer whose inputs or outputs are the values of an image."""

    channels: int
    """Of that image."""
    inputs: bool
    """Whether they are the layer's inputs; otherwise they are its outputs."""


def read_hdf5(path: Path) -> dict[str, list[np.ndarray]]:
    """Layer name -> arrays of a legacy Keras weights file, in the file's order; layers without arrays are left out.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        with h5py.File(path, "r") as file:
            # A file of a whole model keeps its weights in a group of their own.
            root = file.get("model_weights", file)
            layers = {name: root[name] for name in _names(root, "layer_names")}
            arrays = {
                name: [np.asarray(layer[weight]) for weight in _names(layer, "weight_names")]
                for name, layer in layers.items()
            }
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not an HDF5 file of Keras weights: {' '.join(str(error).split())}") from error
    return {name: found for name, found in arrays.items() if found}


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names in a group's attributes, which Keras cuts into numbered pieces when it is long."""
    if attribute in group.attrs:
        pieces = [group.attrs[attribute]]
    else:
        pieces = []
        while f"{attribute}{len(pieces)}" in group.attrs:
            pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
        if not pieces:
            raise KeyError(f"there is no attribute {attribute}")
    return [name.decode() if isinstance(name, bytes) else str(name) for piece in pieces for name in piece]


def read_npz(path: Path) -> list[np.ndarray]:
    """The arrays of a .npz file in the order in which they were written.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with loaded as file:
            return [file[name] for name in file.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a .npz file of plain arrays: {' '.join(str(error).split())}") from error


def state_from(
    network: nn.Module, arrays: Arrays, what: str, flattened: Mapping[str, Flattened] | None = None
) -> dict[str, Tensor]:
    """A state dict of the network from Keras's arrays: kernels and biases layer by layer, then all running moments.

    Args:
        network: its layers are registered in the order in which they are in the file.
        arrays: of this network alone.
        what: for messages: which network of which file.
        flattened: module names of dense layers that see flattened images.

    Raises:
        ValueError: with one sentence, if the number of arrays, a shape or a value is not as it should be.
    """
    slots = _slots(network, flattened or {})
    if len(arrays) != len(slots):
        raise ValueError(f"{what} has {len(arrays)} arrays where {len(slots)} belong: it is another network")
    state = network.state_dict()
    found: dict[str, Tensor] = {}
    for number, (array, (name, place)) in enumerate(zip(arrays, slots, strict=True)):
        wanted = _keras_shape(tuple(state[name].shape))
        if tuple(array.shape) != wanted:
            raise ValueError(
                f"{what}: array {number} has shape {tuple(array.shape)} where {wanted} belongs ({name}): it is another "
                "network"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{what}: array {number} ({name}) has values that are not finite")
        found[name] = place(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))).contiguous()
    return found


def _keras_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], shape[1], shape[0]) if len(shape) == 4 else shape[::-1]


_Slot = tuple[str, Callable[[Tensor], Tensor]]


def _slots(network: nn.Module, flattened: Mapping[str, Flattened]) -> list[_Slot]:
    """Names in the state dict in the file's order, with what turns each array into its tensor."""
    trained: list[_Slot] = []
    moments: list[_Slot] = []
    for name, layer in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            trained += [(f"{prefix}weight", _convolution), (f"{prefix}bias", _same)]
        elif isinstance(layer, nn.Linear):
            weight, bias = _dense(flattened.get(name))
            trained += [(f"{prefix}weight", weight), (f"{prefix}bias", bias)]
        elif isinstance(layer, GlobalBatchNorm):
            trained += [(f"{prefix}weight", _same), (f"{prefix}bias", _same)]
            moments += [(f"{prefix}running_mean", _same), (f"{prefix}running_var", _same)]
    return trained + moments


def _same(array: Tensor) -> Tensor:
    return array


def _convolution(kernel: Tensor) -> Tensor:
    """Transposed ones, too: there, in and out have changed places in both programs."""
    return kernel.permute(3, 2, 0, 1)


def _dense(flattened: Flattened | None) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What turns kernel and bias."""
    if flattened is None:
        return (lambda kernel: kernel.T), _same

    def channels_first(values: Tensor) -> Tensor:
        """Rows that count an image's values pixel by pixel, in the order channel by channel."""
        return values.unflatten(0, (-1, flattened.channels)).transpose(0, 1).flatten(0, 1)

    if flattened.inputs:
        return (lambda kernel: channels_first(kernel).T), _same
    return (lambda kernel: channels_first(kernel.T)), channels_first
