"""The vanilla GAN of the comparison of latent spaces, as a list of Keras's arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from latent_lab.importers.base import AbstractImporter, schedule_of
from latent_lab.importers.keras_arrays import Flattened, read_npz, state_from
from latent_lab.models import GAN
from latent_lab.models.base import AdamSettings


@dataclass(frozen=True)
class GANTensors(AbstractImporter):
    """Arrays of the vanilla GAN (.npz) in its layers' order, kernel before bias.

    Discriminator convolutions and its dense layer; then the generator: dense layer, transposed convolutions,
    convolution. Widths, latents, channels and resolution are read off the shapes. The published discriminator tells the
    probability of a fake, and the recipe says so.
    """

    name: ClassVar[str] = "gan_tensors"

    def read(self, path: Path) -> GAN:
        """The model."""
        arrays = read_npz(path)
        kernels = arrays[::2]
        halvings = next((number for number, kernel in enumerate(kernels) if kernel.ndim != 4), 0)
        # The discriminator's dense layer, the generator's, at least one transposed convolution, and the last one.
        if (
            halvings < 1
            or len(kernels) < halvings + 4
            or [k.ndim for k in kernels[halvings:]]
            != [
                *[2] * 2,
                *[4] * (len(kernels) - halvings - 2),
            ]
        ):
            raise ValueError(
                f"{path} is not the vanilla GAN: its {len(arrays)} arrays are not those of convolutions, two dense "
                "layers, transposed convolutions and a convolution, kernel before bias"
            )
        judge, start, rest = kernels[halvings], kernels[halvings + 1], kernels[halvings + 2 :]
        widths = [kernel.shape[3] for kernel in kernels[:halvings]]
        resolution = math.isqrt(judge.shape[0] // widths[-1]) * 2**halvings
        try:
            model = GAN(
                schedule_of(resolution),
                latent_dim=start.shape[0],
                generator_widths=[kernel.shape[2] for kernel in rest[:-1]],
                discriminator_widths=widths,
                start_channels=rest[0].shape[3],
                label_convention="fake_is_one",
                adam=AdamSettings(beta1=0.9, beta2=0.999, epsilon=1e-7),
                image_channels=kernels[0].shape[2],
            )
        except ValueError as error:
            raise ValueError(f"{path} is not the vanilla GAN: {error}") from error
        split = 2 * (halvings + 1)
        dense = {"dense": Flattened(widths[-1], inputs=True)}
        model.discriminator.load_state_dict(
            state_from(model.discriminator, arrays[:split], f"the discriminator of {path}", dense)
        )
        dense = {"dense": Flattened(rest[0].shape[3], inputs=False)}
        model.generator.load_state_dict(state_from(model.generator, arrays[split:], f"the generator of {path}", dense))
        return model
