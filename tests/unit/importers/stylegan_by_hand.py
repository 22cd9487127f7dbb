"""Files of StyleGAN as four programs write them, made of NVIDIA's variables, and rosinality's generator by hand.

Variables are called as in the published program with their network before them: Gs/synthesis/8x8/Conv0_up/weight.
"""

from __future__ import annotations

import io
import math
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Variables = dict[str, np.ndarray]

WIDTH, LATENT_DIM, LAYERS = 8, 16, 8
KERNEL = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


# NVIDIA's variables


def variables(seed: int = 0, resolution: int = 16) -> Variables:
    """Of G, D and Gs, drawn."""
    draw = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    for generator in ("G", "Gs"):
        shapes |= {f"{generator}/{name}": shape for name, shape in generator_shapes(resolution).items()}
    shapes |= {f"D/{name}": shape for name, shape in discriminator_shapes(resolution).items()}
    found = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name in found:
        if "/Dense" in name and "mapping" in name:
            found[name] *= 100 if name.endswith("weight") else 1
        if name.endswith("lod"):
            found[name] = np.float32(0)
    return found


def generator_shapes(resolution: int) -> dict[str, tuple[int, ...]]:
    top = int(math.log2(resolution)) - 2
    shapes: dict[str, tuple[int, ...]] = {"lod": (), "dlatent_avg": (LATENT_DIM,), "synthesis/lod": ()}
    for number in range(LAYERS):
        shapes[f"mapping/Dense{number}/weight"] = (LATENT_DIM, LATENT_DIM)
        shapes[f"mapping/Dense{number}/bias"] = (LATENT_DIM,)
    for layer, (side, place) in enumerate(places(top)):
        shapes[f"synthesis/noise{layer}"] = (1, 1, side, side)
        where = f"synthesis/{side}x{side}/{place}"
        shapes[f"{where}/const" if layer == 0 else f"{where}/weight"] = (
            (1, WIDTH, 4, 4) if layer == 0 else (3, 3, WIDTH, WIDTH)
        )
        shapes[f"{where}/Noise/weight"] = shapes[f"{where}/bias"] = (WIDTH,)
        shapes[f"{where}/StyleMod/weight"] = (LATENT_DIM, 2 * WIDTH)
        shapes[f"{where}/StyleMod/bias"] = (2 * WIDTH,)
    for level in range(top + 1):
        shapes[f"synthesis/ToRGB_lod{level}/weight"] = (1, 1, WIDTH, 3)
        shapes[f"synthesis/ToRGB_lod{level}/bias"] = (3,)
    return shapes


def discriminator_shapes(resolution: int) -> dict[str, tuple[int, ...]]:
    top = int(math.log2(resolution)) - 2
    shapes: dict[str, tuple[int, ...]] = {"lod": ()}
    for level in range(top + 1):
        shapes[f"FromRGB_lod{level}/weight"] = (1, 1, 3, WIDTH)
    for phase in range(1, top + 1):
        for place in ("Conv0", "Conv1_down"):
            shapes[f"{4 << phase}x{4 << phase}/{place}/weight"] = (3, 3, WIDTH, WIDTH)
    shapes["4x4/Conv/weight"] = (3, 3, WIDTH + 1, WIDTH)
    shapes["4x4/Dense0/weight"] = (16 * WIDTH, WIDTH)
    shapes["4x4/Dense1/weight"] = (WIDTH, 1)
    return shapes | {
        name.replace("weight", "bias"): (shape[-1],) for name, shape in shapes.items() if name.endswith("weight")
    }


def places(top: int) -> list[tuple[int, str]]:
    """Pixels and place of every layer."""
    found = [(4, "Const"), (4, "Conv")]
    for phase in range(1, top + 1):
        found += [(4 << phase, "Conv0_up"), (4 << phase, "Conv1")]
    return found


def of(network: str, found: Mapping[str, np.ndarray]) -> Variables:
    """Variables of G, D or Gs, without the network before their names."""
    return {name.removeprefix(f"{network}/"): value for name, value in found.items() if name.startswith(f"{network}/")}


def top_of(generator: Mapping[str, np.ndarray]) -> int:
    return max(int(name.rpartition("lod")[2].partition("/")[0]) for name in generator if "ToRGB" in name)


# NVIDIA's pickle


