"""Perceptual path length: how fast pictures change along paths in latent space (Karras et al. 2019, section 4.1).

For two latents a, b and a share t: d(G(p(t)), G(p(t + eps))) / eps², where p is the space's own path from a to b and
d a perceptual distance. `full` draws t from [0, 1), `end` takes t = 0. The reported number is the mean of what lies
between the 1st and the 99th percentile over pairs. Units: perceptual distance per squared share of the path.

`RECIPES` holds the settings of NVIDIA's programs by the names of their numbers. Both take great circles in Z and
straight lines in W, as the spaces here do, compare pictures of at most 256 pixels that were never rounded, and add
in the decoder's layers the same noise at both ends of a step.

The published step of 1e-4 divides differences near float32's resolution by 1e-8: other batch sizes or devices round
differently and move single numbers by about 1e-4 of their value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.images import crop_face
from latent_lab.latent.interfaces import AbstractDecoder, AbstractNoisyDecoder
from latent_lab.metrics.functional.bootstrap import LEVEL, NUM_RESAMPLES, Interval, bootstrap
from latent_lab.types import Images, Indices, Latents, OtherImages, Scores

LARGEST_COMPARED = 256
"""Pixels per side above which NVIDIA's programs reduce what is compared."""

PathSpace = Literal["z", "w"]
"""Where paths run: z, the latents that the decoder takes, or w, what it maps them to first."""
PathSampling = Literal["full", "end"]
"""Where on the path speed is measured: at shares uniform on [0, 1), or at its start."""
PathNoise = Literal["stored", "pair", "batch"]
"""What layers add: the decoder's own noise, the same for all pictures; noise of each pair's own; or, as published,
noise that is drawn for each batch and shared by all its pairs."""
NOISE_BATCH = 16
"""Consecutive pairs that share noise of the kind "batch": as many as StyleGAN's program takes at a time."""

LayerNoise: TypeAlias = Callable[[torch.Size], Tensor]


@dataclass(frozen=True)
class PathRecipe:
    """Everything that a path length depends on beside the decoder; the defaults are what the variants have in common.

    What every recipe fixes: pairs of independent samples of the prior, without truncation; the mean between the 1st and
    the 99th percentile; float32; no rounding to 8 bits; reduction to 256 pixels, after the crop.
    """

    space: PathSpace = "z"
    """Where paths run."""
    sampling: PathSampling = "end"
    """Where on them."""
    crop: bool = False
    """Whether the middle of the face alone is compared."""
    epsilon: float = 1e-4
    """Length of a step."""
    noise: PathNoise = "pair"
    """What the decoder's layers add; always the same at both ends of a step."""
    clamp: bool = True
    """Whether pictures are clamped to [-1, 1], what a viewer sees, before they are compared."""
    num_pairs: int = 100_000
    """Pairs of latents."""
    distance: str = "lpips_vgg"
    """Perceptual distance that the recipe's name stands for: LPIPS 0.1 with the VGG16 trunk. NVIDIA's programs give it
    values in [0, 255], which are [-1, 1] times 127.5 plus 127.5, the same to the network."""
    name: str | None = None
    """Of a published recipe."""

    def __post_init__(self) -> None:
        for option, values in (
            ("space", ("z", "w")),
            ("sampling", ("full", "end")),
            ("noise", ("stored", "pair", "batch")),
        ):
            if getattr(self, option) not in values:
                raise ValueError(
                    f"{option} of a path length must be {', '.join(values)}, got {getattr(self, option)!r}"
                )
        if self.epsilon <= 0 or self.num_pairs < 1:
            raise ValueError(
                f"a path length needs a positive epsilon and at least 1 pair, got {self.epsilon} and {self.num_pairs}"
            )

    def label(self, symbol: str, distance: str) -> str:
        """Name of the number: `ppl2_wend`, or `ppl_z_end_crop_st_lpips_alex` of what is no published recipe.

        A published recipe with another distance or number of pairs bears them behind its name:
        `ppl2_wend_st_lpips_alex_2k`.

        Args:
            symbol: of the latent space that paths ran in.
            distance: name of the perceptual distance that was used.
        """
        published = RECIPES.get(self.name) if self.name is not None else None
        if published is None or symbol != self.space or replace(self, num_pairs=published.num_pairs) != published:
            return f"ppl_{symbol}_{self.sampling}{'_crop' if self.crop else ''}_{distance}"
        pairs = self.num_pairs
        count = f"_{pairs // 1000}k" if pairs % 1000 == 0 else f"_{pairs}"
        other_distance = "" if distance == self.distance else f"_{distance}"
        return f"{self.name}{other_distance}{'' if pairs == published.num_pairs else count}"

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {
            **({"recipe": self.name} if self.name else {}),
            "pairs": self.num_pairs,
            "epsilon": self.epsilon,
            "sampling": self.sampling,
            "crop": self.crop,
            "noise": f"shared by {NOISE_BATCH} pairs" if self.noise == "batch" else self.noise,
            "clamped": self.clamp,
            "trimmed": "1st to 99th percentile",
            "reduced": f"above {LARGEST_COMPARED} px by means of blocks",
        }


