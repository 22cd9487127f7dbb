"""Directions in a latent space, along which one property of the images changes, and their way into another space.

Two kinds are to be kept apart. A displacement d says where to go: codes move by multiples of it. A normal n says what
is asked: codes x with n x + c = 0 divide those with an attribute from those without it (InterFaceGAN: Shen et al.
2020). Within one space either can be used as the other; through a map y = x M + b a displacement becomes d M, a normal
M⁺ n.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from latent_lab.distributed import IndexedRandom
from latent_lab.latent.maps import LinearMap
from latent_lab.types import Latents, Scores

Direction: TypeAlias = Float[Tensor, "1 D"]

_NOTHING = 1e-6
"""Lengths below this share of the original are rounding of float32 directions."""


# From codes


def mean_difference(present: Latents, absent: Float[Tensor, "M D"]) -> Direction:
    """Mean code with the attribute minus mean code without it, (1, D) float32: not of unit length, not projected.

    Args:
        present: (N, D) codes of images with it.
        absent: (M, D) without it.

    Raises:
        ValueError: if there are none of either.
    """
    if min(len(present), len(absent)) == 0:
        raise ValueError(
            f"a mean difference needs codes of both kinds, got {len(present)} with and {len(absent)} without"
        )
    return (present.double().mean(0, keepdim=True) - absent.double().mean(0, keepdim=True)).float()


class Hyperplane(NamedTuple):
    """Codes x with n x + c = 0; the attribute is where n x + c is positive."""

    normal: Direction
    """n, of unit length."""
    offset: float
    """c."""

    def distance(self, latents: Latents) -> Scores:
        """Signed distances n x + c of codes (N, D), (N,)."""
        return (latents @ self.normal.to(latents).T)[:, 0] + self.offset

    def accuracy(self, latents: Latents, labels: Bool[Tensor, "N"]) -> float:
        """Share of codes on their label's side."""
        return ((self.distance(latents) > 0) == labels).double().mean().item()


