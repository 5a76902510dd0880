"""Publishing a live picture: to an RTSP, RTMP, SRT or UDP address, or into an HLS folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from streamlight.errors import ConfigError, MediaError
from streamlight.live.address import Address, Transport, parse_address
from streamlight.live.backoff import Backoff
from streamlight.live.delivery import Delivery
from streamlight.live.delivery_status import DeliveryEvent, DeliveryStats
from streamlight.live.encoding import LiveEncodeSettings
from streamlight.media.destination import check_destination
from streamlight.media.urls import as_path, is_url, redact

PublishStats = DeliveryStats
_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSettings(LiveEncodeSettings):
    """How to publish: the encoder's settings, and these.

    Attributes:
        transport: How RTP travels to an RTSP server: inside its connection, or as UDP packets.
        open_timeout: Seconds that connecting may take.
        stall_timeout: Seconds that a server may leave a picture lying; then the connection is made anew.
        backoff_cap: Longest wait between attempts, in seconds.
        buffers: Frames that may be on their way to the encoder; each costs a picture's memory, and its time.
        playlist: Segments in an HLS playlist, each as long as the key-frame interval.
    """

    transport: Transport = "tcp"
    open_timeout: float = 10.0
    stall_timeout: float = 5.0
    backoff_cap: float = 2.0
    buffers: int = 3
    playlist: int = 6

    def __post_init__(self) -> None:
        LiveEncodeSettings.__post_init__(self)
        for name in ("open_timeout", "stall_timeout", "backoff_cap"):
            if not 0 < getattr(self, name) <= 3600:
                raise ConfigError(f"{name} must be from 0 to 3600 seconds, got {getattr(self, name)}")
        if not 1 <= self.buffers <= 64 or not 2 <= self.playlist <= 1000:
            raise ConfigError(f"buffers must be 1 to 64 and playlist 2 to 1000, got {self.buffers}, {self.playlist}")


class Publisher(Delivery):
    """Publishes frames for as long as it lives: a server that hangs, goes away or comes back stops nothing else.

    Encoder and connection live in a child process, which is replaced when it hangs; attempts to connect go on for
    ever, with growing pauses. A server that hangs is noticed when it takes no more data: for a picture of few bits that
    is later than for one of many.

    A frame of another size begins a new session with the server, since the parameters of a session are fixed when it is
    announced. Colour is kept; what viewers cannot decode (10 bit, 4:4:4) is reduced to 8 bit 4:2:0 and named in
    ``stats.losses``.

    Args:
        url: ``rtsp(s)://``, ``rtmp(s)://``, ``srt://``, ``udp://``, ``tcp://`` (MPEG-TS), or a file whose name ends in
            ``.m3u8``: its folder receives HLS segments, and is made if need be. SRT needs an FFmpeg that has it (PyAV's
            wheels do not); without, the publisher stays offline and says so.
        settings: How.
        sample_aspect: Pixel aspect ratio; None when unknown.
        rate: Nominal frame rate, for rate control only.
        on_change: Called with every `DeliveryEvent`, from a thread of the publisher; must not block.

    Raises:
        ConfigError: The address is none that can be published to.
        MediaError: The HLS folder cannot be made or written.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        settings: PublishSettings | None = None,
        sample_aspect: Fraction | None = None,
        rate: Fraction | None = None,
        on_change: Callable[[DeliveryEvent], None] | None = None,
    ) -> None:
        settings = settings or PublishSettings()
        target, address = _check_target(os.fspath(url))
        job = {
            "kind": "publish",
            "target": target,
            "encode": encode_values(settings),
            "sample_aspect": str(sample_aspect) if sample_aspect else None,
            "rate": str(rate) if rate else None,
            "options": {
                "transport": settings.transport,
                "timeout": settings.stall_timeout,
                "playlist": settings.playlist,
            },
        }
        super().__init__(
            job,
            target=redact(target),
            slots=settings.buffers,
            open_timeout=settings.open_timeout,
            stall_timeout=settings.stall_timeout,
            backoff=Backoff(settings.backoff_cap),
            early=address is None,
            address=address if address is not None and address.listens else None,
            on_change=on_change,
        )


def encode_values(settings: LiveEncodeSettings) -> dict[str, object]:
    """The encoder's part of the settings, as plain values."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(LiveEncodeSettings)}


def _check_target(url: str) -> tuple[str, Address | None]:
    """The target as the child needs it, and its address if it is on the network."""
    if is_url(url):
        scheme = url.partition("://")[0].lower()
        if scheme not in _SCHEMES:
            raise ConfigError(
                f"'{redact(url)}': cannot publish to {scheme}; use {', '.join(_SCHEMES)}, or a file name.m3u8 for HLS"
            )
        return url, parse_address(url)
    path = as_path(url)
    assert path is not None
    if path.suffix.lower() != ".m3u8":
        raise ConfigError(f"'{url}': is no address to publish to; use {_SCHEMES[0]}://…, or a file name.m3u8 for HLS")
    return os.fspath(_made_folder(path)), None


def _made_folder(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{path.parent}: cannot be made ({error.strerror}); choose another folder") from error
    check_destination(None, path, overwrite=True)
    return path.absolute()
