"""What to read from a camera, and how patiently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from streamlight.errors import ConfigError
from streamlight.live.address import Transport, parse_address
from streamlight.media.deinterlace import Deinterlace


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """One camera. Times are in seconds.

    Attributes:
        url: ``rtsp://``, ``rtsps://``, ``rtmp://``, ``http(s)://`` (also HLS), ``udp://``, a V4L2 device or a file.
        name: For logs, metrics and events; empty takes host and path of the address.
        transport: How RTP travels: inside the RTSP connection (``"tcp"``), or as UDP packets.
        open_timeout: For connecting, and once more for finding the streams.
        read_timeout: Without data from a camera after which the connection is made anew.
        realtime: Play a file at its own pace, as if a camera sent it: what is not taken in time is dropped. Otherwise
            a file is read as fast as its frames are taken, and none is dropped.
        backoff_cap: Longest delay between attempts; refused credentials wait a minute.
        max_attempts: Attempts in a row without a single frame after which the camera ends; None never gives up.
        decoder_threads: Threads that decode one picture.
        queue: Frames that may wait to be taken; the oldest is dropped when another comes.
        max_latency: Age, since its packet was read, beyond which a frame is dropped instead of taken; None: any age.
        deinterlace: ``"auto"`` deinterlaces pictures flagged interlaced, which makes them one picture later; ``"all"``
            every picture, ``"off"`` none.
        keep_size: Convert all frames to size and format of the first one, whatever the camera changes to.
        drop_damaged: Drop frames in which the decoder had to conceal errors.
        libav_options: Options of libavformat that are added to ours or replace them.
    """

    url: str
    name: str = ""
    transport: Transport = "tcp"
    open_timeout: float = 5.0
    read_timeout: float = 5.0
    realtime: bool = False
    backoff_cap: float = 1.0
    max_attempts: int | None = None
    decoder_threads: int = 1
    queue: int = 1
    max_latency: float | None = None
    deinterlace: Deinterlace = "auto"
    keep_size: bool = False
    drop_damaged: bool = False
    libav_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: Something is out of range.
        """
        address = parse_address(self.url)
        if self.transport not in get_args(Transport):
            raise ConfigError(f"transport must be 'tcp' or 'udp', got {self.transport!r}")
        if self.deinterlace not in get_args(Deinterlace):
            raise ConfigError(f"deinterlace must be 'auto', 'all' or 'off', got {self.deinterlace!r}")
        for key in ("open_timeout", "read_timeout", "backoff_cap"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} must be more than 0 s, got {getattr(self, key)}")
        for key in ("decoder_threads", "queue"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1 or left out, got {self.max_attempts}")
        if self.max_latency is not None and not self.max_latency > 0:
            raise ConfigError(f"max_latency must be more than 0 s or left out, got {self.max_latency}")
        if self.realtime and address.is_live:
            raise ConfigError(f"realtime is for files; '{address.shown}' keeps its own time")
