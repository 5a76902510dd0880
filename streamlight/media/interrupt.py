"""Ending a libav call that blocks in another thread: opening or reading a network stream whose peer says nothing.

libavformat asks a callback, some ten times a second, whether to go on waiting. PyAV's callback compares
``time.monotonic()`` with the time-out that the container was opened with, and offers no way to bring it forward. It
looks the clock up in its own module on every call, though; here that module is given a clock that leaps ahead for
a thread that is to stop. A PyAV that looks its clock up otherwise is none the worse: its calls then end at their
time-outs.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import av.container.core

_LEAP = 1e9
"""Seconds that the clock of an interrupted thread leaps with every look: farther than any time-out."""


class _LeapingClock:
    """Stands in for the module ``time`` in PyAV's; its clock is the true one but for interrupted threads."""

    def __init__(self) -> None:
        self._leaps: dict[int, float] = {}

    def monotonic(self) -> float:
        thread = threading.get_ident()
        leap = self._leaps.get(thread)
        if leap is None:
            return time.monotonic()
        # It must go on leaping: the start of the next call's time-out is read from this clock, too.
        self._leaps[thread] = leap + _LEAP
        return time.monotonic() + leap

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def interrupt(self, thread: int) -> None:
        self._leaps.setdefault(thread, _LEAP)

    def restore(self, thread: int) -> None:
        self._leaps.pop(thread, None)


_clock = _LeapingClock()
vars(av.container.core)["time"] = _clock


class Interrupt:
    """Lets other threads end the blocking libav calls of one thread; a context manager around that thread's work.

    Only calls of containers that were opened with a time-out can be ended. Once :meth:`set`, every such call inside
    the ``with`` block fails soon after it begins.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._set = False

    def __enter__(self) -> Interrupt:
        with self._lock:
            self._thread = threading.get_ident()
            if self._set:
                _clock.interrupt(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            _clock.restore(threading.get_ident())
            self._thread = None

    def set(self) -> None:
        """End the call that blocks now, and all that follow. From any thread."""
        with self._lock:
            self._set = True
            if self._thread is not None:
                _clock.interrupt(self._thread)
