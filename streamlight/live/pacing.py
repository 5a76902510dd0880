"""Keeping time while reading: playing what comes too fast at its own pace, and noticing when decoding is too slow."""

from __future__ import annotations

import threading
import time

_LATE = 0.5
"""Seconds behind its pace from which a player starts its clock anew instead of hurrying."""


class Pacer:
    """Holds frames back until they are due: a file as if a camera sent it, HLS segments as they were recorded."""

    def __init__(self) -> None:
        self._zero: float | None = None

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Sleep until the frame at ``seconds`` of stream time is due; False if ``stop`` was set meanwhile."""
        now = time.monotonic()
        if self._zero is None or now - (self._zero + seconds) > _LATE:
            self._zero = now - seconds
        due = self._zero + seconds - now
        return not stop.wait(due) if due > 0 else not stop.is_set()


_LIMIT = 1.0
"""Seconds that decoding may be behind the camera: cameras themselves pause for up to half a second at key frames."""
_RISE = 0.005
"""Seconds per second by which a camera's clock may be slow without being taken for delay."""
_IDLE = 0.25
"""Share of the time spent waiting for data from which on the reader is not the one that is slow."""


class Backlog:
    """Notices that decoding does not keep up with what the camera sends, so that packets pile up unseen.

    Packets wait in the kernel's buffers then, and their arrival, which is when they are read, looks recent. What
    shows is that pictures get later and later by the camera's own clock while reading never has to wait.

    Once behind, packets are to be skipped up to the next key packet; where that is still too late, up to the one
    after: in the worst case key frames alone are decoded.

    Attributes:
        skipping: Whether the last packet was to be skipped.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new connection, or a new stretch of the camera's clock."""
        self._base: float | None = None
        self._last = 0.0
        self._idle = 1.0
        self.skipping = False

    def skips(self, pts: float | None, *, key: bool, waited: float, now: float) -> bool:
        """Whether the packet that was just read is to be skipped.

        Args:
            pts: Its time in seconds on the camera's clock, or None.
            key: Whether decoding can start with it.
            waited: Seconds that reading it took.
            now: ``time.monotonic()``.
        """
        late = self._lateness(pts, waited, now)
        if self.skipping:
            self.skipping = not key
        elif late > _LIMIT and self._idle < _IDLE and not key:
            self.skipping = True
        return self.skipping

    def _lateness(self, pts: float | None, waited: float, now: float) -> float:
        """Seconds by which a packet is later than the most punctual ones were."""
        if pts is None:
            return 0.0
        offset = now - pts
        if self._base is None or offset < self._base or abs(offset - self._base) > 60.0:
            self._base = offset  # the most punctual so far; or the camera's clock jumped
        else:
            span = max(0.0, now - self._last)
            self._base = min(offset, self._base + _RISE * span)
            weight = min(1.0, span)  # an average over about a second
            share = min(1.0, waited / span) if span > 0 else 0.0
            self._idle += weight * (share - self._idle)
        self._last = now
        return offset - self._base
