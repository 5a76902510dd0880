"""Publishers and recorders of a camera, as the configuration asks for them."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Literal

from streamlight.cameras import CameraEntry
from streamlight.config import Config
from streamlight.live.delivery import Delivery
from streamlight.live.delivery_status import DeliveryEvent
from streamlight.live.logs import log_event
from streamlight.live.overview import DeliveryStatus
from streamlight.live.publish import Publisher, PublishSettings
from streamlight.live.record import Recorder, RecordSettings
from streamlight.live.steady import SteadyRate, SteadyStats
from streamlight.media import Frame, redact

_NAME = "-%Y%m%d-%H%M%S.mp4"
_PATIENCE = 2.0
"""Seconds to wait for room for a frame of a file that is in no hurry."""

OVERTAKEN = "overtaken"
"""Drop cause: the camera's picture came after others had been filled in for it."""

Kind = Literal["publish", "record"]


class LaneDelivery:
    """A publisher or recorder as a lane sees it: offers never wait, and the account is in the lane's terms.

    Args:
        kind: What it is.
        inner: What does the work; is closed with this.
        patient: Whether frames may wait for room: those of a file that is not played at its own pace.
        steady: What fills in pictures in front of ``inner``; closes it.
    """

    def __init__(self, kind: Kind, inner: Delivery, *, patient: bool, steady: SteadyRate | None = None) -> None:
        self._kind = kind
        self._inner = inner
        self._steady = steady
        self._wait = _PATIENCE if patient else 0.0

    def offer(self, frame: Frame) -> bool:
        """Take a copy of the picture; False if it was dropped, which is counted."""
        if self._steady is not None:
            return self._steady.offer(frame)
        return self._inner.offer(frame, wait=self._wait)

    def close(self, timeout: float) -> None:
        """Finish the file or the connection."""
        (self._steady or self._inner).close(timeout)

    def status(self) -> DeliveryStatus:
        """What became of the pictures so far."""
        stats = self._inner.stats
        filled = self._steady.stats if self._steady is not None else SteadyStats()
        late = {OVERTAKEN: filled.overtaken} if filled.overtaken else {}
        away = stats.fault is not None and stats.state not in ("live", "closed")
        return DeliveryStatus(
            kind=self._kind,
            target=redact(self._inner.target),
            state=stats.state,
            offered=stats.offered + filled.overtaken,
            filled=filled.repeated + filled.notices,
            written=stats.written,
            dropped=dict(stats.dropped) | late,
            restarts=stats.restarts,
            fault=stats.fault.message if away and stats.fault is not None else None,
            files=stats.files,
            encoder=stats.encoder,
            notes=(*stats.losses, *stats.fallbacks),
        )


def deliveries_for(entry: CameraEntry, config: Config, *, patient: bool = False) -> list[LaneDelivery]:
    """Where one camera's pictures go.

    Args:
        entry: The camera.
        config: The configuration in force.
        patient: Whether its frames may wait for room.

    Raises:
        ConfigError: A destination cannot be right.
        MediaError: A folder cannot be made.
    """
    output, deliver = config.output, config.deliver
    found = []

    def told(event: DeliveryEvent) -> None:
        _log(entry.name, event)

    if entry.to is not None:
        settings = PublishSettings(
            quality=output.quality, preset=output.encoder_preset, hardware=output.hardware,
            max_bitrate=deliver.bitrate, transport=config.live.transport,
        )  # fmt: skip
        publisher = Publisher(entry.to, settings=settings, on_change=told)
        steady = None
        if deliver.steady is not None:
            steady = SteadyRate(
                publisher, rate=Fraction(deliver.steady).limit_denominator(1001), fill=deliver.filler, name=entry.name
            )
        found.append(LaneDelivery("publish", publisher, patient=patient, steady=steady))
    if entry.record is not None:
        keep = RecordSettings(
            quality=output.quality, preset=output.encoder_preset, hardware=output.hardware,
            segment_seconds=float(deliver.record_seconds), segment_megabytes=deliver.record_megabytes,
        )  # fmt: skip
        pattern = record_pattern(entry.record, entry.name)
        recorder = Recorder(pattern, settings=keep, camera=entry.name, on_change=told)
        found.append(LaneDelivery("record", recorder, patient=patient))
    return found


def record_pattern(target: str, camera: str) -> str:
    """The file name pattern of recordings: the target itself, or names of our own in a folder."""
    path = Path(target)
    return target if path.suffix and not path.is_dir() else str(path).replace("%", "%%") + f"/{camera}{_NAME}"


def _log(camera: str, event: DeliveryEvent) -> None:
    if event.kind == "state":
        log_event("delivery-state", f"{event.target}: {event.state}", camera=camera, level=logging.DEBUG,
                  state=event.state, target=event.target)  # fmt: skip
    else:
        what = "recorded" if event.kind == "file" else "recovered"
        log_event(f"recording-{event.kind}", f"{what} {event.path}", camera=camera, path=event.path)
