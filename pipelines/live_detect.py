"""Detection beside the stream: on a thread of its own, on the newest frames, never in their way."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from streamlight.pipelines.live_lane import Lane

from streamlight.detect import DetectionEvent, Observer
from streamlight.live.logs import log_event
from streamlight.media import Frame

BUSY = "detector busy"
_GAP = 3.0
"""Seconds without a picture after which a detector that remembers begins anew."""


class DetectWorker:
    """Shows frames to an observer; of each camera only the newest waits.

    Args:
        observer: Knows the detector, the sinks, which pictures and how often.
        interval: Least seconds between two frames of one camera.

    Attributes:
        skipped: Frames that were due and were not looked at, by cause.
    """

    def __init__(self, observer: Observer, *, interval: float) -> None:
        self.observer = observer
        self._interval = interval
        self._due: dict[str, float] = {}
        self._away: set[str] = set()
        self._waiting: dict[Lane, tuple[Frame, tuple[np.ndarray, ...]]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._failed = False
        self.skipped: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="streamlight-detect", daemon=True)
        self._thread.start()

    def offer(self, lane: Lane, frame: Frame, before: tuple[np.ndarray, ...]) -> None:
        """Leave a frame that is due.

        Args:
            lane: Its camera.
            frame: Enhanced; its planes are not written to any more.
            before: Its planes as decoded.
        """
        now = float(frame.seconds)
        last = self._due.get(lane.name)
        if last is not None and 0.0 <= now - last < self._interval:
            return
        if last is not None and not 0.0 <= now - last <= _GAP:
            with self._changed:
                self._away.add(lane.name)
        self._due[lane.name] = now
        with self._changed:
            if lane in self._waiting:
                self.skipped[BUSY] += 1
            self._waiting[lane] = (replace(frame, origin=None, notes=dict(frame.notes)), before)
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """End; what waits is not looked at any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout)

    def to_json(self) -> dict[str, Any]:
        """What was done, as plain values."""
        return self.observer.to_json() | {"skipped": dict(self.skipped)}

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                lane = next(iter(self._waiting))  # who waits longest
                frame, before = self._waiting.pop(lane)
            try:
                self._look(lane, frame, before)
            except Exception as error:  # the stream must go on without it
                if not self._failed:
                    self._failed = True
                    log_event("detect-failed", f"detection failed: {error}", camera=lane.name, level=logging.ERROR,
                              error=type(error).__name__)  # fmt: skip
                self.skipped[f"failed ({type(error).__name__})"] += 1

    def _look(self, lane: Lane, frame: Frame, before: tuple[np.ndarray, ...]) -> None:
        with self._changed:
            was_away = lane.name in self._away
            self._away.discard(lane.name)
        if was_away:
            self.observer.forget(lane.name)  # what it saw before tells nothing about now
        raw = replace(frame, planes=before)
        events = [self.observer.before(raw, camera=lane.name), self.observer.after(frame, camera=lane.name)]
        seen: list[DetectionEvent] = [event for event in events if event is not None]
        if seen:
            lane.detections += sum(len(event.detections) for event in seen)
            lane.shown = (seen[-1].detections, time.monotonic())
