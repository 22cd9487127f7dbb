"""Training of a label regressor on labelled images, and what it is worth on others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab import images as conversions
from latent_lab.analyses.feeding import batches
from latent_lab.distributed import IndexedRandom
from latent_lab.metrics.functional.prediction import area_under_curve, explained_share
from latent_lab.networks.label_regressor import LabelRegressor
from latent_lab.types import Images, ImageSource, Scalar

COARSEST = 4
"""Pixels per side at which images are read when only their labels are wanted; every pack has this level."""

NAMES_IN_NUMBERS = ("identity",)
"""Labels that count persons and measure nothing; they are estimated only where they are asked for."""

_READ = 512

Report = Callable[[int, float], None]
"""Is told the number of images seen and the loss of the latest batch."""


@dataclass(frozen=True)
class RegressorTraining:
    """How a label regressor is trained; its network is `networks.label_regressor.LabelRegressor`."""

    labels: tuple[str, ...] = ()
    """Names, separated by commas or spaces; none: all that vary, but for numbers of persons."""
    kimg: float = 100.0
    """Thousands of training images to see."""
    batch_size: int = 32
    """Images in a step."""
    learning_rate: float = 2e-3
    """At the start, of Adam with decoupled weight decay; it falls to zero along a cosine."""
    weight_decay: float = 0.05
    """Strength of the decay."""
    shift: float = 0.032
    """Images are moved by up to this share of their side, so that the place of a face in the frame tells nothing."""
    soften: bool = False
    """Whether images lose a random share of their finest details, as what models decode has lost them, too; small
    things such as a smile at 32 pixels are then learnt much more slowly."""
    seed: int = 0
    """Of first weights, order and changes of images."""

    def __post_init__(self) -> None:
        if self.kimg <= 0:
            raise ValueError(f"kimg must be positive, got {self.kimg}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 for batch norm, got {self.batch_size}")
        if not 0 <= self.shift < 0.5:
            raise ValueError(f"shift must be a share of the side in [0, 0.5), got {self.shift}")

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The labels one by one."""
        return separate(self.labels)


