"""Row bands on threads: few large pieces of work instead of many parallel loops.

Within a convolution torch lets its threads meet at the end of every loop, and they wait for one another spinning. With
hundreds of short loops per frame and other threads on the same cores (decoding, encoding) most of the time goes there.
Here each thread gets a band of rows and runs its convolutions alone; threads meet once per band.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

_MIN_ROWS: Final = 16
"""Bands of fewer rows are not worth a thread."""

_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def in_bands(height: int, work: Callable[[int, int], None], *, device: torch.device) -> None:
    """Run ``work(start, stop)`` so that its row ranges cover ``height`` rows, one band per torch thread.

    Args:
        height: Rows.
        work: Computes rows ``start`` to ``stop`` and writes them somewhere; bands do not touch one another's rows.
        device: Bands are for CPUs; elsewhere all rows are one band.
    """
    threads = torch.get_num_threads()
    count = min(threads, height // _MIN_ROWS) if device.type == "cpu" else 1
    # A mode that watches operations, such as the counter of work, belongs to its thread and would see nothing of bands.
    if count <= 1 or _get_current_dispatch_mode() is not None:
        work(0, height)
        return
    edges = [height * index // count for index in range(count + 1)]
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def band(index: int) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients and not inference):
            work(edges[index], edges[index + 1])

    # list: waits for all, and raises what the first of them raised
    list(_pool(threads).map(band, range(count)))


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that run torch single-threaded; kept for the life of the process, and made anew after a fork."""
    key = (os.getpid(), threads)
    with _lock:
        if key not in _pools:
            pool = ThreadPoolExecutor(threads, thread_name_prefix="streamlight-bands")
            started = threading.Barrier(threads + 1)

            def begin() -> None:
                torch.get_num_threads()  # a thread takes the default at its first use, so also after being told
                torch.set_num_threads(1)
                started.wait()

            for _ in range(threads):
                pool.submit(begin)
            started.wait()
            # What a thread sets becomes the default of threads yet to come; put the caller's number back.
            torch.set_num_threads(threads)
            _pools[key] = pool
        return _pools[key]
