"""Recording a live picture into files that play whatever happens."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from streamlight.errors import ConfigError
from streamlight.live import naming
from streamlight.live.backoff import Backoff
from streamlight.live.delivery import Delivery
from streamlight.live.delivery_status import DeliveryEvent, DeliveryStats
from streamlight.live.encoding import LiveEncodeSettings
from streamlight.live.publish import encode_values

RecordStats = DeliveryStats
_MEGABYTE = 1_000_000
_PAUSE = 5.0
"""Longest wait before a disk is tried again, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings(LiveEncodeSettings):
    """How to record: the encoder's settings, and these.

    Attributes:
        segment_seconds: Length after which a new file begins; None for no limit.
        segment_megabytes: Size after which a new file begins; None for no limit.
        stall_timeout: Seconds that the disk may take for one picture; then the process is replaced.
        buffers: Frames that may be on their way to the encoder; each costs a picture's memory.
    """

    segment_seconds: float | None = 60.0
    segment_megabytes: float | None = None
    stall_timeout: float = 20.0
    buffers: int = 8

    def __post_init__(self) -> None:
        LiveEncodeSettings.__post_init__(self)
        if self.segment_seconds is not None and not 1 <= self.segment_seconds <= 86_400:
            raise ConfigError(f"segment_seconds must be from 1 to 86400, got {self.segment_seconds}")
        if self.segment_megabytes is not None and not 0.1 <= self.segment_megabytes <= 1_000_000:
            raise ConfigError(f"segment_megabytes must be from 0.1 to 1000000, got {self.segment_megabytes}")
        if not 0 < self.stall_timeout <= 3600 or not 1 <= self.buffers <= 64:
            raise ConfigError(
                f"stall_timeout must be from 0 to 3600 s and buffers 1 to 64, got {self.stall_timeout}, {self.buffers}"
            )


class Recorder(Delivery):
    """Records frames into files, a new one after so many seconds or megabytes, or when the size of frames changes.

    A file grows under the hidden name ``.NAME.recording``, in fragments of one key-frame interval (MP4, MOV) or as
    Matroska or MPEG-TS, and gets its name in one step when it is complete; an MP4 is an ordinary one by then. No file
    is ever replaced: a taken name gets a number. What was growing when everything was killed plays up to its last
    fragment, and gets its name from the next recorder that writes into the folder.

    Encoder and file live in a child process. File outputs hold the GIL only for a moment, on a healthy disk; a network
    share or a card that hangs would hold up every camera with it. And the child finishes its file when the parent is
    killed, which no thread could.

    Args:
        pattern: File name with `time.strftime` directives for the local time of the first frame (its own wall clock
            if the camera gives one) and, if wanted, ``{camera}``: ``"{camera}/%Y-%m-%d/%H-%M-%S.mp4"``. The suffix
            chooses mp4, mov, mkv or ts. Folders are made as needed.
        settings: How.
        camera: What ``{camera}`` stands for; characters that have no place in a file name become ``_``.
        sample_aspect: Pixel aspect ratio; None when unknown.
        rate: Nominal frame rate, for rate control only.
        metadata: Tags for every file.
        on_change: Called with every `DeliveryEvent`, from a thread of the recorder; must not block.

    Raises:
        ConfigError: The pattern cannot work.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str],
        *,
        settings: RecordSettings | None = None,
        camera: str = "camera",
        sample_aspect: Fraction | None = None,
        rate: Fraction | None = None,
        metadata: Mapping[str, str] | None = None,
        on_change: Callable[[DeliveryEvent], None] | None = None,
    ) -> None:
        settings = settings or RecordSettings()
        wanted = os.fspath(pattern).replace("{camera}", _as_name(camera))
        full = os.path.normpath(os.path.join(os.getcwd().replace("%", "%%"), wanted))
        naming.check_pattern(full)
        megabytes = settings.segment_megabytes
        job = {
            "kind": "record",
            "target": full,
            "encode": encode_values(settings),
            "sample_aspect": str(sample_aspect) if sample_aspect else None,
            "rate": str(rate) if rate else None,
            "options": {
                "seconds": settings.segment_seconds,
                "size": None if megabytes is None else round(megabytes * _MEGABYTE),
                "metadata": dict(metadata or {}),
            },
        }
        super().__init__(
            job,
            target=full,
            slots=settings.buffers,
            open_timeout=settings.stall_timeout,
            stall_timeout=settings.stall_timeout,
            backoff=Backoff(_PAUSE),
            early=True,
            on_change=on_change,
        )


def _as_name(camera: str) -> str:
    name = re.sub(r"[^\w.\-]+", "_", camera).strip(".") or "camera"
    return Path(name).name.replace("%", "%%")
