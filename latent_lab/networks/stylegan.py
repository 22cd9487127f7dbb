"""Mapping, synthesis and discriminator of StyleGAN's first version (Karras, Laine, Aila: "A Style-Based Generator
Architecture for Generative Adversarial Networks", CVPR 2019), as in the program NVlabs/stylegan.

All blocks exist from the start; `phase` and `alpha` say which take part. Phase p means 4 * 2^p pixels. What the program
calls the level of detail of a network for R pixels is log2(R) - 2 - p, and 1 - alpha more while block p fades in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab.growth import FIRST_RESOLUTION, phase_of
from latent_lab.latent.styles import repeat
from latent_lab.networks.layers import EqualizedConv2d, EqualizedLinear, PixelNorm
from latent_lab.networks.modulation import AdaIN, Noise, blur, upsample
from latent_lab.networks.pioneer import check_widths
from latent_lab.networks.strided import at_least_float
from latent_lab.types import Images, Latents, Scores, Styles

FUSED_FROM = 128
"""Pixels from which on the published networks convolve and change the resolution in one step."""


def published_stylegan_widths(resolution: int) -> list[int]:
    """Channels at 4, 8, ... `resolution` pixels: 512 up to 32 pixels, then halved with every doubling."""
    return [min(512, 16384 // (FIRST_RESOLUTION << phase)) for phase in range(phase_of(resolution) + 1)]


# Convolutions that change the resolution


class UpConvolution(EqualizedConv2d):
    """Nearest upsampling, 3x3 convolution, blur.

    Fused, the first two are one transposed convolution whose 4x4 kernel is the sum of the 3x3 kernel's four shifts. It
    is what the plain form does with the kernel turned by 180 degrees, borders included, so weights are good for the
    form that they were trained in.

    Args:
        inputs: channels.
        outputs: channels.
        fused: which form.
        bias: whether there is one, before the blur.
    """

    def __init__(self, inputs: int, outputs: int, *, fused: bool, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)
        self.fused = fused

    def forward(self, features: Images) -> Tensor:
        """(N, C, H, W) -> (N, C', 2 H, 2 W)."""
        weight = self.weight * self.scale
        if self.fused:
            kernel = 4.0 * _mean_of_shifts(weight).transpose(0, 1)
            return blur(F.conv_transpose2d(features, kernel, self.bias, stride=2, padding=1))
        return blur(self._conv_forward(upsample(features, "nearest"), weight, self.bias))


class DownConvolution(EqualizedConv2d):
    """Blur, 3x3 convolution, 2x2 means.

    Fused, the last two are one convolution of stride 2 whose 4x4 kernel is the mean of the 3x3 kernel's four shifts;
    both forms are equal.

    Args:
        inputs: channels.
        outputs: channels.
        fused: which form.
    """

    def __init__(self, inputs: int, outputs: int, *, fused: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.fused = fused

    def forward(self, features: Images) -> Tensor:
        """(N, C, H, W) -> (N, C', H / 2, W / 2)."""
        weight = self.weight * self.scale
        if self.fused:
            return F.conv2d(blur(features), _mean_of_shifts(weight), self.bias, stride=2, padding=1)
        return F.avg_pool2d(self._conv_forward(blur(features), weight, self.bias), 2)


def _mean_of_shifts(weight: Float[Tensor, "O I 3 3"]) -> Float[Tensor, "O I 4 4"]:
    """Mean of a kernel's four places in a square that is one pixel larger."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1)


# Generator


class StyleGANMapping(nn.Module):
    """Z to W: the latent with unit mean square, then dense layers that learn a hundred times slower (multiplier 0.01),
    each with leaky ReLU (slope 0.2).

    Args:
        latent_dim: D of both spaces.
        layers: number of dense layers; published: 8, and 0, 1, 2 in the study of depth. With 0, W is Z's sphere of
            radius sqrt(D).

    Raises:
        ValueError: if the number of layers is negative.
    """

    def __init__(self, latent_dim: int, layers: int = 8) -> None:
        super().__init__()
        if layers < 0:
            raise ValueError(f"mapping_layers must not be negative, got {layers}: published are 8, 2, 1 and 0")
        self.layers = nn.Sequential()
        for _ in range(layers):
            dense = EqualizedLinear(latent_dim, latent_dim, 0.01, scaled_bias=True)
            self.layers.extend([dense, nn.LeakyReLU(0.2)])

    def forward(self, latents: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Points of W, float32 or wider, of latents (N, D) or one for every layer (N, L, D)."""
        # Few numbers on which every pixel depends: half precision would save nothing and cost much.
        with torch.autocast(latents.device.type, enabled=False):
            latents = at_least_float(latents)
            return self.layers(latents * torch.rsqrt(latents.square().mean(-1, keepdim=True) + 1e-8))


class StyleGANLayer(nn.Module):
    """Convolution, noise, bias, leaky ReLU (slope 0.2), normalisation, in this order.

    The noise is one plane for all channels, each of which has a learned scale, at first 0. The normalisation is AdaIN:
    to unit variance over each map's pixels, then 1 + s times that, plus b, with (s, b) an equalised dense layer of w;
    without style it is the pixel norm of the traditional generator.

    Args:
        convolution: its channels are the layer's.
        channels: C.
        latent_dim: D.
        styles: whether w acts through this layer.
        layer_noise: whether there are scales of noise.
        bias: whether there is one, beside the convolution's.
        epsilon: added to the variance by AdaIN.
    """

    bias: nn.Parameter | None
    noise_scale: nn.Parameter | None

    def __init__(
        self,
        convolution: nn.Module,
        channels: int,
        latent_dim: int,
        *,
        styles: bool,
        layer_noise: bool,
        bias: bool = True,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if bias else None)
        self.register_parameter("noise_scale", nn.Parameter(torch.zeros(channels)) if layer_noise else None)
        self.adain = AdaIN(latent_dim, channels, epsilon, equalized=True) if styles else None
        self.pixel_norm = PixelNorm()

    def forward(self, features: Tensor, latents: Latents, noise: Float[Tensor, "_ 1 _ _"] | None) -> Tensor:
        """Features (N, C, H', W').

        Args:
            features: (N, C', H, W).
            latents: (N, D) of W; without styles they have no effect.
            noise: (N, 1, H', W'), or (1, 1, H', W') for all samples; none: none is added.
        """
        features = self.convolution(features)
        if noise is not None and self.noise_scale is not None:
            features = features + self.noise_scale[:, None, None] * noise
        if self.bias is not None:
            features = features + self.bias[:, None, None]
        features = F.leaky_relu(features, 0.2)
        return self.adain(features, latents) if self.adain is not None else self.pixel_norm(features)


class StyleGANSynthesis(nn.Module):
    """Points of W, one for every layer, to an image; linear output.

    Two layers for each resolution. At 4 pixels: the learned constant (or a dense layer of w), then a convolution. Each
    further block: `UpConvolution`, then a convolution. Every block has a 1x1 convolution to colours.

    The arms of the paper's table 1 (A is Progressive GAN, another program):

    | arm | styles | constant_input | layer_noise | mapping layers | mixing |
    |---|---|---|---|---|---|
    | B tuned baseline | no | no | no | 0 | no |
    | C mapping and styles | yes | no | no | 8 | no |
    | D constant input | yes | yes | no | 8 | no |
    | E noise | yes | yes | yes | 8 | no |
    | F mixing | yes | yes | yes | 8 | 0.9 |

    and those of the study of the mapping: "traditional" is B with 0 or 8 mapping layers, "style-based" is F with 0, 1,
    2 or 8.

    Args:
        latent_dim: D.
        resolution: largest number of pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default `published_stylegan_widths`.
        styles: whether w acts through every layer; otherwise through the dense input alone.
        constant_input: whether the first layer starts from a learned constant.
        layer_noise: whether layers add noise.
        fused_from: pixels from which on upsampling and convolution are one step.
        bias_before_blur: whether biases of layers that upsample stand before the blur, which weakens them at the
            border, instead of behind the noise.
        epsilon: added to variances by AdaIN.
        channels: of the image.

    Raises:
        ValueError: if widths do not fit the resolution, or w would act nowhere.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        *,
        widths: Sequence[int] | None = None,
        styles: bool = True,
        constant_input: bool = True,
        layer_noise: bool = True,
        fused_from: int = FUSED_FROM,
        bias_before_blur: bool = False,
        epsilon: float = 1e-8,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if constant_input and not styles:
            raise ValueError("without styles and with a constant input latents act nowhere: make constant_input false")
        widths = check_widths(widths or published_stylegan_widths(resolution), resolution)
        self.styles = styles
        self.layer_noise = layer_noise

        def layer(convolution: nn.Module, width: int, *, bias: bool = True) -> StyleGANLayer:
            return StyleGANLayer(
                convolution, width, latent_dim, styles=styles, layer_noise=layer_noise, bias=bias, epsilon=epsilon
            )

        def plain(width: int) -> nn.Module:
            return EqualizedConv2d(width, width, 3, padding=1, bias=False)

        first = widths[0]
        shape = (first, FIRST_RESOLUTION, FIRST_RESOLUTION)
        self.constant = nn.Parameter(torch.ones(shape)) if constant_input else None
        # A quarter of the usual deviation, as in Progressive GAN.
        self.dense = (
            None if constant_input else EqualizedLinear(latent_dim, math.prod(shape), variance=2.0 / 16, bias=False)
        )
        layers = [layer(nn.Identity(), first), layer(plain(first), first)]
        for phase, (below, width) in enumerate(pairwise(widths), start=1):
            fused = FIRST_RESOLUTION * 2**phase >= fused_from
            up = UpConvolution(below, width, fused=fused, bias=bias_before_blur)
            layers += [layer(up, width, bias=not bias_before_blur), layer(plain(width), width)]
        self.layers = nn.ModuleList(layers)
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1, variance=1.0) for width in widths)
        self.pixels = tuple(FIRST_RESOLUTION * 2 ** (number // 2) for number in range(len(layers)))
        """Pixels per side at which each layer works."""
        if layer_noise:
            for number, side in enumerate(self.pixels):
                self.register_buffer(f"noise_{number}", torch.empty(1, 1, side, side).normal_())

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """Pixels per side at which w acts: one entry for each layer with style, or one for the dense input."""
        return self.pixels if self.styles else self.pixels[:1]

    def active_layers(self, phase: int) -> int:
        """Number of layers that take a style in a phase."""
        return 2 * (phase + 1) if self.styles else 1

    def forward(
        self,
        styles: Styles,
        phase: int,
        alpha: float | Tensor = 1.0,
        noise: Noise | None = None,
        *,
        stored_noise: bool = True,
    ) -> Images:
        """Images (N, C, R, R) with R = 4 * 2^phase, float32 or wider.

        Args:
            styles: (N, L, D) points of W; those of inactive layers may be missing and are not looked at.
            phase: number of doublings from 4 pixels.
            alpha: weight of the newest block against the one below it, in [0, 1].
            noise: draws planes (N, 1, H, W); called once for each active layer, in order.
            stored_noise: without `noise`, whether layers add the maps that are part of the network's state, drawn when
                it was built, the same for all images.

        Raises:
            ValueError: if styles are missing for a layer.
        """
        if styles.shape[1] < self.active_layers(phase):
            raise ValueError(
                f"styles must hold a point of W for each of {self.active_layers(phase)} layers, got {styles.shape[1]}"
            )
        features = self._first(styles)
        for number in range(2 * phase):
            features = self._layer(number, features, styles, noise, stored_noise)
        below = features
        for number in (2 * phase, 2 * phase + 1):
            features = self._layer(number, features, styles, noise, stored_noise)
        fine = at_least_float(self.to_rgb[phase](features))
        if phase == 0 or (not isinstance(alpha, Tensor) and alpha >= 1.0):
            return fine
        coarse = upsample(at_least_float(self.to_rgb[phase - 1](below)), "nearest")
        return torch.lerp(coarse, fine, alpha)

    def _first(self, styles: Styles) -> Tensor:
        if self.constant is not None:
            return self.constant.expand(len(styles), -1, -1, -1)
        assert self.dense is not None
        return self.dense(styles[:, 0]).unflatten(1, (-1, FIRST_RESOLUTION, FIRST_RESOLUTION))

    def _layer(self, number: int, features: Tensor, styles: Styles, noise: Noise | None, stored_noise: bool) -> Tensor:
        plane = None
        if self.layer_noise and noise is not None:
            plane = noise(torch.Size((len(styles), 1, self.pixels[number], self.pixels[number])))
        elif self.layer_noise and stored_noise:
            plane = self.get_buffer(f"noise_{number}")
        return self.layers[number](features, styles[:, number if self.styles else 0], plane)


class StyleGANGenerator(nn.Module):
    """Mapping and synthesis, with the running average of w around which images may be truncated.

    Args:
        mapping: Z to W.
        synthesis: W to images.
        latent_dim: D.
    """

    w_average: Tensor

    def __init__(self, mapping: StyleGANMapping, synthesis: StyleGANSynthesis, latent_dim: int) -> None:
        super().__init__()
        self.mapping = mapping
        self.synthesis = synthesis
        self.register_buffer("w_average", torch.zeros(latent_dim))

    def forward(
        self, latents: Latents | Styles, phase: int, alpha: float | Tensor = 1.0, noise: Noise | None = None
    ) -> Images:
        """Images (N, C, R, R) with R = 4 * 2^phase, float32 or wider.

        Args:
            latents: (N, D) of Z, or one for every layer (N, L, D), of which those of inactive layers are not looked at.
            phase: as for the synthesis.
            alpha: as for the synthesis.
            noise: as for the synthesis; none: the stored maps.
        """
        active = self.synthesis.active_layers(phase)
        if latents.ndim == 3:
            return self.synthesis(self.mapping(latents[:, :active]), phase, alpha, noise)
        return self.synthesis(repeat(self.mapping(latents), active), phase, alpha, noise)

    @torch.no_grad()
    def track_average(self, w: Float[Tensor, "D"], decay: float) -> None:
        """w_average <- decay * w_average + (1 - decay) * w, the mean of a batch of all devices."""
        self.w_average.lerp_(w.to(self.w_average), 1.0 - decay)


# Discriminator


class StyleGANDiscriminator(nn.Module):
    """An image to a score, unbounded and linear, the higher the more real.

    From colours (1x1 convolution, leaky ReLU), then for each resolution above 4 pixels a convolution and a
    `DownConvolution`, each with leaky ReLU (slope 0.2). At 4 pixels one more map tells how much the images of a group
    differ; then a convolution and two dense layers.

    Args:
        resolution: largest number of pixels per side.
        widths: channels at 4, 8, ... `resolution` pixels; by default `published_stylegan_widths`.
        fused_from: pixels from which on convolution and downsampling are one step.
        group_size: images in each group of the minibatch deviation.
        channels: of the image.
    """

    def __init__(
        self,
        resolution: int,
        *,
        widths: Sequence[int] | None = None,
        fused_from: int = FUSED_FROM,
        group_size: int = 4,
        channels: int = 3,
    ) -> None:
        super().__init__()
        widths = check_widths(widths or published_stylegan_widths(resolution), resolution)
        self.group_size = group_size
        first = widths[0]
        last_block = nn.Sequential(
            EqualizedConv2d(first + 1, first, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            EqualizedLinear(first * FIRST_RESOLUTION**2, first),
            nn.LeakyReLU(0.2),
            EqualizedLinear(first, 1, variance=1.0),
        )
        grown = [
            nn.Sequential(
                EqualizedConv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                DownConvolution(width, below, fused=FIRST_RESOLUTION * 2**phase >= fused_from),
                nn.LeakyReLU(0.2),
            )
            for phase, (below, width) in enumerate(pairwise(widths), start=1)
        ]
        self.blocks = nn.ModuleList([last_block, *grown])
        self.from_rgb = nn.ModuleList(
            nn.Sequential(EqualizedConv2d(channels, width, 1), nn.LeakyReLU(0.2)) for width in widths
        )

    def forward(self, images: Images, phase: int, alpha: float | Tensor = 1.0) -> Scores:
        """Scores (N,), float32 or wider; those of a batch depend on each other through `minibatch_deviation`.

        Args:
            images: (N, C, R, R) with R = 4 * 2^phase; every rank must hold equally many.
            phase: number of doublings from 4 pixels.
            alpha: weight of the newest block against the one below it, in [0, 1].

        Raises:
            ValueError: if the batch of all ranks does not fall into groups.
        """
        features = self.from_rgb[phase](images)
        if phase > 0:
            features = self.blocks[phase](features)
            if isinstance(alpha, Tensor) or alpha < 1.0:
                coarse = self.from_rgb[phase - 1](F.avg_pool2d(images, 2))
                share = alpha.to(features) if isinstance(alpha, Tensor) else alpha
                features = torch.lerp(coarse, features, share)
        for number in range(phase - 1, 0, -1):
            features = self.blocks[number](features)
        # The deviation within a group and the score need full precision.
        with torch.autocast(images.device.type, enabled=False):
            features = at_least_float(features)
            deviation = minibatch_deviation(features, self.group_size)
            plane = deviation[:, None, None, None].expand(-1, 1, *features.shape[2:])
            return self.blocks[0](torch.cat([features, plane], dim=1)).squeeze(1)


def minibatch_deviation(features: Images, group_size: int = 4) -> Scores:
    """How much the images of each one's group differ: the standard deviation over the group, sqrt(variance + 1e-8),
    averaged over channels and pixels (Karras et al. 2018, section 3).

    The global batch of B = G M images, in rank order, falls into M groups of G: image i belongs to group i mod M, as in
    the published program. Groups reach across ranks, so that W ranks with B / W images each do what one does with B.

    Args:
        features: (N, C, H, W) of this rank's images.
        group_size: largest G; a smaller batch is one group.

    Returns:
        (N,), one number for each of this rank's images.

    Raises:
        ValueError: if the batch does not fall into groups.
    """
    whole_batch = distributed.gather(features)
    size = check_groups(len(whole_batch), group_size)
    groups = whole_batch.unflatten(0, (size, -1))
    variance = (groups - groups.mean(0)).square().mean(0)
    of_group = (variance + 1e-8).sqrt().mean((1, 2, 3))
    first = distributed.rank() * len(features)
    places = torch.arange(first, first + len(features), device=features.device)
    return of_group[places % len(of_group)]


def check_groups(batch_size: int, group_size: int) -> int:
    """Images in each group of a batch.

    Raises:
        ValueError: if the batch is larger than a group and no multiple of it.
    """
    size = min(group_size, batch_size)
    if size < 1 or batch_size % size:
        raise ValueError(
            f"batch_size must be a multiple of the group size {group_size} of the minibatch deviation, or smaller, got "
            f"{batch_size}"
        )
    return size
