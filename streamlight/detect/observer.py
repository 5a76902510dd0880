"""A detector at work in a pipeline: which picture it sees, how often, and who is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from streamlight.detect.detection import Detection, DetectionEvent, Detector, Picture
from streamlight.detect.sink import EventSink
from streamlight.media.frame import Frame

DetectOn = Literal["raw", "enhanced", "both"]


@dataclass(slots=True)
class _Camera:
    """What is known of one camera."""

    looked: Fraction | None = None
    shown: list[Detection] = field(default_factory=list)
    due: bool = False


class Observer:
    """Runs a detector on the frames that pass, before and after they are enhanced, and emits what it finds.

    For one thread at a time. ``before`` and ``after`` are called for every frame, in this order; sinks never hold
    them up unless ``patience`` says so.

    Args:
        detector: Not closed by :meth:`close`.
        sinks: Told of frames in which something was found; not closed either.
        on: Which picture the detector sees.
        interval: Least seconds between two looks at one camera; 0 looks at every frame. In between, the last boxes
            are drawn again.
        draw: Whether boxes are drawn on the enhanced picture: those of the enhanced one, or of the raw one if only
            that was looked at.
        empty: Whether sinks are also told of frames in which nothing was found.
        patience: Seconds to wait for room in a full sink: for files, where nothing is in a hurry.

    Attributes:
        looks: Frames that were looked at, by picture.
        found: Detections, by picture.
        labels: Detections by picture and label, for reports.
        turns: Quarter turns counter-clockwise that bring the frames upright; may be set at any time.
    """

    def __init__(
        self,
        detector: Detector,
        sinks: Sequence[EventSink] = (),
        *,
        on: DetectOn = "enhanced",
        interval: float = 0.0,
        draw: bool = False,
        empty: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.detector = detector
        self._sinks = tuple(sinks)
        self._on, self._interval, self._draw = on, interval, draw
        self._empty, self._patience = empty, patience
        self.turns = 0
        self._cameras: dict[str, _Camera] = {}
        self.looks: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.labels: dict[str, Counter[str]] = {"raw": Counter(), "enhanced": Counter()}

    def before(self, frame: Frame, *, camera: str = "") -> DetectionEvent | None:
        """Look at the camera's own picture, if that is asked for.

        Returns:
            What was found in it, also if that is nothing; None if it was not looked at.
        """
        state = self._cameras.setdefault(camera, _Camera())
        gone = None if state.looked is None else frame.seconds - state.looked
        state.due = gone is None or gone >= self._interval or gone < 0
        if state.due:
            state.looked = frame.seconds
        if not state.due or self._on == "enhanced":
            return None
        return self._look(frame, state, camera, "raw", show=self._on == "raw")

    def after(self, frame: Frame, *, camera: str = "") -> DetectionEvent | None:
        """Look at the enhanced picture, if that is asked for, and draw.

        Returns:
            As :meth:`before`.
        """
        state = self._cameras.setdefault(camera, _Camera(due=True))
        event = None
        if state.due and self._on != "raw":
            event = self._look(frame, state, camera, "enhanced", show=True)
        if self._draw and state.shown:
            from streamlight.detect.draw import draw_boxes

            draw_boxes(frame, state.shown)
        return event

    def forget(self, camera: str) -> None:
        """Drop what is remembered of a camera: after a reconnect, or when it is taken away."""
        self._cameras.pop(camera, None)
        for picture in ("raw", "enhanced"):
            self.detector.forget(f"{camera}/{picture}")

    def flush(self, timeout: float) -> None:
        """Give the sinks so many seconds, together, to deliver what they were handed."""
        deadline = time.monotonic() + timeout
        for sink in self._sinks:
            sink.flush(max(0.0, deadline - time.monotonic()))

    def to_json(self) -> dict[str, Any]:
        """What was done, as plain values for reports."""
        return {
            "detector": self.detector.describe(),
            "on": self._on,
            "looks": dict(self.looks),
            "found": dict(self.found),
            "labels": {picture: dict(labels) for picture, labels in self.labels.items() if labels},
            "sinks": {sink.name: sink.stats.to_json() for sink in self._sinks},
        }

    def _look(self, frame: Frame, state: _Camera, camera: str, on: Picture, *, show: bool) -> DetectionEvent:
        if self.turns:
            frame.notes["turns"] = self.turns
        # The two pictures are two streams to a detector that remembers.
        found = self.detector(frame, camera=f"{camera}/{on}")
        self.looks[on] += 1
        self.found[on] += len(found)
        self.labels[on].update(detection.label for detection in found)
        if show:
            state.shown = found
        event = DetectionEvent.of(frame, found, camera=camera, on=on)
        if found or self._empty:
            for sink in self._sinks:
                sink.emit(event, timeout=self._patience)
        return event
