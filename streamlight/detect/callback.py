"""Events handed to a Python function."""

from __future__ import annotations

from collections.abc import Callable

from streamlight.detect.detection import DetectionEvent
from streamlight.detect.sink import CAPACITY, BufferedSink


class CallbackSink(BufferedSink):
    """Calls a function with every event, in a thread of its own; one that raises loses its event, counted.

    Args:
        function: Called with a :class:`DetectionEvent`.
        capacity: See :class:`BufferedSink`.
    """

    def __init__(self, function: Callable[[DetectionEvent], object], *, capacity: int = CAPACITY) -> None:
        super().__init__(getattr(function, "__qualname__", type(function).__name__), capacity=capacity)
        self._function = function

    def _deliver(self, event: DetectionEvent) -> None:
        self._function(event)
