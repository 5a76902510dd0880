"""How long to wait before a camera is tried again."""

from __future__ import annotations

import random

from streamlight.live.faults import Reason

FIRST_DELAY = 0.2
"""Seconds before the first new attempt."""
AUTH_DELAY = 60.0
"""Seconds between attempts with credentials that were refused: cameras lock out who guesses."""
_TRUSTED_REFUSALS = 2


class Backoff:
    """Delays that double from attempt to attempt up to a cap, scattered so that many cameras are not tried at once.

    Wrong credentials wait long at once, except that credentials which worked before get two quick attempts: cameras
    refuse them for a moment while they start.
    """

    def __init__(self, cap: float = 1.0, *, generator: random.Random | None = None) -> None:
        """Take the longest delay in seconds, and where the scatter comes from."""
        self._cap = cap
        self._generator = generator or random.Random()
        self._failures = 0
        self._refusals = 0
        self._proven = False

    def succeeded(self) -> None:
        """There was a picture: the next delay is the first one again."""
        self._failures = self._refusals = 0
        self._proven = True

    def delay(self, reason: Reason) -> float:
        """Seconds to wait after one more failure; half to all of the nominal delay, at random."""
        self._failures += 1
        if reason == "auth":
            self._refusals += 1
            if not self._proven or self._refusals > _TRUSTED_REFUSALS:
                return AUTH_DELAY
        nominal = min(self._cap, FIRST_DELAY * 2.0 ** min(self._failures - 1, 32))
        return nominal * self._generator.uniform(0.5, 1.0)