def _checked(codes: Tensor, labels: Tensor) -> None:
    if len(codes) != len(labels):
        raise ValueError(f"every code needs one label, got {len(codes)} codes and {len(labels)} labels")
    broken = int((~codes.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {len(codes)} codes are not finite: the model is damaged")
    if labels.all() or not labels.any():
        raise ValueError(
            f"all {len(labels)} labels are {'yes' if len(labels) and bool(labels[0]) else 'no'}: a hyperplane divides "
            "codes of both kinds"
        )


def _hyperplane(coefficients: Any, intercept: Any) -> Hyperplane:
    normal = torch.from_numpy(np.asarray(coefficients)).double().reshape(1, -1)
    length = normal.norm()
    if length == 0:
        raise ValueError("the two kinds of codes have no difference that a hyperplane could divide")
    return Hyperplane((normal / length).float(), (float(np.asarray(intercept).item()) / length).item())


def midway_hyperplane(direction: Direction, present: Latents, absent: Float[Tensor, "M D"]) -> Hyperplane:
    """The hyperplane across a direction, halfway between the mean codes of both kinds; it makes a question of any one.

    Args:
        direction: (1, D), of any length; the normal is of unit length and looks the same way.
        present: (N, D) codes of images with the attribute.
        absent: (M, D) without it.

    Raises:
        ValueError: if the direction is 0.
    """
    length = direction.double().norm()
    if length == 0:
        raise ValueError("a hyperplane needs a direction, got one of length 0")
    normal = direction.double() / length
    middle = (present.double().mean(0) + absent.double().mean(0)) / 2.0
    return Hyperplane(normal.float(), -(normal[0] @ middle).item())


def support_vector_normal(
    codes: Latents,
    labels: Float[Tensor, "M"] | Bool[Tensor, "M"],
    *,
    penalty: float = 1.0,
    loss: Literal["hinge", "squared_hinge"] = "hinge",
) -> Hyperplane:
    """The hyperplane of a linear support vector machine, whose normal is InterFaceGAN's direction.

    Args:
        codes: (N, D).
        labels: (N,) yes or no.
        penalty: C of the machine, published: 1.
        loss: `hinge`, as published, whose solver takes time that grows with the square of N; `squared_hinge` is fast
            for any N and gives nearly the same normal.

    Raises:
        ValueError: if labels are all alike or not one for each code, or codes are not finite.
    """
    # Slow to import and used here alone.
    from sklearn.svm import SVC, LinearSVC

    wanted = labels.bool()
    _checked(codes, wanted)
    machine = SVC(kernel="linear", C=penalty) if loss == "hinge" else LinearSVC(dual=False, C=penalty)
    machine.fit(codes.detach().double().cpu().numpy(), wanted.cpu().numpy())
    return _hyperplane(machine.coef_, machine.intercept_)


def logistic_normal(
    codes: Latents, labels: Float[Tensor, "M"] | Bool[Tensor, "M"], *, penalty: float = 1.0
) -> Hyperplane:
    """The hyperplane of even odds of a logistic regression.

    Args:
        codes: (N, D).
        labels: (N,) yes or no.
        penalty: C, the inverse weight of |n|^2 / 2.

    Raises:
        ValueError: as `support_vector_normal`.
    """
    # Slow to import and used here alone.
    from sklearn.linear_model import LogisticRegression

    wanted = labels.bool()
    _checked(codes, wanted)
    regression = LogisticRegression(C=penalty, max_iter=1000)
    regression.fit(codes.detach().double().cpu().numpy(), wanted.cpu().numpy())
    return _hyperplane(regression.coef_, regression.intercept_)


class Boundary(NamedTuple):
    """A hyperplane fitted to the codes with the most extreme scores, and how well it does on others."""

    hyperplane: Hyperplane
    validation_accuracy: float
    """On extreme codes that were held out."""
    remaining_accuracy: float
    """On all codes between the extremes, whose label is whether their score is above the middle of all extreme ones;
    NaN if there are none."""


def boundary_of_scores(
    codes: Latents,
    scores: Float[Tensor, "M"],
    *,
    share: float = 0.02,
    train_share: float = 0.7,
    penalty: float = 1.0,
    seed: int = 0,
) -> Boundary:
    """InterFaceGAN's boundary: a machine fitted to the highest and the lowest scores of generated images.

    Args:
        codes: (N, D) of the images.
        scores: (N,) of the attribute, in any units.
        share: of the codes that count as high, and as low, in (0, 0.5]. Published: 0.02.
        train_share: of these, in (0, 1); the others are for validation. Published: 0.7.
        penalty: C of the machine.
        seed: of which are for training.

    Raises:
        ValueError: if fewer than two of each side would be left for training or none for validation; as
            `support_vector_normal`.
    """
    if len(codes) != len(scores):
        raise ValueError(f"every code needs one score, got {len(codes)} codes and {len(scores)} scores")
    if not scores.isfinite().all():
        raise ValueError(
            f"{int((~scores.isfinite()).sum())} of {len(scores)} scores are not finite: leave these codes out"
        )
    side = int(share * len(codes))
    train = int(train_share * side)
    if not 0.0 < share <= 0.5 or train < 2 or train == side:
        raise ValueError(
            f"{share:g} of {len(codes)} codes are {side} of each side, {train} for training: give at least 2 to "
            "training and 1 to validation, by more codes or a larger share (at most 0.5)"
        )
    order = scores.argsort(descending=True, stable=True)
    sides = []
    for number, places in enumerate((order[:side], order[len(order) - side :])):
        shuffled = torch.randperm(side, generator=IndexedRandom(seed, "directions/boundary").generator(number))
        sides.append(places[shuffled.to(places.device)])

    def both(part: slice) -> tuple[Tensor, Tensor]:
        high, low = (places[part] for places in sides)
        labels = torch.cat([torch.ones_like(high, dtype=torch.bool), torch.zeros_like(low, dtype=torch.bool)])
        return codes[torch.cat([high, low])], labels

    hyperplane = support_vector_normal(*both(slice(train)), penalty=penalty)
    rest = order[side : len(order) - side]
    middle = (scores[order[0]] + scores[order[-1]]) / 2.0
    remaining = hyperplane.accuracy(codes[rest], scores[rest] > middle) if len(rest) else float("nan")
    return Boundary(hyperplane, hyperplane.accuracy(*both(slice(train, None))), remaining)


# From one another, from spectra, from weights


def orthogonalised(direction: Direction, conditions: Float[Tensor, "K D"]) -> Direction:
    """The part of a direction that leaves others alone, n - C⁺ C n, of unit length: conditional editing.

    Moving along it changes none of the conditions' linear scores (Shen et al. 2020).

    Args:
        direction: (1, D) n.
        conditions: (K, D) normals C of what is to stay as it is; they may depend on one another.

    Raises:
        ValueError: if nothing is left because the direction is a combination of the conditions; if widths differ.
    """
    if conditions.shape[1] != direction.shape[1]:
        raise ValueError(
            f"direction and conditions are of one space, got {direction.shape[1]} and {conditions.shape[1]} coordinates"
        )
    wanted, kept = direction.double(), F.normalize(conditions.double(), dim=1)
    # Rows of the last factor with measurable singular values (of unit rows: up to about 1) span the conditions.
    _, singular, axes = torch.linalg.svd(kept, full_matrices=False)
    axes = axes[singular > _NOTHING]
    left = wanted - wanted @ axes.T @ axes
    if left.norm() <= _NOTHING * wanted.norm():
        raise ValueError(
            f"the direction is a combination of its {len(conditions)} conditions, so nothing is left: give fewer"
        )
    return (left / left.norm()).to(direction)


class Axes(NamedTuple):
    """Orthonormal directions in the order of what they change."""

    directions: Float[Tensor, "K D"]
    """Rows; the entry of largest magnitude is positive."""
    strengths: Float[Tensor, "K"]
    """Variance of codes along them, or squared gain of weights."""


def _leading(symmetric: Tensor, num: int | None) -> Axes:
    values, vectors = torch.linalg.eigh(symmetric)
    rows = vectors.T.flip(0)[:num]
    peaks = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    rows = torch.where(peaks < 0, -rows, rows)
    return Axes(rows.float(), values.flip(0)[:num].clamp_min(0.0))


def principal_directions(codes: Latents, num: int | None = None) -> Axes:
    """Axes along which codes vary most, with the variances (unbiased).

    Of latents that a generator maps first, such as points of W, these are GANSpace's (Härkönen et al. 2020).

    Args:
        codes: (N, D), N at least 2.
        num: of axes; none: all D.

    Raises:
        ValueError: with fewer than two codes, or codes that are not finite.
    """
    if len(codes) < 2 or not codes.isfinite().all():
        raise ValueError(f"principal directions need at least 2 codes, all finite, got {len(codes)}")
    centred = codes.double() - codes.double().mean(0)
    return _leading(centred.T @ centred / (len(codes) - 1), num)


def factorised_directions(weights: Sequence[Tensor], num: int | None = None, *, unit_rows: bool = False) -> Axes:
    """Directions that the first linear layers amplify most: eigenvectors of A^T A (SeFa: Shen and Zhou 2021).

    Args:
        weights: (outputs, D) matrices that read the latent: one of a first layer, or the style layers of several layers
            of a layered decoder, which are stacked. More dimensions behind the first are flattened into outputs:
            (D_in, ...) weights of convolutions are to be transposed by the caller.
        num: of directions; none: all D.
        unit_rows: whether every output's weights are scaled to length 1 first, as in the published program.

    Raises:
        ValueError: if there is no weight, or they read latents of different sizes.
    """
    if len({weight.shape[1:] for weight in weights}) != 1 or any(weight.ndim != 2 for weight in weights):
        shapes = ", ".join(str(tuple(weight.shape)) for weight in weights) or "none"
        raise ValueError(f"factorised weights are matrices (outputs, D) with one D, got {shapes}")
    stacked = torch.cat([weight.detach().double() for weight in weights])
    if unit_rows:
        stacked = F.normalize(stacked, dim=1)
    return _leading(stacked.T @ stacked, num)


@torch.no_grad()
def reading_weights(decoder: nn.Module, decode: Callable[[Latents], Any], latent: Direction) -> list[Tensor]:
    """Matrices (outputs, D) of the linear layers of a decoder that read a latent as it is.

    These are the style layers of a layered decoder, or the first dense layer or convolution of any other; a decoder
    that changes its latents first (StyleGAN of Z) has none. A layer's matrix is what it answers to the unit vectors,
    so that scales that it applies while it runs count.

    Args:
        decoder: the module whose layers are looked at.
        decode: takes the latent through it.
        latent: (1, D), on the module's device, without zeros; one that no layer sees by chance.
    """
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    width = latent.shape[1]
    readers: dict[nn.Module, torch.Size] = {}

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen = inputs[0]
        # Points of a sphere may have been projected once more.
        if seen.numel() == width and torch.allclose(seen.reshape(1, width).to(latent), latent, rtol=1e-5, atol=1e-7):
            readers[module] = seen.shape

    hooks = [module.register_forward_pre_hook(look) for module in decoder.modules() if isinstance(module, kinds)]
    try:
        decode(latent)
    finally:
        for hook in hooks:
            hook.remove()
    matrices = []
    for module, shape in readers.items():
        units = torch.eye(width, device=latent.device).view(width, *shape[1:])
        matrices.append((module(units) - module(torch.zeros_like(units[:1]))).flatten(1).T.double())
    return matrices


def edit_path(
    latents: Latents,
    direction: Direction,
    strengths: Float[Tensor, "K"],
    *,
    hyperplane_offset: float | None = None,
) -> Float[Tensor, "N K D"]:
    """Codes moved along a direction, (N, K, D).

    Args:
        latents: (N, D).
        direction: (1, D), of unit length where there is a hyperplane.
        strengths: (K,) multiples of the direction that are added; with a hyperplane, the signed distances from it at
            which codes arrive, wherever they began.
        hyperplane_offset: c of the hyperplane of which the direction is the normal. InterFaceGAN's program moves to
            distances from the parallel plane through the origin: 0.
    """
    steps = strengths.to(latents).expand(len(latents), -1)
    if hyperplane_offset is not None:
        steps = steps - Hyperplane(direction, hyperplane_offset).distance(latents)[:, None]
    return latents[:, None] + steps[:, :, None] * direction.to(latents)


# Through a map


def transport_direction(direction: Direction, fitted: LinearMap) -> Float[Tensor, "1 E"]:
    """The displacement d M of the target's codes that belongs to a displacement d of the source's.

    Editing first and mapping then is the same as mapping first and editing by it. Its length counts.

    Args:
        direction: (1, D).
        fitted: from the source's space to the target's.
    """
    return (direction.double() @ fitted.matrix.to(direction.device, torch.float64)).to(direction)


def transport_hyperplane(hyperplane: Hyperplane, fitted: LinearMap) -> Hyperplane:
    """The hyperplane of the target's space that divides mapped codes as the given one divides the source's.

    Its normal is M⁺ n, not n M, and its offset is moved by the map's bias; where M has a right inverse (D <= E) mapped
    codes are divided exactly alike, else as nearly as M n' = n can be solved. Of the target's own codes, rather than
    mapped ones, `pull_back_hyperplane` asks better.

    Args:
        hyperplane: of the source's space.
        fitted: from the source's space to the target's.

    Raises:
        ValueError: if the map sends nothing along the normal anywhere, so that no plane is left.
    """
    back = fitted.inverse().matrix.to(hyperplane.normal.device)
    normal = hyperplane.normal.double() @ back.T
    length = normal.norm()
    # What the transported question says of mapped codes, compared with what was asked.
    seen = normal @ fitted.matrix.to(normal).T
    if seen.norm() <= _NOTHING:
        raise ValueError("the map loses what this hyperplane divides by: nothing of its normal is left in the target")
    offset = hyperplane.offset - (normal @ fitted.bias.to(normal)).item()
    return Hyperplane((normal / length).float(), offset / length.item())


def pull_back_hyperplane(hyperplane: Hyperplane, back: LinearMap) -> Hyperplane:
    """The hyperplane of the target's space that asks of the source's codes as they are estimated from the target's.

    Of the map x = y B + a from the target to the source it is n' = B n. Where maps between spaces explain a part only,
    this is the way for normals: least squares shrink what they cannot explain, and M⁺ of the map there magnifies just
    that. For an exact map both are the same.

    Args:
        hyperplane: of the source's space.
        back: from the target's space to the source's, fitted as such.

    Raises:
        ValueError: if the target's codes tell nothing along the normal.
    """
    normal = hyperplane.normal.double() @ back.matrix.to(hyperplane.normal.device, torch.float64).T
    length = normal.norm()
    if length <= _NOTHING * back.matrix.double().norm():
        raise ValueError("the map back tells nothing of what this hyperplane divides by")
    offset = hyperplane.offset + (hyperplane.normal[0].double() @ back.bias.to(normal)).item()
    return Hyperplane((normal / length).float(), offset / length.item())


# From files


def read_direction(path: str | Path, dim: int, num_layers: int = 1) -> Direction:
    """A direction from a file: one float tensor (1, D) or (D,), as the published programs save it or as safetensors.

    Of a space with one point for each of L layers (W+), whose rows hold D = L E numbers, it may also be (L, E) or (1,
    L, E), or (E,) or (1, E): the same in every layer, as InterFaceGAN moves points of W+.

    Args:
        path: .safetensors, a file of `torch.save`, of which only tensors are read, or a .npy array, as InterFaceGAN's
            boundaries are.
        dim: D of the model's latent space.
        num_layers: L.

    Raises:
        ValueError: if the file is missing, holds something else or has another D.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no direction at {path}: give a .safetensors, .pt or .npy file with one tensor")
    try:
        if path.suffix == ".safetensors":
            content: Any = list(load_file(path).values())
        elif path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            content = torch.from_numpy(array) if array.dtype.kind == "f" else None
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} holds no plain tensor, so it was not opened: {str(error).splitlines()[0]}") from error
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        content = content[0] if len(content) == 1 else None
    width = dim // num_layers
    layered = {(num_layers, width), (1, num_layers, width), (width,), (1, width)} if num_layers > 1 else set()
    if (
        not isinstance(content, Tensor)
        or content.shape not in {(dim,), (1, dim), *layered}
        or not content.is_floating_point()
    ):
        found = tuple(content.shape) if isinstance(content, Tensor) else "something else"
        by_layers = f", ({num_layers}, {width}) or ({width},)" if num_layers > 1 else ""
        raise ValueError(
            f"{path} must hold one float tensor of shape (1, {dim}){by_layers}, a direction of this model's latent "
            f"space, got {found}"
        )
    direction = content.float()
    if direction.numel() < dim:
        direction = direction.reshape(1, width).repeat(1, num_layers)
    direction = direction.reshape(1, dim)
    if not direction.isfinite().all():
        raise ValueError(f"{path} holds numbers that are not finite: make the direction anew")
    return direction
