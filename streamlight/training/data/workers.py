"""Processes that make pictures beside the one that trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from streamlight.errors import StreamlightError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Results of a function for each item, in the order of the items, made a little ahead.

    Args:
        function: Sent to every process once, so it must be possible to pickle it.
        items: May be endless; likewise pickled.
        workers: Processes; with one or none, the function is called here.

    Raises:
        StreamlightError: A process died.
        Exception: What the function raised.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked: a copy of a process with threads of torch or CUDA in it cannot be relied on.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(function,))
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(_call, item))
            # No more in flight than keeps everybody busy: results are large.
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StreamlightError(
            "a process that makes training pictures died (out of memory?); try again with fewer --workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any] | None = None
"""In a worker: what it was started for."""


def _start(function: Callable[[Any], Any]) -> None:
    """Make this process a worker: one thread, Ctrl-C is for the main process, gone when that is gone."""
    import cv2
    import torch

    global _function
    _function = function
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    """End this process when its parent has, even if it was killed; idle workers would wait forever."""
    connection.wait([sentinel])
    os._exit(1)


def _call(item: Any) -> Any:
    assert _function is not None
    return _function(item)
