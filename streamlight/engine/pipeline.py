"""Source → stages → sink, each on a thread of its own, joined by bounded queues.

A stage is a generator function: it receives the iterator of its input and yields its output. It may keep items back
and yield them when the input ends, and it closes what it opened with ``with`` or ``finally``, which run in every
case: at the normal end, after its own error, and when another stage fails (then its input iterator raises
:class:`~streamlight.engine.queues.QueueAborted`).

Items are never looked into, so the same engine carries frames of a file, of a camera, or of several. Work on a GPU
enters as stages too: one that owns its copy stream and keeps N items in flight yields an item when its event is done.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamlight.engine.latency import LatencyHistogram
from streamlight.engine.queues import BoundedQueue, Policy, QueueAborted, QueueClosed

StageFunction = Callable[[Iterator[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a pipeline and the queue in front of it.

    Attributes:
        name: Names the thread, the figures and the drops.
        run: Generator function from the iterator of input items to output items. What the last stage yields is
            counted and discarded.
        queue_size: Items that may wait in front of this stage.
        policy: What happens to an item when that queue is full.
    """

    name: str
    run: StageFunction
    queue_size: int = 4
    policy: Policy = "block"


@dataclass(slots=True)
class StageStats:
    """What one stage did. Times are wall-clock seconds and add up to the thread's life.

    Attributes:
        name: The stage's name.
        items_in: Items taken from the queue in front of it (0 for the source).
        items_out: Items yielded.
        busy: Seconds of own work.
        wait_in: Seconds spent waiting for input.
        wait_out: Seconds spent waiting for room behind.
    """

    name: str
    items_in: int = 0
    items_out: int = 0
    busy: float = 0.0
    wait_in: float = 0.0
    wait_out: float = 0.0


@dataclass(slots=True)
class PipelineStats:
    """What a run did.

    Attributes:
        stages: The source first, then every stage in order.
        dropped: Items dropped by queues, by cause.
        latency: From ``arrival(item)`` to the moment the last stage asked for its next item.
        wall: Seconds from start to end.
        stopped: Whether the stop event ended the source early.
    """

    stages: list[StageStats]
    dropped: Counter[str] = field(default_factory=Counter)
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    wall: float = 0.0
    stopped: bool = False


class Pipeline:
    """One run of a source through stages.

    Args:
        source: Iterable of items. Its iterator is advanced, and closed if it has ``close()``, by the first thread.
        stages: At least one; the last is the sink.
        stop: When set, the source is not asked for more; what is under way is finished and the stages end normally.
        arrival: Gives the ``time.monotonic()`` at which an item entered; without it no latency is measured.
        source_name: Name of the source in the figures.

    Raises:
        ValueError: If there is no stage, or two bear the same name.
    """

    def __init__(
        self,
        source: Iterable[Any],
        stages: Sequence[Stage],
        *,
        stop: threading.Event | None = None,
        arrival: Callable[[Any], float] | None = None,
        source_name: str = "source",
    ) -> None:
        names = [source_name, *(stage.name for stage in stages)]
        if not stages:
            raise ValueError("a pipeline needs at least one stage: the sink")
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ, got {names}")
        self._source = source
        self._stages = list(stages)
        self._stop = stop or threading.Event()
        self._arrival = arrival
        self._queues: list[BoundedQueue[Any]] = [
            BoundedQueue(stage.queue_size, stage.policy, cause=f"queue before {stage.name} full") for stage in stages
        ]
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self.stats = PipelineStats([StageStats(name) for name in names])

    def run(self) -> PipelineStats:
        """Run to the end on threads and return the figures. Can be called once.

        Raises:
            BaseException: The first error of any stage, as that stage raised it. Errors that other stages raised
                while they were being stopped are added to it as notes. No thread is left in either case.
            KeyboardInterrupt: If raised in the calling thread meanwhile (a second Ctrl-C): the stages are aborted.
        """
        begin = time.perf_counter()
        threads = [
            threading.Thread(target=self._guard, args=(position,), name=f"streamlight-{stats.name}")
            for position, stats in enumerate(self.stats.stages)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                _join(thread)
        except BaseException as error:
            self._fail(error)
            for thread in threads:
                if thread.ident is not None:
                    _join(thread)
        self.stats.wall = time.perf_counter() - begin
        for queue in self._queues:
            self.stats.dropped.update(queue.dropped)
        if self._error is not None:
            raise self._error
        return self.stats

    def _fail(self, error: BaseException) -> None:
        """Keep the first error, stop everybody."""
        with self._lock:
            if self._error is None:
                self._error = error
            elif error is not self._error:
                self._error.add_note(f"While stopping: {type(error).__name__}: {error}")
        for queue in self._queues:
            queue.abort()

    def _guard(self, position: int) -> None:
        """Body of every thread: position 0 is the source."""
        before = self._queues[position - 1] if position else None
        behind = self._queues[position] if position < len(self._queues) else None
        try:
            if position == 0:
                self._run_source(self._queues[0])
            else:
                self._run_stage(position, before, behind)
        except QueueAborted:
            # Another stage failed, or the one behind wants no more: hand it on.
            if behind is not None:
                behind.abort()
        except BaseException as error:
            self._fail(error)
        finally:
            if behind is not None:
                behind.close()
            if before is not None:
                before.abort()

    def _run_source(self, behind: BoundedQueue[Any]) -> None:
        stats = self.stats.stages[0]
        items = iter(self._source)
        try:
            while True:
                begin = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    stats.busy += time.perf_counter() - begin
                if self._stop.is_set():
                    self.stats.stopped = True
                    return
                stats.items_out += 1
                _timed_put(behind, item, stats)
                del item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _run_stage(self, position: int, before: BoundedQueue[Any] | None, behind: BoundedQueue[Any] | None) -> None:
        assert before is not None
        stats = self.stats.stages[position]
        source = self._timed_items(before, stats, measure=behind is None)
        produced = iter(self._stages[position - 1].run(source))
        try:
            while True:
                begin, waited = time.perf_counter(), stats.wait_in
                try:
                    item = next(produced)
                except StopIteration:
                    return
                finally:
                    stats.busy += time.perf_counter() - begin - (stats.wait_in - waited)
                stats.items_out += 1
                if behind is not None:
                    _timed_put(behind, item, stats)
                del item
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()

    def _timed_items(self, queue: BoundedQueue[Any], stats: StageStats, *, measure: bool) -> Iterator[Any]:
        """The input of a stage; in the sink, asking for the next item ends the latency of the one before."""
        while True:
            begin = time.perf_counter()
            try:
                item = queue.get()
            except QueueClosed:
                return
            finally:
                stats.wait_in += time.perf_counter() - begin
            stats.items_in += 1
            entered = self._arrival(item) if measure and self._arrival is not None else None
            yield item
            del item  # do not keep a frame alive while waiting for the next
            if entered is not None:
                self.stats.latency.add(time.monotonic() - entered)


def _timed_put(queue: BoundedQueue[Any], item: Any, stats: StageStats) -> None:
    begin = time.perf_counter()
    try:
        queue.put(item)
    finally:
        stats.wait_out += time.perf_counter() - begin


def _join(thread: threading.Thread) -> None:
    """Join in slices: on Windows a plain ``join()`` cannot be interrupted by Ctrl-C."""
    while thread.is_alive():
        thread.join(1.0)
