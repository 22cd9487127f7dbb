"""When something is due, counted in real images."""

from __future__ import annotations


class EveryKimg:
    """Whether a multiple of `kimg` thousand images lies between two readings of the clock.

    Absolute multiples make a resumed run act at the same images as an uninterrupted one.

    Args:
        kimg: thousands of images between two events; None: never.
    """

    def __init__(self, kimg: float | None) -> None:
        if kimg is not None and kimg <= 0:
            raise ValueError(f"an interval in kimg must be positive or null (never), got {kimg}")
        self.images = None if kimg is None else max(1, round(1000 * kimg))

    def due(self, before: int, after: int) -> bool:
        """Whether the clock's step from `before` to `after` images passes a multiple."""
        return self.images is not None and before // self.images < after // self.images
