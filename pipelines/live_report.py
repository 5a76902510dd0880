"""The account of a live run: every frame that came in is in it, handed over or dropped with its cause."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from streamlight.pipelines.identity import versions

from streamlight.config import Config
from streamlight.engine import peak_memory, to_plain
from streamlight.live.ladder import Ladder
from streamlight.live.overview import CameraStatus, DeliveryStatus, LiveStatus
from streamlight.media import redact


@dataclass(slots=True)
class LiveReport:
    """What a live run did.

    Attributes:
        status: ``"done"`` (the time was up or every input ended) or ``"stopped"``.
        cameras: One entry per camera: state, fault, frames ``in``, ``out`` and ``dropped`` by cause (which add up),
            reconnects, latency (``count``, ``p50``, ``p95``, ``p99``, ``max`` in seconds, from packet to hand-over),
            what was done to the pictures, deliveries.
        ladder: The rung in force at the end, the steps taken and the last of them; with several devices the lowest
            rung, and the steps of all.
        detection: What was looked at and found, and the event sinks; None without a detector.
        wall_seconds: Elapsed time.
        peak_memory_bytes: Largest resident size of this process.
        settings: The configuration in force, credentials redacted.
        versions: Versions of what decides the result.
    """

    status: Literal["done", "stopped"]
    cameras: list[dict[str, Any]]
    ladder: dict[str, Any]
    detection: dict[str, Any] | None = None
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def camera(self, name: str) -> dict[str, Any]:
        """The entry of a camera."""
        return next(entry for entry in self.cameras if entry["name"] == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and finite numbers."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as a JSON document."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)


def make_report(
    status: LiveStatus,
    ladders: Sequence[Ladder],
    *,
    stopped: bool,
    begin: float,
    config: Config,
    detection: dict[str, Any] | None,
) -> LiveReport:
    """The report of a run that is over.

    Args:
        status: After everything was closed.
        ladders: Of the run, one a device.
        stopped: Whether it was told to end.
        begin: ``time.monotonic()`` of its beginning.
        config: The configuration in force.
        detection: From the detection's own account.
    """
    lowest = lowest_of(ladders)
    changes = sorted((change for ladder in ladders for change in ladder.changes), key=lambda change: change.moment)
    return LiveReport(
        status="stopped" if stopped else "done",
        cameras=[camera_entry(camera) for camera in status.cameras],
        ladder={
            "rungs": list(lowest.names),
            "rung": lowest.name,
            "steps_down": status.steps_down,
            "steps_up": status.steps_up,
            "changes": [
                {"seconds": round(c.moment - begin, 3), "before": c.before, "after": c.after, "reason": c.reason}
                for c in changes
            ],
        },
        detection=detection,
        wall_seconds=time.monotonic() - begin,
        peak_memory_bytes=peak_memory(),
        settings=_redacted(config.model_dump(mode="json")),
        versions=versions(),
    )


def lowest_of(ladders: Sequence[Ladder]) -> Ladder:
    """The ladder of the device that has given up most."""
    return max(ladders, key=lambda ladder: ladder.rung)


def camera_entry(camera: CameraStatus) -> dict[str, Any]:
    """One camera's part of the report."""
    return {
        "name": camera.name,
        "url": camera.url,
        "state": camera.state,
        "fault": None if camera.fault is None else dict(camera.fault),
        "size": camera.size,
        "frames": {"in": camera.frames_in, "out": camera.frames_out, "waiting": camera.waiting},
        "dropped": dict(camera.dropped),
        "reconnects": camera.reconnects,
        "latency": camera.latency.summary(),
        "pictures": dict(camera.pictures),
        "light": camera.light,
        "detections": camera.detections,
        "delivery": [_delivery_entry(delivery) for delivery in camera.delivery],
    }


def _delivery_entry(delivery: DeliveryStatus) -> dict[str, Any]:
    return {f.name: getattr(delivery, f.name) for f in dataclasses.fields(delivery)}


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value
