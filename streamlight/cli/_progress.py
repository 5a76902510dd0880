"""A bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from streamlight.pipelines.offline import Progress
from streamlight.timecode import format_time

_PLAIN_INTERVAL = 10.0


class ProgressDisplay:
    """Shows how far jobs are, on stderr.

    Args:
        quiet: Show nothing.
        interval: Seconds between two lines where there is no terminal.
    """

    def __init__(self, *, quiet: bool = False, interval: float = _PLAIN_INTERVAL) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._interval = interval
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def update(self, name: str, moment: Progress) -> None:
        """Show a moment of the job called ``name``; may be called from any thread."""
        if self._quiet:
            return
        with self._lock:
            if self._console.is_terminal:
                self._show_bar(name, moment)
            elif time.monotonic() - self._last >= self._interval:
                self._last = time.monotonic()
                self._console.print(plain_line(name, moment), highlight=False, markup=False, soft_wrap=True)

    def clear(self) -> None:
        """Take the bar away, so that lines can be printed."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar, self._tasks = None, {}

    def _show_bar(self, name: str, moment: Progress) -> None:
        if self._bar is None:
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[details]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=None, details="")
        self._bar.update(self._tasks[name], total=moment.total, completed=moment.done, details=details(moment))


def details(moment: Progress) -> str:
    """Percent, speed and time left; what is unknown is left out."""
    if moment.phase == "join":
        return "joining"
    words = [f"{moment.fps:.1f} fps"]
    if moment.fraction is not None:
        words.insert(0, f"{moment.fraction:.0%}")
    if moment.remaining is not None:
        words.append(f"{format_time(moment.remaining)} left")
    return ", ".join(words)


def plain_line(name: str, moment: Progress) -> str:
    """One line for a log."""
    of = "" if moment.total is None else f" of {format_time(moment.total)}"
    return f"{name}: {format_time(moment.done)}{of}, {details(moment)}"
