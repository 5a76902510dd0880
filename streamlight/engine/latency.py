"""Percentiles of latencies in a fixed amount of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_LOWEST = 1e-5
_HIGHEST = 1e4
_RATIO = 1.02
_BUCKETS = math.ceil(math.log(_HIGHEST / _LOWEST) / math.log(_RATIO)) + 1


class LatencyHistogram:
    """Log-spaced buckets from 10 µs to about 2.8 hours, each 2 % wide; memory does not grow with the count.

    A percentile is therefore right to 1 % (of its value) between those bounds. Values outside are counted in the
    first or last bucket; :attr:`maximum` stays exact. Not thread-safe: one thread adds.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency, in seconds. Negative values count as 0; NaN is refused.

        Raises:
            ValueError: If ``seconds`` is NaN.
        """
        if math.isnan(seconds):
            raise ValueError("a latency cannot be NaN")
        bucket = 0 if seconds <= _LOWEST else int(math.log(min(seconds, _HIGHEST) / _LOWEST) / math.log(_RATIO))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.total += max(0.0, seconds)
        self.maximum = max(self.maximum, seconds)

    def percentile(self, q: float) -> float:
        """The latency in seconds that ``q`` percent (0 to 100) of the values do not exceed; 0 with no values."""
        if not 0 <= q <= 100:
            raise ValueError(f"q must be 0 to 100, got {q = }")
        if self.count == 0:
            return 0.0
        rank = max(1, math.ceil(self.count * q / 100))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_LOWEST * _RATIO ** (bucket + 0.5), self.maximum)

    def cumulative(self, bounds: Sequence[float]) -> list[int]:
        """How many values do not exceed each of ``bounds`` (seconds, ascending), right to a bucket of 2 %."""
        sums = np.cumsum(self._counts)
        found = []
        for bound in bounds:
            buckets = 0 if bound < _LOWEST else math.floor(math.log(bound / _LOWEST) / math.log(_RATIO) + 1e-9)
            found.append(0 if buckets == 0 else int(sums[min(buckets, _BUCKETS) - 1]))
        return found

    def summary(self) -> dict[str, float]:
        """``count`` and, in seconds, ``p50``, ``p95``, ``p99`` and ``max``."""
        values = {f"p{q}": self.percentile(q) for q in (50, 95, 99)}
        return {"count": self.count, **values, "max": self.maximum}
