"""The latency contract: step down when the enhancer cannot keep up, and up again when it can.

Steps are called rungs; rung 0 is the best and the dearest. The ladder judges by what it is told, frame by frame: how
old a frame was when it was handed over, how long the work took, and which frames were lost because there was no time
for them. It knows nothing of models and takes the time from its caller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_WINDOW: Final = 0.5
_LONGEST_WINDOW: Final = 3.0
_FEWEST: Final = 4
_MISSED_SHARE: Final = 0.05
_BUSY: Final = 0.85
_ROOM: Final = 0.7
_PATIENCE: Final = 4.0
_LONGEST_PATIENCE: Final = 120.0
_LEAST_RATIO: Final = 1.15
_KEPT: Final = 200
_GRACE: Final = 3.0
"""Seconds from the first frame in which lost frames mean nothing: cameras, caches and encoders are only starting."""


@dataclass(frozen=True, slots=True)
class LadderChange:
    """A step of the ladder.

    Attributes:
        moment: ``time.monotonic()`` of the step.
        before: Name of the rung that was left.
        after: Name of the rung that is in force now.
        down: Whether quality was given up.
        reason: Why, in words.
    """

    moment: float
    before: str
    after: str
    down: bool
    reason: str


class Ladder:
    """Chooses the rung; for one thread.

    A window of about half a second decides downwards: too many frames too late, or lost while the enhancer had no idle
    time. Frames lost while it was idle are no reason: cameras pause at key frames and send a burst behind. Upwards
    there must have been room for some seconds, judged by what the dearer rung cost when it was last in force. A step
    up that has to be taken back doubles the wait for the next.

    Args:
        rungs: Names, the best first; at least one.
        max_latency: Seconds from packet to hand-over that must not be exceeded; None asks for keeping up only.
        spare: Rungs at the end that only late frames lead to: where fewer pictures are better than those.
        on_change: Called with every step.
    """

    def __init__(
        self,
        rungs: Sequence[str],
        *,
        max_latency: float | None = None,
        spare: int = 0,
        on_change: Callable[[LadderChange], None] | None = None,
    ) -> None:
        if not 0 <= spare < len(rungs):
            raise ValueError(f"a ladder needs at least one rung that is not spare, got {len(rungs)} and {spare = }")
        self.names = tuple(rungs)
        self._first_spare = len(rungs) - spare
        self.max_latency = max_latency
        self.rung = 0
        self.changes: deque[LadderChange] = deque(maxlen=_KEPT)
        self.steps_down = 0
        self.steps_up = 0
        self._on_change = on_change
        self._work = [0.0] * len(rungs)
        self._ratio = [_LEAST_RATIO] * len(rungs)  # what the rung above costs, in units of this one
        self._left: float | None = None
        self._patience = _PATIENCE
        self._rose: float | None = None
        self._fine_since: float | None = None
        self._window: _Window | None = None
        self._first: float | None = None

    @property
    def name(self) -> str:
        """Name of the rung in force."""
        return self.names[self.rung]

    @property
    def expected_work(self) -> float:
        """Seconds that a frame takes on this rung; 0 while nothing is known."""
        return self._work[self.rung]

    def worked(self, seconds: float, *, latency: float | None) -> None:
        """A frame was worked on.

        Args:
            seconds: Time that the enhancer spent on it.
            latency: Its age when it was handed over; None if it was then too old and was dropped.
        """
        known = self._work[self.rung]
        self._work[self.rung] = seconds if known == 0.0 else known + 0.1 * (seconds - known)
        if self._window is None:
            return
        self._window.busy += seconds
        self._window.done += 1
        limit = self.max_latency
        if latency is None or (limit is not None and latency > limit):
            self._window.late += 1
        elif limit is not None and latency > 0.9 * limit:
            self._window.close_calls += 1

    def lost(self, count: int = 1) -> None:
        """Frames were lost before any work, because a newer one came first or because they were too old."""
        if self._window is not None:
            self._window.lost += count

    def judge(self, now: float) -> LadderChange | None:
        """Decide; to be called between frames, also when none came.

        Args:
            now: ``time.monotonic()``.

        Returns:
            The step that was taken, if any.
        """
        window = self._window
        if window is None:
            self._window = _Window(now)
            return None
        length = now - window.begin
        if length < _WINDOW or (window.seen < _FEWEST and length < _LONGEST_WINDOW):
            return None
        self._window = _Window(now)
        if self._left is not None and window.done:
            self._ratio[self.rung] = max(_LEAST_RATIO, self._left * window.done / max(window.busy, 1e-6))
            self._left = None
        if self._first is None and window.done:
            self._first = window.begin
        settled = self._first is not None and window.begin - self._first >= _GRACE
        late, lost = window.late_reason(), window.lost_reason(length) if settled else ""
        if late or lost:
            self._fine_since = None
            lowest = len(self.names) - 1 if late else self._first_spare - 1
            target = min(lowest, self.rung + (self._leap(window) if late else 1))
            return self._down(now, target, late or lost) if target > self.rung else None
        return self._up(now, window.busy / length, window.close_calls)

    def _leap(self, window: _Window) -> int:
        """How many rungs down: one, and another for every time that the work by itself is twice the limit."""
        if self.max_latency is None or window.done == 0:
            return 1
        return 1 + max(0, int(math.log2(max(1e-9, window.busy / window.done / self.max_latency))))

    def _down(self, now: float, target: int, reason: str) -> LadderChange:
        if self._rose is not None and now - self._rose < 10.0 + self._patience:
            self._patience = min(_LONGEST_PATIENCE, 2.0 * self._patience)
        self._rose = None
        return self._move(now, target, reason)

    def _up(self, now: float, busy: float, close_calls: int) -> LadderChange | None:
        if self._rose is not None and now - self._rose > 60.0 + self._patience:
            self._patience, self._rose = _PATIENCE, None  # the last step up has proved itself
        if self.rung == 0:
            return None
        # A spare rung does nothing that would tell how fast the machine is by now: trying is the only way to know.
        fits = self.rung >= self._first_spare or (busy * self._ratio[self.rung] <= _ROOM and self._in_time())
        if close_calls or not fits:
            self._fine_since = None
            return None
        if self._fine_since is None:
            self._fine_since = now
        if now - self._fine_since < self._patience:
            return None
        self._rose = now
        return self._move(now, self.rung - 1, f"room for {self._patience:.0f} s, {busy:.0%} busy")

    def _in_time(self) -> bool:
        """Whether one frame of the dearer rung would be in time by itself."""
        if self.max_latency is None:
            return True
        return self._work[self.rung] * self._ratio[self.rung] < 0.8 * self.max_latency

    def _move(self, now: float, rung: int, reason: str) -> LadderChange:
        before, self.rung = self.rung, rung
        self._fine_since = None
        down = rung > before
        self.steps_down += down
        self.steps_up += not down
        self._left = self._work[before] if down and self._work[before] > 0.0 else None
        self._work[rung] = 0.0  # measured afresh: the load of the machine is another one by now
        change = LadderChange(now, self.names[before], self.names[rung], down, reason)
        self.changes.append(change)
        if self._on_change is not None:
            self._on_change(change)
        return change


@dataclass(slots=True)
class _Window:
    """What happened since the last decision."""

    begin: float
    done: int = 0
    late: int = 0
    lost: int = 0
    close_calls: int = 0
    busy: float = 0.0

    @property
    def seen(self) -> int:
        return self.done + self.lost

    def late_reason(self) -> str:
        """That too many frames were too late; empty if not."""
        # One late frame among many is a hiccup of the machine; where frames are few, one is all there is.
        if self.late > _MISSED_SHARE * self.done and (self.late > 1 or self.done <= 2):
            return f"{self.late} of {self.done} frames were too late"
        return ""

    def lost_reason(self, length: float) -> str:
        """That too many frames were lost for want of time; empty if not."""
        busy = self.busy / length
        if self.lost > max(1.0, _MISSED_SHARE * self.seen) and busy > _BUSY:
            return f"{self.lost} of {self.seen} frames were lost while the enhancer was {min(busy, 1.0):.0%} busy"
        return ""
