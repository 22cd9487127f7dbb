"""Decoder of the Automodulator (Heljakka, Hou, Kannala, Solin: "Deep Automodulators", NeurIPS 2020).

The decoder's only input is style: one latent for each block scales and shifts the feature maps of a network that is fed
with ones, so that parts of several images' codes can be joined at any resolution. The encoder is `PioneerEncoder`
without its last activation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from latent_lab.growth import FIRST_RESOLUTION
from latent_lab.networks.layers import EqualizedLinear
from latent_lab.networks.modulation import AdaIN, Noise, StyledConvolution, Upsampling, upsample
from latent_lab.networks.pioneer import check_phase, check_widths, published_widths
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents, Styles


def published_decoder_widths(latent_dim: int, resolution: int, *, small: bool = False) -> list[int]:
    """Channels at 4, 8, ... `resolution` pixels: D up to 64 pixels, then halved with every doubling.

    Args:
        latent_dim: D.
        resolution: pixels per side.
        small: halving begins after 32 pixels (the published CelebA-HQ model), as in the encoder.
    """
    narrow = published_widths(latent_dim, resolution)
    return narrow if small else [latent_dim, *narrow[:-1]]


class AutomodulatorDecoder(nn.Module):
    """Unit codes, one for each block, to an image; linear output.

    Block 0 works at 4 x 4 pixels: ones -> 3x3 convolution -> leaky ReLU -> AdaIN; the zeros around the ones are the
    only source of spatial variation. Each further block doubles the resolution: nearest upsampling -> convolution ->
    blur -> layer noise -> leaky ReLU -> AdaIN -> convolution -> layer noise -> leaky ReLU -> AdaIN. Every block has a
    1x1 convolution to colours of its own.

    All blocks exist from the start; `phase` and `alpha` say which take part. Phase p always means 4 * 2^p pixels.
    Decoding may be cut between any two blocks: `modulate` runs blocks begin ... end - 1, `forward` the rest.

    Args:
        latent_dim: D.
        resolution: largest number of pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default `published_decoder_widths`.
        small: of the published widths, see there.
        layer_noise: learned scales, one for each channel and convolution beyond block 0, of noise that is independent
            for every sample, channel and pixel (StyleGAN: one plane for all channels). It is added where the caller
            passes a source of noise.
        upsampling: nearest, or the published bilinear form, in which blocks have no blur and, by a slip in its list of
            layers, the first noise comes after the activation.
        mapping_layers: dense layers between a code and the AdaIN layers, 0 to 8; published: 0, optionally 1.
        epsilon: added to AdaIN's variance; 0 in the published program, which divides by zero for constant maps.
        support_block: a place l >= 1 in the list of blocks at which one block more is inserted, for the experiment on
            flip invariance (published: 2). It has the resolution and width of block l - 1 and joins together with it,
            so that from phase l - 1 on the newest block is p + 1; the published program has it join later, in a stage
            of its own. As published, there is no layer noise in a decoder with a support block.
        fade_matching: in a fade, the coarse image is given each sample's and channel's mean and deviation of the fine
            one (the published option gnn).
        channels: of the image.

    Raises:
        ValueError: if widths do not fit the resolution, or support_block or mapping_layers are out of range.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] | None = None,
        small: bool = False,
        layer_noise: bool = True,
        upsampling: Upsampling = "nearest",
        mapping_layers: int = 0,
        epsilon: float = 1e-8,
        support_block: int | None = None,
        fade_matching: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths(widths or published_decoder_widths(latent_dim, resolution, small=small), resolution)
        if support_block is not None and not 1 <= support_block <= len(widths):
            raise ValueError(
                f"support_block must be a place from 1 to {len(widths)} in the list of {len(widths)} blocks, or null "
                f"(none), got {support_block}"
            )
        if not 0 <= mapping_layers <= 8:
            raise ValueError(f"mapping_layers must be a number from 0 to 8, got {mapping_layers}")
        self.first_width = widths[0]
        self.upsampling: Upsampling = upsampling
        self.support_block = support_block
        self.fade_matching = fade_matching

        convolution = functools.partial(
            StyledConvolution,
            latent_dim=latent_dim,
            adain=functools.partial(AdaIN, epsilon=epsilon, unbiased=True, initial_shift=1.0),
        )

        def block(below: int, width: int, upsampling_here: Upsampling | None) -> nn.ModuleList:
            noise = layer_noise and support_block is None
            first = convolution(
                below,
                width,
                upsampling=upsampling_here,
                blur=upsampling == "nearest",
                layer_noise=noise,
                noise_after_activation=upsampling == "bilinear",
            )
            return nn.ModuleList([first, convolution(width, width, layer_noise=noise)])

        blocks = [nn.ModuleList([convolution(widths[0], widths[0])])]
        blocks += [block(below, width, upsampling) for below, width in pairwise(widths)]
        resolutions = [FIRST_RESOLUTION * 2**phase for phase in range(len(widths))]
        if support_block is not None:
            width = widths[support_block - 1]
            blocks.insert(support_block, block(width, width, None))
            widths.insert(support_block, width)
            resolutions.insert(support_block, resolutions[support_block - 1])
        self.block_resolutions = tuple(resolutions)
        """Pixels per side at which each block works."""
        self.mapping = nn.Sequential()
        for _ in range(mapping_layers):
            self.mapping.extend([EqualizedLinear(latent_dim, latent_dim, 0.01), nn.LeakyReLU(0.2)])
        self.blocks = nn.ModuleList(blocks)
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def active_blocks(self, phase: int) -> int:
        """Number of blocks that take part in a phase, and so the last cut: p + 1, or p + 2 with the support block.

        Raises:
            ValueError: if the network does not reach this phase.
        """
        check_phase(phase, len(set(self.block_resolutions)))
        with_support = self.support_block is not None and phase >= self.support_block - 1
        return phase + 1 + with_support

    def affine_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of all AdaIN layers, the only ones through which latents act."""
        return [
            parameter for module in self.modules() if isinstance(module, AdaIN) for parameter in module.parameters()
        ]

    def forward(
        self,
        styles: Styles | Latents,
        phase: int,
        alpha: float | Tensor = 1.0,
        noise: Noise | None = None,
        *,
        begin: int = 0,
        content: Tensor | None = None,
    ) -> Images:
        """Images (N, C, R, R) with R = 4 * 2^phase, float32 or wider.

        Args:
            styles: (N, L, D) unit rows, one for each block (those of inactive blocks may be missing and are not looked
                at), or (N, D): the same for all blocks.
            phase: number of doublings from 4 pixels.
            alpha: weight of the newest resolution against the one below it, in [0, 1].
            noise: draws layer noise; none: there is none.
            begin: first block to run.
            content: features (N, C', H', W') after block begin - 1; none: decoding begins with block 0.

        Raises:
            ValueError: as for `modulate`, or if a fade is to begin behind the blocks that fade in.
        """
        active = self.active_blocks(phase)
        if phase == 0 or (not isinstance(alpha, Tensor) and alpha >= 1.0):
            features = self.modulate(styles, noise, begin=begin, content=content, phase=phase)
            return at_least_float(self.to_rgb[active - 1](features))
        newest = self.block_resolutions.index(FIRST_RESOLUTION * 2**phase)
        if begin > newest:
            raise ValueError(
                f"blocks from {newest} on are fading in, which needs the features that enter block {newest}: got "
                f"those that enter block {begin}"
            )
        below = self.modulate(styles, noise, begin=begin, end=newest, content=content, phase=phase)
        features = self.modulate(styles, noise, begin=newest, content=below, phase=phase)
        fine = at_least_float(self.to_rgb[active - 1](features))
        # A 1x1 convolution commutes with upsampling, and the small image is cheaper to convolve.
        coarse = upsample(at_least_float(self.to_rgb[newest - 1](below)), self.upsampling)
        if self.fade_matching:
            coarse = _matched(coarse, fine)
        return torch.lerp(coarse, fine, alpha)

    def modulate(
        self,
        styles: Styles | Latents,
        noise: Noise | None = None,
        *,
        begin: int = 0,
        end: int | None = None,
        content: Tensor | None = None,
        phase: int,
    ) -> Tensor:
        """Features after the last AdaIN of block end - 1; the content itself where begin >= end.

        modulate(z, end=l) followed by modulate(z, begin=l, content=...) is the same as no cut at all.

        Args:
            styles: as for `forward`; L may end with the last block that is run.
            noise: as for `forward`.
            begin: first block to run.
            end: block before which to stop; none, or more than there are: all that are active in this phase.
            content: features (N, C', H', W') after block begin - 1; none: the ones that enter block 0.
            phase: as for `forward`.

        Raises:
            ValueError: if styles are missing for a block, or content for a begin behind block 0.
        """
        if content is None:
            if begin > 0:
                raise ValueError(f"decoding from block {begin} on needs the features after block {begin - 1} (content)")
            content = styles.new_ones(len(styles), self.first_width, FIRST_RESOLUTION, FIRST_RESOLUTION)
        active = self.active_blocks(phase)
        end = active if end is None else min(end, active)
        latents = self.mapping(styles)
        if styles.ndim == 3 and styles.shape[1] < end:
            raise ValueError(
                f"styles must hold a latent for each of {end} blocks, got {styles.shape[1]}: pass (N, L, D) with "
                f"L >= {end}, or (N, D) for one latent in all of them"
            )
        for number in range(begin, end):
            latents_here = latents[:, number] if styles.ndim == 3 else latents
            for convolution in self.blocks[number]:  # type: ignore[attr-defined]  # a ModuleList
                content = convolution(content, latents_here, noise)
        return content


def _matched(images: Images, like: Images) -> Images:
    """Images with the mean and deviation over pixels that each sample's channel has in `like`."""
    variance, mean = torch.var_mean(images, (2, 3), correction=0, keepdim=True)
    variance_wanted, mean_wanted = torch.var_mean(like, (2, 3), correction=0, keepdim=True)
    # Added on both sides: equal images stay as they are, and constant ones are no division by zero.
    ratio = ((variance_wanted + 1e-8) / (variance + 1e-8)).sqrt()
    return (images - mean) * ratio + mean_wanted
