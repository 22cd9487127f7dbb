"""How samples come about, and a sheet of uncurated ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import as_tensor, batches, prior_latents, share, situation
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, AbstractLayeredDecoder, require
from latent_lab.latent.styles import repeat
from latent_lab.types import Images, ImageSource, Indices

STREAM = "evaluate/latents"
"""Name of the random stream of sample latents: the pictures of `sample` are the first ones that `evaluate` counts."""
OTHER_STREAM = "evaluate/other_latents"
"""Of the latents that take over where samples are mixed."""


def magnification(resolution: int, smallest: int = 64) -> int:
    """Factor by which sheets of small images are enlarged, so that each has at least `smallest` pixels per side."""
    return max(1, smallest // resolution)


@dataclass(frozen=True)
class Sampling:
    """Samples of the prior: all of them, the best of every group, or mixtures of two latents.

    The best are those whose latents z survive best: the largest cosine of z and encode(decode(z)), the Automodulator's
    rejection sampling. A mixture takes a second random latent from a layer on, as for its FID of mixtures.
    """

    seed: int
    keep_percent: int = 100
    """How many of each group are kept: this share, rounded down, and at least one."""
    group: int = 8
    """Samples in each group; of no effect where all are kept."""
    mix_at_layer: int | None = None
    """First layer of the second latent; none: one latent for all layers."""

    def __post_init__(self) -> None:
        if not 1 <= self.keep_percent <= 100:
            raise ValueError(f"keep_percent must be between 1 and 100 (all), got {self.keep_percent}")
        if self.group < 2:
            raise ValueError(f"group must be at least 2 samples, got {self.group}")
        if self.mix_at_layer is not None and self.keep_percent < 100:
            raise ValueError(
                "mix_at_layer and keep_percent below 100 exclude each other: a mixture has two latents, and encoding "
                "finds one"
            )

    @property
    def suffix(self) -> str:
        """What numbers of such samples are called besides: nothing, _keep25 (_keep25_of16 with other groups), _mix2."""
        if self.mix_at_layer is not None:
            return f"_mix{self.mix_at_layer}"
        if self.keep_percent == 100:
            return ""
        return f"_keep{self.keep_percent}" + (f"_of{self.group}" if self.group != 8 else "")

    @property
    def num_kept(self) -> int:
        """Samples that are kept of each group."""
        return max(1, self.group * self.keep_percent // 100)

    def check(self, model: AbstractDecoder, by: str) -> None:
        """Whether the model can be sampled so.

        Args:
            model: any decoder.
            by: who asks, for the message.

        Raises:
            TypeError: if it cannot encode or has no layers where that is needed.
            ValueError: if there is no such layer.
        """
        if self.keep_percent < 100:
            require(model, AbstractAutoencoder, by=f"{by} with keep_percent below 100")  # type: ignore[type-abstract]
        if self.mix_at_layer is not None:
            layered = require(model, AbstractLayeredDecoder, by=f"{by} with mix_at_layer")  # type: ignore[type-abstract]
            if not 0 < self.mix_at_layer < layered.num_layers:
                raise ValueError(
                    f"mix_at_layer must be between 1 and {layered.num_layers - 1}, the last layer of this model, so "
                    f"that both latents have layers, got {self.mix_at_layer}"
                )

    def describe(self) -> dict[str, Any]:
        """Plain data for a protocol."""
        described: dict[str, Any] = {"seed": self.seed, "stream": STREAM}
        if self.mix_at_layer is not None:
            described["mixed"] = f"latents of {STREAM} below layer {self.mix_at_layer}, of {OTHER_STREAM} from there on"
        if self.keep_percent < 100:
            described["kept"] = (
                f"{self.num_kept} of every {self.group}, those with the largest cosine of z and encode(decode(z))"
            )
        return described

    def draw(
        self, model: AbstractDecoder, num: int, batch_size: int, *, shared: bool
    ) -> Iterator[tuple[Images, Indices]]:
        """Samples 0 ... num - 1 in pieces, each sample the same on any number of ranks and with any batch size.

        Args:
            model: one that passes `check`.
            num: how many samples, counting those that are kept.
            batch_size: the largest number that is decoded at a time.
            shared: whether each rank draws its share or all of them.

        Yields:
            Images (n, C, R, R), float32, not clamped, and their numbers (n,).
        """
        if self.keep_percent < 100:
            yield from self._best(model, num, batch_size, shared)
            return
        for indices in batches(share(num) if shared else range(num), batch_size):
            yield self._decode(model, indices), as_tensor(indices)

    def _decode(self, model: AbstractDecoder, indices: range) -> Images:
        latents = prior_latents(model, self.seed, STREAM, indices)
        if self.mix_at_layer is None:
            return model.decode(latents).float()
        layered = require(model, AbstractLayeredDecoder, by="mix_at_layer")  # type: ignore[type-abstract]
        styles = repeat(latents, layered.num_layers).clone()
        styles[:, self.mix_at_layer :] = prior_latents(model, self.seed, OTHER_STREAM, indices).unsqueeze(1)
        return layered.decode_layers(styles).float()

    def _best(
        self, model: AbstractDecoder, num: int, batch_size: int, shared: bool
    ) -> Iterator[tuple[Images, Indices]]:
        encoder = require(model, AbstractAutoencoder, by="keep_percent")  # type: ignore[type-abstract]
        num_groups = -(-num // self.num_kept)
        for groups in batches(share(num_groups) if shared else range(num_groups), max(1, batch_size // self.group)):
            members = [range(group * self.group, (group + 1) * self.group) for group in groups]
            latents = torch.cat([prior_latents(model, self.seed, STREAM, one) for one in members])
            images = torch.cat([model.decode(part).float() for part in latents.split(batch_size)])
            codes = torch.cat([encoder.encode(part) for part in images.split(batch_size)])
            cosines = F.cosine_similarity(latents.float(), codes.float(), dim=1).view(len(groups), self.group)
            # Kept samples stay in the order in which they were drawn.
            kept = cosines.topk(self.num_kept, dim=1).indices.sort(dim=1).values
            rows = kept + self.group * torch.arange(len(groups), device=kept.device).unsqueeze(1)
            index = as_tensor(groups).unsqueeze(1) * self.num_kept + torch.arange(self.num_kept)
            wanted = index.flatten() < num
            yield images[rows.flatten()][wanted.to(images.device)], index.flatten()[wanted]


def draw_samples(model: AbstractDecoder, num: int, sampling: Sampling, batch_size: int) -> Images:
    """The first samples, (num, C, R, R), not clamped, on every rank."""
    return torch.cat([images for images, _ in sampling.draw(model, num, batch_size, shared=False)])


@dataclass(frozen=True)
class Sample(AbstractAnalysis):
    """Pictures of random latents, in the order in which they were drawn, none left out unless keep_percent says so."""

    name = "sample"
    requires = AbstractDecoder

    num: int = 64
    """How many pictures."""
    columns: int = 8
    """Pictures in each row of the sheet."""
    seed: int = 0
    """Of the latents; every seed and number gives the same picture on any number of devices."""
    batch_size: int = 64
    """Pictures decoded at a time."""
    keep_percent: int = 100
    """Share of every group of samples that is kept: those whose latents encode(decode(z)) finds best."""
    group: int = 8
    """Samples in each of these groups."""
    mix_at_layer: int | None = None
    """Layer from which on a second random latent takes over, in decoders with layers; null: none."""

    def __post_init__(self) -> None:
        for option in ("num", "columns", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"sample needs {option} of at least 1, got {getattr(self, option)}")
        self.sampling()

    def sampling(self) -> Sampling:
        """How the samples come about; impossible options are refused."""
        return Sampling(self.seed, self.keep_percent, self.group, self.mix_at_layer)

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers: `std`, the deviation over samples, averaged over pixels; near 0 means that all samples are alike.

        Raises:
            TypeError: if the model cannot be sampled as the options say.
            ValueError: if it has no layer `mix_at_layer`.
        """
        sampling = self.sampling()
        sampling.check(model, by=self.name)
        pictures = draw_samples(model, self.num, sampling, self.batch_size)
        sheet = enlarge(make_grid(pictures.cpu(), self.columns), magnification(model.resolution))
        deviation = pictures.clamp(-1.0, 1.0).std(0, correction=0).mean().item()
        protocol = {**situation(model), "num": self.num, **sampling.describe(), "curated": False}
        return Result(self.name, {f"std{sampling.suffix}": deviation}, protocol, {"samples": sheet})
