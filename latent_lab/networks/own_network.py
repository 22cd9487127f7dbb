"""A user's own network as an extractor, named by where Python finds it: `my_package.my_module.MyNetwork`."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from latent_lab.networks.extraction import AbstractExtractor, Viewing, sha256_of_weights
from latent_lab.networks.pretrained import undisturbed_randomness
from latent_lab.types import Images

_PROBED_RESOLUTION = 64


class OwnExtractor(AbstractExtractor):
    """Features of a network of the user's, which maps (N, 3, H, W) in [-1, 1] to (N, F).

    A network with an integer attribute `input_resolution` gets images of that many pixels per side, resized by the
    protocol; any other one gets them as they are. The number of features is found with two black images.

    Args:
        class_path: import path of an nn.Module class, or of a function that returns a module; called without arguments.
        path: a file with its state dict (.safetensors, or what `torch.save` wrote), if it has not its weights already.
        viewing: how images are brought to it.

    Raises:
        ValueError: if it cannot be imported, built, filled or run.
    """

    canonical = False

    def __init__(self, class_path: str, path: Path | None, viewing: Viewing) -> None:
        super().__init__(viewing)
        self.class_path = class_path
        network = build_own(class_path)
        if path is not None:
            fill(network, path, class_path)
        self.network = network
        self.sha256 = sha256_of_weights(network)
        self.name = f"{class_path.rpartition('.')[2]}_{self.sha256[:8]}"
        wanted = getattr(network, "input_resolution", None)
        if wanted is not None and (not isinstance(wanted, int) or wanted < 1):
            raise ValueError(f"input_resolution of {class_path} must be a number of pixels per side, got {wanted!r}")
        if wanted is None and viewing.resize != "clean":
            raise ValueError(
                f"{class_path} has no attribute input_resolution, so its images are not resized: give it one (pixels "
                f"per side), or leave out the resize protocol {viewing.resize}"
            )
        self.input_resolution = wanted
        self.freeze()
        self.num_features = self._probed()

    def _probed(self) -> int:
        size = self.input_resolution or _PROBED_RESOLUTION
        try:
            with torch.inference_mode(), undisturbed_randomness():
                found = self.network(torch.full((2, 3, size, size), -1.0))
        except Exception as error:
            raise ValueError(
                f"{self.class_path} cannot take images (2, 3, {size}, {size}) in [-1, 1] ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no message'}): an attribute input_resolution says "
                "which size it wants"
            ) from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2 or not found.is_floating_point():
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{self.class_path} must map images (N, 3, H, W) to float features (N, F), got {what} for 2 images: "
                "flatten its output"
            )
        return int(found.shape[1])

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """The network's own output."""
        return self.network(images), None

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "class_path": self.class_path}


def build_own(class_path: str) -> nn.Module:
    """A network of the user's, as its class or function makes it.

    Args:
        class_path: import path of an nn.Module class, or of a function that returns a module; called without arguments.

    Raises:
        ValueError: if it cannot be imported or called, or gives no module.
    """
    module_name, _, attribute = class_path.rpartition(".")
    maker = getattr(_imported(module_name, class_path), attribute, None)
    if not callable(maker):
        raise ValueError(f"there is no class or function {attribute} in the module {module_name}: check {class_path}")
    return _called(maker, class_path)


def _imported(module_name: str, class_path: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{class_path} cannot be imported ({error}): its folder must be on the Python path, as with "
            "PYTHONPATH=. latent-lab ..."
        ) from error
    except Exception as error:
        raise ValueError(f"importing {module_name} failed ({type(error).__name__}: {error})") from error


def _called(maker: Callable[[], Any], class_path: str) -> nn.Module:
    try:
        with undisturbed_randomness():
            network = maker()
    except Exception as error:
        raise ValueError(
            f"{class_path} cannot be called without arguments ({type(error).__name__}: {error}): give all of them "
            "defaults, or write a function that calls it"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{class_path} must give a torch.nn.Module, got {type(network).__name__}")
    return network


def fill(network: nn.Module, path: Path, class_path: str) -> None:
    """Takes a network's weights from a file with its state dict (.safetensors, or what `torch.save` wrote).

    Raises:
        ValueError: if they are not its weights.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except (
        OSError,
        RuntimeError,
        TypeError,
        EOFError,
        AttributeError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ValueError(
            f"{path} does not hold a state dict of {class_path}: {str(error).splitlines()[-1].strip()}"
        ) from error


__all__ = ["OwnExtractor", "build_own", "fill"]
