"""A bounded queue between two stages: it blocks or drops the oldest, and it can always be ended from outside."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Policy = Literal["block", "drop_oldest"]


class QueueClosed(Exception):
    """The queue is closed: nothing can be put, and nothing more will come out."""


class QueueAborted(BaseException):
    """The queue was aborted while in use.

    Derives from ``BaseException`` so that a stage's ``except Exception`` does not swallow it; ``finally`` blocks and
    context managers run as usual.
    """


class BoundedQueue(Generic[T]):
    """First in, first out, at most ``maxsize`` items; waiting threads sleep and are woken, nothing polls.

    Args:
        maxsize: Largest number of waiting items, at least 1. With the items' size this bounds the memory.
        policy: What :meth:`put` does when the queue is full: ``"block"`` waits (files), ``"drop_oldest"`` discards
            the item that waited longest and counts it (live).
        cause: The name under which such drops are counted.

    Raises:
        ValueError: If ``maxsize`` is less than 1 or the policy is unknown.
    """

    def __init__(self, maxsize: int, policy: Policy = "block", *, cause: str = "queue full") -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize = }")
        if policy not in ("block", "drop_oldest"):
            raise ValueError(f"policy must be 'block' or 'drop_oldest', got {policy!r}")
        self.maxsize = maxsize
        self.policy = policy
        self._cause = cause
        self._items: deque[T] = deque()
        self._dropped: Counter[str] = Counter()
        self._closed = False
        self._aborted = False
        lock = threading.Lock()
        self._lock = lock
        self._filled = threading.Condition(lock)
        self._drained = threading.Condition(lock)

    def put(self, item: T) -> None:
        """Append an item; when full, wait or drop the oldest, as the policy says.

        Raises:
            QueueClosed: If :meth:`close` was called: a mistake of the caller.
            QueueAborted: If :meth:`abort` was called before or while waiting. The item was not taken.
        """
        with self._lock:
            while self.policy == "block" and len(self._items) >= self.maxsize and not (self._aborted or self._closed):
                self._drained.wait()
            if self._aborted:
                raise QueueAborted
            if self._closed:
                raise QueueClosed("put() after close()")
            if len(self._items) >= self.maxsize:
                self._items.popleft()
                self._dropped[self._cause] += 1
            self._items.append(item)
            self._filled.notify()

    def get(self) -> T:
        """Take the oldest item, waiting for one if there is none.

        Raises:
            QueueClosed: If the queue is closed and empty.
            QueueAborted: If :meth:`abort` was called before or while waiting.
        """
        with self._lock:
            while not (self._items or self._closed or self._aborted):
                self._filled.wait()
            if self._aborted:
                raise QueueAborted
            if not self._items:
                raise QueueClosed("closed and empty")
            item = self._items.popleft()
            self._drained.notify()
            return item

    def close(self) -> None:
        """No more items will be put; those that wait can still be taken."""
        with self._lock:
            self._closed = True
            self._wake_all()

    def abort(self) -> None:
        """Discard what waits and wake every thread with :class:`QueueAborted`."""
        with self._lock:
            self._aborted = True
            self._items.clear()
            self._wake_all()

    def _wake_all(self) -> None:
        self._filled.notify_all()
        self._drained.notify_all()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    @property
    def dropped(self) -> dict[str, int]:
        """Items dropped so far, by cause."""
        with self._lock:
            return dict(self._dropped)
