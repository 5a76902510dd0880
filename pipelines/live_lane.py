"""One camera on its way through a live run: what is remembered of it, where its pictures go, and the account."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from streamlight.detect import Detection
from streamlight.engine import LatencyHistogram
from streamlight.enhance.gate import DarkGate, Decision
from streamlight.live.camera import Camera
from streamlight.live.logs import log_event
from streamlight.live.overview import CameraStatus, DeliveryStatus
from streamlight.media import Frame, redact
from streamlight.temporal import StreamState

LATE = "late"
CLOSING = "closing"
FAILED = "failed"
_SHOWN_FOR = 1.0


class Delivery(Protocol):
    """Somewhere that pictures are offered to; see :mod:`streamlight.pipelines.live_delivery`."""

    def offer(self, frame: Frame) -> bool:
        """Take a copy of the picture; never waits."""
        ...

    def status(self) -> DeliveryStatus:
        """What became of the pictures so far."""
        ...

    def close(self, timeout: float) -> None:
        """Finish what is open."""
        ...


class Lane:
    """A camera and everything that belongs to it alone. One thread works on it; others only read :meth:`status`.

    Args:
        camera: Not started yet.
        gate: Of this camera.
        deliveries: Where its pictures go.
        file: Whether it is a file, which comes to an end.
        patient: Whether it waits for its reader; nothing of it is dropped for being late.

    Attributes:
        state: What the enhancers remember.
        family: Of the enhancer that the state belongs to.
        shown: What was detected last, to be drawn.
    """

    def __init__(
        self,
        camera: Camera,
        gate: DarkGate,
        deliveries: Sequence[Delivery],
        *,
        file: bool = False,
        patient: bool = False,
    ) -> None:
        self.camera = camera
        self.gate = gate
        self.deliveries = tuple(deliveries)
        self.file = file
        self.patient = patient
        self.state = StreamState()
        self.family = ""
        self.shown: tuple[Sequence[Detection], float] = ((), 0.0)
        self.latency = LatencyHistogram()
        self.detections = 0
        self._out = 0
        self._dropped: Counter[str] = Counter()
        self._pictures: Counter[str] = Counter()
        self._size: tuple[int, int] | None = None
        self._lost_before = 0
        self._told = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.camera.name

    def newly_lost(self) -> int:
        """Frames that the camera had to drop for want of time since the last call."""
        dropped = self.camera.stats.dropped
        lost = dropped["superseded"] + dropped["too_old"]
        newly, self._lost_before = lost - self._lost_before, lost
        return newly

    def drop(self, cause: str) -> None:
        """Count a frame that was taken and will not be handed over."""
        with self._lock:
            self._dropped[cause] += 1

    def hand_over(self, frame: Frame, decision: Decision | str) -> float:
        """Offer a finished frame to all deliveries; returns its latency in seconds."""
        for delivery in self.deliveries:
            try:
                delivery.offer(frame)
            except Exception as error:  # for example no memory for the frames of an encoder: the others go on
                if not self._told:
                    self._told = True
                    log_event("delivery-failed", f"{delivery.status().target}: {error}", camera=self.name,
                              level=logging.ERROR, error=type(error).__name__)  # fmt: skip
        latency = time.monotonic() - frame.arrival
        with self._lock:
            self._out += 1
            self._pictures[decision] += 1
            self._pictures["infrared"] += self.gate.infrared
            self._size = (frame.width, frame.height)
            self.latency.add(latency)
        return latency

    def boxes(self) -> Sequence[Detection]:
        """What is to be drawn now: what was found within the last second."""
        found, moment = self.shown
        return found if time.monotonic() - moment < _SHOWN_FOR else ()

    def status(self) -> CameraStatus:
        """The account of the moment; callable from any thread."""
        # Read before the camera's own figures: what is taken in between is under way, and never counted twice.
        with self._lock:
            out, dropped = self._out, Counter(self._dropped)
            pictures, size = dict(+self._pictures), self._size
        stats = self.camera.stats
        under_way = stats.frames_out - out - dropped.total()
        away = stats.state in ("connecting", "offline")
        over = self.file and self.camera.ended  # the end of a file is no fault
        fault = None
        if away and stats.fault is not None and not (over and stats.fault.reason == "ended"):
            fault = {"reason": stats.fault.reason, "message": stats.fault.message}
        return CameraStatus(
            name=self.name,
            url=redact(self.camera.options.url),
            state=stats.state,
            fault=fault,
            frames_in=stats.frames_in,
            frames_out=out,
            dropped=dict(stats.dropped + dropped),
            waiting=stats.waiting + under_way,
            reconnects=stats.reconnects,
            latency=self.latency,
            pictures=pictures,
            light=self.gate.level,
            size=size,
            detections=self.detections,
            delivery=tuple(delivery.status() for delivery in self.deliveries),
        )
