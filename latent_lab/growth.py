"""Progressive growing as a pure function of the number of real images seen.

`GrowthSchedule.at(images_seen)` returns everything that varies with progress. The data sampler and the model both read
it and know nothing of each other, so a run resumes at any image and a configuration means the same on any number of
devices.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_RESOLUTION = 4


def phase_of(resolution: int) -> int:
    """Phase p of a resolution 4 * 2^p.

    Raises:
        ValueError: if the resolution is not 4, 8, 16, ...
    """
    ratio = resolution / FIRST_RESOLUTION
    if resolution < FIRST_RESOLUTION or not math.log2(ratio).is_integer():
        below = FIRST_RESOLUTION * 2 ** max(0, math.floor(math.log2(max(ratio, 1))))
        raise ValueError(
            f"resolution must be 4 * 2^k pixels (4, 8, 16, 32, ...), got {resolution}: use {below} or {2 * below}"
        )
    return int(math.log2(ratio))


def images_of(kimg: float) -> int:
    """A number of images given in thousands."""
    return round(1000 * kimg)


@dataclass(frozen=True)
class Stage:
    """One row of a growth schedule; it begins where the row before it ends."""

    resolution: int
    """Pixels per side, 4 * 2^k. The same as in the row before, or its double."""
    kimg: float
    """Length of the row in thousands of real images, over all devices."""
    batch_size: int
    """Images per step over all devices; of a translator, images of each domain."""
    fade_kimg: float = 0.0
    """Thousands of images, from the first row of this resolution on, in which its new layers fade in (alpha 0 to 1)."""
    learning_rate: float = 1e-3
    """Of every optimiser."""
    learning_rate_end: float | None = None
    """The rate falls linearly to this over the row; none: it stays. Without it, the last weights are those of one noisy
    step."""
    margin: float | None = None
    """KL margin of Balanced Pioneer in code units (paper units divided by 10); none: no clamp."""

    def __post_init__(self) -> None:
        phase_of(self.resolution)
        if self.kimg <= 0:
            raise ValueError(f"a stage's kimg must be positive, got {self.kimg}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.fade_kimg < 0:
            raise ValueError(f"fade_kimg must not be negative, got {self.fade_kimg}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.learning_rate_end is not None and self.learning_rate_end < 0:
            raise ValueError(f"learning_rate_end must not be negative (null: constant), got {self.learning_rate_end}")
        if self.margin is not None and self.margin <= 0:
            raise ValueError(f"margin must be positive or null (no clamp), got {self.margin}")


@dataclass(frozen=True)
class GrowthState:
    """What holds at one moment of training."""

    images_seen: int
    stage: int
    """Row of the schedule, from 0."""
    phase: int
    """Resolution is 4 * 2^phase."""
    resolution: int
    alpha: float
    """Weight of the newest layers in [0, 1]; it counts in the first phase too, where nothing is there to fade from."""
    batch_size: int
    learning_rate: float
    margin: float | None

    @property
    def level_of_detail(self) -> float:
        """Phase plus alpha: one number for the state of growth."""
        return self.phase + self.alpha


@dataclass(frozen=True)
class GrowthSchedule:
    """Rows of (resolution, length, batch size, ...), checked when built.

    The last row holds for ever; a run ends at its own `max_kimg`, by default at the total of the rows.
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a growth schedule needs at least one stage")
        for before, after in zip(self.stages, self.stages[1:], strict=False):
            if after.resolution not in (before.resolution, 2 * before.resolution):
                raise ValueError(
                    f"resolutions of a schedule must stay or double from row to row, got {after.resolution} after "
                    f"{before.resolution}"
                )
            if after.resolution == before.resolution and after.fade_kimg not in (0.0, before.fade_kimg):
                raise ValueError(
                    f"fade_kimg belongs to the first row of a resolution, got {after.fade_kimg} in a later row of "
                    f"{after.resolution}"
                )

    @property
    def resolution(self) -> int:
        """The target: pixels per side of the last row."""
        return self.stages[-1].resolution

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Every resolution of the schedule, ascending."""
        return tuple(sorted({stage.resolution for stage in self.stages}))

    @property
    def total_kimg(self) -> float:
        """Length of all rows together."""
        return math.fsum(stage.kimg for stage in self.stages)

    @property
    def target_kimg(self) -> float:
        """Where the target resolution begins."""
        return self._starts()[self._first_row_of(self.resolution)] / 1000

    def at(self, images_seen: int) -> GrowthState:
        """The state in which the image number `images_seen` (from 0) is used.

        Raises:
            ValueError: if `images_seen` is negative.
        """
        if images_seen < 0:
            raise ValueError(f"images_seen must not be negative, got {images_seen}")
        starts = self._starts()
        row = bisect.bisect_right(starts, images_seen) - 1
        stage = self.stages[row]
        first = self._first_row_of(stage.resolution)
        fade_images = 1000 * self.stages[first].fade_kimg
        in_resolution = images_seen - starts[first]
        alpha = 1.0 if fade_images == 0 else min(1.0, in_resolution / fade_images)
        return GrowthState(
            images_seen=images_seen,
            stage=row,
            phase=phase_of(stage.resolution),
            resolution=stage.resolution,
            alpha=alpha,
            batch_size=stage.batch_size,
            learning_rate=_learning_rate(stage, (images_seen - starts[row]) / (1000 * stage.kimg)),
            margin=stage.margin,
        )

    def _starts(self) -> list[int]:
        starts, total = [], 0.0
        for stage in self.stages:
            starts.append(images_of(total))
            total += stage.kimg
        return starts

    def _first_row_of(self, resolution: int) -> int:
        return next(row for row, stage in enumerate(self.stages) if stage.resolution == resolution)


def _learning_rate(stage: Stage, share: float) -> float:
    if stage.learning_rate_end is None:
        return stage.learning_rate
    return stage.learning_rate + (stage.learning_rate_end - stage.learning_rate) * min(1.0, share)
