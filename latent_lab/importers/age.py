"""AGE's published networks: two files, each a whole pickled module of torch 0.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from latent_lab.importers.base import AbstractImporter, Converted, schedule_of
from latent_lab.importers.pickled_modules import read_pickled_module
from latent_lab.models import AGE
from latent_lab.networks.age import RESOLUTIONS, AGEEncoder, AGEGenerator

CLASSES = frozenset(
    {
        "models.base._netE_Base",
        "models.base._netG_Base",
        "torch.nn.modules.activation.LeakyReLU",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.activation.Tanh",
        "torch.nn.modules.batchnorm.BatchNorm2d",
        "torch.nn.modules.container.Sequential",
        "torch.nn.modules.conv.Conv2d",
        "torch.nn.modules.conv.ConvTranspose2d",
        "torch.nn.modules.pooling.AvgPool2d",
    }
)
"""What AGE's files may name; every one becomes an inert holder of its state."""

_PRIORS: Mapping[str, Literal["sphere", "gaussian"]] = {
    "sphere": "sphere",
    "gaussian": "gaussian",
    "normal": "gaussian",
}

_COUNTERS = ".num_batches_tracked"


@dataclass(frozen=True)
class AGEModules(AbstractImporter):
    """Pickled encoder and generator of AGE (.pth), such as celeba_e.pth with celeba_g.pth.

    The encoder's file is the one that is named. Nothing in either is run: see docs/importing_age.md. Resolution,
    latents, widths and channels are read off the tensors, the prior off the encoder. The recipe says what the published
    program did: its form of the KL.
    """

    name: ClassVar[str] = "age_modules"

    generator: str | None = None
    """File of the generator; null: the encoder's with _g for _e at its end, or netG for netE at its beginning."""

    def read(self, path: Path) -> AGE:
        """The model."""
        model = self.convert(path).model
        assert isinstance(model, AGE)
        return model

    def convert(self, path: Path) -> Converted:
        """The model, from both files, and what was dropped."""
        other = _generator_beside(path) if self.generator is None else Path(self.generator).expanduser()
        if not other.is_file():
            raise FileNotFoundError(f"there is no file {other} with the generator of {path}: name it by --generator")
        encoder = read_pickled_module(path, CLASSES)
        generator = read_pickled_module(other, CLASSES)
        encoder_state, generator_state = _known(encoder.tensors), _known(generator.tensors)
        resolution = _resolution(encoder_state, AGEEncoder, f"the encoder of {path}")
        if resolution != _resolution(generator_state, AGEGenerator, f"the generator of {other}"):
            raise ValueError(f"{path} and {other} are of different resolutions: name the generator by --generator")
        noise = encoder.settings.get("noise", "sphere")
        if noise not in _PRIORS:
            raise ValueError(f"the encoder of {path} has a prior {noise!r}, where sphere or gaussian belongs")
        first, start = encoder_state["main.0.weight"], generator_state["main.0.weight"]
        if first.ndim != 4 or start.ndim != 4:
            raise ValueError(f"the first layers of {path} and {other} are no convolutions: they are other networks")
        model = AGE(
            schedule_of(resolution),
            latent_dim=start.shape[0],
            encoder_width=first.shape[0],
            generator_width=max(1, start.shape[1] // (8 if resolution == 32 else resolution // 8)),
            prior=_PRIORS[noise],
            kl_form="age",
            image_channels=first.shape[1],
        )
        _load(model.encoder, encoder_state, f"the encoder of {path}")
        _load(model.generator, generator_state, f"the generator of {other}")
        counters = [name for one in (encoder, generator) for name in one.tensors if name.endswith(_COUNTERS)]
        dropped = [f"{len(counters)} counters *{_COUNTERS} (decide nothing)"] if counters else []
        return Converted(model, dropped, [other])


def _generator_beside(path: Path) -> Path:
    """Named after the encoder's file as the published ones and those of the training program are."""
    if path.stem.endswith("_e"):
        return path.with_name(f"{path.stem[:-1]}g{path.suffix}")
    if path.name.startswith("netE"):
        return path.with_name(f"netG{path.name[4:]}")
    raise ValueError(f"the name of {path} does not tell where the generator is: name its file by --generator")


def _known(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the counters that later versions of torch keep beside running moments, and that decide nothing."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTERS)}


def _resolution(state: Mapping[str, Tensor], network: type[AGEEncoder | AGEGenerator], what: str) -> int:
    """The one whose network has exactly these tensors.

    Raises:
        ValueError: if there is none; the sentence names a tensor that is missing or should not be there.
    """
    names = {resolution: network(1, resolution, base_width=1).state_dict().keys() for resolution in RESOLUTIONS}
    closest = min(names, key=lambda resolution: len(names[resolution] ^ state.keys()))
    missing, extra = names[closest] - state.keys(), state.keys() - names[closest]
    if missing:
        raise ValueError(f"{what} lacks {min(missing)}, which the network of {closest} px has: it is another network")
    if extra:
        raise ValueError(f"{what} has {min(extra)}, which the network of {closest} px has not: it is another network")
    return closest


def _load(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Every tensor, once its shape and values are found good."""
    for name, wanted in network.state_dict().items():
        if state[name].shape != wanted.shape:
            raise ValueError(
                f"{what}: {name} has shape {tuple(state[name].shape)} where {tuple(wanted.shape)} belongs: it is "
                "another network"
            )
        if not state[name].isfinite().all():
            raise ValueError(f"{what}: {name} has values that are not finite")
    network.load_state_dict(state)
