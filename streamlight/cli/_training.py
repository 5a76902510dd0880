"""How far a training is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from streamlight.timecode import format_time
from streamlight.training.run import Moment

_PLAIN_INTERVAL = 10.0
_HIDDEN = ("step_seconds", "data_seconds", "rate")


class TrainingDisplay:
    """Shows how far a run is, on stderr.

    Args:
        quiet: Show nothing.
        interval: Seconds between two lines where there is no terminal.
    """

    def __init__(self, *, quiet: bool = False, interval: float = _PLAIN_INTERVAL) -> None:
        self._console = Console(stderr=True)
        self._quiet, self._interval = quiet, interval
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._begin = self._last = time.monotonic()
        self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def update(self, moment: Moment) -> None:
        """Show a moment."""
        if self._quiet:
            return
        now = time.monotonic()
        if moment.phase != self._phase:
            self._clear()
            # Speed counts from here: a resumed run has not done its first steps now.
            self._phase, self._begin, self._first = moment.phase, now, moment.done
        text = f"{describe(moment)}{self._pace(moment, now)}"
        if self._console.is_terminal:
            self._show_bar(moment, text)
        elif now - self._last >= self._interval or moment.done == moment.total:
            self._last = now
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say a line."""
        if not self._quiet:
            self._console.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True)

    def _pace(self, moment: Moment, now: float) -> str:
        done, took = moment.done - self._first, now - self._begin
        if done < 1 or took <= 0.0:
            return ""
        return f", {done / took:.3g}/s, {format_time(took / done * (moment.total - moment.done))} left"

    def _show_bar(self, moment: Moment, text: str) -> None:
        if self._bar is None:
            columns = (BarColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=moment.total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, description=text, completed=moment.done, total=moment.total)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def describe(moment: Moment) -> str:
    """``step 120 of 5000, loss 0.0312``."""
    what = {"pool": "pair", "train": "step"}[moment.phase]
    values = [f"{name} {value:.4g}" for name, value in moment.values.items() if name not in _HIDDEN]
    return ", ".join([f"{what} {moment.done} of {moment.total}", *values])