RECIPES: Mapping[str, PathRecipe] = {
    **{
        # StyleGAN (Karras et al. 2019): 100,000 pairs; the face crop also where there is no face.
        f"ppl_{space}{sampling}": PathRecipe(
            space, sampling, crop=True, noise="batch", clamp=False, name=f"ppl_{space}{sampling}"
        )
        for space in ("z", "w")
        for sampling in ("full", "end")
    },
    # StyleGAN2 and its successors (Karras et al. 2020): 50,000 pairs at the start of paths in W, whole pictures.
    "ppl2_wend": PathRecipe("w", "end", noise="batch", clamp=False, num_pairs=50_000, name="ppl2_wend"),
}
"""Published settings by the names that NVIDIA's programs give to the numbers: ppl_zfull, ppl_wfull, ppl_zend, ppl_wend
(StyleGAN) and ppl2_wend (StyleGAN2). StyleGAN2-ADA's cropped variants share names with the first four and are others:
50,000 pairs, and pictures reduced by the uncropped resolution, to 128 pixels of 1024."""


def reduce_for_comparison(images: Images) -> OtherImages:
    """Images of 512, 1024 ... pixels as 256 by means of blocks, as StyleGAN's program does after the crop; smaller ones
    as they are.
    """
    factor = images.shape[-1] // LARGEST_COMPARED
    return F.avg_pool2d(images, factor) if factor > 1 else images


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Float32 without shortcuts: no autocast, and products on a GPU with all of their digits."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def _decode_steps(decoder: AbstractDecoder, steps: Latents, noise: LayerNoise | None) -> Images:
    """Pictures of 2N latents, N starts of steps and their N ends, with the same noise at both ends."""
    if noise is None or not isinstance(decoder, AbstractNoisyDecoder) or not decoder.layer_noise:
        return decoder.decode(steps)
    pairs = len(steps) // 2

    def of_both_ends(shape: torch.Size) -> Tensor:
        maps = noise(torch.Size((pairs, *shape[1:])))
        return maps.expand(pairs, *shape[1:]).repeat(2, *(1,) * (len(shape) - 1))

    return decoder.decode_with_noise(steps, of_both_ends)


def path_distances(
    decoder: AbstractDecoder,
    distance: Callable[[Images, Images], Scores],
    a: Latents,
    b: Latents,
    t: Scores,
    *,
    epsilon: float = 1e-4,
    crop: bool = False,
    noise: LayerNoise | None = None,
) -> Scores:
    """d(G(p(t)), G(p(t + epsilon))) / epsilon² for each pair, (N,) float64; nothing is rounded to 8 bits.

    Args:
        decoder: G and its latent space, whose `interpolate` is p. It runs in float32, without autocast and TF32: the
            two pictures differ by less than those resolve.
        distance: perceptual distance of image batches.
        a: (N, D) starts.
        b: (N, D) ends.
        t: (N,) shares in [0, 1].
        epsilon: length of a step, published: 1e-4.
        crop: whether only the middle of the face is compared, as published for all images, also where there is no face.
        noise: draws what each noisy layer adds, for a shape (N, C, H, W) whose N are the pairs; what it gives for one
            row serves all of them. Both ends of a step get the same. None: the decoder's own noise, the same for all
            pictures. Decoders without layer noise do not ask for it.
    """
    space = decoder.latent_space
    with _full_precision(a.device):
        # One call for both ends of each step, so that both see the same arithmetic.
        steps = torch.cat([space.interpolate(a, b, t), space.interpolate(a, b, t + epsilon)])
        pictures = _decode_steps(decoder, steps, noise).float()
        if crop:
            pictures = crop_face(pictures)
        here, there = reduce_for_comparison(pictures).chunk(2)
        return distance(here, there).double() / epsilon**2


def trimmed_mean(values: Scores, lowest: float = 0.01, highest: float = 0.99) -> float:
    """Mean of the values between two quantiles, both included; the quantiles are values that occur.

    The lower quantile is rounded down to the next value that occurs and the upper one up, as StyleGAN's program does.

    Args:
        values: (N,), N at least 1.
        lowest: share below which values are dropped.
        highest: share above which values are dropped.

    Raises:
        ValueError: if there is no value.
    """
    if len(values) == 0:
        raise ValueError("a path length needs at least one pair of latents, got none")
    ordered = values.double().sort().values
    last = len(ordered) - 1
    low = ordered[math.floor(lowest * last)]
    high = ordered[math.ceil(highest * last)]
    return ordered[(ordered >= low) & (ordered <= high)].mean().item()


def path_length_interval(
    lengths: Scores, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """The interval of a path length: pairs are drawn anew, and what is drawn is trimmed anew.

    Args:
        lengths: (N,) of `path_distances`, N at least 1.
        level: share of the resampled values inside.
        num_resamples: number of resampled values.
        seed: of the resamples.

    Raises:
        ValueError: if there is no value.
    """
    if len(lengths) == 0:
        raise ValueError("a path length needs at least one pair of latents, got none")
    lengths = lengths.detach().double().cpu()

    def statistic(rows: Indices) -> float:
        return trimmed_mean(lengths[rows])

    return bootstrap(statistic, [len(lengths)], level=level, num_resamples=num_resamples, seed=seed)
