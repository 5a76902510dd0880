"""A steady picture for those who watch, also while the camera is away."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np

from streamlight.errors import ConfigError
from streamlight.media import Frame

Fill = Literal["last", "notice"]
_LATE = Fraction(1)
"""Frames that come up to so many seconds behind what was filled in for them are late; others have another clock."""


class FrameTaker(Protocol):
    """A `Publisher`, a `Recorder`, or anything else that takes frames without blocking."""

    def offer(self, frame: Frame) -> bool:
        """Take a frame, or drop it and return False."""

    def close(self, timeout: float = 5.0) -> None:
        """Finish."""


@dataclass(frozen=True, slots=True)
class SteadyStats:
    """What went through.

    Attributes:
        passed: The camera's frames that were handed on.
        repeated: Repetitions of the last picture.
        notices: Pictures that say that there is no signal.
        overtaken: The camera's frames that came too late, after others had been filled in for them.
    """

    passed: int = 0
    repeated: int = 0
    notices: int = 0
    overtaken: int = 0


class SteadyRate:
    """Hands frames on at once, and fills in pictures at a steady rate when none come.

    Before the first frame nothing can be filled in: nobody knows the size.

    Args:
        taker: Where the frames go.
        rate: Pictures per second while there is something to fill in.
        patience: Seconds without a frame before filling in begins. Cameras pause for half a second at key frames.
        fill: ``"last"`` repeats the last picture for as long as it takes. ``"notice"`` does so for ``hold`` seconds,
            then shows it dark, with a line of text that says since when there is no signal.
        hold: See ``fill``.
        name: Name of the camera in that line.

    Raises:
        ConfigError: A number makes no sense.
    """

    def __init__(
        self,
        taker: FrameTaker,
        *,
        rate: Fraction | int,
        patience: float = 0.5,
        fill: Fill = "last",
        hold: float = 2.0,
        name: str = "camera",
    ) -> None:
        if not 0 < rate <= 240 or patience <= 0 or hold < 0:
            raise ConfigError(f"rate must be up to 240/s, patience and hold positive, got {rate}, {patience}, {hold}")
        self.taker = taker
        self._period, self._patience = float(1 / Fraction(rate)), patience
        self._fill, self._hold, self._name = fill, hold, name
        self._changed = threading.Condition()
        self._stats = SteadyStats()
        self._last: Frame | None = None  # a copy of the camera's last frame, with the time that was handed on
        self._notice: Frame | None = None
        self._came = self._emitted = 0.0
        self._shift = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"steady {name}", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> SteadyStats:
        """The counters."""
        return self._stats

    def offer(self, frame: Frame) -> bool:
        """Hand a frame on. Returns whether it was taken; False also when it came too late."""
        with self._changed:
            if self._closed:
                return self.taker.offer(frame)
            timed = self._timed(frame)
            if timed is None:
                self._count("overtaken")
                return False
            self._count("passed")
            self._keep(timed)
            self._changed.notify()
            return self.taker.offer(timed)

    def close(self, timeout: float = 5.0) -> None:
        """Stop filling in, and close what the frames go to."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        self.taker.close(timeout)

    def __enter__(self) -> SteadyRate:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _timed(self, frame: Frame) -> Frame | None:
        """The frame with a time behind all that was handed on; None if it is late."""
        last = self._last
        if last is None or frame.time_base != last.time_base:
            return frame
        pts = frame.pts + self._shift
        if pts <= last.pts:
            if (last.pts - pts) * frame.time_base < _LATE:
                return None
            self._shift += last.pts + max(1, round(self._period / frame.time_base)) - pts
            pts = frame.pts + self._shift
        return frame if pts == frame.pts else dataclasses.replace(frame, pts=pts)

    def _keep(self, frame: Frame) -> None:
        """Copy the frame: its planes belong to others."""
        self._came = self._emitted = time.monotonic()
        self._notice = None
        last = self._last
        if last is None or [p.shape for p in last.planes] != [p.shape for p in frame.planes]:
            planes = tuple(plane.copy() for plane in frame.planes)
        else:
            planes = last.planes
            for ours, theirs in zip(planes, frame.planes, strict=True):
                np.copyto(ours, theirs, casting="unsafe")
        self._last = Frame(planes, frame.color, frame.pts, frame.time_base, frame.duration)

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if self._last is None:
                    self._changed.wait()
                    continue
                filling = self._emitted > self._came
                due = self._emitted + (self._period if filling else self._patience)
                left = due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    self._fill_in(self._last)

    def _fill_in(self, last: Frame) -> None:
        now = time.monotonic()
        ticks = max(1, round((now - self._emitted) / last.time_base))
        # From a late start on, pictures keep their distance instead of catching up.
        self._emitted = now
        last.pts += ticks
        if self._fill == "notice" and now - self._came > self._hold:
            self._notice = self._notice or no_signal(last, self._text())
            self._notice.pts = last.pts
            self._count("notices")
            self.taker.offer(self._notice)
        else:
            self._count("repeated")
            self.taker.offer(last)

    def _text(self) -> str:
        since = time.localtime(time.time() - (time.monotonic() - self._came))
        return f"{self._name}: no signal since {time.strftime('%H:%M:%S', since)}"

    def _count(self, what: str) -> None:
        self._stats = dataclasses.replace(self._stats, **{what: getattr(self._stats, what) + 1})


def no_signal(frame: Frame, text: str) -> Frame:
    """A dark, colourless copy of a frame with a line of text across it.

    Args:
        frame: The last good frame.
        text: ASCII; made as large as fits.
    """
    import cv2

    color = frame.color
    black, span = color.luma_scale()
    luma = frame.planes[0]
    dark = (luma.astype(np.float32) - black) * 0.25 + black
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1 + frame.height // 480
    (width, height), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(0.9 * frame.width / width, 0.1 * frame.height / height)
    mask = np.zeros(luma.shape, np.uint8)
    origin = (round((frame.width - scale * width) / 2), round((frame.height + scale * height) / 2))
    cv2.putText(mask, text, origin, font, scale, 255, thickness, cv2.LINE_AA)
    cover = mask.astype(np.float32) / 255.0
    marked = (dark + cover * (black + 0.8 * span - dark)).astype(luma.dtype)
    neutral = 1 << (color.bit_depth - 1)
    chroma = tuple(np.full(plane.shape, neutral, plane.dtype) for plane in frame.planes[1:])
    return Frame((marked, *chroma), color, frame.pts, frame.time_base, frame.duration)
