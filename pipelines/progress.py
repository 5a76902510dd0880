"""How far a job is, from timestamps alone: rates and frame counts in headers lie."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from streamlight.media import Frame, SourceInfo

Phase = Literal["enhance", "join"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a job.

    Attributes:
        phase: ``"enhance"``, then ``"join"``.
        done: Seconds of the video that are done.
        total: Seconds of the video in all, or None if the header does not say.
        frames: Frames done, those of earlier runs included.
        fps: Frames per second of this run.
        remaining: Estimated seconds left, or None.
    """

    phase: Phase
    done: float
    total: float | None
    frames: int
    fps: float
    remaining: float | None

    @property
    def fraction(self) -> float | None:
        """Share done, 0 to 1, or None."""
        return None if not self.total else min(1.0, self.done / self.total)


ProgressCallback = Callable[[Progress], None]


class ProgressMeter:
    """Makes :class:`Progress` of the frames that pass, at most ten times a second.

    Args:
        callback: Receives them, on the sink's thread; None to measure nothing.
        info: The source.
        end: End of the window in seconds from the start of the video, or None.
        start: Start of the window in seconds.
    """

    def __init__(
        self, callback: ProgressCallback | None, info: SourceInfo, *, start: Fraction | None, end: Fraction | None
    ) -> None:
        self._callback = callback
        self._origin = info.start_time + (start or 0)
        duration = info.duration
        if end is not None:
            duration = end if duration is None else min(end, duration)
        self._total = None if duration is None else max(0.0, float(duration - (start or 0)))
        self._begin = time.monotonic()
        self._first: float | None = None
        self._last = -1.0
        self._frames = 0
        self._done = 0.0
        self._index = -1

    def frame(self, frame: Frame) -> None:
        """Take note of a frame that is done."""
        if self._callback is None:
            return
        now = time.monotonic()
        self._frames += 1
        self._done = max(0.0, float(frame.seconds - self._origin))
        self._index = frame.index
        if self._first is None:
            self._first = self._done
        if now - self._last >= 0.1:
            self._last = now
            self._callback(self._moment("enhance", now))

    def joining(self) -> None:
        """All frames are done; the streams are being put together."""
        if self._callback is not None:
            self._callback(self._moment("join", time.monotonic()))

    def _moment(self, phase: Phase, now: float) -> Progress:
        elapsed = max(1e-6, now - self._begin)
        remaining = None
        passed = self._done - (self._first or 0.0)
        if self._total is not None and passed > 0:
            remaining = max(0.0, self._total - self._done) * elapsed / passed
        return Progress(phase, self._done, self._total, self._index + 1, self._frames / elapsed, remaining)
