"""The recoder: an encoder for a generator that has none, trained on an endless stream of generated pairs.

Asperti and Tonelli: "Comparing the latent space of generative models" (2022); Tonelli's thesis, section 3.1.2.
Latents z of the prior are decoded by the frozen decoder G, and the recoder R learns the way back:

    latent: min  mean of (z - R(G(z)))^2 over latents and coordinates
    image:  min  mean of (G(z) - G(R(G(z))))^2 over images and values, in [-1, 1] units (the baseline that inverts
            ProgGAN by an L2 loss of images)

Of a decoder that maps its latents first (StyleGAN), the point w of W that z is mapped to can take the place of z, or
one for every layer (W+).

No pair comes twice, so there is nothing to overfit; but R(G(z)) is drawn to the mean where G forgets parts of z.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab import distributed
from latent_lab.growth import GrowthSchedule
from latent_lab.images import resize
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.latent.views import LayersView, WSpaceView
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, single_resolution
from latent_lab.models.loading import build_model, read_checkpoint
from latent_lab.networks.recoder import LatentRecoder
from latent_lab.networks.strided import PUBLISHED_WIDTHS, Activation
from latent_lab.types import Images, Latents, OtherImages

Objective = Literal["latent", "image"]
Space = Literal["own", "w", "w+"]
Reduction = Literal["bilinear", "nearest"]


class Recoder(LatentModel, AbstractAutoencoder):
    """A recoder together with the frozen decoder that it inverts: a whole autoencoder, in one checkpoint.

    The real images of a batch are not looked at: they are the clock of training, as in every other model, and the input
    of analyses that reconstruct real images. The decoder's weights are part of this model's state.

    Args:
        schedule: batch sizes and learning rates; one resolution, the decoder's. Published: a rate of 0.01 throughout; a
            smaller one that falls is the better choice.
        decoder: checkpoint of the model to be inverted, or a name that `latent-lab checkpoints` lists; or a recipe
            (class_path, init_args) as checkpoints hold it, whose weights come with the checkpoint that is resumed.
        objective: latent (published) or image.
        space: of the latents that are found: own (the decoder's), or of a StyleGAN w (points of W) or w+ (one for every
            layer, trained on points that are the same in all layers).
        input_resolution: pixels per side to which images are reduced before the network sees them; none: all of them.
            Published for StyleGAN: 256 of 1024.
        input_reduction: bilinear (antialiased) or nearest (every so many pixels one, as published).
        widths: channels after each strided convolution.
        kernel_size: of the convolutions. Published: 4; for StyleGAN 3.
        stride: of the convolutions.
        activation: relu is what was trained; leaky_relu what the tables seem to say.
        dropout: before the dense layers; the tables say 0.2, but it was never active.
        extra_dense: one more dense layer, of 4 L, as published for StyleGAN.
        adam: of the recoder's optimiser. Published: Keras's values, 0.9, 0.999.
        channels_last: memory layout of the network; faster on most devices.
        compile: compile the recoder with torch.compile.
        seed: of initial weights, latents and dropout.
    """

    progress_names = ("train/encoder/i_mse", "train/encoder/i_mse_relative", "train/encoder/code_variance_relative")
    curve_panels = MappingProxyType(
        {
            "I-MSE: mean (z - R(G(z)))^2": ("train/encoder/i_mse",),
            "share of Var(z)": ("train/encoder/i_mse_relative", "train/encoder/code_variance_relative"),
            "mean squared error of images": ("train/encoder/image",),
        }
    )

    def __init__(
        self,
        schedule: GrowthSchedule,
        decoder: str | dict[str, Any],
        objective: Objective = "latent",
        space: Space = "own",
        input_resolution: int | None = None,
        input_reduction: Reduction = "bilinear",
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        kernel_size: int = 4,
        stride: int = 2,
        activation: Activation = "relu",
        dropout: float = 0.0,
        extra_dense: bool = False,
        adam: AdamSettings = AdamSettings(beta1=0.9, beta2=0.999),  # noqa: B008 (frozen)
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        resolution = single_resolution(schedule, type(self))
        if objective not in ("latent", "image"):
            raise ValueError(f"objective must be latent or image, got {objective!r}")
        frozen = _obtain(decoder)
        self.record_recipe(arguments | {"decoder": frozen.recipe})
        if resolution not in frozen.schedule.resolutions:
            raise ValueError(
                f"the schedule has {resolution} px, but the decoder {type(frozen).__name__} makes images of "
                f"{', '.join(map(str, frozen.schedule.resolutions))} px: give all rows its resolution"
            )
        if isinstance(decoder, str) and frozen.resolution != resolution:
            raise ValueError(
                f"the schedule has {resolution} px, but the decoder {type(frozen).__name__} has only grown to "
                f"{frozen.resolution} px: name a checkpoint from the end of its training"
            )
        if input_resolution is not None and not 1 <= input_resolution <= resolution:
            raise ValueError(f"input_resolution must be 1 to {resolution}, the decoder's, got {input_resolution}")
        self.decoder = frozen.requires_grad_(False).eval()
        # In a tuple, since a view as a submodule would put the decoder's weights into the state a second time.
        self._seen_as = (_in_space(frozen, space),)
        self.input_resolution = input_resolution or resolution
        self.input_reduction: Reduction = input_reduction
        self.channels = frozen.channels
        self.objective: Objective = objective
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        with self.seeded():
            self.encoder = LatentRecoder(
                self.latent_space.dim,
                self.input_resolution,
                widths=widths,
                kernel_size=kernel_size,
                stride=stride,
                activation=activation,
                dropout=dropout,
                extra_dense=extra_dense,
                channels=frozen.channels,
            )
        self.encoder.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()

    def train(self, mode: bool = True) -> Recoder:
        """The decoder is never trained: it stays in evaluation mode."""
        super().train(mode)
        self.decoder.eval()
        return self

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The decoder's."""
        return self._decoder.latent_space

    def encode(self, images: Images) -> Latents:
        """Points (N, L) of the decoder's space that should decode to these images."""
        return self.latent_space.project(self.encoder(self._seen(images)))

    def decode(self, latents: Latents) -> Images:
        """The decoder's images."""
        return self._decoder.decode(latents)

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam, for the recoder alone."""
        return self.adam.build(self.encoder.parameters(), self.now.learning_rate)

    def on_train_start(self) -> None:
        """Warns of a decoder that was never trained, as a recipe without weights gives it."""
        if self.decoder.images_seen == 0 and distributed.rank() == 0:
            print(
                f"latent-lab: the decoder {type(self.decoder).__name__} has seen no image, so its pictures are noise: "
                "name a trained checkpoint as model.decoder",
                file=sys.stderr,
            )

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Generates as many pairs as there are real images and takes one step on them.

        Returns:
            The step's statistics, without gradient: I-MSE, and its share of the latents' variance, which is 1 where the
            recoder knows nothing but the mean.
        """
        self.set_learning_rate(self.now)
        normal = self.training_normals(batch.images, "pairs", self.latent_space.num_normals)
        with torch.no_grad():
            latents = self.latent_space.from_normal(normal)
            made = self.decode(latents)
        seen = self._seen(made)
        codes = self.latent_space.project(self.encoder(seen, self._dropout(seen)))
        latent_error = (codes - latents).square().mean()
        statistics = {"train/encoder/i_mse": latent_error.detach()}
        loss = latent_error
        if self.objective == "image":
            loss = (self.decode(codes) - made).square().mean()
            statistics["train/encoder/image"] = loss.detach()
        self.descend(loss)
        variance = distributed.gather(latents).var(0).mean()
        statistics["train/encoder/i_mse_relative"] = latent_error.detach() / variance
        statistics["train/encoder/code_variance_relative"] = distributed.gather(codes.detach()).var(0).mean() / variance
        self.advance(self.count_images(batch.images))
        return statistics

    # ------------------------------------------------------------------------------------------------- pieces

    @property
    def _decoder(self) -> AbstractDecoder:
        return self._seen_as[0]

    def _dropout(self, like: Images) -> Tensor | None:
        share = self.encoder.dropout
        return self.training_uniforms(like, "dropout", self.encoder.num_features) if share else None

    def _seen(self, images: Images) -> OtherImages:
        """Images as the network sees them."""
        if images.shape[-1] != self.input_resolution:
            if self.input_reduction == "nearest":
                images = F.interpolate(images, (self.input_resolution, self.input_resolution), mode="nearest")
            else:
                images = resize(images, self.input_resolution, "bilinear")
        return images.contiguous(memory_format=self.memory_format)


def _in_space(decoder: Any, space: Space) -> AbstractDecoder:
    """The decoder, or the view of it whose latents are points of this space."""
    if space == "own":
        own: AbstractDecoder = decoder
        return own
    try:
        view = WSpaceView(decoder)
    except TypeError as error:
        raise ValueError(f"a recoder towards {space} needs a decoder that has W: {error}") from error
    return LayersView(view) if space == "w+" else view


def _obtain(given: str | Mapping[str, Any]) -> LatentModel:
    """The model to be inverted: of a checkpoint with its weights, of a recipe with fresh ones."""
    if not isinstance(given, Mapping):
        content = read_checkpoint(given)
        model = build_model(content[CHECKPOINT_KEY]["model"], given)
        model.load_state_dict(content["state_dict"])
    else:
        model = build_model(given, "model.decoder")
    if not isinstance(model, AbstractDecoder):
        raise TypeError(f"a recoder inverts a decoder, which {type(model).__name__} is not")
    return model
