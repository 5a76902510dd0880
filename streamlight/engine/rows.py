"""Run a function over bands of rows on a few threads.

Meant for kernels that release the GIL (numba ``nogil``, NumPy, OpenCV). The calling thread always works on a band
itself, so ``workers=2`` costs one extra thread; idle threads sleep on a lock and never spin.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

from streamlight.cores import available_cores

RowFunction = Callable[[int, int], object]


def row_bands(rows: int, workers: int, *, min_rows: int = 1, align: int = 1) -> list[tuple[int, int]]:
    """Cut ``rows`` rows into at most ``workers`` contiguous bands of nearly equal height.

    Args:
        rows: Number of rows, at least 0.
        workers: Largest number of bands.
        min_rows: Rows that make a band worth a thread; fewer bands are cut rather than shorter ones.
        align: Every band but the last ends at a multiple of this, so that chroma rows are not shared by two bands.

    Returns:
        ``(first, end)`` pairs that cover ``0 .. rows`` without gap or overlap; empty if there are no rows.
    """
    if rows <= 0:
        return []
    bands = max(1, min(workers, rows // max(1, min_rows)))
    edges = [rows * i // bands // align * align for i in range(bands)] + [rows]
    return [(first, end) for first, end in pairwise(edges) if end > first]


class RowPool:
    """A small pool of threads for row-parallel kernels.

    Several threads may call :meth:`run` on one pool at the same time, and ``fn`` may itself call :meth:`run`: bands
    that no worker has begun are done by the thread that waits for them, so that a busy pool is slow, never stuck.

    Args:
        workers: Bands that run at once, the calling thread included. ``None`` takes the cores this process may use.

    Raises:
        ValueError: If ``workers`` is less than 1.
    """

    def __init__(self, workers: int | None = None) -> None:
        count = available_cores() if workers is None else workers
        if count < 1:
            raise ValueError(f"workers must be at least 1, got {workers = }")
        self.workers = count
        self._threads = ThreadPoolExecutor(count - 1, thread_name_prefix="streamlight-rows") if count > 1 else None
        self._closed = False

    def run(self, fn: RowFunction, rows: int, *, min_rows: int = 32, align: int = 1) -> None:
        """Call ``fn(y0, y1)`` over bands that cover rows ``0 .. rows``; return when every band is done.

        Args:
            fn: Receives the first row of a band and the row behind its last.
            rows: Number of rows. With none, ``fn`` is not called.
            min_rows: Bands shorter than this are not worth a thread.
            align: Band borders fall on multiples of this.

        Raises:
            RuntimeError: If the pool is closed.
            BaseException: What ``fn`` raised. All bands have ended by then; with several failures, the first in row
                order is raised.
        """
        if self._closed:
            raise RuntimeError("RowPool.run() after close()")
        bands = row_bands(rows, self.workers, min_rows=min_rows, align=align)
        if not bands:
            return
        if len(bands) == 1 or self._threads is None:
            for first, end in bands:
                fn(first, end)
            return
        futures = [self._threads.submit(fn, first, end) for first, end in bands[1:]]
        failures = _attempt(fn, bands[0])
        for future, band in zip(futures, bands[1:], strict=True):
            # A band that no worker has begun is taken over instead of waited for.
            failures += _attempt(fn, band) if future.cancel() else _outcome(future)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the threads. Calling it again does nothing."""
        self._closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def __enter__(self) -> RowPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attempt(fn: RowFunction, band: tuple[int, int]) -> list[BaseException]:
    """Run one band here; failures come back as values so that the other bands are waited for first."""
    try:
        fn(*band)
    except BaseException as error:
        return [error]
    return []


def _outcome(future: Future[object]) -> list[BaseException]:
    """Wait for a band that a worker has begun."""
    error = future.exception()
    return [] if error is None else [error]
