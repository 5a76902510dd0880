"""What a publisher or a recorder is doing and has done, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamlight.live.faults import Fault

DeliveryState = Literal["idle", "connecting", "live", "offline", "closed"]


@dataclass(frozen=True, slots=True)
class DeliveryStats:
    """What became of the frames that were offered: ``offered == written + sum(dropped.values()) + waiting``, always.

    Attributes:
        state: ``idle`` no frame came yet; ``connecting``; ``live``; ``offline`` until the next attempt; ``closed``.
        offered: Frames offered.
        written: Frames encoded and handed to the system for the server or the disk. Neither says when it has them: what
            lies in a connection's buffer or in an MP4's open fragment is lost with the process.
        waiting: Frames on their way.
        dropped: Frames that were not taken, by cause: ``connecting`` the output was not open yet; ``offline`` there was
            none; ``slow`` encoder, server or disk did not keep up; ``new_size`` while the output was begun again;
            ``no_memory`` for pictures this large; ``out_of_order`` their time did not increase; ``fault`` on their way
            when it failed; ``closed``.
        restarts: How often an output that was live failed, so that a new one had to be begun.
        fault: Why it is not live; None while it is.
        faults: Attempts and connections that failed so far, by reason.
        bytes: Coded video, in bytes.
        encoder: libavcodec's name of the encoder in use.
        losses: What the output cannot keep of the picture, in words.
        fallbacks: Encoders that were tried and did not open.
        files: Recordings finished.
        last_file: The last one of them.
        recovered: Recordings of killed processes that were given their names.
    """

    state: DeliveryState = "idle"
    offered: int = 0
    written: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0
    fault: Fault | None = None
    faults: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    encoder: str | None = None
    losses: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    files: int = 0
    last_file: str | None = None
    recovered: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """A change worth telling.

    Attributes:
        target: Address or file pattern, credentials redacted.
        kind: ``"state"``, ``"file"`` (a recording was finished) or ``"recovered"``.
        state: The state now.
        fault: Why it is offline, if it is.
        path: The recording.
    """

    target: str
    kind: Literal["state", "file", "recovered"]
    state: DeliveryState
    fault: Fault | None = None
    path: str | None = None
