"""How a camera is, for those who watch it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from streamlight.live.faults import Fault

CameraState = Literal["connecting", "live", "stalled", "offline"]


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """A change of a camera's state.

    Attributes:
        camera: Its name.
        state: ``connecting`` until the first frame; ``live``; ``stalled`` connected, but without frames for long;
            ``offline`` disconnected, attempts go on.
        before: The state before.
        fault: Why it is offline; None otherwise.
        away: Seconds since it was live, where it comes back.
        at: Seconds since the epoch.
    """

    camera: str
    state: CameraState
    before: CameraState
    fault: Fault | None = None
    away: float | None = None
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class CameraStats:
    """Counters of a camera at one moment: ``frames_in == frames_out + sum(dropped.values()) + waiting``.

    Attributes:
        frames_in: Frames that the camera sent, also those that were dropped undecoded (``behind``).
        frames_out: Frames taken.
        waiting: Frames that wait to be taken.
        dropped: Frames dropped, by cause (see :class:`streamlight.live.mailbox.MailboxCounts`).
        state: See :class:`CameraEvent`.
        since: ``time.monotonic()`` when the state was entered.
        fault: The last fault; None before any. It stays when the camera is back.
        attempts: Connections tried, also cheap ones that only see whether the port is open.
        reconnects: Connections that gave a frame, the first one aside.
        damaged_packets: Packets that the decoder refused.
        damaged_frames: Frames in which errors were concealed.
        format_changes: Times that size, pixel format or colour changed.
        clock_jumps: Jumps of the camera's clock within a connection.
        repaired_pts: Pictures whose pts was missing or not later than the one before.
        rate: Pictures per second over the last few seconds; 0 where none came.
    """

    frames_in: int = 0
    frames_out: int = 0
    waiting: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    state: CameraState = "connecting"
    since: float = 0.0
    fault: Fault | None = None
    attempts: int = 0
    reconnects: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    format_changes: int = 0
    clock_jumps: int = 0
    repaired_pts: int = 0
    rate: float = 0.0
