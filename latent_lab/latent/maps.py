"""Maps between latent spaces, fitted to pairs of codes of the same images; rows are codes, so y = x M + b.

Linear maps have closed forms in the sums of products of their pairs. `NormalEquations` accumulates these in one pass
over any number of codes and devices; every `fit_...` reads its map from them. The task, the orientation and the
regularised objective are those of Asperti and Tonelli ("Comparing the latent space of generative models", Neural
Computing and Applications 2022), whose program descends instead: see `fit_by_descent`. `fit_residual` adds a small
network to a linear map.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latent_lab.distributed import is_distributed
from latent_lab.types import Latents

RESOLVED = 1e-6
"""Singular values of the codes below this share of the largest count as zero.

Codes are float32, and sums of their products are float64: what is smaller is rounding of either.
"""

OtherLatents: TypeAlias = Float[Tensor, "M E"]
"""Codes in another space, of another width; M is N where they are of the same images."""

Pair: TypeAlias = tuple[Tensor, Tensor]
"""Codes (N, D) of the source and (N, E) of the target, of the same N images."""

_FORMAT = "latent-lab map"


class LinearMap(nn.Module):
    """y = x M + b.

    Args:
        matrix: M, (D, E).
        bias: b, (E,); none: 0.

    Raises:
        ValueError: if the shapes do not fit together.
    """

    matrix: Float[Tensor, "D E"]
    bias: Float[Tensor, "E"]

    def __init__(self, matrix: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        if matrix.ndim != 2 or (bias is not None and bias.shape != matrix.shape[1:]):
            found = tuple(matrix.shape), None if bias is None else tuple(bias.shape)
            raise ValueError(f"a linear map is a matrix (D, E) and a bias (E,), got shapes {found[0]} and {found[1]}")
        self.register_buffer("matrix", matrix.detach().clone())
        self.register_buffer("bias", matrix.new_zeros(matrix.shape[1]) if bias is None else bias.detach().clone())

    @property
    def source_dim(self) -> int:
        """D, number of coordinates that are mapped."""
        return self.matrix.shape[0]

    @property
    def target_dim(self) -> int:
        """E, number of coordinates of the result."""
        return self.matrix.shape[1]

    def forward(self, latents: Latents) -> OtherLatents:
        """Mapped codes (N, E), in the dtype of the given ones."""
        return latents @ self.matrix.to(latents) + self.bias.to(latents)

    def inverse(self) -> LinearMap:
        """The map x = (y - b) M⁺: exact where M is invertible, else the shortest least-squares solution."""
        inverse = torch.linalg.pinv(self.matrix.double(), rtol=RESOLVED)
        return LinearMap(inverse, -self.bias.double() @ inverse)

    def then(self, other: LinearMap) -> LinearMap:
        """The map that applies this one first, then the other.

        Raises:
            ValueError: if the other one takes codes of another width.
        """
        if other.source_dim != self.target_dim:
            raise ValueError(
                f"a map to {self.target_dim} coordinates cannot be followed by one of {other.source_dim} coordinates"
            )
        matrix = other.matrix.double()
        return LinearMap(self.matrix.double() @ matrix, self.bias.double() @ matrix + other.bias.double())

    def extra_repr(self) -> str:
        """Widths, as other layers print them."""
        return f"{self.source_dim}, {self.target_dim}"


class ResidualMap(nn.Module):
    """y = x M + b + s * g((x - m) / r): a linear map and what a network with one hidden layer adds to it.

    The network begins as 0, so that training starts at the linear map. Its inputs are standardised, and its outputs are
    in units of the target's deviations, so that one learning rate serves spaces of any scale.

    Args:
        linear: stays as it is.
        width: units of the hidden layer.
        input_mean: m, (D,).
        input_deviation: r, (D,), positive.
        output_deviation: s, (E,), positive.
        seed: of the hidden layer's weights.
    """

    input_mean: Float[Tensor, "D"]
    input_deviation: Float[Tensor, "D"]
    output_deviation: Float[Tensor, "E"]

    def __init__(
        self,
        linear: LinearMap,
        width: int,
        input_mean: Tensor,
        input_deviation: Tensor,
        output_deviation: Tensor,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.hidden = nn.Linear(linear.source_dim, width)
        self.output = nn.Linear(width, linear.target_dim)
        bound = linear.source_dim**-0.5
        rng = torch.Generator().manual_seed(seed)
        nn.init.uniform_(self.hidden.weight, -bound, bound, generator=rng)
        for zero in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(zero)
        self.register_buffer("input_mean", input_mean.detach().clone())
        self.register_buffer("input_deviation", input_deviation.detach().clone())
        self.register_buffer("output_deviation", output_deviation.detach().clone())

    @property
    def source_dim(self) -> int:
        """D, number of coordinates that are mapped."""
        return self.linear.source_dim

    @property
    def target_dim(self) -> int:
        """E, number of coordinates of the result."""
        return self.linear.target_dim

    def residual(self, latents: Latents) -> OtherLatents:
        """What the network adds to the linear map, (N, E)."""
        standard = (latents - self.input_mean.to(latents)) / self.input_deviation.to(latents)
        hidden = nn.functional.silu(self.hidden(standard.to(self.hidden.weight)))
        return self.output(hidden).to(latents) * self.output_deviation.to(latents)

    def forward(self, latents: Latents) -> OtherLatents:
        """Mapped codes (N, E), in the dtype of the given ones."""
        return self.linear(latents) + self.residual(latents)


Map: TypeAlias = LinearMap | ResidualMap


def save_map(path: str | Path, fitted: Map, facts: Mapping[str, str] | None = None) -> None:
    """Writes a map as safetensors, whole or not at all.

    Args:
        path: ends in .safetensors.
        fitted: the map.
        facts: kept with it as text, such as the names of the two models.
    """
    path = Path(path)
    kind = "linear" if isinstance(fitted, LinearMap) else "residual"
    tensors = {name: tensor.contiguous().cpu() for name, tensor in fitted.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={**(facts or {}), "format": _FORMAT, "kind": kind})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_map(path: str | Path) -> tuple[Map, dict[str, str]]:
    """A map that `save_map` wrote, and the facts kept with it.

    Raises:
        ValueError: if there is no such file or it holds something else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no map at {path}: give a .safetensors file that a fit wrote")
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {str(error).splitlines()[0]}") from error
    if facts.pop("format", None) != _FORMAT:
        raise ValueError(f"{path} holds {', '.join(sorted(tensors)) or 'nothing'}, which is no map: fit it anew")
    kind = facts.pop("kind")
    try:
        if kind == "linear":
            return LinearMap(tensors["matrix"], tensors["bias"]), facts
        linear = LinearMap(tensors["linear.matrix"], tensors["linear.bias"])
        scales = (tensors[name] for name in ("input_mean", "input_deviation", "output_deviation"))
        residual = ResidualMap(linear, len(tensors["hidden.bias"]), *scales)
        residual.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is an incomplete map of kind {kind}: fit it anew") from error
    return residual, facts


