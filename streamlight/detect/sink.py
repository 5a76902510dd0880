"""Where detections go: a bounded buffer, and a thread of its own that delivers."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from streamlight.detect.detection import DetectionEvent
from streamlight.media.urls import redact

SinkState = Literal["connecting", "live", "offline"]

CAPACITY: Final = 1000
"""Events that may wait."""

_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0

FULL: Final = "buffer full"
REFUSED: Final = "refused by the receiver"
LATE: Final = "not delivered before the end"
CLOSED: Final = "emitted after the end"


class Undelivered(Exception):
    """An event could not be delivered, and may be later.

    Args:
        reason: In words; credentials are redacted when it is kept.
        pause: Least seconds until the next attempt; None for the usual pauses.
    """

    def __init__(self, reason: str, *, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Refused(Exception):
    """The receiver will never take this event."""


@dataclass(slots=True)
class SinkStats:
    """What became of the events: ``emitted`` is ``written`` + all ``dropped`` + ``waiting``, at any moment.

    Attributes:
        emitted: Events that were handed over.
        written: Events that were delivered.
        dropped: Events that were not and will not be, by cause.
        waiting: Events in the buffer or under way.
        retries: Attempts that failed and were or will be repeated.
        state: ``"connecting"`` until the first event is delivered, ``"offline"`` after a failed attempt.
        fault: The last failure in words, credentials redacted; None if there was none.
    """

    emitted: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    retries: int = 0
    state: SinkState = "connecting"
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for reports."""
        return {
            "emitted": self.emitted,
            "written": self.written,
            "dropped": dict(self.dropped),
            "waiting": self.waiting,
            "retries": self.retries,
            "state": self.state,
            "fault": self.fault,
        }


class EventSink(Protocol):
    """Takes events from any thread.

    Attributes:
        name: What it is, for people and metrics; credentials redacted.
    """

    name: str

    @property
    def stats(self) -> SinkStats:
        """A copy of the figures."""
        ...

    def emit(self, event: DetectionEvent, *, timeout: float = 0.0) -> bool:
        """Hand an event over; see :meth:`BufferedSink.emit`."""
        ...

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait for what was handed over; see :meth:`BufferedSink.flush`."""
        ...

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what waits and end; see :meth:`BufferedSink.close`."""
        ...


class BufferedSink(ABC):
    """What all sinks have in common; one that delivers has only to say how.

    Failed attempts are repeated with growing pauses (0.5 to 30 s, with jitter) until the event is delivered, the
    buffer overflows or the sink is closed.

    Args:
        name: For people; credentials are redacted.
        capacity: Events that may wait; when there are more the oldest goes.
    """

    def __init__(self, name: str, *, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity = }")
        self.name = redact(name)
        self._capacity = capacity
        self._waiting: deque[DetectionEvent] = deque()
        self._under_way = 0
        self._stats = SinkStats()
        self._changed = threading.Condition()
        self._closing = self._abandoned = False
        self._thread: threading.Thread | None = None

    @property
    def stats(self) -> SinkStats:
        """A copy of the figures."""
        with self._changed:
            waiting = len(self._waiting) + self._under_way
            return replace(self._stats, dropped=Counter(self._stats.dropped), waiting=waiting)

    def emit(self, event: DetectionEvent, *, timeout: float = 0.0) -> bool:
        """Hand an event over. Does not wait unless asked to.

        Args:
            event: What was found.
            timeout: Seconds to wait for room in a full buffer. Without room then, the oldest event goes, counted.

        Returns:
            False if an event was dropped for it, or the sink is closed.
        """
        with self._changed:
            self._stats.emitted += 1
            if timeout > 0.0:
                self._changed.wait_for(lambda: len(self._waiting) < self._capacity or self._closing, timeout)
            if self._closing:
                self._stats.dropped[CLOSED] += 1
                return False
            full = len(self._waiting) >= self._capacity
            if full:
                self._waiting.popleft()
                self._stats.dropped[FULL] += 1
            self._waiting.append(event)
            if self._thread is None:  # not before it is needed: sinks may be made where no thread may be started yet
                self._thread = threading.Thread(target=self._run, name="streamlight-sink", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return not full

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until nothing is on its way any more; False if that takes longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._under_way), timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Take no more, deliver what waits within ``timeout`` seconds, count the rest as dropped. May be repeated."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.flush(timeout)
        with self._changed:
            late = len(self._waiting) + self._under_way
            if late:
                self._stats.dropped[LATE] += late
            self._waiting.clear()
            self._under_way = 0
            self._abandoned = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread is None or not self._thread.is_alive():
            self._shut()

    @abstractmethod
    def _deliver(self, event: DetectionEvent) -> None:
        """Deliver one event, in the sink's thread; must end by itself within seconds.

        Raises:
            Undelivered: Not now.
            Refused: Never.
        """

    def _shut(self) -> None:  # noqa: B027 - only some have something to close
        """Close what :meth:`_deliver` opened."""

    def _run(self) -> None:
        failures = 0
        while (event := self._next()) is not None:
            pause = 0.0
            try:
                self._deliver(event)
            except Refused as error:
                self._settle(event, dropped=REFUSED, fault=error)
            except Undelivered as error:
                failures += 1
                pause = max(error.pause or 0.0, pause_after(failures))
                self._settle(event, again=True, fault=error)
            except Exception as error:  # a fault of ours must not end the thread, nor be tried for ever
                self._settle(event, dropped=f"failed ({type(error).__name__})", fault=error)
            else:
                failures = 0
                self._settle(event)
            if pause:
                with self._changed:
                    self._changed.wait_for(lambda: self._abandoned, pause)

    def _next(self) -> DetectionEvent | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing or self._abandoned)
            if self._abandoned or not self._waiting:
                return None
            self._under_way = 1
            event = self._waiting.popleft()
            self._changed.notify_all()
            return event

    def _settle(
        self, event: DetectionEvent, *, dropped: str = "", again: bool = False, fault: Exception | None = None
    ) -> None:
        """Book what became of an event."""
        with self._changed:
            if fault is not None:
                self._stats.fault = redact(fault)
            if self._abandoned:
                return  # already counted as too late
            self._under_way = 0
            if again:
                self._stats.retries += 1
                self._stats.state = "offline"
                if len(self._waiting) < self._capacity:
                    self._waiting.appendleft(event)
                else:
                    self._stats.dropped[FULL] += 1
            elif dropped:
                self._stats.dropped[dropped] += 1
            else:
                self._stats.written += 1
                self._stats.state = "live"
            self._changed.notify_all()


def pause_after(failures: int) -> float:
    """Seconds to wait after that many failures in a row: doubling from 0.5 to 30, each between half and all of it."""
    longest = min(_LAST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1.0)
