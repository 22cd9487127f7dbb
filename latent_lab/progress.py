"""How far long work is: whoever loops reports, a display shows it where one is installed, otherwise nothing happens.

Loops know nothing of consoles, and consoles nothing of loops. `phase` gives the loops inside a name, also as a
decorator:

    with phase("samples of the prior"):
        for indices in batches(share(count), batch_size):
            ...
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable


@dataclass(eq=False)
class Task:
    """One loop that is under way."""

    what: str
    """For people: "samples of the prior"."""
    total: int
    """Steps in all, in whatever the loop counts."""
    done: int = 0
    """Steps that are behind."""
    started: float = field(default_factory=time.monotonic)
    """Reading of the monotonic clock, in seconds."""

    def seconds_left(self, now: float) -> float:
        """As long as the rest takes at the pace so far; infinite before the first step."""
        return (now - self.started) * (self.total - self.done) / self.done if self.done else float("inf")


@runtime_checkable
class Display(Protocol):
    """Who shows tasks."""

    def update(self, task: Task) -> None:
        """A step was made."""

    def end(self, task: Task) -> None:
        """The loop is over, finished or left."""


_DISPLAY: ContextVar[Display | None] = ContextVar("display", default=None)
_PHASE: ContextVar[str] = ContextVar("phase", default="working")
Piece = TypeVar("Piece", bound=Sized)
Item = TypeVar("Item")


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Loops inside report to this display."""
    token = _DISPLAY.set(display)
    try:
        yield
    finally:
        _DISPLAY.reset(token)


@contextmanager
def phase(what: str) -> Iterator[None]:
    """Gives the loops inside a name, unless they have one of their own."""
    token = _PHASE.set(what)
    try:
        yield
    finally:
        _PHASE.reset(token)


def tracked(pieces: Iterable[Piece], total: int, what: str | None = None) -> Iterator[Piece]:
    """The pieces as they are; each one counts as done, with as many steps as it is long, when the next is asked for.

    Args:
        pieces: of the work.
        total: steps of all pieces together.
        what: name of the loop; none: that of the phase.
    """
    display = _DISPLAY.get()
    if display is None:
        yield from pieces
        return
    task = Task(what or _PHASE.get(), total)
    try:
        for piece in pieces:
            yield piece
            task.done += len(piece)
            display.update(task)
    finally:
        display.end(task)


def one_by_one(items: Collection[Item], what: str) -> Iterator[Item]:
    """The items as they are; each one is a step, which counts as done when the next is asked for.

    Args:
        items: of the loop, of about equal cost.
        what: name of the loop.
    """
    for (item,) in tracked(((item,) for item in items), len(items), what):
        yield item


__all__ = ["Display", "Task", "one_by_one", "phase", "shown_by", "tracked"]