class NormalEquations:
    """Sums over pairs of codes, from which every linear map is solved; float64.

    Kept are the number of pairs, both means, and the products of deviations from the means, which unlike raw sums lose
    no digits where means are large. Batches, shares of ranks and whole data sets add up (Chan, Golub and LeVeque 1979).
    One GEMM of each batch is all the work: 50,000 pairs of 512 coordinates take a few seconds of one core.

    Args:
        source_dim: D.
        target_dim: E.
        device: where sums are kept and batches are multiplied.
    """

    def __init__(self, source_dim: int, target_dim: int, device: torch.device | str = "cpu") -> None:
        self.source_dim = source_dim
        self.target_dim = target_dim
        self.num_pairs = 0
        width = source_dim + target_dim
        self._mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, source: Latents, target: OtherLatents) -> NormalEquations:
        """Of pairs that are all at hand.

        Args:
            source: (N, D).
            target: (N, E).

        Raises:
            ValueError: as `add`.
        """
        equations = cls(source.shape[1], target.shape[1], source.device)
        equations.add(source, target)
        return equations

    @property
    def source_mean(self) -> Float[Tensor, "D"]:
        """Mean of the source's codes."""
        return self._mean[: self.source_dim]

    @property
    def target_mean(self) -> Float[Tensor, "E"]:
        """Mean of the target's codes."""
        return self._mean[self.source_dim :]

    @property
    def source_scatter(self) -> Float[Tensor, "D D"]:
        """Sum of (x - mean x)(x - mean x)^T."""
        return self._scatter[: self.source_dim, : self.source_dim]

    @property
    def cross_scatter(self) -> Float[Tensor, "D E"]:
        """Sum of (x - mean x)(y - mean y)^T."""
        return self._scatter[: self.source_dim, self.source_dim :]

    @property
    def target_scatter(self) -> Float[Tensor, "E E"]:
        """Sum of (y - mean y)(y - mean y)^T."""
        return self._scatter[self.source_dim :, self.source_dim :]

    def add(self, source: Latents, target: OtherLatents) -> None:
        """Counts a batch of pairs; none is fine.

        Args:
            source: (N, D) finite.
            target: (N, E) finite, of the same images in the same order.

        Raises:
            ValueError: if numbers of rows differ, widths are not the announced ones, or codes are not finite.
        """
        check_pairs(source, target)
        if (source.shape[1], target.shape[1]) != (self.source_dim, self.target_dim):
            raise ValueError(
                f"these equations are of {self.source_dim} and {self.target_dim} coordinates, got codes of "
                f"{source.shape[1]} and {target.shape[1]}"
            )
        if len(source) == 0:
            return
        rows = torch.cat([source.detach().double(), target.detach().double()], dim=1).to(self._mean.device)
        mean = rows.mean(0)
        rows -= mean
        self._merge(len(rows), mean, rows.T @ rows)

    def merge(self, other: NormalEquations) -> None:
        """Counts all pairs of other equations, too.

        Raises:
            ValueError: if they are of other widths.
        """
        if (other.source_dim, other.target_dim) != (self.source_dim, self.target_dim):
            raise ValueError(
                f"equations of {self.source_dim} and {self.target_dim} coordinates cannot be merged with those of "
                f"{other.source_dim} and {other.target_dim}"
            )
        self._merge(other.num_pairs, other._mean.to(self._mean), other._scatter.to(self._scatter))

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.num_pairs + count
        if total == 0:
            return
        shift = mean - self._mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.num_pairs * count / total)
        self._mean += shift * (count / total)
        self.num_pairs = total

    def reduce(self) -> None:
        """Counts the pairs of all ranks on every rank; every rank must call it, once, with or without pairs."""
        if not is_distributed():
            return
        sums = torch.cat([self._mean.new_tensor([float(self.num_pairs)]), self._mean * self.num_pairs])
        dist.all_reduce(sums)
        total = int(sums[0].item())
        mean = sums[1:] / max(total, 1)
        shift = self._mean - mean
        self._scatter += torch.outer(shift, shift) * self.num_pairs
        dist.all_reduce(self._scatter)
        self.num_pairs, self._mean = total, mean

    def reversed(self) -> NormalEquations:
        """The equations of maps from the target to the source, without another pass over the codes."""
        other = NormalEquations(self.target_dim, self.source_dim, self._mean.device)
        other.num_pairs = self.num_pairs
        other._mean = torch.cat([self.target_mean, self.source_mean])
        other._scatter = torch.cat(
            [
                torch.cat([self.target_scatter, self.cross_scatter.T], dim=1),
                torch.cat([self.cross_scatter, self.source_scatter], dim=1),
            ]
        )
        return other

    def mean_squared_error(self, fitted: LinearMap) -> float:
        """Mean over pairs and coordinates of (y - x M - b)^2, read from the sums."""
        matrix, bias = fitted.matrix.to(self._mean), fitted.bias.to(self._mean)
        offset = self.target_mean - self.source_mean @ matrix - bias
        spread = (
            self.target_scatter.trace()
            - 2.0 * (matrix * self.cross_scatter).sum()
            + (matrix * (self.source_scatter @ matrix)).sum()
        )
        # Rounding may leave a perfect fit a little below 0.
        spread = spread.clamp_min(0.0) / self.num_pairs
        return ((spread + offset.square().sum()) / self.target_dim).item()