def separate(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names one by one, whether they came as a list or as words in one text."""
    return tuple(name for text in names for name in text.replace(",", " ").split())


def all_labels(source: ImageSource) -> Tensor:
    """(N, K) float32 of a whole source, NaN where unknown.

    Raises:
        ValueError: if it has no labels.
    """
    if not source.label_names or len(source) == 0:
        raise ValueError("these images have no labels: name data with labels, such as ImageFolder with --data.labels")
    found = []
    for piece in batches(range(len(source)), _READ):
        labels = source.batch(piece, COARSEST).labels
        assert labels is not None
        found.append(labels.float())
    return torch.cat(found)


def are_binary(labels: Tensor) -> Tensor:
    """(K,) whether every known entry of a column (N, K) is 0 or 1."""
    return ((labels == 0) | (labels == 1) | labels.isnan()).all(0)


def train_regressor(
    train: ImageSource,
    held_out: ImageSource,
    resolution: int,
    settings: RegressorTraining,
    *,
    device: torch.device | str = "cpu",
    report: Report | None = None,
) -> LabelRegressor:
    """A regressor in evaluation mode, on the CPU; its `facts` hold the held-out quality of each label.

    Loss: the mean over known labels of the cross entropy of a yes or no and the squared error of standardised numbers.
    Images are not mirrored, since labels may have a side.

    Args:
        train: labelled images.
        held_out: others, with the same labels.
        resolution: pixels per side at which images are read and the network works.
        settings: what to estimate and for how long.
        device: where it is trained.
        report: is told the progress after every step.

    Raises:
        ValueError: if a label is unknown or there is nothing to estimate.
    """
    labels = all_labels(train)
    columns = _columns(train, labels, settings.asked_for)
    labels = labels[:, columns]
    channels = train.batch([0], COARSEST).images.shape[1]
    names = [train.label_names[column] for column in columns]
    with torch.inference_mode(False), torch.enable_grad():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            regressor = LabelRegressor(names, are_binary(labels).tolist(), resolution, channels=channels)
        known = labels.double()
        regressor.mean.copy_(known.nanmean(0))
        regressor.std.copy_((known - known.nanmean(0)).square().nanmean(0).sqrt())
        regressor.to(device)
        _fit(regressor, train, columns, settings, report)
    regressor.requires_grad_(False).eval()
    regressor.facts = {
        "quality": measure_quality(regressor, held_out),
        "held_out": dict(held_out.recipe),
        "data": dict(train.recipe),
        "training": asdict(settings),
    }
    return regressor.cpu()


def measure_quality(regressor: LabelRegressor, source: ImageSource) -> dict[str, dict[str, Any]]:
    """For each label its `auc` (a yes or no) or `r2` (a quantity) on a source's images, and how many had the label.

    A label that is missing there, or the same everywhere, has a count and no figure.
    """
    device = regressor.mean.device
    estimates, labels = [], []
    with torch.no_grad():
        for piece in batches(range(len(source)), _READ):
            batch = source.batch(piece, regressor.resolution)
            estimates.append(regressor(batch.images.to(device)).cpu())
            assert batch.labels is not None
            labels.append(batch.labels.float())
    estimate, truth = torch.cat(estimates), torch.cat(labels)
    quality: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(regressor.names):
        column_of_truth = truth[:, source.label_names.index(name)]
        known = ~column_of_truth.isnan()
        binary = bool(regressor.binary[column])
        figure = (area_under_curve if binary else explained_share)(estimate[known, column], column_of_truth[known])
        quality[name] = {"count": int(known.sum())}
        if not math.isnan(figure):
            quality[name]["auc" if binary else "r2"] = figure
    return quality


def _columns(source: ImageSource, labels: Tensor, asked_for: tuple[str, ...]) -> list[int]:
    """Columns of the labels to be estimated."""
    for name in asked_for:
        if name not in source.label_names:
            raise ValueError(f"these images have no label {name}: there are {', '.join(source.label_names)}")
    chosen = []
    for column, name in enumerate(source.label_names):
        wanted = name in asked_for if asked_for else name not in NAMES_IN_NUMBERS
        known = labels[:, column][~labels[:, column].isnan()]
        varies = len(known) > 0 and bool((known != known[0]).any())
        if wanted and not varies and asked_for:
            raise ValueError(f"label {name} is the same for all training images, so nothing can be learnt of it")
        if wanted and varies:
            chosen.append(column)
    if not chosen:
        raise ValueError("no label varies over the training images, so nothing can be learnt")
    return chosen


def _fit(
    regressor: LabelRegressor,
    train: ImageSource,
    columns: list[int],
    settings: RegressorTraining,
    report: Report | None,
) -> None:
    device = regressor.mean.device
    changes = IndexedRandom(settings.seed, "label_regressor/changes")
    places = _endless_order(len(train), settings.seed)
    steps = max(1, round(1000 * settings.kimg / settings.batch_size))
    optimizer = torch.optim.AdamW(regressor.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    regressor.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = train.batch(list(itertools.islice(places, settings.batch_size)), regressor.resolution)
        assert batch.labels is not None
        images = _changed(batch.images, changes.generator(step), settings)
        loss = _loss(regressor, images.to(device), batch.labels[:, columns].float().to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if report is not None:
            report((step + 1) * settings.batch_size, loss.item())


def _endless_order(count: int, seed: int) -> Iterator[int]:
    """Places 0 ... count - 1 in a new random order for each pass."""
    order = IndexedRandom(seed, "label_regressor/order")
    for epoch in itertools.count():
        yield from torch.randperm(count, generator=order.generator(epoch)).tolist()


def _loss(regressor: LabelRegressor, images: Images, labels: Tensor) -> Scalar:
    known = ~labels.isnan()
    target = regressor.standardise(labels.nan_to_num())
    scores = regressor.scores(images)
    terms = torch.where(
        regressor.binary,
        F.binary_cross_entropy_with_logits(scores, target.clamp(0.0, 1.0), reduction="none"),
        (scores - target).square(),
    )
    return (terms * known).sum() / known.sum().clamp_min(1)


def _changed(images: Images, rng: torch.Generator, settings: RegressorTraining) -> Images:
    """Images moved by whole pixels, their edges repeated, and softened, each one differently."""
    count, channels, height, width = images.shape
    reach = int(settings.shift * width)
    down, right = (torch.randint(-reach, reach + 1, (count, 1), generator=rng) for _ in range(2))
    rows = (torch.arange(height) + down).clamp_(0, height - 1)
    columns = (torch.arange(width) + right).clamp_(0, width - 1)
    each, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    moved = images[each, channel, rows[:, None, :, None], columns[:, None, None, :]]
    if not settings.soften:
        return moved
    kept = torch.rand(count, 1, 1, 1, generator=rng)
    return torch.lerp(conversions.double(conversions.halve(moved)), moved, kept)


__all__ = [
    "NAMES_IN_NUMBERS",
    "RegressorTraining",
    "all_labels",
    "are_binary",
    "measure_quality",
    "separate",
    "train_regressor",
]
