"""Where the time goes."""

from __future__ import annotations

import time
from collections.abc import MutableMapping


class Clock:
    """Adds the seconds between two laps to a table of totals by step."""

    def __init__(self, table: MutableMapping[str, float]) -> None:
        self._table = table
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the step called ``name`` and begin the next."""
        now = time.perf_counter()
        self._table[name] = self._table.get(name, 0.0) + now - self._last
        self._last = now