class Fit(NamedTuple):
    """A linear map and how well its equations determine it."""

    map: LinearMap
    num_pairs: int
    rank: int
    """Directions of the source's codes in which they vary measurably, at most D; see `RESOLVED`."""
    condition: float
    """Largest over smallest measurable singular value of the source's codes."""
    mean_squared_error: float
    """Over the pairs that the map was fitted to, so below that of others."""
    explained_share: float
    """R^2 = 1 - mean squared error / variance of the target's codes, over the same pairs."""


def check_pairs(source: Tensor, target: Tensor) -> None:
    """Raises ValueError unless both are finite codes (N, D) and (N, E) of equally many images."""
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        raise ValueError(
            f"pairs of codes must have shapes (N, D) and (N, E), got {tuple(source.shape)} and {tuple(target.shape)}: "
            "encode the same images with both models"
        )
    for name, codes in (("source", source), ("target", target)):
        if not codes.isfinite().all():
            bad = int((~codes.isfinite().all(1)).sum())
            raise ValueError(f"{bad} of {len(codes)} codes of the {name} are not finite: the model is damaged")


def _moments(equations: NormalEquations, affine: bool) -> tuple[Tensor, Tensor]:
    """X^T X and X^T Y, of deviations from the means for an affine map and of the codes themselves for a linear one."""
    count = equations.num_pairs
    if count == 0:
        raise ValueError("a map needs pairs of codes, got none")
    for name, scatter, mean in (
        ("source", equations.source_scatter, equations.source_mean),
        ("target", equations.target_scatter, equations.target_mean),
    ):
        size = scatter.trace() / count
        if size <= (RESOLVED**2) * (size + mean.square().sum()):
            raise ValueError(
                f"all {count} codes of the {name} are equal: a space that has collapsed cannot be mapped"
                if count > 1
                else "a map needs at least 2 pairs of codes, got 1"
            )
    if affine:
        return equations.source_scatter, equations.cross_scatter
    own = equations.source_scatter + count * torch.outer(equations.source_mean, equations.source_mean)
    across = equations.cross_scatter + count * torch.outer(equations.source_mean, equations.target_mean)
    return own, across


