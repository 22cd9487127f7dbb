"""The published networks in numpy, from arrays in Keras's layout: written apart from the package, to check it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

Array = np.ndarray


def convolution(x: Array, kernel: Array, bias: Array, stride: int = 1) -> Array:
    """Images (N, H, W, C); padding "same": the odd zero goes to the bottom and to the right."""
    size = kernel.shape[0]
    outputs = -(-x.shape[1] // stride)
    total = max((outputs - 1) * stride + size - x.shape[1], 0)
    before = total // 2
    padded = np.pad(x, ((0, 0), (before, total - before), (before, total - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias


def transposed_convolution(x: Array, kernel: Array, bias: Array, stride: int = 2) -> Array:
    """Every pixel adds its kernel (kh, kw, out, in) to the larger image, which is cropped to "same"."""
    size, pixels = kernel.shape[0], x.shape[1]
    whole = np.zeros((len(x), stride * (pixels - 1) + size, stride * (pixels - 1) + size, kernel.shape[2]))
    for row in range(pixels):
        for column in range(pixels):
            added = np.einsum("nc,ijoc->nijo", x[:, row, column], kernel)
            whole[:, row * stride : row * stride + size, column * stride : column * stride + size] += added
    before = max(size - stride, 0) // 2
    return whole[:, before : before + stride * pixels, before : before + stride * pixels] + bias


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


class Weights:
    """Takes arrays one after another; those of a residual block come with its running moments from the end."""

    def __init__(self, arrays: Sequence[Array], norms: int) -> None:
        self.trained: Iterator[Array] = iter(arrays[: len(arrays) - 2 * norms])
        self.moments: Iterator[Array] = iter(arrays[len(arrays) - 2 * norms :])

    def two(self) -> tuple[Array, Array]:
        return next(self.trained), next(self.trained)

    def normalised(self, x: Array) -> Array:
        gamma, beta = self.two()
        mean, variance = next(self.moments), next(self.moments)
        y = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        return y * sigmoid(y)

    def residual(self, x: Array) -> Array:
        y = x
        for _ in range(2):
            y = self.layer(self.normalised(y))
        return y + self.layer(x)

    def layer(self, x: Array, stride: int = 1) -> Array:
        kernel, bias = self.two()
        return x @ kernel + bias if x.ndim == 2 else convolution(x, kernel, bias, stride)

    def transposed(self, x: Array) -> Array:
        return transposed_convolution(x, *self.two())


def random_arrays(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[:-1])))).astype(np.float32) for shape in shapes]


def residual_shapes(inputs: int, outputs: int, kernel: tuple[int, ...]) -> list[tuple[int, ...]]:
    main = [(inputs,), (inputs,), (*kernel, inputs, outputs), (outputs,)]
    main += [(outputs,), (outputs,), (*kernel, outputs, outputs), (outputs,)]
    return [*main, (*kernel, inputs, outputs), (outputs,)]


class SplitVAEInKeras:
    """A small SplitVAE: 16 px, two scales, base width 3, embedding of 8, 5 latents."""

    base, embedding, latents, pixels = 3, 8, 5, 16

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        base, embedding, latents, start = self.base, self.embedding, self.latents, 4 * self.base
        k = (3, 3)
        encoder = [(*k, channels, base), (base,), *residual_shapes(base, base, k)]
        encoder += [(*k, base, 2 * base), (2 * base,), *residual_shapes(2 * base, embedding, ())]
        moments = [(base,)] * 4 + [(2 * base,)] * 2 + [(embedding,)] * 2
        decoder = [(embedding, 16 * start), (16 * start,)]
        for width in (2 * base, base):
            decoder += [(*k, width, 2 * width), (width,), *residual_shapes(width, width, k)]
        decoder += [(*k, base, 2 * channels + 1), (2 * channels + 1,)]
        latent = [(embedding, latents), (latents,)] * 2 + [(latents, embedding), (embedding,)]
        self.encoder = random_arrays(encoder + moments, seed)
        self.latent = random_arrays(latent, seed + 1)
        self.decoder = random_arrays([*decoder, *[(2 * base,)] * 4, *[(base,)] * 4], seed + 2)
        for arrays, norms in ((self.encoder, 4), (self.decoder, 4)):
            for variance in arrays[len(arrays) - 2 * norms + 1 :: 2]:
                variance[:] = 0.5 + np.abs(variance)

    def encode(self, x: Array) -> tuple[Array, Array]:
        weights = Weights(self.encoder, 4)
        y = weights.residual(weights.layer(x, stride=2))
        y = weights.residual(weights.layer(y, stride=2).mean((1, 2)))
        mean_kernel, mean_bias, variance_kernel, variance_bias = self.latent[:4]
        return y @ mean_kernel + mean_bias, y @ variance_kernel + variance_bias

    def decode(self, z: Array) -> Array:
        weights = Weights(self.decoder, 4)
        y = weights.layer(z @ self.latent[4] + self.latent[5]).reshape(len(z), 4, 4, 4 * self.base)
        for _ in range(2):
            y = weights.residual(weights.transposed(y))
        return sigmoid(weights.layer(y))

    def save(self, path: Path, *, whole_model: bool = False, pieces: bool = False) -> None:
        """As Keras 2 saves nested models: groups named in attributes, empty ones among them."""
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights") if whole_model else file
            groups = {
                "input_1": [],
                "model": self.encoder,
                "model_1": self.latent,
                "sampling": [],
                "model_3": self.decoder,
                "tf.math.multiply": [],
            }
            root.attrs["layer_names"] = [name.encode() for name in groups]
            root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.15.0"
            # Alphabetical order, which HDF5 has by itself, is not the layers' order.
            for name, arrays in groups.items():
                group = root.create_group(name)
                names = [f"layer_{97 - number}/weight:0".encode() for number in range(len(arrays))]
                if pieces and names:
                    half = len(names) // 2
                    group.attrs["weight_names0"], group.attrs["weight_names1"] = names[:half], names[half:]
                else:
                    group.attrs["weight_names"] = names
                for weight, array in zip(names, arrays, strict=True):
                    group.create_dataset(weight.decode(), data=array)
