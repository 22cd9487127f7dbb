"""Covariances between latents of frames, as functions of the frames' poses.

The view kernel is that of Hou, Heljakka and Solin ("Gaussian Process Priors for View-Aware Inference", AAAI 2021);
beside it are the kernels it is compared with, and under names with "Released" what the published programs compute
instead. All are computed in float64. Positive hyper-parameters are learned as their logarithms.

Kernels of the view have k(R, R) = 1; `ScaledKernel` gives them a variance.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from latent_lab.priors.poses import Poses
from latent_lab.priors.rotations import (
    Pairwise,
    euler_angles,
    geodesic_angle,
    pairwise_distance,
    quaternions,
    trace_distance,
)
from latent_lab.types import Scores


class AbstractKernel(nn.Module, ABC):
    """A covariance function of poses."""

    positive_definite: bool = True
    """Whether every matrix of it is a covariance; if not, a Gaussian process may have to refuse it."""

    @abstractmethod
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        """Covariance of all pairs, (N, M) float64."""

    def diagonal(self, poses: Poses) -> Scores:
        """k(x, x) of each frame, (N,) float64."""
        return torch.ones(len(poses), dtype=torch.float64, device=poses.rotations.device)


def _logarithm(name: str, value: float | Sequence[float]) -> nn.Parameter:
    given = torch.tensor(value, dtype=torch.float64)
    if not ((given > 0) & given.isfinite()).all():
        raise ValueError(f"{name} must be positive, got {value}")
    return nn.Parameter(given.log())


class _LengthKernel(AbstractKernel):
    """What kernels with one length scale share."""

    def __init__(self, length_scale: float = 1.0) -> None:
        super().__init__()
        self.log_length_scale = _logarithm("length_scale", length_scale)

    @property
    def length_scale(self) -> Tensor:
        """Its value l."""
        return self.log_length_scale.double().exp()

    def _gaussian(self, squared_distance: Pairwise) -> Pairwise:
        return torch.exp(-squared_distance / (2.0 * self.length_scale.square()))

    @override
    def extra_repr(self) -> str:
        return f"length_scale={self.length_scale.item():.4g}"


class ViewKernel(_LengthKernel):
    """exp(-tr(I - R^T R') / (2 l^2)): how alike two orientations of the camera are, whatever the axes.

    It is a Gaussian of the nine matrix entries, so it is positive semi-definite for every l; it does not change when
    camera or world is turned; and about one axis it is the periodic kernel exp(-2 sin^2(theta / 2) / l^2). It falls to
    a half at sin(theta / 2) = l sqrt(log(2) / 2) (72 degrees for l = 1), and never below exp(-2 / l^2).

    Args:
        length_scale: l, positive; l * 57 degrees for small angles.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self._gaussian(trace_distance(a.rotations, b.rotations))


class AnisotropicViewKernel(AbstractKernel):
    """The view kernel with a length scale for each axis, Lambda = diag(l_1^-2, l_2^-2, l_3^-2).

    With the camera's axes it is exp(-tr(Lambda - R Lambda R'^T) / 2), the order of the published program, which does
    not change when the world is turned; with the world's, exp(-tr(Lambda - R^T Lambda R') / 2), which does not change
    when the camera is. Both are positive semi-definite, and `ViewKernel` if all lengths are equal.

    Args:
        length_scales: l of the three axes, positive. Axis i weighs the way that this axis points, so it resists
            rotations about the other two.
        axes: `camera` or `world`.
    """

    def __init__(self, length_scales: Sequence[float] = (1.0, 1.0, 1.0), axes: str = "camera") -> None:
        super().__init__()
        if len(length_scales) != 3:
            raise ValueError(f"length_scales must be three numbers, one for each axis, got {len(length_scales)}")
        if axes not in ("camera", "world"):
            raise ValueError(f"axes must be camera or world, got {axes}")
        self.log_length_scales = _logarithm("length_scales", list(length_scales))
        self.axes = axes

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        weights = (-self.log_length_scales.double()).exp()

        def weighted(poses: Poses) -> Tensor:
            matrices = poses.rotations.double() if self.axes == "camera" else poses.rotations.double().mT
            return (matrices * weights).flatten(1)

        # tr(Lambda - R Lambda R'^T) = |(R - R') Lambda^(1/2)|^2 / 2.
        return torch.exp(-pairwise_distance(weighted(a), weighted(b)).square() / 4.0)


class TranslationKernel(_LengthKernel):
    """exp(-|p - p'|^2 / (2 l^2)) of the camera's places; poses without translations are refused.

    Args:
        length_scale: l, positive, in the unit of the translations.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self._gaussian(pairwise_distance(*_translations(a, b)).square())


class ObjectKernel(AbstractKernel):
    """x_o . x_o' of learned features of unit length of the objects (Casale et al. 2018), so that k(o, o) is 1.

    Args:
        num_objects: how many there are.
        rank: number of features, p.
        seed: of their start: normal, but for a first feature of 1, before rows are scaled to unit length.
    """

    def __init__(self, num_objects: int, rank: int, seed: int = 0) -> None:
        super().__init__()
        if num_objects < 1 or rank < 1:
            raise ValueError(f"num_objects and rank must be at least 1, got {num_objects} and {rank}")
        rng = torch.Generator().manual_seed(seed)
        start = torch.randn(num_objects, rank, generator=rng, dtype=torch.float64)
        start[:, 0] = 1.0
        self.raw_features = nn.Parameter(start)

    def features(self, objects: Int[Tensor, "N"]) -> Float[Tensor, "N P"]:
        """Rows x of objects, (N, p) float64.

        Args:
            objects: (N,) their numbers, from 0.

        Raises:
            ValueError: if there is no such object.
        """
        count = len(self.raw_features)
        if len(objects) and not 0 <= int(objects.min()) <= int(objects.max()) < count:
            raise ValueError(f"objects are numbered 0 to {count - 1}, got {int(objects.min())} to {int(objects.max())}")
        return nn.functional.normalize(self.raw_features.double(), dim=1)[objects]

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        if a.objects is None or b.objects is None:
            raise ValueError("this kernel compares objects: give poses with objects, the number of each frame's object")
        return self.features(a.objects) @ self.features(b.objects).mT

    @override
    def extra_repr(self) -> str:
        return f"num_objects={self.raw_features.shape[0]}, rank={self.raw_features.shape[1]}"


class SameObjectKernel(AbstractKernel):
    """1 for two frames of one object, 0 for frames of different ones: as a factor, it makes runs independent."""

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        if a.objects is None or b.objects is None:
            raise ValueError("this kernel compares objects: give poses with objects, the number of each frame's object")
        return (a.objects.unsqueeze(1) == b.objects.unsqueeze(0)).double()


class ProductKernel(AbstractKernel):
    """The product of kernels, such as of view and translation: alike in this and in that.

    Args:
        kernels: one or more.
    """

    def __init__(self, *kernels: AbstractKernel) -> None:
        super().__init__()
        if not kernels:
            raise ValueError("a product needs at least one kernel, got none")
        self.kernels = nn.ModuleList(kernels)
        self.positive_definite = all(kernel.positive_definite for kernel in kernels)

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return torch.stack([kernel(a, b) for kernel in self.kernels]).prod(0)

    @override
    def diagonal(self, poses: Poses) -> Scores:
        return torch.stack([kernel.diagonal(poses) for kernel in self._factors]).prod(0)

    @property
    def _factors(self) -> list[AbstractKernel]:
        return [kernel for kernel in self.kernels if isinstance(kernel, AbstractKernel)]


class ScaledKernel(AbstractKernel):
    """gamma^2 k(x, x').

    Args:
        kernel: k.
        variance: gamma^2, positive.
    """

    def __init__(self, kernel: AbstractKernel, variance: float = 1.0) -> None:
        super().__init__()
        self.kernel = kernel
        self.log_variance = _logarithm("variance", variance)
        self.positive_definite = kernel.positive_definite

    @property
    def variance(self) -> Tensor:
        """gamma^2."""
        return self.log_variance.double().exp()

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self.variance * self.kernel(a, b)

    @override
    def diagonal(self, poses: Poses) -> Scores:
        return self.variance * self.kernel.diagonal(poses)

    @override
    def extra_repr(self) -> str:
        return f"variance={self.variance.item():.4g}"


class PoseMaternKernel(_LengthKernel):
    """(1 + s) exp(-s), s = sqrt(3) D / l, of the pose distance D = sqrt(|p - p'|^2 + 2/3 tr(I - R^T R')).

    The Matern 3/2 kernel of Hou, Kannala and Solin ("Multi-View Stereo by Temporal Nonparametric Fusion", ICCV 2019),
    whose hyper-parameters the published face runs seem to have taken over. Poses
    without translations are refused.

    Args:
        length_scale: l, positive, in the unit of the translations.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        # 2/3 tr(I - R^T R') = |R - R'|^2 / 3: one distance of twelve numbers.
        rows = [
            torch.cat([places, poses.rotations.double().flatten(1) / math.sqrt(3.0)], dim=1)
            for poses, places in zip((a, b), _translations(a, b), strict=True)
        ]
        scaled = math.sqrt(3.0) * pairwise_distance(*rows) / self.length_scale
        return (1.0 + scaled) * torch.exp(-scaled)


class EulerKernel(_LengthKernel):
    """Baseline: the product over Euler angles e of exp(-2 sin^2((e - e') / 2) / l^2).

    It depends on the choice of axes, and breaks at gimbal lock, where one rotation has many angles. Angles are those of
    `euler_angles`.

    Args:
        length_scale: l, positive, of all three angles.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self.of_angles(euler_angles(a.rotations), euler_angles(b.rotations))

    def of_angles(self, a: Float[Tensor, "N 3"], b: Float[Tensor, "M 3"]) -> Pairwise:
        """The kernel of given angles in radians."""
        halves = (a.double().unsqueeze(1) - b.double().unsqueeze(0)) / 2.0
        return torch.exp(-2.0 * halves.sin().square().sum(2) / self.length_scale.square())


class QuaternionKernel(_LengthKernel):
    """Baseline: exp(-|q - q'|^2 / (2 l^2)) of unit quaternions.

    q and -q are one rotation, so a sign must be chosen. With `chart` it is that of `quaternions`, and neighbouring
    rotations on both sides of its border seem far apart. With `nearest` the sign is chosen for each pair, which is well
    defined, but no covariance: its matrices have negative eigenvalues.

    Args:
        length_scale: l, positive.
        sign: `chart` or `nearest`.
    """

    def __init__(self, length_scale: float = 1.0, sign: str = "chart") -> None:
        super().__init__(length_scale)
        if sign not in ("chart", "nearest"):
            raise ValueError(f"sign must be chart or nearest, got {sign}")
        self.sign = sign
        if sign == "nearest":
            self.positive_definite = False
            _warn("the kernel of the nearer quaternion")

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self.of_quaternions(quaternions(a.rotations), quaternions(b.rotations))

    def of_quaternions(self, a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Pairwise:
        """The kernel of given unit quaternions."""
        squared = pairwise_distance(a, b).square()
        if self.sign == "nearest":
            squared = torch.minimum(squared, pairwise_distance(a, -b).square())
        return self._gaussian(squared)


class GeodesicKernel(_LengthKernel):
    """Baseline: exp(-theta^2 / (2 l^2)) of the angle theta between two rotations.

    It looks like the natural choice, but is no covariance in general: 300 random rotations give eigenvalues down to
    -0.03 at l = 1, and to -2.4 at l = 2. A warning says so when it is built.

    Args:
        length_scale: l, positive, radians.
    """

    positive_definite = False

    def __init__(self, length_scale: float = 1.0) -> None:
        super().__init__(length_scale)
        _warn("the Gaussian of the geodesic angle")

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self._gaussian(geodesic_angle(a.rotations, b.rotations).square())


class ReleasedFaceKernel(_LengthKernel):
    """What the published program of the face videos computes: exp(-d / (2 l^2)) with d = sqrt(tr(I - R^T R')).

    The root makes it an exponential kernel of the distance, not the view kernel: a covariance, but of paths that are
    nowhere smooth. d is at least 10^-6, on the diagonal too. Translations play no part.

    Args:
        length_scale: l, positive.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self._of(trace_distance(a.rotations, b.rotations))

    @override
    def diagonal(self, poses: Poses) -> Scores:
        return self._of(torch.zeros_like(super().diagonal(poses)))

    def _of(self, squared: Tensor) -> Tensor:
        return torch.exp(-squared.clamp_min(1e-12).sqrt() / (2.0 * self.length_scale.square()))


class ReleasedQuaternionKernel(EulerKernel):
    """What the published program calls the quaternion kernel: the Euler kernel of x, y, z of the quaternion.

    Args:
        length_scale: l, positive.
    """

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        return self.of_quaternions(quaternions(a.rotations), quaternions(b.rotations))

    def of_quaternions(self, a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Pairwise:
        """The kernel of given unit quaternions x, y, z, w."""
        return self.of_angles(a[:, :3], b[:, :3])


class ReleasedViewKernel(AbstractKernel):
    """What the published program of the chairs computes: exp(-tr(Lambda - R Lambda R'^T) / 2) with ones in Lambda.

    Its Lambda is the exponential of every entry of a diagonal matrix, which turns the zeros off the diagonal into ones.
    Rotations about several axes are distorted; it is a covariance while Lambda is positive semi-definite, which is
    sure only while every entry of its diagonal is at least 1.

    Args:
        log_scales: logarithms of Lambda's diagonal; `AnisotropicViewKernel` calls them -2 log l.
    """

    def __init__(self, log_scales: Sequence[float] = (2.6279, 2.6300, 2.6295)) -> None:
        super().__init__()
        if len(log_scales) != 3:
            raise ValueError(f"log_scales must be three numbers, one for each axis, got {len(log_scales)}")
        self.log_scales = nn.Parameter(torch.tensor(list(log_scales), dtype=torch.float64))

    @override
    def forward(self, a: Poses, b: Poses) -> Pairwise:
        scales = torch.diag(self.log_scales.double()).exp()
        similarity = (a.rotations.double() @ scales).flatten(1) @ b.rotations.double().flatten(1).mT
        return torch.exp(-0.5 * (scales.trace() - similarity))


KernelName = Literal[
    "view",
    "view_translation",
    "translation",
    "pose_matern",
    "euler",
    "quaternion",
    "quaternion_nearest",
    "geodesic",
    "face_released",
    "quaternion_released",
]
"""Kernels of camera runs that `build_kernel` knows; those that end in "released" are what the published programs do."""


def build_kernel(
    name: str, *, variance: float = 1.0, length_scale: float = 1.0, translation_length_scale: float = 1.0
) -> ScaledKernel:
    """A kernel of camera runs by its name.

    Args:
        name: one of `KernelName`.
        variance: gamma^2.
        length_scale: l, of the view if the kernel has two lengths.
        translation_length_scale: of the camera's places, in `view_translation`.

    Raises:
        ValueError: if there is no such kernel or a number is not positive.
    """
    kernel: AbstractKernel
    if name == "view_translation":
        kernel = ProductKernel(ViewKernel(length_scale), TranslationKernel(translation_length_scale))
    elif name == "quaternion_nearest":
        kernel = QuaternionKernel(length_scale, sign="nearest")
    elif name in _ONE_LENGTH:
        kernel = _ONE_LENGTH[name](length_scale)
    else:
        raise ValueError(f"there is no kernel {name}: there are {', '.join(get_args(KernelName))}")
    return ScaledKernel(kernel, variance)


_ONE_LENGTH: dict[str, type[_LengthKernel]] = {
    "view": ViewKernel,
    "translation": TranslationKernel,
    "pose_matern": PoseMaternKernel,
    "euler": EulerKernel,
    "quaternion": QuaternionKernel,
    "geodesic": GeodesicKernel,
    "face_released": ReleasedFaceKernel,
    "quaternion_released": ReleasedQuaternionKernel,
}


def _translations(a: Poses, b: Poses) -> tuple[Tensor, Tensor]:
    if a.translations is None or b.translations is None:
        raise ValueError("this kernel compares the camera's places: give poses with translations, or take kernel view")
    return a.translations.double(), b.translations.double()


def _warn(kernel: str) -> None:
    warnings.warn(
        f"{kernel} is not positive semi-definite, so it is no covariance of a Gaussian process; take the view kernel, "
        "and this one for comparisons alone",
        stacklevel=3,
    )