class _Spectrum(NamedTuple):
    """Eigenvalues (ascending) and vectors of X^T X, and which are more than rounding."""

    values: Tensor
    vectors: Tensor
    kept: Tensor

    @property
    def rank(self) -> int:
        return int(self.kept.sum())

    @property
    def condition(self) -> float:
        measurable = self.values[self.kept]
        return (measurable[-1] / measurable[0]).sqrt().item()


def _spectrum(own: Tensor) -> _Spectrum:
    values, vectors = torch.linalg.eigh(own)
    return _Spectrum(values, vectors, values > RESOLVED**2 * values[-1])


def _finish(equations: NormalEquations, spectrum: _Spectrum, matrix: Tensor, affine: bool) -> Fit:
    bias = equations.target_mean - equations.source_mean @ matrix if affine else None
    fitted = LinearMap(matrix, bias)
    error = equations.mean_squared_error(fitted)
    variance = (equations.target_scatter.trace() / (equations.num_pairs * equations.target_dim)).item()
    return Fit(fitted, equations.num_pairs, spectrum.rank, spectrum.condition, error, 1.0 - error / variance)


def fit_least_squares(equations: NormalEquations, *, affine: bool = False, minimum_norm: bool = False) -> Fit:
    """The map with the least mean |y - x M - b|^2; the smallest such M where several are.

    Solved by the eigenvectors of X^T X: directions in which the source's codes do not vary measurably (collapsed
    coordinates) are mapped to 0 instead of to amplified rounding.

    Args:
        equations: of the pairs.
        affine: with a bias b; otherwise b = 0, as published.
        minimum_norm: allow fewer pairs than coordinates, which any number of maps fits exactly.

    Raises:
        ValueError: with fewer pairs than coordinates (see `minimum_norm`), with codes that are all equal, without
            pairs.
    """
    own, across = _moments(equations, affine)
    unknowns = equations.source_dim + affine
    if equations.num_pairs < unknowns and not minimum_norm:
        raise ValueError(
            f"{equations.num_pairs} pairs do not determine a map from {equations.source_dim} coordinates: give at "
            f"least {unknowns} pairs, fit with a ridge penalty, or ask for the map of minimum norm"
        )
    spectrum = _spectrum(own)
    vectors = spectrum.vectors[:, spectrum.kept]
    matrix = vectors @ ((vectors.T @ across) / spectrum.values[spectrum.kept, None])
    return _finish(equations, spectrum, matrix, affine)


