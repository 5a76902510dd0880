"""What is behind a camera's address, and how libavformat is to open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import fspath
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from streamlight.errors import ConfigError
from streamlight.media.urls import as_path, is_url, libav_name, redact

Kind = Literal["rtsp", "rtmp", "srt", "hls", "http", "udp", "device", "file", "other"]
Transport = Literal["tcp", "udp"]

_KINDS: dict[str, Kind] = {
    "rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "rtmp", "rtmps": "rtmp", "rtmpt": "rtmp", "srt": "srt", "http": "http",
    "https": "http", "udp": "udp", "rtp": "udp", "v4l2": "device",
}  # fmt: skip
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "rtmpt": 80, "http": 80, "https": 443}
"""Well-known ports of the schemes that run over TCP."""
_TLS = frozenset({"rtsps", "rtmps", "https"})
_ANALYSE_US = 500_000
"""How long libavformat may look at a stream to learn its details; rates, which take longest, are not trusted anyway."""
_ANALYSE_RTSP_US = 100_000
"""Likewise where the session's description has told the codec already."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart.

    Attributes:
        url: As libavformat takes it, credentials included.
        shown: For people: credentials redacted.
        label: Short name: host and path, or the file's or device's name. Holds no credentials.
        kind: What is behind it.
        host: Host of a TCP service, or None.
        port: Its port, or None.
        tls: Whether the connection is encrypted.
        format: Demuxer to force, or None.
    """

    url: str
    shown: str
    label: str
    kind: Kind
    host: str | None = None
    port: int | None = None
    tls: bool = False
    format: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether it has no end of its own: all but files."""
        return self.kind != "file"

    @property
    def is_bursty(self) -> bool:
        """Whether many frames arrive at once, ahead of their time: HLS delivers segments of seconds."""
        return self.kind == "hls"

    @property
    def listens(self) -> bool:
        """Whether there is a TCP port that a connection can be tried with."""
        return self.host is not None and self.port is not None


def parse_address(url: str) -> Address:
    """Take an address apart.

    Args:
        url: ``rtsp://``, ``rtsps://``, ``rtmp://``, ``srt://``, ``http(s)://`` (HLS where the path ends in ``.m3u8``),
            ``udp://``, ``/dev/video0`` (or ``v4l2:///dev/video0``), or a file.

    Raises:
        ConfigError: It is empty, has no host, or its port is no number.
    """
    text = fspath(url).strip()
    if not text:
        raise ConfigError("the address of a camera is empty; give for example rtsp://camera/stream")
    if not is_url(text):
        return _local(text)
    shown = redact(text)
    scheme = text.partition("://")[0].lower()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"'{shown}' is not a valid address: {redact(error)}") from error
    kind = _KINDS.get(scheme, "other")
    if kind == "device":
        return _local(parts.path)
    if kind == "http" and parts.path.lower().endswith((".m3u8", ".m3u")):
        kind = "hls"
    if not host and kind != "udp":
        raise ConfigError(f"'{shown}' names no host; expected {scheme}://host/…")
    tcp_port = (port or _PORTS[scheme]) if scheme in _PORTS else None
    label = f"{host or ''}{f':{port}' if port else ''}{parts.path}".rstrip("/")
    return Address(text, shown, label, kind, host if tcp_port else None, tcp_port, scheme in _TLS)


def _local(text: str) -> Address:
    path = as_path(text) or Path(text)
    if str(path).startswith("/dev/video"):
        return Address(str(path), str(path), path.name, "device", format="v4l2")
    return Address(libav_name(path), str(path), path.name, "file")


def demuxer_options(
    address: Address, *, transport: Transport, timeout: float, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Options of libavformat for a live source.

    Args:
        address: From :func:`parse_address`.
        transport: How RTP travels: inside the RTSP connection, or as UDP packets of its own.
        timeout: Seconds for one socket operation.
        extra: Options that are added, or take the place of ours.
    """
    options: dict[str, str] = {}
    microseconds = str(round(timeout * 1_000_000))
    if address.kind == "rtsp":
        # Sound and events would only be read to be thrown away.
        options = {"rtsp_transport": transport, "allowed_media_types": "video", "timeout": microseconds}
    elif address.kind in ("rtmp", "http", "hls"):
        options = {"rw_timeout": microseconds}
    if address.is_live and address.kind != "device":
        analyse = _ANALYSE_RTSP_US if address.kind == "rtsp" else _ANALYSE_US
        options |= {"analyzeduration": str(analyse), "fpsprobesize": "0"}
    if address.kind == "file":
        options = {"pattern_type": "none"}
    return options | dict(extra or {})
