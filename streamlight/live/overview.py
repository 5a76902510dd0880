"""What a live run is doing right now, as values; metrics, health and the report are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamlight.engine import LatencyHistogram


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """What became of the pictures that were offered to a publisher or a recorder.

    Attributes:
        kind: ``"publish"`` or ``"record"``.
        target: Address or folder, credentials redacted.
        state: As the deliverer says.
        offered: Frames offered, those that were filled in among them.
        filled: Pictures that were filled in while the camera was away.
        written: Frames written.
        dropped: Frames it could not take, by cause.
        restarts: How often its encoder or connection was begun again.
        fault: Why it is not delivering, in words.
        files: Recordings finished.
        encoder: The encoder in use; None before the first frame.
        notes: What the output cannot keep of the picture, and encoders that did not open, in words.
    """

    kind: str
    target: str
    state: str
    offered: int
    written: int
    dropped: Mapping[str, int]
    restarts: int = 0
    fault: str | None = None
    filled: int = 0
    files: int = 0
    encoder: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera. At the end of a run ``frames_in`` is ``frames_out`` plus all that was dropped, exactly.

    Attributes:
        name: The camera's name.
        url: Its address, credentials redacted.
        state: ``"connecting"``, ``"live"``, ``"stalled"`` or ``"offline"``.
        fault: Why it is not live: ``{"reason": ..., "message": ...}``, or None.
        frames_in: Frames that the camera delivered.
        frames_out: Frames handed over.
        dropped: Frames in between, by cause.
        waiting: Frames that are in neither count yet.
        reconnects: How often the connection was lost and made again.
        latency: From reading a frame's packet to handing it over.
        pictures: Frames handed over by what was done: ``enhanced``, ``fading``, ``untouched`` (it was bright),
            ``bypassed`` (there was no time); and ``infrared``, those without colour among them.
        light: Light level of the last measurement, 0 to 1; None before the first.
        size: Width and height of the last frame; None before the first.
        detections: Things that were found.
        delivery: Publishers and recorders.
    """

    name: str
    url: str
    state: str
    fault: Mapping[str, str] | None
    frames_in: int
    frames_out: int
    dropped: Mapping[str, int]
    waiting: int
    reconnects: int
    latency: LatencyHistogram
    pictures: Mapping[str, int] = field(default_factory=dict)
    light: float | None = None
    size: tuple[int, int] | None = None
    detections: int = 0
    delivery: tuple[DeliveryStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """A whole run.

    Attributes:
        cameras: In the order they were given.
        rung: Name of the ladder's rung in force.
        rung_index: Its number; 0 is the best.
        steps_down: Steps that the ladder took downwards.
        steps_up: And upwards.
        beat: ``time.monotonic()`` of the enhancing thread's last turn.
        sinks: Figures of the event sinks by name.
    """

    cameras: tuple[CameraStatus, ...]
    rung: str
    rung_index: int
    steps_down: int
    steps_up: int
    beat: float
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
