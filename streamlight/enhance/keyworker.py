"""A thread on which models work while frames go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from streamlight.temporal import StreamState

T = TypeVar("T")


class KeyWorker(Generic[T]):
    """One thread; of each stream at most one piece of work, the newest that was handed in before it was begun.

    Called from one thread. A stream that goes away takes its result with it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: WeakKeyDictionary[StreamState, _Job[T]] = WeakKeyDictionary()

    def submit(self, state: StreamState, work: Callable[[], T]) -> bool:
        """Have ``work`` done; False if the stream's last piece of work is under way or waits for :meth:`take`."""
        if state in self._jobs:
            return self._jobs[state].replace(work)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="streamlight-keyframes")
        job = self._jobs[state] = _Job(work)
        job.future = self._pool.submit(job.run)
        return True

    def take(self, state: StreamState, *, wait: bool) -> T | None:
        """The result of the stream's work, once; None if there is none (yet).

        Args:
            state: Of the stream.
            wait: For work that is not done.

        Raises:
            BaseException: What the work raised, once.
        """
        job = self._jobs.get(state)
        if job is None or job.future is None or not (wait or job.future.done()):
            return None
        try:
            return job.future.result()
        finally:
            del self._jobs[state]

    def forget(self, state: StreamState) -> None:
        """Want the stream's work no more; what is under way ends for itself."""
        job = self._jobs.pop(state, None)
        if job is not None and job.future is not None:
            job.future.cancel()

    def close(self) -> None:
        """Wait for what is under way, drop what has not begun, end the thread. Calling it again does nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._jobs.clear()


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.future: Future[T] | None = None
        self._work: Callable[[], T] | None = work
        self._lock = threading.Lock()

    def replace(self, work: Callable[[], T]) -> bool:
        with self._lock:
            if self._work is None:
                return False
            self._work = work
            return True

    def run(self) -> T:
        with self._lock:
            work, self._work = self._work, None
        assert work is not None
        return work()
