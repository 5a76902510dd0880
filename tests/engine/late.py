"""A device that is late with everything: nothing is done before somebody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from streamlight.engine.streams import Mark


class LateMark:
    def __init__(self, lane: LateLane, position: int) -> None:
        self.lane, self.position = lane, position

    def wait(self) -> None:
        self.lane.hardware.waits += 1
        if not self.lane.hardware.deaf:
            self.lane.run_to(self.position)

    def done(self) -> bool:
        return self.lane.done >= self.position

    def since(self, earlier: Mark) -> float:
        return 0.0


class LateLane:
    def __init__(self, hardware: LateHardware) -> None:
        self.hardware = hardware
        self.work: list[Callable[[], object]] = []
        self.done = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        before, self.hardware.of_thread.lane = getattr(self.hardware.of_thread, "lane", None), self
        try:
            yield
        finally:
            self.hardware.of_thread.lane = before

    def after(self, mark: Mark | None) -> None:
        if isinstance(mark, LateMark) and not self.hardware.hasty:
            self.work.append(lambda: mark.lane.run_to(mark.position))

    def mark(self) -> Mark:
        return LateMark(self, len(self.work))

    def keep(self, tensor: Tensor) -> None:
        self.hardware.kept.append(tensor)

    def run_to(self, position: int) -> None:
        with self.hardware.lock:
            while self.done < position:
                step = self.work[self.done]
                self.done += 1
                step()


class LateHardware:
    """See the module.

    Args:
        hasty: Lanes do not wait for one another.
        deaf: Waiting for a mark does nothing.
    """

    def __init__(self, *, hasty: bool = False, deaf: bool = False) -> None:
        self.device = torch.device("cpu")
        self.hasty, self.deaf = hasty, deaf
        self.lock = threading.RLock()
        self.of_thread = threading.local()
        self.lanes: list[LateLane] = []
        self.kept: list[Tensor] = []
        self.allocated: list[int] = []
        self.waits = 0

    def lane(self) -> LateLane:
        self.lanes.append(LateLane(self))
        return self.lanes[-1]

    def host_memory(self, size: int) -> Tensor:
        self.allocated.append(size)
        return torch.full((size,), 0xEE, dtype=torch.uint8)

    def ask(self, work: Callable[[], object]) -> None:
        """Have something done in the lane of the calling thread."""
        with self.lock:
            self.of_thread.lane.work.append(work)

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.ask(lambda: target.copy_(source))

    def foreign(self) -> Mark | None:
        return None