def fit_ridge(equations: NormalEquations, penalty: float, *, affine: bool = False) -> Fit:
    """The map with the least mean |y - x M - b|^2 + penalty |M|^2: M = (X^T X + N penalty I)^-1 X^T Y.

    Args:
        equations: of the pairs; any number.
        penalty: positive, in units of the source's variance. The bias is not penalised.
        affine: with a bias.

    Raises:
        ValueError: if the penalty is not positive; with codes that are all equal, without pairs.
    """
    if not penalty > 0.0:
        raise ValueError(f"a ridge penalty must be positive, got {penalty}: without one, fit least squares")
    own, across = _moments(equations, affine)
    spectrum = _spectrum(own)
    shifted = spectrum.values.clamp_min(0.0) + equations.num_pairs * penalty
    matrix = spectrum.vectors @ ((spectrum.vectors.T @ across) / shifted[:, None])
    return _finish(equations, spectrum, matrix, affine)


def fit_published(equations: NormalEquations, *, kernel_penalty: float = 1e-4, activity_penalty: float = 1e-4) -> Fit:
    """The exact minimiser of the objective of Asperti and Tonelli's program, to which `fit_by_descent` descends.

        mean over pairs and coordinates of (y - x M)^2 + kernel_penalty |M|^2 + activity_penalty / N sum |x M|^2

    Its M = ((1 + activity_penalty E) X^T X + kernel_penalty N E I)^-1 X^T Y shrinks every prediction by 1 / (1 +
    activity_penalty E) at least, which lowers the error of codes that can hardly be predicted and greys their images.

    Args:
        equations: of the pairs; any number.
        kernel_penalty: published: 1e-4, or 1.5e-3 where one of the models is a GAN.
        activity_penalty: the same.

    Raises:
        ValueError: if a penalty is negative or both are 0; with codes that are all equal, without pairs.
    """
    if min(kernel_penalty, activity_penalty) < 0.0 or max(kernel_penalty, activity_penalty) == 0.0:
        raise ValueError(
            f"penalties must not be negative, and one must be positive, got {kernel_penalty} and {activity_penalty}: "
            "without any, fit least squares"
        )
    own, across = _moments(equations, affine=False)
    spectrum = _spectrum(own)
    wide = equations.target_dim
    shifted = (1.0 + activity_penalty * wide) * spectrum.values.clamp_min(0.0)
    shifted = shifted + kernel_penalty * equations.num_pairs * wide
    # Without a penalty on M, directions that are not measured are left out, as in least squares.
    kept = spectrum.kept if kernel_penalty == 0.0 else torch.ones_like(spectrum.kept)
    vectors = spectrum.vectors[:, kept]
    matrix = vectors @ ((vectors.T @ across) / shifted[kept, None])
    return _finish(equations, spectrum, matrix, affine=False)


