"""What the child process publishes to: a network address, or an HLS folder. Runs in the child process."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streamlight.live.encoding import TIME_BASE, LiveEncodeSettings, LiveStream, plan_live
from streamlight.live.ring import FrameShape
from streamlight.media.encode import EncoderPlan
from streamlight.media.frame import Frame

_SEND_BUFFER = 1 << 18
Say = Callable[..., None]
"""Tells the parent something: ``say("kind", key=value)``."""


@dataclass(frozen=True, slots=True)
class Nominal:
    """What frames do not say about themselves: pixel aspect ratio and nominal rate; None when unknown."""

    sample_aspect: Fraction | None
    rate: Fraction | None


class Output(ABC):
    """Where frames go: one open stream at a time, begun anew when their shape changes."""

    def __init__(self, encode: LiveEncodeSettings, nominal: Nominal, say: Say) -> None:
        """Take what every output needs: the encoder's settings, and how to tell the parent."""
        self._encode, self._nominal, self._say = encode, nominal, say
        self._stream: LiveStream | None = None
        self._before = (0, 0)

    @property
    def packets(self) -> int:
        """Packets written since the process began."""
        return self._before[0] + (self._stream.packets if self._stream else 0)

    @property
    def bytes(self) -> int:
        """Bytes of coded video since the process began."""
        return self._before[1] + (self._stream.bytes if self._stream else 0)

    @abstractmethod
    def open(self, shape: FrameShape) -> None:
        """Get ready for frames of this shape."""

    @abstractmethod
    def write(self, frame: Frame, wall_clock: float) -> None:
        """Write one frame; ``wall_clock`` in seconds since the epoch."""

    def close(self) -> None:
        """Finish what is open."""
        if self._stream is not None:
            self._stream.close()
            self._before, self._stream = (self.packets, self.bytes), None

    @abstractmethod
    def abandon(self) -> None:
        """Save what can be saved after an error."""

    def _plan(self, shape: FrameShape, *, plays_everywhere: bool) -> EncoderPlan:
        planes = tuple(np.zeros(size, shape.color.dtype) for size in shape.planes())
        return plan_live(
            self._encode,
            Frame(planes, shape.color, 0, TIME_BASE),
            plays_everywhere=plays_everywhere,
            sample_aspect=self._nominal.sample_aspect,
            rate=self._nominal.rate,
        )

    def _tell_live(self, plan: EncoderPlan) -> None:
        self._say("live", encoder=plan.encoder, losses=list(plan.losses), fallbacks=list(plan.fallbacks))


class StreamOutput(Output):
    """One long stream to an address or into an HLS folder."""

    def __init__(self, url: str, encode: LiveEncodeSettings, nominal: Nominal, say: Say, **options: Any) -> None:
        """Nothing is opened yet. ``options`` are those of `stream_target`."""
        super().__init__(encode, nominal, say)
        self._url, self._options = url, options

    def open(self, shape: FrameShape) -> None:
        """Connect: this is where a server may keep us waiting."""
        self.close()
        plan = self._plan(shape, plays_everywhere=True)
        target, muxer, options = stream_target(self._url, key_interval=self._encode.key_interval, **self._options)
        self._stream = LiveStream(
            target,
            plan,
            format=muxer,
            options=options,
            key_interval=self._encode.key_interval,
            repeat_headers=muxer == "rtsp",
        )
        bound_connections(self._options["timeout"])
        self._tell_live(plan)

    def write(self, frame: Frame, wall_clock: float) -> None:
        """Encode and send one frame."""
        if self._stream is not None:
            self._stream.write(frame)

    def abandon(self) -> None:
        """Leave the connection as it is: taking leave of a server that failed may take for ever."""


def stream_target(
    url: str, *, key_interval: float, transport: str, timeout: float, playlist: int
) -> tuple[str, str, dict[str, str]]:
    """``(target, muxer, options)`` of libavformat for a publishing address.

    Args:
        url: Address, or a file name that ends in ``.m3u8``.
        key_interval: Seconds between key frames, which is the length of an HLS segment.
        transport: Of RTP: ``"tcp"`` or ``"udp"``.
        timeout: Seconds for one socket operation.
        playlist: Segments in an HLS playlist.
    """
    microseconds = str(round(timeout * 1_000_000))
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    common = {"flush_packets": "1"}
    if scheme in ("rtsp", "rtsps"):
        return url, "rtsp", common | {"rtsp_transport": transport, "timeout": microseconds}
    if scheme in ("rtmp", "rtmps"):
        return url, "flv", common | {"flvflags": "no_duration_filesize"}
    if scheme in ("srt", "tcp", "udp"):
        # PyAV hands no options to the protocol; seven packets of a transport stream are what fits an Ethernet frame.
        plain_udp = scheme == "udp" and "pkt_size=" not in url
        target = f"{url}{'&' if '?' in url else '?'}pkt_size=1316" if plain_udp else url
        return target, "mpegts", common | {"mpegts_flags": "resend_headers"}
    playlist_file = Path(url)
    segments = playlist_file.with_name(f"{playlist_file.stem}-%d.ts")
    flags = "delete_segments+append_list+independent_segments+program_date_time+temp_file"
    options = {
        "hls_time": f"{key_interval:g}",
        "hls_list_size": str(playlist),
        "hls_flags": flags,
        "hls_segment_filename": os.fspath(segments),
    }
    return os.fspath(playlist_file), "hls", options


def bound_connections(timeout: float) -> None:
    """Limit what this process's TCP connections may hold back, where the system lets us.

    A host that vanished without a word is noticed when nothing was acknowledged for ``timeout`` seconds, not after a
    quarter of an hour; and what waits in the system's buffer, which is delay for the viewers, stays small.
    """
    if sys.platform != "linux":
        return
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as connection:
            if connection.type == socket.SOCK_STREAM and connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout * 1000))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
