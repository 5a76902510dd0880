"""Times on their way from the source's clock to the output's: one exact shift for all, one rounding per packet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

CHAPTER_UNIT = Fraction(1, 1_000_000_000)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch [start, end) of the source's clock, in seconds; ``None`` is open."""

    start: Fraction | None = None
    end: Fraction | None = None


def rescale(value: int, time_base: Fraction, shift: Fraction, target: Fraction) -> int:
    """``value`` ticks of ``time_base`` plus ``shift`` seconds, in ticks of ``target``; halves go away from 0."""
    exact = (value * time_base + shift) / target
    doubled = 2 * exact.numerator
    if exact >= 0:
        return (doubled + exact.denominator) // (2 * exact.denominator)
    return -((-doubled + exact.denominator) // (2 * exact.denominator))


class Clock:
    """Rescales one stream's times and keeps its decoding times increasing.

    Attributes:
        error: Largest rounding error of a presentation time so far, in seconds.
        repaired: Decoding times that had to be moved.
    """

    def __init__(self, source: Fraction, target: Fraction, shift: Fraction, *, strict: bool) -> None:
        self._source, self._target, self._shift = source, target, shift
        self._step = 1 if strict else 0
        self._last: int | None = None
        self._end: int | None = None
        self.error = Fraction(0)
        self.repaired = 0
        # Most streams only change scale by a whole factor: then no fraction arithmetic is needed.
        factor, offset = source / target, shift / target
        self._factor = int(factor) if factor.denominator == 1 and offset.denominator == 1 else 0
        self._offset = int(offset) if self._factor else 0

    def convert(self, pts: int | None, dts: int | None, duration: int | None) -> tuple[int, int, int]:
        """``(pts, dts, duration)`` of a packet in output ticks; missing times are filled from the packet before."""
        if dts is None:
            dts = pts
        new_dts = self._scale(dts) if dts is not None else self._end if self._end is not None else 0
        new_pts = self._scale(pts) if pts is not None else new_dts
        if pts is None and dts is None:
            self.repaired += 1
        elif pts is not None and not self._factor:
            self.error = max(self.error, abs(new_pts * self._target - (pts * self._source + self._shift)))
        floor = None if self._last is None else self._last + self._step
        if floor is not None and new_dts < floor:
            new_dts = floor
            self.repaired += 1
        new_pts = max(new_pts, new_dts)
        length = rescale(duration, self._source, Fraction(0), self._target) if duration and duration > 0 else 0
        self._last, self._end = new_dts, new_dts + max(length, self._step)
        return new_pts, new_dts, length

    def _scale(self, value: int) -> int:
        if self._factor:
            return value * self._factor + self._offset
        return rescale(value, self._source, self._shift, self._target)


def cut_chapters(chapters: Iterable[Any], window: Window, origin: Fraction, shift: Fraction) -> list[Any]:
    """Chapters as PyAV takes them, cut to the window and shifted like everything else.

    Args:
        chapters: As PyAV gives them.
        window: Wanted part of the source's clock.
        origin: Time of the first frame, where a window with a start really begins.
        shift: Seconds to add.
    """
    kept: list[Any] = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"] or 1)
        start, end = chapter["start"] * base, chapter["end"] * base
        low = max(start, origin) if window.start is not None else start
        high = min(end, window.end) if window.end is not None else end
        if low >= high and start < end:
            continue
        times = {"start": round((low + shift) / CHAPTER_UNIT), "end": round((high + shift) / CHAPTER_UNIT)}
        kept.append(dict(chapter) | times | {"id": len(kept) + 1, "time_base": CHAPTER_UNIT})
    return kept
