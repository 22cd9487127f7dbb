"""Progress of long work on the console: bars with the time left in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from latent_lab.cli.console import is_first_process
from latent_lab.progress import Task, shown_by

SHOWN_AFTER = 2.0
"""Seconds that a loop runs before anybody estimates how long it takes."""
SHOWN_FROM = 10.0
"""Seconds that a loop must take in all to be shown."""
SECONDS_BETWEEN_LINES = 30.0
"""Where there is no terminal."""


class ConsoleProgress:
    """Shows loops that take long, each with its own bar, and nothing of short ones.

    Args:
        stream: of errors, so that results can be piped.
        terminal: whether bars can be drawn; none: asks the stream.
        clock: seconds, monotonic.
    """

    def __init__(
        self, stream: TextIO | None = None, *, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._given = stream
        self._terminal = self._stream.isatty() if terminal is None else terminal
        self._clock = clock
        self._bars: Progress | None = None
        self._shown: dict[Task, TaskID] = {}
        self._line_at: dict[Task, float] = {}

    @property
    def _stream(self) -> Any:  # what stands in for a stream need not be a TextIO
        """Asked for at every line: whoever draws a bar meanwhile puts a stream in place that writes above it."""
        return sys.stderr if self._given is None else self._given

    def update(self, task: Task) -> None:
        """Draws a bar, or prints a line if the last one is long ago."""
        now = self._clock()
        if task not in self._shown and not self._takes_long(task, now):
            return
        if self._terminal:
            self._draw(task, now)
        elif now - self._line_at.get(task, task.started) >= SECONDS_BETWEEN_LINES and task.done < task.total:
            self._line_at[task] = now
            print(f"latent-lab: {_text(task, now)}", file=self._stream, flush=True)

    def end(self, task: Task) -> None:
        """Takes the bar away."""
        self._line_at.pop(task, None)
        bar = self._shown.pop(task, None)
        if self._bars is None or bar is None:
            return
        self._bars.remove_task(bar)
        if not self._shown:
            self.close()

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _takes_long(self, task: Task, now: float) -> bool:
        elapsed = now - task.started
        return elapsed >= SHOWN_AFTER and elapsed + task.seconds_left(now) >= SHOWN_FROM

    def _draw(self, task: Task, now: float) -> None:
        if self._bars is None:
            console = Console(file=self._stream, force_terminal=True)
            self._bars = Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True)
            self._bars.start()
        is_new = task not in self._shown
        if is_new:
            self._shown[task] = self._bars.add_task("", total=task.total)
        # Later steps wait for the next of ten pictures a second: loops may be fast.
        self._bars.update(self._shown[task], completed=task.done, description=_text(task, now), refresh=is_new)


@contextmanager
def progress_on_console(*, bars: bool = True) -> Iterator[None]:
    """Loops inside are shown by the first process.

    Args:
        bars: whether a terminal shows bars; lines suit those who have drawn a bar already.
    """
    if not is_first_process():
        yield
        return
    display = ConsoleProgress(terminal=None if bars else False)
    try:
        with shown_by(display):
            yield
    finally:
        display.close()


def _text(task: Task, now: float) -> str:
    return f"{task.what}: {task.done} of {task.total}, {duration(task.seconds_left(now))} left"


def duration(seconds: float) -> str:
    """Seconds for people: "45 s", "3m05", "2h10"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}m{rest:02d}"
