"""Progress on the console: bars in a terminal, a line now and then elsewhere, nothing for short work."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from latent_lab.cli.progress import ConsoleProgress, duration, progress_on_console
from latent_lab.progress import Task, tracked


def run(file: Path, seconds_each: float, steps: int, *, terminal: bool) -> str:
    """What is shown of a loop whose steps take so long."""
    now = [0.0]
    with file.open("w", encoding="utf-8") as stream:
        display = ConsoleProgress(stream, terminal=terminal, clock=lambda: now[0])
        task = Task("samples", total=steps, started=0.0)
        for _ in range(steps):
            now[0] += seconds_each
            task.done += 1
            display.update(task)
        display.end(task)
        display.close()
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("terminal", [True, False])
def test_work_of_less_than_ten_seconds_is_not_shown(terminal: bool, tmp_path: Path) -> None:
    assert run(tmp_path / "shown", 0.9, 10, terminal=terminal) == ""


def test_without_a_terminal_a_line_is_printed_every_half_minute(tmp_path: Path) -> None:
    lines = run(tmp_path / "shown", 10.0, 10, terminal=False).splitlines()
    assert lines == [
        "latent-lab: samples: 3 of 10, 1m10 left",
        "latent-lab: samples: 6 of 10, 40 s left",
        "latent-lab: samples: 9 of 10, 10 s left",
    ]


def test_a_terminal_shows_a_bar_with_the_time_left(tmp_path: Path) -> None:
    shown = run(tmp_path / "shown", 5.0, 4, terminal=True)
    assert "samples: " in shown
    assert "left" in shown


def test_lines_go_to_whoever_takes_errors_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    display = ConsoleProgress(terminal=False, clock=lambda: 100.0)
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    display.update(Task("samples", total=4, done=1, started=0.0))
    assert later.getvalue() == "latent-lab: samples: 1 of 4, 5m00 left\n"


def test_a_terminal_gets_lines_where_bars_would_be_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("latent_lab.cli.progress.ConsoleProgress.__init__", lambda _, terminal: asked.append(terminal))
    monkeypatch.setattr("latent_lab.cli.progress.ConsoleProgress.close", lambda _: None)
    for bars in (False, True):
        with progress_on_console(bars=bars):
            pass
    # None: bars if the stream is a terminal.
    assert asked == [False, None]


def test_the_first_process_alone_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("latent_lab.cli.progress.ConsoleProgress", lambda: pytest.fail("a further process shows"))
    with progress_on_console():
        assert list(tracked([[1], [2]], 2)) == [[1], [2]]


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (185.0, "3m05"), (7800.0, "2h10")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
