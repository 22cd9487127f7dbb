"""The vanilla VAE of the comparison of latent spaces, as a list of Keras's arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from latent_lab.importers.base import AbstractImporter, schedule_of
from latent_lab.importers.keras_arrays import Flattened, read_npz, state_from
from latent_lab.models import GammaVAE
from latent_lab.models.base import AdamSettings


@dataclass(frozen=True)
class GammaVAETensors(AbstractImporter):
    """Arrays of the vanilla VAE (.npz) in its layers' order, kernel before bias.

    Encoder convolutions, mean, log-variance; decoder: dense layer, transposed convolutions, convolution. Widths,
    latents, channels and resolution are read off the shapes. The recipe says how it was trained: binary cross-entropy
    and the running minimum, whose value no published file holds.
    """

    name: ClassVar[str] = "gamma_vae_tensors"

    def read(self, path: Path) -> GammaVAE:
        """The model."""
        arrays = read_npz(path)
        kernels = arrays[::2]
        halvings = next((number for number, kernel in enumerate(kernels) if kernel.ndim != 4), 0)
        # The heads, the decoder's dense layer, at least one transposed convolution, and the last one.
        if (
            halvings < 1
            or len(kernels) < halvings + 5
            or [k.ndim for k in kernels[halvings:]]
            != [
                *[2] * 3,
                *[4] * (len(kernels) - halvings - 3),
            ]
        ):
            raise ValueError(
                f"{path} is not the vanilla VAE: its {len(arrays)} arrays are not those of convolutions, three dense "
                "layers, transposed convolutions and a convolution, kernel before bias"
            )
        encoder_kernels, head, rest = kernels[:halvings], kernels[halvings], kernels[halvings + 3 :]
        widths = [kernel.shape[3] for kernel in encoder_kernels]
        resolution = math.isqrt(head.shape[0] // widths[-1]) * 2**halvings
        try:
            model = GammaVAE(
                schedule_of(resolution),
                latent_dim=head.shape[1],
                encoder_widths=widths,
                decoder_widths=[rest[0].shape[3], *(kernel.shape[2] for kernel in rest[:-1])],
                gamma_rule="running_min",
                reconstruction="bce",
                adam=AdamSettings(beta1=0.9, beta2=0.999, epsilon=1e-7),
                image_channels=encoder_kernels[0].shape[2],
            )
        except ValueError as error:
            raise ValueError(f"{path} is not the vanilla VAE: {error}") from error
        split = 2 * (halvings + 2)
        flat = Flattened(widths[-1], inputs=True)
        heads = {"mean": flat, "log_variance": flat}
        model.encoder.load_state_dict(state_from(model.encoder, arrays[:split], f"the encoder of {path}", heads))
        dense = {"dense.0": Flattened(rest[0].shape[3], inputs=False)}
        model.decoder.load_state_dict(state_from(model.decoder, arrays[split:], f"the decoder of {path}", dense))
        return model
