"""SplitVAE as its authors publish it: a legacy Keras HDF5 file of three networks, encoder, latent part and decoder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from latent_lab.growth import FIRST_RESOLUTION
from latent_lab.importers.base import AbstractImporter, schedule_of
from latent_lab.importers.keras_arrays import Arrays, Flattened, read_hdf5, state_from
from latent_lab.models import SplitVAE

_PER_SCALE = 16
"""Arrays of a scale of either network: a convolution (2), a residual block (10) and its running moments (4)."""
_AROUND_THE_SCALES = 4
"""Arrays of the decoder beside its scales: the dense layer and the last convolution."""
_LATENT = 6
_LARGEST_WIDTH = 1024


@dataclass(frozen=True)
class SplitVAEKeras(AbstractImporter):
    """SplitVAE's Keras weights (HDF5): widths, latents, channels and resolution are read off the shapes.

    The file does not hold gamma, whose balance starts anew where training goes on.
    """

    name: ClassVar[str] = "split_vae_keras"

    kl_weight: float = 3.0
    """beta of the recipe, for further training; published: CelebA and CIFAR-10 3, MNIST 8."""

    def read(self, path: Path) -> SplitVAE:
        """The model; a warning if mean and log-variance look exchanged."""
        groups = read_hdf5(path)
        counts = ", ".join(f"{name} {len(arrays)}" for name, arrays in groups.items()) or "none"
        if len(groups) != 3:
            raise ValueError(
                f"{path} is not a SplitVAE's: it has {len(groups)} groups with arrays ({counts}), where encoder, "
                "latent part and decoder belong"
            )
        encoder, latent, decoder = groups.values()
        doublings, odd = divmod(len(decoder) - _AROUND_THE_SCALES, _PER_SCALE)
        num_scales, rest = divmod(len(encoder), _PER_SCALE)
        if odd or rest or min(doublings, num_scales) < 1 or len(latent) != _LATENT:
            raise ValueError(
                f"{path} is not a SplitVAE's: its groups hold {counts} arrays, where a multiple of {_PER_SCALE}, "
                f"{_LATENT}, and {_AROUND_THE_SCALES} more than a multiple of {_PER_SCALE} belong"
            )
        model = self._model(path, encoder, latent, decoder, num_scales, doublings)
        dense = {"dense": Flattened(model.decoder.unflatten.unflattened_size[0], inputs=False)}
        model.encoder.load_state_dict(state_from(model.encoder, encoder, f"the encoder of {path}"))
        model.bottleneck.load_state_dict(state_from(model.bottleneck, latent, f"the latent part of {path}"))
        model.decoder.load_state_dict(state_from(model.decoder, decoder, f"the decoder of {path}", dense))
        _warn_if_heads_look_exchanged(model, path)
        return model

    def _model(
        self, path: Path, encoder: Arrays, latent: Arrays, decoder: Arrays, num_scales: int, doublings: int
    ) -> SplitVAE:
        first, head, dense = encoder[0], latent[0], decoder[0]
        if first.ndim != 4 or head.ndim != 2 or dense.ndim != 2:
            raise ValueError(
                f"{path} is not a SplitVAE's: its networks begin with arrays of shapes {first.shape}, {head.shape} and "
                f"{dense.shape}, where those of a convolution and of two dense layers belong"
            )
        base_dim, start = first.shape[3], dense.shape[1] // FIRST_RESOLUTION**2
        capped = start < base_dim * 2**doublings
        return SplitVAE(
            schedule_of(FIRST_RESOLUTION * 2**doublings),
            latent_dim=head.shape[1],
            base_dim=base_dim,
            num_scales=num_scales,
            embedding_dim=head.shape[0],
            max_width=start if capped else max(start, _LARGEST_WIDTH),
            kl_weight=self.kl_weight,
            image_channels=first.shape[2],
        )


def _warn_if_heads_look_exchanged(model: SplitVAE, path: Path) -> None:
    """Mean and log-variance have equal shapes; but posteriors are seldom wider than the prior."""
    pixels = (-1, model.channels, model.resolution, model.resolution)
    greys = torch.linspace(-1, 1, 16).reshape(-1, 1, 1, 1).expand(pixels)
    with torch.no_grad():
        posterior = model.eval().posterior(greys)

    def too_wide(log_variance: torch.Tensor) -> float:
        return (log_variance > 0.4).float().mean().item()

    if too_wide(posterior.variance.log()) > 0.1 and too_wide(posterior.mean) < 0.01:
        warnings.warn(
            f"the log-variances of {path} are often far above 0 and its means never: they may be exchanged in this "
            "file",
            stacklevel=3,
        )
