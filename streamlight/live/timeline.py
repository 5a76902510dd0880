"""One clock for all that a camera ever sends: integers that strictly increase, whatever the camera's own clock does."""

from __future__ import annotations

from fractions import Fraction

from streamlight.media.timeline import rescale

TICKS = 90_000
"""Ticks of the output clock in a second; RTP's clock for video."""
TIME_BASE = Fraction(1, TICKS)

_LEAP = 2 * TICKS
"""A picture that claims to be this much later than its arrival allows is a jump of the camera's clock."""
_DISORDER = TICKS // 4
"""A picture that is at most this much earlier than the one before is out of order; more is a jump."""


class Timeline:
    """Gives every picture its output pts in units of 1/90000 s; the first one has 0.

    Within a connection the distances are the camera's own. At the first picture of a connection, and where the
    camera's clock jumps, output time goes on as the monotonic clock of this machine did since the first picture of
    all, so that gaps are as long as they really were and nothing adds up over many reconnects.

    A source that is late (bursts after a pause) keeps its own times; only one that claims to be ahead of its arrival
    by more than two seconds, or behind the picture before, is mistrusted.

    Attributes:
        jumps: Jumps of the camera's clock within a connection.
        repaired: Pictures without a usable pts, or whose pts was not later than the one before.
    """

    def __init__(self, *, judge_arrival: bool = True) -> None:
        """Start; ``judge_arrival`` False where arrival says nothing about time (files read at any pace)."""
        self.jumps = 0
        self.repaired = 0
        self._judge = judge_arrival
        self._anchor: float | None = None
        self._last: int | None = None
        self._step = TICKS // 25
        self._follows = False
        # Of the stretch of the camera's clock that is being followed: first source time, its output, its arrival.
        self._epoch: tuple[int, int, float] | None = None
        self._before = (0, 0.0)

    def begin(self, rate: Fraction | None = None) -> None:
        """A new connection; ``rate`` in pictures per second bridges pictures without a pts before any had one."""
        self._epoch = None
        self._follows = False
        if rate:
            self._step = max(1, round(TICKS / rate))

    def stamp(self, pts: int | None, time_base: Fraction, arrival: float) -> int:
        """The output pts of the next picture.

        Args:
            pts: Its time on the camera's clock; None where the camera gives none.
            time_base: Seconds per unit of ``pts``.
            arrival: ``time.monotonic()`` when its packet was read.
        """
        source = None if pts is None else rescale(pts, time_base, Fraction(0), TIME_BASE)
        out = self._on(source, arrival)
        self._last = out
        self._follows = True
        if source is not None:
            if self._epoch is None:
                self._epoch = (source, out, arrival)
            self._before = (source, arrival)
        return out

    def _on(self, source: int | None, arrival: float) -> int:
        if self._anchor is None:
            self._anchor = arrival
        last = self._last
        if source is None:
            self.repaired += 1
            if self._follows and last is not None:
                return last + self._step
            return self._resumed(arrival)
        if self._epoch is not None and self._jumped(source, arrival):
            self.jumps += 1
            self._epoch = None
        if self._epoch is None:
            return self._resumed(arrival)
        out = self._epoch[1] + source - self._epoch[0]
        if last is not None and out <= last:
            self.repaired += 1
            return last + 1
        if 0 < source - self._before[0] <= TICKS:
            self._step = source - self._before[0]
        return out

    def _jumped(self, source: int, arrival: float) -> bool:
        """Whether the camera's clock did not simply go on."""
        assert self._epoch is not None
        before, arrived = self._before
        step = source - before
        if step < -_DISORDER:
            return True
        if not self._judge:
            return False
        # What was late before may catch up at once.
        late = max(0, _ticks(arrived - self._epoch[2]) - (before - self._epoch[0]))
        return step > _ticks(arrival - arrived) + late + _LEAP

    def _resumed(self, arrival: float) -> int:
        """Output time by the monotonic clock, behind everything that was given out."""
        assert self._anchor is not None
        now = _ticks(arrival - self._anchor)
        if self._last is None:
            return max(0, now)
        return max(now, self._last + (self._step if self._follows else 1))


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)
