"""Presentation times: integers that strictly increase, taken from the file wherever it has them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any


class Clock:
    """Gives every decoded picture its pts, in presentation order.

    1. A picture with a pts keeps it.
    2. A picture without one takes the decoding time of the packet that released it from the decoder (libavcodec's
       best-effort timestamp, what ffprobe and players show), if that lies behind the picture before.
    3. Otherwise it follows the picture before by the last step that rule 2 gave, else by its duration in the file,
       else by one over the nominal rate (25 where there is none), rounded to the time base.
    4. A pts that is not later than the one before is set one tick behind it. Where time jumps back by a second or
       more (joined recordings), the rest of the stream is shifted so that it follows on.

    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        """Take the stream's time base and its nominal rate in frames per second, if known."""
        self._nominal_step = max(1, round(1 / (time_base * (rate or 25))))
        self._second = max(1, round(1 / time_base))
        self._last: int | None = None
        self._step = 0
        self._offset = 0

    def stamp(self, picture: Any) -> int:
        """The pts of the next picture (``av.VideoFrame``) in units of the stream's time base."""
        last = self._last
        if picture.pts is None:
            pts = self._reconstruct(picture)
        else:
            pts = picture.pts + self._offset
            if last is not None and pts <= last:
                pts = self._behind(last, pts, picture)
        self._last = pts
        return pts

    def _reconstruct(self, picture: Any) -> int:
        last = self._last
        if picture.dts is not None and (last is None or picture.dts + self._offset > last):
            pts = int(picture.dts) + self._offset
            if last is not None:
                self._step = pts - last
            return pts
        return 0 if last is None else last + (self._step or self._length(picture))

    def _behind(self, last: int, pts: int, picture: Any) -> int:
        if last - pts < self._second:
            return last + 1
        follows = last + self._length(picture)
        self._offset += follows - pts
        return follows

    def _length(self, picture: Any) -> int:
        return picture.duration if picture.duration > 0 else self._nominal_step
