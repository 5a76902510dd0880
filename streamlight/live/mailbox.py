"""Where a camera leaves its frames: only the newest wait, and each that does not is counted with its cause."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from streamlight.media import Frame


@dataclass(frozen=True, slots=True)
class MailboxCounts:
    """A consistent look at the counters: ``frames_in == frames_out + sum(dropped.values()) + waiting``.

    Attributes:
        frames_in: Frames that came in, also those that were dropped before they were decoded.
        frames_out: Frames taken.
        waiting: Frames that wait to be taken.
        dropped: Frames dropped, by cause: ``superseded`` a newer one came, ``too_old`` older than allowed when it
            was to be taken, ``behind`` not decoded because decoding did not keep up, ``damaged``, ``repeated``
            handed out again after a new connection, ``closed`` not taken before the end.
    """

    frames_in: int = 0
    frames_out: int = 0
    waiting: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Mailbox:
    """At most ``size`` frames between the thread that reads a camera and the one that works on its frames.

    Args:
        size: Frames that may wait; the oldest goes when another comes.
        block: Whether :meth:`put` waits for room instead, so that nothing is dropped (files).
        max_age: Seconds since a frame's ``arrival`` beyond which it is dropped instead of taken; None: any age.
        ready: Set whenever there is something to take, or nothing will come any more. Several mailboxes can share it.
    """

    def __init__(
        self,
        size: int = 1,
        *,
        block: bool = False,
        max_age: float | None = None,
        ready: threading.Event | None = None,
    ) -> None:
        self._size, self._block, self._max_age, self._ready = size, block, max_age, ready
        self._frames: deque[Frame] = deque()
        self._dropped: Counter[str] = Counter()
        self._in = self._out = 0
        self._ended = False
        lock = threading.Lock()
        self._lock = lock
        self._changed = threading.Condition(lock)

    def put(self, frame: Frame) -> None:
        """Leave a frame. One that comes after the end counts as ``closed``."""
        with self._lock:
            self._in += 1
            while self._block and len(self._frames) >= self._size and not self._ended:
                self._changed.wait()
            if self._ended:
                self._dropped["closed"] += 1
                return
            if len(self._frames) >= self._size:
                self._frames.popleft()
                self._dropped["superseded"] += 1
            self._frames.append(frame)
            self._wake()

    def refuse(self, cause: str) -> None:
        """Count a frame that came in and was dropped before it could be left here."""
        with self._lock:
            self._in += 1
            self._dropped[cause] += 1

    def take(self, timeout: float | None = None) -> Frame | None:
        """The frame that waits longest; None if none came within ``timeout`` seconds (None: wait for ever), or ever."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while True:
                while self._frames:
                    frame = self._frames.popleft()
                    self._changed.notify_all()
                    if self._max_age is not None and time.monotonic() - frame.arrival > self._max_age:
                        self._dropped["too_old"] += 1
                        continue
                    self._out += 1
                    return frame
                left = None if deadline is None else deadline - time.monotonic()
                if self._ended or (left is not None and left <= 0):
                    return None
                self._changed.wait(left)

    def end(self) -> None:
        """No more frames will be left; those that wait can still be taken."""
        with self._lock:
            self._ended = True
            self._wake()

    def close(self) -> None:
        """End, and drop what waits."""
        with self._lock:
            self._ended = True
            self._dropped["closed"] += len(self._frames)
            self._frames.clear()
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._ready is not None:
            self._ready.set()

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing will come."""
        with self._lock:
            return self._ended and not self._frames

    def counts(self) -> MailboxCounts:
        """The counters at one moment."""
        with self._lock:
            return MailboxCounts(self._in, self._out, len(self._frames), +self._dropped)
