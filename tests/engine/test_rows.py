"""RowPool: every row once, errors surface, no thread stays."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from streamlight.engine.rows import RowPool, row_bands


def pool_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("streamlight-rows")]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64, 1080])
@pytest.mark.parametrize("align", [1, 2, 16])
def test_bands_cover_every_row_once(workers, rows, align):
    bands = row_bands(rows, workers, min_rows=4, align=align)
    assert [y for a, b in bands for y in range(a, b)] == list(range(rows))
    assert len(bands) <= workers
    assert all(a % align == 0 for a, _ in bands)


def test_short_planes_are_not_split():
    assert row_bands(60, 4, min_rows=32) == [(0, 60)]
    assert row_bands(64, 4, min_rows=32) == [(0, 32), (32, 64)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_run_touches_every_row_once(workers):
    seen = np.zeros(1001, int)

    def count(y0, y1):
        seen[y0:y1] += 1

    with RowPool(workers) as pool:
        for _ in range(20):
            pool.run(count, len(seen), min_rows=8)
    assert (seen == 20).all()


def test_bands_run_at_the_same_time_and_one_on_the_caller():
    meet = threading.Barrier(2, timeout=20)
    names = []

    def fn(y0, y1):
        names.append(threading.current_thread())
        meet.wait()  # breaks unless two bands run at once

    with RowPool(2) as pool:
        pool.run(fn, 64, min_rows=32)
    assert threading.current_thread() in names
    assert len(set(names)) == 2


def test_nested_run_does_not_lock_up():
    total = []

    with RowPool(2) as pool:
        pool.run(lambda a, b: pool.run(lambda c, d: total.append(d - c), 64, min_rows=1), 4, min_rows=1)
    assert sum(total) == 64 * 2


@pytest.mark.parametrize("bad_row", [0, 99])
def test_error_surfaces_after_all_bands_ended(bad_row):
    ended = []

    def fn(y0, y1):
        if y0 <= bad_row < y1:
            raise ArithmeticError(f"rows {y0}..{y1}")
        ended.append((y0, y1))

    with RowPool(2) as pool:
        with pytest.raises(ArithmeticError):
            pool.run(fn, 100, min_rows=1)
        assert len(ended) == 1
        pool.run(lambda a, b: None, 100)  # still usable


def test_close_ends_threads_and_refuses_work():
    pool = RowPool(3)
    pool.run(lambda a, b: None, 300, min_rows=1)
    pool.close()
    pool.close()
    assert pool_threads() == []
    with pytest.raises(RuntimeError):
        pool.run(lambda a, b: None, 10)


def test_workers_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        RowPool(0)