class Network:
    """Writes itself as the published class does."""

    def __init__(self, name: str, found: Variables, components: Mapping[str, Network], settings: Any) -> None:
        self.state = {
            "version": 3,
            "name": name,
            "static_kwargs": settings,
            "components": components,
            "build_module_src": "raise SystemExit('this source text was run')",
            "build_func_name": name,
            "variables": list(found.items()),
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.state


class EasyDict(dict):
    """A dictionary of the published program."""


@contextmanager
def _registered() -> Iterator[None]:
    """Both classes under their published names, where pickle looks for them."""
    homes = {Network: "dnnlib.tflib.network", EasyDict: "dnnlib.util"}
    before = {one: one.__module__ for one in homes}
    modules = {}
    for one, home in homes.items():
        parts = home.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            modules.setdefault(name, types.ModuleType(name))
        setattr(modules[home], one.__name__, one)
        one.__module__ = home
    sys.modules.update(modules)
    try:
        yield
    finally:
        for one, home in before.items():
            one.__module__ = home
        for name in modules:
            del sys.modules[name]


def networks(found: Mapping[str, np.ndarray], settings: Any = None) -> tuple[Network, Network, Network]:
    """G, D and Gs; a file without G has Gs twice."""
    settings = EasyDict(num_channels=3, resolution=16, label_size=0) if settings is None else settings

    def generator(entry: str) -> Network:
        own = of(entry, found)
        components = EasyDict(
            {part: Network(f"G_{part}", of(part, own), EasyDict(), settings) for part in ("synthesis", "mapping")}
        )
        return Network(entry, {name: own[name] for name in ("lod", "dlatent_avg") if name in own}, components, settings)

    average = generator("Gs")
    has_current = any(name.startswith("G/") for name in found)
    return (generator("G") if has_current else average, Network("D", of("D", found), EasyDict(), settings), average)


def pickled(content: Any, protocol: int = 4) -> bytes:
    with _registered():
        file = io.BytesIO()
        pickle.dump(content, file, protocol=protocol)
    return file.getvalue()


# Other programs' layouts


def kernel(value: np.ndarray) -> Tensor:
    """(H, W, in, out) -> (out, in, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(value.transpose(3, 2, 0, 1)))


def matrix(value: np.ndarray) -> Tensor:
    """(in, out) -> (out, in)."""
    return torch.from_numpy(np.ascontiguousarray(value.T))


def vector(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value))


def blur_kernel(channels: int) -> Tensor:
    return torch.from_numpy(KERNEL).expand(channels, 1, 3, 3).clone()


def genforce_generator(generator: Variables) -> dict[str, Tensor]:
    top = top_of(generator)
    state = {"synthesis.lod": vector(generator["synthesis/lod"]), "truncation.w_avg": vector(generator["dlatent_avg"])}
    for number in range(LAYERS):
        state[f"mapping.dense{number}.weight"] = matrix(generator[f"mapping/Dense{number}/weight"])
        state[f"mapping.dense{number}.bias"] = vector(generator[f"mapping/Dense{number}/bias"])
    for layer, (side, place) in enumerate(places(top)):
        where = f"synthesis/{side}x{side}/{place}"
        ours = f"synthesis.layer{layer}"
        if layer == 0:
            state[f"{ours}.const"] = vector(generator[f"{where}/const"])
        else:
            state[f"{ours}.weight"] = kernel(generator[f"{where}/weight"])
        state[f"{ours}.bias"] = vector(generator[f"{where}/bias"])
        state[f"{ours}.apply_noise.weight"] = vector(generator[f"{where}/Noise/weight"])
        state[f"{ours}.apply_noise.noise"] = vector(generator[f"synthesis/noise{layer}"])
        state[f"{ours}.style.weight"] = matrix(generator[f"{where}/StyleMod/weight"])
        state[f"{ours}.style.bias"] = vector(generator[f"{where}/StyleMod/bias"])
        if place == "Conv0_up":
            state[f"{ours}.blur.kernel"] = blur_kernel(WIDTH)
    for phase in range(top + 1):
        state[f"synthesis.output{phase}.weight"] = kernel(generator[f"synthesis/ToRGB_lod{top - phase}/weight"])
        state[f"synthesis.output{phase}.bias"] = vector(generator[f"synthesis/ToRGB_lod{top - phase}/bias"])
    return state


def genforce_discriminator(discriminator: Variables, top: int) -> dict[str, Tensor]:
    layers = []
    for phase in range(top, 0, -1):
        layers += [f"{4 << phase}x{4 << phase}/Conv0", f"{4 << phase}x{4 << phase}/Conv1_down"]
    layers += ["4x4/Conv", "4x4/Dense0", "4x4/Dense1"]
    state = {"lod": vector(discriminator["lod"])}
    for number, layer in enumerate(layers):
        weight = discriminator[f"{layer}/weight"]
        state[f"layer{number}.weight"] = kernel(weight) if weight.ndim == 4 else matrix(weight)
        state[f"layer{number}.bias"] = vector(discriminator[f"{layer}/bias"])
        if layer.endswith("down"):
            state[f"layer{number}.blur.kernel"] = blur_kernel(WIDTH)
    for level in range(top + 1):
        state[f"input{level}.weight"] = kernel(discriminator[f"FromRGB_lod{level}/weight"])
        state[f"input{level}.bias"] = vector(discriminator[f"FromRGB_lod{level}/bias"])
    return state


def genforce(found: Variables) -> dict[str, dict[str, Tensor]]:
    average = of("Gs", found)
    content = {
        "generator_smooth": genforce_generator(average),
        "discriminator": genforce_discriminator(of("D", found), top_of(average)),
    }
    if current := of("G", found):
        content["generator"] = genforce_generator(current)
    return content


def lernapparat(generator: Variables) -> dict[str, Tensor]:
    state = {
        "g_synthesis.torgb.weight": kernel(generator["synthesis/ToRGB_lod0/weight"]),
        "g_synthesis.torgb.bias": vector(generator["synthesis/ToRGB_lod0/bias"]),
    }
    for number in range(LAYERS):
        state[f"g_mapping.dense{number}.weight"] = matrix(generator[f"mapping/Dense{number}/weight"])
        state[f"g_mapping.dense{number}.bias"] = vector(generator[f"mapping/Dense{number}/bias"])
    for layer, (side, place) in enumerate(places(top_of(generator))):
        where = f"synthesis/{side}x{side}/{place}"
        block = f"g_synthesis.blocks.{side}x{side}"
        if layer == 0:
            state[f"{block}.const"] = vector(generator[f"{where}/const"])
            state[f"{block}.bias"] = vector(generator[f"{where}/bias"])
        else:
            state[f"{block}.{place.lower()}.weight"] = kernel(generator[f"{where}/weight"])
            state[f"{block}.{place.lower()}.bias"] = vector(generator[f"{where}/bias"])
        if place == "Conv0_up":
            state[f"{block}.conv0_up.intermediate.kernel"] = blur_kernel(1)
        epilogue = f"{block}.epi{layer % 2 + 1}"
        state[f"{epilogue}.top_epi.noise.weight"] = vector(generator[f"{where}/Noise/weight"])
        state[f"{epilogue}.style_mod.lin.weight"] = matrix(generator[f"{where}/StyleMod/weight"])
        state[f"{epilogue}.style_mod.lin.bias"] = vector(generator[f"{where}/StyleMod/bias"])
    return state


def rosinality(generator: Variables, fused_from: int = 128) -> dict[str, Tensor]:
    """The same weights, as far as that program can have them: no bias of the constant, no noise maps, no mean of w."""
    top = top_of(generator)
    state = {}
    for number in range(LAYERS):
        name = f"style.{2 * number + 1}.linear"
        state[f"{name}.weight_orig"] = matrix(generator[f"mapping/Dense{number}/weight"]) * 0.01
        state[f"{name}.bias"] = vector(generator[f"mapping/Dense{number}/bias"]) * 0.01
    for layer, (side, place) in enumerate(places(top)):
        where = f"synthesis/{side}x{side}/{place}"
        block = f"generator.progression.{layer // 2}"
        half = layer % 2 + 1
        if layer == 0:
            state[f"{block}.conv1.input"] = vector(generator[f"{where}/const"])
        elif place == "Conv0_up" and side >= fused_from:
            weight = kernel(generator[f"{where}/weight"]).transpose(0, 1).contiguous()
            state[f"{block}.conv1.0.weight"] = weight * 4
            state[f"{block}.conv1.0.bias"] = vector(generator[f"{where}/bias"])
            state[f"{block}.conv1.1.weight"] = state[f"{block}.conv1.1.weight_flip"] = blur_kernel(WIDTH)
        elif place == "Conv0_up":
            state[f"{block}.conv1.1.conv.weight_orig"] = kernel(generator[f"{where}/weight"])
            state[f"{block}.conv1.1.conv.bias"] = vector(generator[f"{where}/bias"])
            state[f"{block}.conv1.2.weight"] = state[f"{block}.conv1.2.weight_flip"] = blur_kernel(WIDTH)
        else:
            state[f"{block}.conv2.conv.weight_orig"] = kernel(generator[f"{where}/weight"])
            state[f"{block}.conv2.conv.bias"] = vector(generator[f"{where}/bias"])
        noise = vector(generator[f"{where}/Noise/weight"]) / math.sqrt(2 / WIDTH)
        state[f"{block}.noise{half}.weight_orig"] = noise[None, :, None, None].clone()
        style = f"{block}.adain{half}.style.linear"
        state[f"{style}.weight_orig"] = matrix(generator[f"{where}/StyleMod/weight"]) / math.sqrt(2)
        one = torch.cat([torch.ones(WIDTH), torch.zeros(WIDTH)])
        state[f"{style}.bias"] = vector(generator[f"{where}/StyleMod/bias"]) + one
    for phase in range(top + 1):
        name = f"generator.to_rgb.{phase}.conv"
        weight = kernel(generator[f"synthesis/ToRGB_lod{top - phase}/weight"])
        state[f"{name}.weight_orig"] = weight / math.sqrt(2)
        state[f"{name}.bias"] = vector(generator[f"synthesis/ToRGB_lod{top - phase}/bias"])
    return state


# rosinality's forward pass


def rosinality_styles(state: Mapping[str, Tensor], latents: Tensor) -> Tensor:
    """Points of W, in double precision."""
    x = latents.double()
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for number in range(LAYERS):
        weight = state[f"style.{2 * number + 1}.linear.weight_orig"].double() * math.sqrt(2 / x.shape[1])
        x = F.leaky_relu(F.linear(x, weight, state[f"style.{2 * number + 1}.linear.bias"].double()), 0.2)
    return x


def rosinality_images(state: Mapping[str, Tensor], latents: Tensor, noise: list[Tensor], top: int) -> Tensor:
    """Images of the last resolution, in double precision.

    Args:
        state: of the generator.
        latents: (N, D).
        noise: one map for each resolution.
        top: doublings from 4 pixels.
    """
    state = {name: value.double() for name, value in state.items()}
    w = rosinality_styles(state, latents)
    x = state["generator.progression.0.conv1.input"].expand(len(latents), -1, -1, -1)
    for block in range(top + 1):
        name = f"generator.progression.{block}"
        if f"{name}.conv1.0.weight" in state:
            weight = _scaled(state[f"{name}.conv1.0.weight"], 9 * x.shape[1])
            weight = F.pad(weight, [1, 1, 1, 1])
            shifts = weight[..., 1:, 1:] + weight[..., :-1, 1:] + weight[..., 1:, :-1] + weight[..., :-1, :-1]
            x = F.conv_transpose2d(x, shifts / 4, state[f"{name}.conv1.0.bias"], stride=2, padding=1)
            x = F.conv2d(x, state[f"{name}.conv1.1.weight"], padding=1, groups=x.shape[1])
        elif block:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = _convolved(state, f"{name}.conv1.1.conv", x)
            x = F.conv2d(x, state[f"{name}.conv1.2.weight"], padding=1, groups=x.shape[1])
        x = _styled(state, name, 1, x, w, noise[block].double())
        x = _convolved(state, f"{name}.conv2.conv", x)
        x = _styled(state, name, 2, x, w, noise[block].double())
    return _convolved(state, f"generator.to_rgb.{top}.conv", x, padding=0)


def _scaled(weight: Tensor, fan_in: int) -> Tensor:
    return weight * math.sqrt(2 / fan_in)


def _convolved(state: Mapping[str, Tensor], name: str, x: Tensor, padding: int = 1) -> Tensor:
    weight = state[f"{name}.weight_orig"]
    return F.conv2d(x, _scaled(weight, weight[0].numel()), state[f"{name}.bias"], padding=padding)


def _styled(state: Mapping[str, Tensor], name: str, half: int, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    scale = state[f"{name}.noise{half}.weight_orig"]
    x = F.leaky_relu(x + _scaled(scale, scale.shape[1]) * noise, 0.2)
    style = f"{name}.adain{half}.style.linear"
    affine = F.linear(w, _scaled(state[f"{style}.weight_orig"], w.shape[1]), state[f"{style}.bias"])
    gamma, beta = affine[:, :, None, None].chunk(2, 1)
    return gamma * F.instance_norm(x, eps=1e-5) + beta
