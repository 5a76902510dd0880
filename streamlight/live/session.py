"""Reading one connection after the other of the same source: pictures in, frames with the camera's one clock out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from streamlight.live.address import Address, demuxer_options
from streamlight.live.faults import Fault, silence
from streamlight.live.mailbox import Mailbox
from streamlight.live.options import CameraOptions
from streamlight.live.pacing import Backlog, Pacer
from streamlight.live.timeline import TICKS, TIME_BASE, Timeline
from streamlight.media.decode import Decoded
from streamlight.media.deinterlace import Deinterlacer, Stamped
from streamlight.media.live import LiveOptions, LiveStream, PictureFormat

NO_PICTURE = 20.0
"""Seconds of packets without a single picture after which the connection is given up: longer than key frames are
apart anywhere."""

_CLOCKLESS = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "image2pipe", "jpeg_pipe"})
"""Demuxers that make up timestamps from an assumed rate; for live sources arrival is the better clock."""
_RATE_SPAN = 5.0
_REPEATED = 30.0
"""Seconds that a source may go back at a new connection to what it sent before: as many as a playlist is long."""


@dataclass(slots=True)
class SessionCounts:
    """What was met while reading; see :class:`streamlight.live.camera_status.CameraStats`."""

    connections: int = 0
    pictures: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    format_changes: int = 0


class Session:
    """Reads a source, connection after connection, into a mailbox. For one thread; the counters are for all to see.

    Attributes:
        counts: Live counters over all connections.
        timeline: The camera's clock.
        format: Format of the frames; None before the first picture.
        packet_at: ``time.monotonic()`` when the last video packet of this connection was done with; None before it
            opened.
        frame_at: Likewise the last frame of all connections; None before the first one.
    """

    def __init__(
        self,
        address: Address,
        options: CameraOptions,
        mailbox: Mailbox,
        *,
        stop: threading.Event,
        on_frame: Callable[[], None],
    ) -> None:
        """Prepare; ``stop`` ends reading before the next packet, ``on_frame`` is called for every frame."""
        self._address, self._options, self._mailbox = address, options, mailbox
        self._stop, self._on_frame = stop, on_frame
        self._pacer = Pacer() if options.realtime or address.is_bursty else None
        self._backlog = Backlog() if address.is_live and self._pacer is None else None
        self._trusts_pts = True
        self.counts = SessionCounts()
        self.timeline = Timeline(judge_arrival=address.is_live)
        self.format: PictureFormat | None = None
        self.packet_at: float | None = None
        self.frame_at: float | None = None
        self._arrivals: deque[float] = deque(maxlen=256)
        self._reached: Fraction | None = None
        self._index = 0

    def read(self) -> Fault | None:
        """Connect and read to the end; returns why it ended, None if ``stop`` was set.

        Raises:
            MediaError: It cannot be opened, reading failed, or its pictures cannot be used.
        """
        self.packet_at = None
        with LiveStream(self._live_options(), keep_format=self._options.keep_size, known=self.format) as stream:
            self._begin(stream)
            try:
                fault = self._read_packets(stream)
            finally:
                if not self._stop.is_set():
                    self._flush(stream)
            if fault is None and not self._stop.is_set():
                fault = Fault("ended", f"'{self._address.shown}' ended the stream")
            return fault

    def _flush(self, stream: LiveStream) -> None:
        """Deliver the pictures that decoder and deinterlacer still hold: good ones, but no sign of life."""
        for decoded in stream.decode(None):
            if not self._deliver(stream, decoded, sign_of_life=False):
                return
        for item in self._deinterlacer.flush():
            if not self._leave(stream, item, sign_of_life=False):
                return

    def _live_options(self) -> LiveOptions:
        address, options = self._address, self._options
        timeout = max(options.open_timeout, options.read_timeout)
        return LiveOptions(
            url=address.url,
            format=address.format,
            options=demuxer_options(address, transport=options.transport, timeout=timeout, extra=options.libav_options),
            open_timeout=options.open_timeout,
            read_timeout=options.read_timeout,
            threads=options.decoder_threads,
        )

    def _begin(self, stream: LiveStream) -> None:
        """A connection was made."""
        self.packet_at = time.monotonic()
        self._fresh = True
        self._deinterlacer = Deinterlacer(self._options.deinterlace)
        self._trusts_pts = not (self._address.is_live and stream.demuxer in _CLOCKLESS)
        self.timeline.begin(stream.announced_rate)
        if self._backlog is not None:
            self._backlog.begin()

    def _read_packets(self, stream: LiveStream) -> Fault | None:
        """Until the end, a stop, or a silence of the video; the latter gives a fault."""
        picture_at = idle_from = time.monotonic()
        refused = self.counts.damaged_packets
        for packet in stream.packets():
            now = time.monotonic()
            if self._stop.is_set():
                return None
            if not stream.is_video(packet):
                # Sound that goes on keeps libav's own time-out from ever being due.
                if now - (self.packet_at or now) > self._options.read_timeout:
                    return Fault("timeout", f"'{self._address.shown}' sends no more pictures")
                continue
            # libav hands out what its parser still held when it gives up waiting: no sign of life.
            silent = now - idle_from >= self._options.read_timeout
            if not self._skips(stream, packet, waited=now - idle_from, now=now):
                pictures = stream.decode(packet)
                for decoded in pictures:
                    if not self._deliver(stream, decoded, sign_of_life=not silent):
                        return None
                # Only now: leaving a frame may have taken long.
                picture_at = time.monotonic() if pictures else picture_at
                self.counts.damaged_packets = refused + stream.counts.damaged_packets
            if silent:
                return silence(self._address)
            if now - picture_at > NO_PICTURE:
                return Fault("codec", f"'{self._address.shown}' sends video in which no picture can be decoded")
            idle_from = self.packet_at = time.monotonic()
        return None

    def _skips(self, stream: LiveStream, packet: Any, *, waited: float, now: float) -> bool:
        """Whether a packet is left undecoded because decoding is behind the camera."""
        backlog = self._backlog
        if backlog is None:
            return False
        seconds = float(packet.pts * stream.time_base) if packet.pts is not None and self._trusts_pts else None
        was_skipping = backlog.skipping
        if backlog.skips(seconds, key=packet.is_keyframe, waited=waited, now=now):
            self._mailbox.refuse("behind")
            return True
        if was_skipping:
            stream.restart_decoder()
        return False

    def _deliver(self, stream: LiveStream, decoded: Decoded, *, sign_of_life: bool = True) -> bool:
        """Take up a picture; False if ``stop`` was set while it was held back for its time."""
        if self._address.is_bursty and self._repeats(stream, decoded):
            self._mailbox.refuse("repeated")
            return True
        self._note_frame(decoded)
        pts = self._stamp(stream, decoded)
        if decoded.damaged and self._options.drop_damaged:
            self._mailbox.refuse("damaged")
            return True
        item = Stamped(decoded.picture, pts, decoded.picture.pts, decoded.arrival, decoded.damaged)
        return all(self._leave(stream, item, sign_of_life=sign_of_life) for item in self._deinterlacer.push(item))

    def _leave(self, stream: LiveStream, item: Stamped, *, sign_of_life: bool) -> bool:
        """Make a frame of a picture and leave it in the mailbox; see :meth:`_deliver`."""
        decoded = Decoded(item.picture, item.arrival, item.damaged)
        frame = stream.frame(decoded, pts=item.pts, time_base=TIME_BASE, index=self._index)
        self._index += 1
        if stream.format is not self.format:
            self.counts.format_changes += self.format is not None and not self._same_format(stream.format)
            self.format = stream.format
        if self._pacer is not None:
            if not self._pacer.wait(float(frame.seconds), self._stop):
                self._mailbox.refuse("closed")
                return False
            frame.arrival = time.monotonic()  # it was there before, but only now it is its time
        self._mailbox.put(frame)
        if sign_of_life:
            self._on_frame()
        return True

    def _repeats(self, stream: LiveStream, decoded: Decoded) -> bool:
        """Whether an earlier connection gave this picture: a playlist is there, unchanged, when its source is not."""
        if decoded.picture.pts is None:
            return False
        seconds: Fraction = decoded.picture.pts * stream.time_base
        if self._fresh and self._reached is not None and 0 <= self._reached - seconds < _REPEATED:
            return True
        self._reached = seconds
        return False

    def _stamp(self, stream: LiveStream, decoded: Decoded) -> int:
        picture, arrival = decoded.picture, decoded.arrival
        if not self._trusts_pts:
            return self.timeline.stamp(round(arrival * TICKS), TIME_BASE, arrival)
        pts = picture.pts if picture.pts is not None else picture.dts
        return self.timeline.stamp(pts, stream.time_base, arrival)

    def _note_frame(self, decoded: Decoded) -> None:
        if self._fresh:
            self._fresh = False
            self.counts.connections += 1
        self.counts.pictures += 1
        self.counts.damaged_frames += decoded.damaged
        self.frame_at = decoded.arrival
        self._arrivals.append(decoded.arrival)

    def _same_format(self, other: PictureFormat | None) -> bool:
        mine = self.format
        if mine is None or other is None:
            return False
        return all(getattr(mine.info, k) == getattr(other.info, k) for k in ("width", "height", "pix_fmt", "color"))

    def rate(self) -> float:
        """Pictures per second over the last few seconds, from their number and span; gaps alone would deceive."""
        now = time.monotonic()
        recent = [at for at in tuple(self._arrivals) if now - at <= _RATE_SPAN]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 and now > recent[0] else 0.0