def fit_orthogonal(equations: NormalEquations, *, scaled: bool = True, affine: bool = True) -> Fit:
    """A rotation or reflection, perhaps with one scale: what two layouts that differ in no more have between them.

    R = U V^T of the singular value decomposition U S V^T of X^T Y (Schönemann 1966); the scale is the least-squares one
    for this R, tr S / tr X^T X where D <= E. Where widths differ, the narrower codes are filled up with zeros, and M
    has orthonormal rows (D <= E) or columns.

    Args:
        equations: of the pairs; any number.
        scaled: with the scale; otherwise lengths stay as they are.
        affine: of deviations from the means, so that translations do not count.

    Raises:
        ValueError: with codes that are all equal, without pairs.
    """
    own, across = _moments(equations, affine)
    left, _, right = torch.linalg.svd(across, full_matrices=False)
    rotation = left @ right
    if scaled:
        rotation = rotation * ((rotation * across).sum() / (rotation * (own @ rotation)).sum())
    return _finish(equations, _spectrum(own), rotation, affine)


def minibatches(source: Latents, target: OtherLatents, *, batch_size: int, steps: int, seed: int = 0) -> Iterator[Pair]:
    """Pairs in random order, every one once before any comes again, for so many steps.

    Args:
        source: (N, D).
        target: (N, E).
        batch_size: pairs at a time; all N, if there are no more.
        steps: number of batches.
        seed: of the order.

    Raises:
        ValueError: if batches or codes are empty, or the codes are no pairs.
    """
    check_pairs(source, target)
    if batch_size < 1 or len(source) == 0:
        raise ValueError(f"batches need at least one pair, got batch size {batch_size} and {len(source)} pairs")
    rng = torch.Generator().manual_seed(seed)

    def orders() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(source), generator=rng).to(source.device)
            # A last, smaller batch would weigh its pairs more than others weigh theirs.
            whole = max(1, len(order) // batch_size)
            yield from order[: whole * batch_size].split(batch_size)

    for rows in itertools.islice(orders(), steps):
        yield source[rows], target[rows]


def fit_by_descent(
    pairs: Iterable[Pair],
    *,
    learning_rate: float = 5e-4,
    kernel_penalty: float = 1e-4,
    activity_penalty: float = 1e-4,
    affine: bool = False,
    seed: int = 0,
) -> LinearMap:
    """The map that Adam finds, one step for each batch of pairs, as in Asperti and Tonelli's program.

    The objective is that of `fit_published`, of each batch. Published: 2,000 steps on all pairs of the support set
    (`minibatches` with a batch size of N), or batches of freshly generated images. Adam moves an entry of M by about
    the learning rate in each step, at most: with the published numbers M comes within a few percent of the closed form
    where its entries are well below 1, as between spaces of unit variance, and stays far from it where they are not.

    Args:
        pairs: batches of codes, as many as there are to be steps; may be generated on the way.
        learning_rate: Adam's, constant.
        kernel_penalty: weight of |M|^2; the bias is not penalised.
        activity_penalty: weight of the mean over pairs of |x M + b|^2.
        affine: with a bias.
        seed: of the Glorot-uniform start.

    Raises:
        ValueError: if there is no batch, or one holds no pairs.
    """
    matrix: Tensor | None = None
    for source, target in pairs:
        check_pairs(source, target)
        if matrix is None:
            shape = source.shape[1], target.shape[1]
            bound = (6.0 / sum(shape)) ** 0.5
            rng = torch.Generator().manual_seed(seed)
            start = (2.0 * torch.rand(shape, generator=rng) - 1.0) * bound
            matrix = start.to(source).requires_grad_()
            bias = target.new_zeros(shape[1], requires_grad=affine)
            # Keras's epsilon.
            optimizer = torch.optim.Adam([matrix, *([bias] if affine else [])], lr=learning_rate, eps=1e-7)
        with torch.enable_grad():
            mapped = source.detach() @ matrix + bias
            loss = (target.detach() - mapped).square().mean() + kernel_penalty * matrix.square().sum()
            loss = loss + activity_penalty / len(source) * mapped.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if matrix is None:
        raise ValueError("descent needs batches of pairs, got none")
    return LinearMap(matrix, bias)


def fit_residual(
    source: Latents,
    target: OtherLatents,
    linear: LinearMap,
    *,
    width: int = 256,
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    validation_share: float = 0.1,
    seed: int = 0,
) -> ResidualMap:
    """A network trained to add to a linear map what it misses; the linear map stays as it is.

    AdamW with a cosine schedule minimises the mean squared error in units of the target's deviations. A share of the
    pairs is held out; what counts is the state with the least error there, looked at 20 times, so that where nothing
    is to be gained the linear map comes back unchanged. The gain in R^2 on other images is the share of the target
    that depends on the source in another than a linear way.

    Args:
        source: (N, D).
        target: (N, E).
        linear: fitted to these pairs, or to others.
        width: units of the hidden layer.
        steps: of training.
        batch_size: pairs at a time.
        learning_rate: largest.
        weight_decay: of the weights.
        validation_share: of the pairs, in (0, 1).
        seed: of start, order and what is held out.

    Raises:
        ValueError: if there are fewer than 10 pairs, the codes are no pairs or do not fit to the linear map.
    """
    check_pairs(source, target)
    if len(source) < 10:
        raise ValueError(f"a residual map needs at least 10 pairs, got {len(source)}: fit a linear map")
    if (source.shape[1], target.shape[1]) != (linear.source_dim, linear.target_dim):
        raise ValueError(
            f"the linear map is from {linear.source_dim} to {linear.target_dim} coordinates, the codes have "
            f"{source.shape[1]} and {target.shape[1]}"
        )
    if not 0.0 < validation_share < 1.0:
        raise ValueError(f"validation_share must lie between 0 and 1, got {validation_share}")
    source, target = source.detach().float(), target.detach().float()
    # A collapsed coordinate is left as it is; dividing by its deviation would blow up rounding.
    input_deviation, input_mean = torch.std_mean(source, 0, correction=0)
    input_deviation = torch.where(input_deviation > RESOLVED * input_deviation.max(), input_deviation, 1.0)
    output_deviation = target.std(0, correction=0)
    output_deviation = torch.where(output_deviation > RESOLVED * output_deviation.max(), output_deviation, 1.0)
    fitted = ResidualMap(linear, width, input_mean, input_deviation, output_deviation, seed).to(source.device)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).to(source.device)
    held_out = max(1, int(validation_share * len(source)))
    seen, unseen = order[held_out:], order[:held_out]

    def loss_of(codes: Tensor, truth: Tensor) -> Tensor:
        return ((truth - fitted(codes)) / output_deviation).square().mean()

    with torch.enable_grad():
        optimizer = torch.optim.AdamW(fitted.parameters(), lr=learning_rate, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, best_state = loss_of(source[unseen], target[unseen]).item(), copy.deepcopy(fitted.state_dict())
        look_every = max(1, steps // 20)
        batches = minibatches(source[seen], target[seen], batch_size=batch_size, steps=steps, seed=seed + 1)
        for step, (codes, truth) in enumerate(batches, start=1):
            optimizer.zero_grad()
            loss_of(codes, truth).backward()
            optimizer.step()
            schedule.step()
            if step % look_every == 0:
                with torch.no_grad():
                    error = loss_of(source[unseen], target[unseen]).item()
                if error < best:
                    best, best_state = error, copy.deepcopy(fitted.state_dict())
    fitted.load_state_dict(best_state)
    return fitted.requires_grad_(False).eval()
