"""Processes that make pictures beside the one that trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

from streamlight.errors import StreamlightError

T = TypeVar("T")


def run_jobs(jobs: Sequence[Callable[[], T]], *, workers: int) -> Iterator[T]:
    """Results of the jobs in their order.

    Args:
        jobs: Anything that can be called and pickled.
        workers: Processes; with one, the jobs run here.

    Raises:
        StreamlightError: A process died.
        Exception: What a job raised.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from (job() for job in jobs)
        return
    # Spawned, not forked: a copy of a process with threads of torch or CUDA in it cannot be relied on.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(jobs))
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=start_worker)
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(executor.submit(_call, job))
            # No more in flight than keeps everybody busy: results are large.
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StreamlightError(
            "a process that makes training pictures died (out of memory?); try again with fewer --workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def start_worker(_: int = 0) -> None:
    """Settings of a process that makes pictures: one thread, Ctrl-C is for the main process, gone when that is gone."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    """End this process when its parent has, even if it was killed; idle workers would wait forever."""
    connection.wait([sentinel])
    os._exit(1)


def _call(job: Callable[[], T]) -> T:
    return job()
