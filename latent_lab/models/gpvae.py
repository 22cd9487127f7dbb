"""View-conditioned VAE: a Gaussian process over objects and views is the prior of its latents.

Casale, Dalca, Saglietti, Listgarten and Fusi, "Gaussian Process Prior Variational Autoencoders" (NeurIPS 2018), with
the view kernel of Hou, Heljakka and Solin, "Gaussian Process Priors for View-Aware Inference" (AAAI 2021). Latents of
all images are coupled: with Z those of the whole training set,

    loss = sum_i [-log p(x_i | z_i) - H(q(z_i | x_i))] - log p(Z),    z_i ~ q(z_i | x_i),

so an object can be decoded as it looks from a view that no image of it shows. As published, a plain VAE is trained
first, then everything together, one optimiser step for each pass over the data: log p(Z) is expanded to first order
about the present latents, whose sum over minibatches has the exact gradient.

The sparse prior (Jazbec et al., "Scalable Gaussian Process Variational Autoencoders", AISTATS 2021) steps with every
minibatch instead and trains encoder, decoder and process together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Normal

from latent_lab import distributed, images
from latent_lab.growth import GrowthSchedule, images_of
from latent_lab.latent.interfaces import AbstractStochasticEncoder, AbstractViewDecoder
from latent_lab.latent.spaces import Gaussian
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings, LatentModel, single_resolution
from latent_lab.models.training_views import CodeTable, TrainingViews
from latent_lab.networks.gpvae import PUBLISHED_WIDTH, GPVAEDecoder, GPVAEEncoder
from latent_lab.objectives import gpvae, vae
from latent_lab.priors.kernels import (
    AbstractKernel,
    AnisotropicViewKernel,
    ObjectKernel,
    ProductKernel,
    ReleasedViewKernel,
    ViewKernel,
)
from latent_lab.priors.low_rank import Expansion, ObjectViewPrior, VarianceTerm, expand, predict
from latent_lab.priors.poses import Poses
from latent_lab.priors.sparse import SparseProcess, choose_inducing
from latent_lab.types import ImageBatch, Images, Latents, Scalar, Scores

ViewKernelName = Literal["view", "anisotropic", "released"]
ViewFeatures = Literal["cholesky", "released"]

PUBLISHED_LENGTH_SCALE = 0.2686
"""Where the published length scales begin: a half of the correlation is left at 18 degrees."""

_VARIANCE_RANGE = (1e-3, 10.0)
"""To which the sparse prior's program clips the encoder's variances."""
_SMALLEST_VARIANCE = 1e-12
"""Of latents under the sparse prior; a square root has no slope at 0."""
_BLOCK = 256
"""Images that are encoded at a time between steps."""


class GPVAE(LatentModel, AbstractStochasticEncoder, AbstractViewDecoder):
    """VAE with a Gaussian-process prior over objects and views (Casale et al. 2018; Hou et al. 2021).

    It is trained on data with the labels object and view and with poses (MultiViewImages, SyntheticViews), one image
    for each pair. Codes of the training images are kept in the checkpoint, since predictions are made of them.

    Args:
        schedule: batch sizes and the networks' learning rates; one resolution.
        num_objects: objects of the data, or more.
        num_views: views of the data, or more.
        latent_dim: D; each latent has a Gaussian process of its own, all with one covariance of variance 1.
        width: channels of all convolutions.
        prior: full (Casale et al.: all images are coupled; one step in `images_per_update`) or sparse (Jazbec et al.: a
            step in every minibatch, all that is known stands in `num_inducing` latents).
        vae_kimg: thousands of images for which a plain VAE is trained first; published 1000 passes over the data.
        observation_variance: of the Gaussian observation model, in units of [0, 1] images.
        view_kernel: view (one length scale), anisotropic (one for each axis of the camera), or released (of the
            published program, which fills the matrix of three scales with ones).
        length_scale: of the view kernel at the start of joint training; times 57 degrees, for small angles.
        object_rank: number of learned features of an object. Published 128; as many as objects leave them free.
        object_correlation: of any two objects at the start, in [0, 1), for which object_rank must be num_objects or
            more; null: random features, as published. Where these are not many more than objects, some differences
            between objects hardly exist for the prior at first, and short runs predict worse than the nearest view.
        signal_share: share of the full prior's variance that is the Gaussian process's at the start; the rest is noise.
        view_features: of the full prior; cholesky (the covariance of views is their kernel) or released (the rows of
            the views' matrix, so that the covariance is the matrix's square).
        entropy_term: exact, or released (half the sum of deviations).
        variance_term: of the full prior; shared over all images, or released (added whole with every minibatch).
        images_per_update: full prior: images whose gradients are added up before a step; null: all training images, as
            published.
        num_inducing: sparse prior: pairs of object and view whose latents hold what is known.
        prior_weight: sparse prior: weight of its KL; 1 is the evidence bound.
        prior_rate: learning rate of the prior's parameters relative to the networks'; published 1e-3 to 2e-4.
        adam: of both optimisers.
        image_channels: 3 for colour, 1 for grey.
        channels_last: memory layout of the networks; faster on most devices.
        compile: compile both networks with torch.compile.
        seed: of initial weights, of the objects' first features and of the noise of training.
    """

    progress_names = ("train/reconstruction_mse", "train/kl", "train/prior/length_scale")
    curve_panels = MappingProxyType(
        {
            "negative evidence bound (nats, up to a constant)": ("train/loss",),
            "mean squared error ([0, 1] units)": ("train/reconstruction_mse",),
            "KL to the prior (nats per image)": ("train/kl",),
            "latents": ("train/latents/active", "train/latents/inactive"),
            "prior": ("train/prior/length_scale", "train/prior/signal"),
        }
    )

    joint: Tensor

    def __init__(
        self,
        schedule: GrowthSchedule,
        num_objects: int,
        num_views: int,
        latent_dim: int = 256,
        width: int = PUBLISHED_WIDTH,
        prior: Literal["full", "sparse"] = "full",
        vae_kimg: float = 100.0,
        observation_variance: float = 2e-3,
        view_kernel: ViewKernelName = "view",
        length_scale: float = PUBLISHED_LENGTH_SCALE,
        object_rank: int = 128,
        object_correlation: float | None = None,
        signal_share: float = 0.5,
        view_features: ViewFeatures = "cholesky",
        entropy_term: gpvae.EntropyTerm = "exact",
        variance_term: VarianceTerm = "shared",
        images_per_update: int | None = None,
        num_inducing: int = 128,
        prior_weight: float = 1.0,
        prior_rate: float = 5.0,
        adam: AdamSettings = AdamSettings(beta1=0.9, beta2=0.999),  # noqa: B008 (frozen)
        image_channels: int = 3,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = dict(locals())
        super().__init__(schedule, seed)
        self.record_recipe(arguments)
        resolution = single_resolution(schedule, type(self))
        positive = {
            "num_objects": num_objects,
            "num_views": num_views,
            "observation_variance": observation_variance,
            "length_scale": length_scale,
            "prior_rate": prior_rate,
            "images_per_update": 1 if images_per_update is None else images_per_update,
            "num_inducing": num_inducing,
        }
        _check_options(positive, vae_kimg=vae_kimg, signal_share=signal_share, prior_weight=prior_weight)
        self.channels = image_channels
        self.num_objects, self.num_views = num_objects, num_views
        self.vae_images = images_of(vae_kimg)
        self.observation_variance = observation_variance
        self.entropy_term: gpvae.EntropyTerm = entropy_term
        self.variance_term: VarianceTerm = variance_term
        self.images_per_update = images_per_update
        self.prior_weight = prior_weight
        self.prior_rate = prior_rate
        self.adam = adam
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._space = Gaussian(latent_dim)
        with self.seeded():
            self.encoder = GPVAEEncoder(resolution, latent_dim, channels=image_channels, width=width)
            self.decoder = GPVAEDecoder(resolution, latent_dim, channels=image_channels, width=width)
        objects = _object_kernel(num_objects, object_rank, object_correlation, seed)
        views = _view_kernel(view_kernel, length_scale)
        self.prior: ObjectViewPrior | SparseProcess
        if prior == "full":
            self.prior = ObjectViewPrior(objects, views, _no_poses(num_views), view_features)
            with torch.no_grad():
                self.prior.variance_logits.copy_(torch.tensor([signal_share, 1.0 - signal_share]).log())
        else:
            self.prior = SparseProcess(ProductKernel(objects, views), _no_poses(num_inducing))
        self.codes = CodeTable(num_objects, num_views, latent_dim)
        # Whether joint training has begun.
        self.register_buffer("joint", torch.zeros((), dtype=torch.bool))
        self._training_views: TrainingViews | None = None
        self._pass: _Pass | None = None
        self._gradients: dict[str, Tensor] = {}
        self._codes_at = -1
        self.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()
            self.decoder.compile()

    # ---------------------------------------------------------------------------------------- latent protocol

    @property
    def latent_space(self) -> Gaussian:
        """R^D; the prior of a single image is standard normal."""
        return self._space

    def posterior(self, images: Images) -> Normal:
        """q(z | x) of the encoder, independent normals (N, D)."""
        return Normal(*self._moments(images))

    def encode(self, images: Images) -> Latents:
        """The encoder's means (N, D)."""
        return self._moments(images)[0]

    def decode(self, latents: Latents) -> Images:
        """The observation model's means, (N, C, R, R)."""
        return images.from_unit(self.decoder(latents))

    @torch.no_grad()
    def view_latents(self, objects: Int[Tensor, "N"], poses: Float[Tensor, "N 4 4"]) -> Normal:
        """The Gaussian processes' latents of objects seen from poses, given the codes of all training images.

        Args:
            objects: (N,) their numbers.
            poses: (N, 4, 4) camera-to-object matrices.

        Raises:
            ValueError: if no training image shows one of the objects, a matrix is no pose, or there are no codes yet.
        """
        if self._trainer is not None and self._codes_at != self.images_seen:
            self._write_codes()
        known, views, means, deviations = self.codes.read()
        device = self.codes.means.device
        objects = objects.to(device)
        inside = (objects >= 0) & (objects < self.num_objects)
        strange = ~(inside & self.codes.seen.any(1)[objects.clamp(0, self.num_objects - 1)])
        if strange.any():
            raise ValueError(
                f"no training image shows the object {int(objects[strange][0])}: this GPVAE can predict the "
                f"{int(self.codes.seen.any(1).sum())} objects that it was trained on"
            )
        at = Poses.from_matrices(poses.to(device), objects)
        if isinstance(self.prior, SparseProcess):
            found = self.prior.condition(known, means, deviations.square().clamp(*_VARIANCE_RANGE))
            mean, variance = self.prior.predict(found, at)
        else:
            assert known.objects is not None
            factors = self.prior.factors(known.objects, views)
            new = self.prior.factors(objects, torch.arange(len(at), device=device), self.prior.view_features(at))
            # Only the right features know the variance at a view that is none of the training's.
            diagonal = None if self.prior.features == "released" else torch.ones_like(objects, dtype=torch.float64)
            mean, one_variance = predict(means, factors, self.prior.variances(), new, diagonal)
            variance = one_variance.unsqueeze(1).expand_as(mean)
        return Normal(mean.to(means), variance.clamp_min(torch.finfo(means.dtype).tiny).sqrt().to(means))

    # ----------------------------------------------------------------------------------------------- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for both networks, one for the prior."""
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        rate = self.now.learning_rate
        return [self.adam.build(networks, rate), self.adam.build(self.prior.parameters(), self.prior_rate * rate)]

    def training_step(self, batch: ImageBatch) -> dict[str, Tensor]:
        """A step of the plain VAE; later a share of the full prior's pass, or a step with the sparse prior.

        With the full prior, a batch that reaches over the end of a pass, or of the plain VAE, is divided there.

        Returns:
            The step's statistics, without gradient: `train/loss` and `train/kl` in nats per image, up to a constant.
        """
        self._set_learning_rates()
        noise = self.training_normals(batch.images, "posterior", self._space.dim)
        positions, count = self._positions(batch.images), self.count_images(batch.images)
        seen = []
        for span in self._spans(range(self.images_seen, self.images_seen + count)):
            mine = _overlap(positions, span)
            part = ImageBatch(*(None if each is None else each[mine] for each in batch))  # type: ignore[arg-type]
            if span.start < self._joint_from:
                seen.append(self._step_of_vae(part.images, noise[mine], span))
                continue
            if not self.joint:
                self._begin_joint_training()
            if isinstance(self.prior, ObjectViewPrior):
                seen.append(self._share_of_pass(part, span, self.prior))
            else:
                seen.append(self._step_of_sparse_prior(part, noise[mine], span, self.prior))
        self.advance(count)
        return self._statistics(seen)

    def _step_of_vae(self, real: Images, noise: Latents, span: range) -> _Seen:
        """One step down the bound with the standard normal prior."""
        mean, deviation = self._moments(real)
        squares, errors = self._errors(mean + deviation * noise, real)
        kl = vae.kl_to_standard_normal(mean, 2.0 * deviation.log())
        self.descend(_global_sum(errors + kl) / len(span), self._both_optimizers[0])
        return _Seen(errors + kl, squares, kl, mean, deviation)

    def _share_of_pass(self, part: ImageBatch, span: range, prior: ObjectViewPrior) -> _Seen:
        """Adds the gradient of some images; the last ones of a pass end it with a step of both optimisers."""
        length = self._pass_length
        if self._pass is None:
            self._pass = self._begin_pass(span.start // length, prior)
        expansion, all_noise = self._pass
        rows = self._views.rows(part)
        mean, deviation = self._moments(part.images)
        latents = mean + deviation * all_noise[rows]
        squares, errors = self._errors(latents, part.images)
        with self.full_precision():
            factors = prior.factors(self._views.objects[rows], self._views.views[rows])
            surrogate = expansion.surrogate(rows, latents, factors, prior.variances(), self.variance_term)
        penalty = gpvae.negative_entropy(deviation, self.entropy_term)
        self.manual_backward(_global_sum(errors + penalty + surrogate.to(errors)) / length)
        if span.stop % length == 0:
            for optimizer in self._both_optimizers:
                optimizer.step()
                optimizer.zero_grad()
            self._pass = None
        likelihoods = expansion.negative_log_likelihood[rows].to(errors)
        kl = gpvae.divergence(likelihoods, deviation)
        return _Seen(errors + likelihoods + penalty, squares, kl, mean, deviation)

    def _step_of_sparse_prior(self, part: ImageBatch, noise: Latents, span: range, prior: SparseProcess) -> _Seen:
        """One step of everything; the images of all devices are one minibatch of the process."""
        mean, deviation = self._moments(part.images)
        rows = distributed.gather(self._views.rows(part))
        means, deviations = distributed.gather(mean), distributed.gather(deviation)
        with self.full_precision():
            everywhere = prior(
                self._views.poses[rows], means, deviations.square().clamp(*_VARIANCE_RANGE), len(self._views)
            )
            first = distributed.rank() * len(mean)
            own = slice(first, first + len(mean))
            latents = everywhere.mean[own] + everywhere.variance[own].clamp_min(_SMALLEST_VARIANCE).sqrt() * noise
        squares, errors = self._errors(latents.to(mean), part.images)
        kl = everywhere.prior_term.to(errors) / len(span)
        for optimizer in self._both_optimizers:
            optimizer.zero_grad()
        self.manual_backward(_global_sum(errors) / len(span) + self.prior_weight * kl)
        for optimizer in self._both_optimizers:
            optimizer.step()
        return _Seen(errors + self.prior_weight * kl, squares, kl.expand_as(errors), mean, deviation)

    # -------------------------------------------------------------------------------------- passes over the data

    @property
    def _pass_length(self) -> int:
        """Images whose gradients make one step of the full prior."""
        return self.images_per_update or len(self._views)

    @property
    def _joint_from(self) -> int:
        """Images seen where joint training begins: with the full prior, at the beginning of a pass."""
        if isinstance(self.prior, SparseProcess):
            return self.vae_images
        return -(-self.vae_images // self._pass_length) * self._pass_length

    def _spans(self, positions: range) -> Iterator[range]:
        """The positions of a batch over all devices, divided where a pass of the full prior ends."""
        start = positions.start
        while start < positions.stop:
            end = positions.stop
            if isinstance(self.prior, ObjectViewPrior):
                length, joint_from = self._pass_length, self._joint_from
                end = min(end, joint_from if start < joint_from else (start // length + 1) * length)
            yield range(start, end)
            start = end

    def _begin_joint_training(self) -> None:
        """Adam starts anew, as in the published program: its moments are those of other gradients."""
        for optimizer in self._both_optimizers:
            optimizer.zero_grad()
            optimizer.state.clear()
        self.joint.fill_(True)

    def _begin_pass(self, number: int, prior: ObjectViewPrior) -> _Pass:
        """Expands the prior about latents drawn with this pass's noise; a resumed run finds the same."""
        means, deviations = self._encode_training_images()
        count = len(self._views)
        random = distributed.IndexedRandom(self.seed, "train/pass")
        noise = random.normal(range(number * count, (number + 1) * count), self._space.dim).to(means)
        with torch.no_grad(), self.full_precision():
            factors = prior.factors(self._views.objects, self._views.views)
            return _Pass(expand(means + deviations * noise, factors, prior.variances()), noise)

    @torch.no_grad()
    def _encode_training_images(self) -> tuple[Latents, Latents]:
        """Means and deviations of all training images on every rank, each of which encodes its share."""
        source = self._training_source()
        mine = range(distributed.rank(), len(source), distributed.world_size())
        rows = [self.codes.means.new_empty(0, 2, self._space.dim)]
        for start in range(0, len(mine), _BLOCK):
            real = source.batch(mine[start : start + _BLOCK], self.resolution).images.to(self.codes.means)
            rows.append(torch.stack(self._moments(real), 1))
        codes, _ = distributed.gather_ragged(torch.cat(rows), torch.tensor(list(mine), device=self.device))
        return codes[:, 0], codes[:, 1]

    # ------------------------------------------------------------------------------------------ training images

    def _training_source(self) -> ImageSource:
        datamodule: Any = getattr(self._trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                "GPVAE encodes all training images between steps: train it with trainer.fit(model, datamodule=...) and "
                "a data module of this package"
            )
        source: ImageSource = datamodule.source("train")
        return source

    @property
    def _views(self) -> TrainingViews:
        """Views of the training images; a model that meets them for the first time takes their poses into its prior."""
        if self._training_views is None:
            found = TrainingViews.read(self._training_source(), self.num_objects, self.num_views, self.resolution)
            self._training_views = found.to(self.device)
            if not self.codes.seen.any():
                self._place_prior(self._training_views)
        return self._training_views

    def _place_prior(self, views: TrainingViews) -> None:
        if isinstance(self.prior, ObjectViewPrior):
            # Views that training lacks repeat another one: of use to nobody, and no harm but to released features,
            # which count it twice.
            self.prior.poses.rotations.copy_(views.poses.rotations[:1])
            self.prior.poses.rotations[views.views] = views.poses.rotations.to(self.prior.poses.rotations)
            return
        table = self.prior.inducing
        num = len(table)
        chosen = choose_inducing(self.prior.kernel, views.poses, min(num, len(views)))
        # Where fewer explain everything, some are taken twice.
        chosen = chosen.repeat(-(-num // len(chosen)))[:num]
        assert table.objects is not None
        table.rotations.copy_(views.poses.rotations[chosen])
        table.objects.copy_(views.objects[chosen])

    def _write_codes(self) -> None:
        self.codes.write(self._views, *self._encode_training_images())
        self._codes_at = self.images_seen

    # -------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Brings the codes up to date, and adds the gradients of a pass that is not at its end."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["gradients"] = {}
        if self._trainer is None:
            return
        self._write_codes()
        checkpoint["state_dict"].update({f"codes.{name}": value for name, value in self.codes.state_dict().items()})
        if isinstance(self.prior, ObjectViewPrior) and self.joint and self.images_seen % self._pass_length:
            checkpoint[CHECKPOINT_KEY]["gradients"] = {
                name: parameter.grad.clone()
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the gradients of a pass that was not at its end."""
        super().on_load_checkpoint(checkpoint)
        self._training_views = self._pass = None
        self._gradients = checkpoint[CHECKPOINT_KEY]["gradients"]

    def on_train_start(self) -> None:
        """Goes on with the gradients of a checkpoint: Lightning empties all of them before it starts."""
        for name, gradient in self._gradients.items():
            parameter = self.get_parameter(name)
            parameter.grad = gradient.to(parameter)
        self._gradients = {}

    # ------------------------------------------------------------------------------------------------- pieces

    def _moments(self, real: Images) -> tuple[Latents, Latents]:
        """Mean and deviation of q(z | x)."""
        unit = images.to_unit(real).contiguous(memory_format=self.memory_format)
        mean, deviation = self.encoder(unit)
        return mean, deviation

    def _errors(self, latents: Latents, real: Images) -> tuple[Scores, Scores]:
        """Of each image: mean squared error in units of [0, 1], and -log p(x | z) without its constant, nats."""
        squares = (self.decoder(latents) - images.to_unit(real)).square().mean((1, 2, 3))
        values = real.shape[1:].numel()
        return squares, vae.gaussian_term(squares, self.observation_variance, values, with_constants=False)

    @property
    def _both_optimizers(self) -> list[Any]:
        """Of the networks, and of the prior."""
        optimizers: Any = self.optimizers()
        return list(optimizers)

    def _set_learning_rates(self) -> None:
        rate = self.now.learning_rate
        for optimizer, factor in zip(self._both_optimizers, (1.0, self.prior_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate

    @torch.no_grad()
    def _statistics(self, parts: list[_Seen]) -> dict[str, Tensor]:
        losses, squares, kl, mean, deviation = (torch.cat(each).detach() for each in zip(*parts, strict=True))
        means, log_variances = distributed.gather(mean), distributed.gather(2.0 * deviation.log())
        statistics = {
            "train/loss": losses.mean(),
            "train/reconstruction_mse": squares.mean(),
            "train/kl": kl.mean(),
            **vae.latent_statistics(means, log_variances),
            "train/prior/length_scale": _mean_length_scale(self.prior),
        }
        if isinstance(self.prior, ObjectViewPrior):
            statistics["train/prior/signal"] = self.prior.variances()[0]
        return {name: value.to(losses) for name, value in statistics.items()}


class _Seen(NamedTuple):
    """What a part of a batch gives to the statistics, for each of its images."""

    losses: Scores
    squares: Scores
    kl: Scores
    mean: Latents
    deviation: Latents


class _Pass(NamedTuple):
    """What stays the same in one pass over the training images."""

    expansion: Expansion
    noise: Latents
    """Of the encoder's posteriors, a row for each training image."""


def _overlap(positions: range, span: range) -> slice:
    """Rows of those of some positions that lie in a span; none of them may."""
    first, last = (min(max(end - positions.start, 0), len(positions)) for end in (span.start, span.stop))
    return slice(first, last)


def _global_sum(values: Scores) -> Scalar:
    """A sum over this rank's images whose mean over ranks is the sum over all images."""
    return values.sum() * distributed.world_size()


def _no_poses(count: int) -> Poses:
    """Stand-ins until a model meets its data."""
    return Poses(torch.eye(3, dtype=torch.float64).repeat(count, 1, 1), None, torch.zeros(count, dtype=torch.int64))


def _object_kernel(num_objects: int, rank: int, correlation: float | None, seed: int) -> ObjectKernel:
    kernel = ObjectKernel(num_objects, rank, seed)
    if correlation is None:
        return kernel
    if not 0.0 <= correlation < 1.0 or rank < num_objects:
        raise ValueError(
            "object_correlation must be null, or at least 0 and below 1 with an object_rank of num_objects or more, "
            f"got {correlation} with {rank} features of {num_objects} objects"
        )
    identity = torch.eye(num_objects, dtype=torch.float64)
    with torch.no_grad():
        kernel.raw_features.zero_()
        kernel.raw_features[:, :num_objects] = torch.linalg.cholesky((1.0 - correlation) * identity + correlation)
    return kernel


def _view_kernel(name: ViewKernelName, length_scale: float) -> AbstractKernel:
    if name == "view":
        return ViewKernel(length_scale)
    if name == "anisotropic":
        return AnisotropicViewKernel([length_scale] * 3)
    return ReleasedViewKernel([-2.0 * math.log(length_scale)] * 3)


def _mean_length_scale(prior: ObjectViewPrior | SparseProcess) -> Tensor:
    """Length scale of the view kernel, the mean over axes where there are three."""
    views = next(
        module
        for module in prior.modules()
        if isinstance(module, ViewKernel | AnisotropicViewKernel | ReleasedViewKernel)
    )
    if isinstance(views, ViewKernel):
        return views.length_scale
    if isinstance(views, AnisotropicViewKernel):
        return views.log_length_scales.exp().mean()
    return (-views.log_scales / 2.0).exp().mean()


def _check_options(positive: Mapping[str, float], *, vae_kimg: float, signal_share: float, prior_weight: float) -> None:
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if not 0.0 < signal_share < 1.0:
        raise ValueError(f"signal_share must be a share between 0 and 1, got {signal_share}")
    for name, value in (("vae_kimg", vae_kimg), ("prior_weight", prior_weight)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")


__all__ = ["GPVAE"]
