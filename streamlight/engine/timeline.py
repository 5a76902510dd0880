"""Who worked when: spans of host threads and of a device's lanes on one axis of time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from streamlight.engine.streams import Lane, Mark

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work.

    Attributes:
        lane: Who did it: a stage, or a lane of a device.
        index: Number of the piece in its lane, from 0.
        begin: Seconds since the timeline began.
        end: Likewise.
    """

    lane: str
    index: int
    begin: float
    end: float


class Timeline:
    """Collects spans; costs two marks a piece of work on a device, and nothing waits for them.

    Args:
        base: Gives a mark of a moment that the device has come to, for example ``Link.base_mark``; both clocks are read
            there. None where only host threads are noted.
        limit: Pieces of work that are kept for each lane; later ones are not noted.
    """

    def __init__(self, base: Callable[[], Mark] | None = None, *, limit: int = 10_000) -> None:
        self._base = base() if base is not None else None
        self._start = time.perf_counter()
        self._limit = limit
        self._lock = threading.Lock()
        self._host: list[Span] = []
        self._device: list[tuple[str, int, Mark, Mark]] = []
        self._counts: Counter[str] = Counter()

    @contextmanager
    def on_host(self, lane: str) -> Iterator[None]:
        """Note what the calling thread does inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._add_host(lane, begin, time.perf_counter())

    def each(self, lane: str, items: Iterable[T]) -> Iterator[T]:
        """Note how long an iterator takes for each item."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._add_host(lane, begin, time.perf_counter())
            yield item

    @contextmanager
    def on_device(self, name: str, lane: Lane) -> Iterator[None]:
        """Note what a lane of the device is asked for inside."""
        begin = lane.mark()
        try:
            yield
        finally:
            with self._lock:
                if (index := self._number(name)) is not None:
                    self._device.append((name, index, begin, lane.mark()))

    def spans(self) -> list[Span]:
        """All spans in order of their beginning; waits for the device."""
        with self._lock:
            found, device = list(self._host), list(self._device)
        for name, index, begin, end in device:
            assert self._base is not None, "spans of a device need a base"
            end.wait()
            found.append(Span(name, index, begin.since(self._base), end.since(self._base)))
        return sorted(found, key=lambda span: (span.begin, span.end))

    def _add_host(self, lane: str, begin: float, end: float) -> None:
        with self._lock:
            if (index := self._number(lane)) is not None:
                self._host.append(Span(lane, index, begin - self._start, end - self._start))

    def _number(self, lane: str) -> int | None:
        index = self._counts[lane]
        self._counts[lane] += 1
        return index if index < self._limit else None


def busy_seconds(spans: Sequence[Span], lane: str | None = None) -> float:
    """Seconds in which at least one span (of ``lane``, or of any) was under way."""
    total, reached = 0.0, float("-inf")
    for span in sorted((one for one in spans if lane in (None, one.lane)), key=lambda one: one.begin):
        total += max(0.0, span.end - max(reached, span.begin))
        reached = max(reached, span.end)
    return total


def hidden_share(spans: Sequence[Span], lane: str, behind: str) -> float:
    """Share of the time of ``lane`` in which ``behind`` worked too, 0 to 1; 1 where ``lane`` did nothing."""
    mine, theirs = busy_seconds(spans, lane), busy_seconds(spans, behind)
    either = busy_seconds([span for span in spans if span.lane in (lane, behind)])
    return 1.0 if mine == 0.0 else min(1.0, max(0.0, (mine + theirs - either) / mine))
