"""Reading a live stream: packets, pictures and frames one by one, with time-outs; the caller decides what to skip.

A file is read as a whole and must not change (:mod:`streamlight.media.source`). A stream may change its size in the
middle, its end is no end, and what comes too late is better not decoded at all. Both make frames by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from streamlight.errors import MediaError
from streamlight.media import probing
from streamlight.media.decode import DecodeCounts, Decoded, Waiting
from streamlight.media.frame import Frame
from streamlight.media.planes import PlaneReader
from streamlight.media.probing import SourceInfo
from streamlight.media.urls import redact

if TYPE_CHECKING:
    from streamlight.media.tonemap import ToneMapper


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live stream is opened.

    Attributes:
        url: Address as libavformat takes it.
        format: Demuxer to use, or None to let libavformat tell.
        options: Options of demuxer and protocol.
        open_timeout: Seconds for connecting, and again for finding the streams; None waits for ever.
        read_timeout: Seconds for every read; None waits for ever.
        threads: Decoder threads. Several share the slices of one picture: no thread adds a picture of delay.
    """

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    open_timeout: float | None = 10.0
    read_timeout: float | None = 5.0
    threads: int = 1


class PictureFormat:
    """Turns pictures into planes of the size and format that one of them had. For one thread at a time.

    Attributes:
        info: The source as that picture shows it.
    """

    def __init__(self, header: SourceInfo, picture: Any) -> None:
        """Take size, format and colour from a picture (``av.VideoFrame``); HDR becomes SDR."""
        info = probing.refine(header, picture)
        self._reader = PlaneReader(picture, info.color)
        self._mapper: ToneMapper | None = None
        if info.hdr:
            from streamlight.media.tonemap import ToneMapper

            self._mapper = ToneMapper(picture, self._reader.spec)
        self.info = replace(info, color=(self._mapper or self._reader).spec)

    def differs(self, picture: Any) -> bool:
        """Whether a picture has another size, pixel format, matrix or range."""
        return self._reader.differs(picture)

    def planes(self, picture: Any) -> tuple[Any, ...]:
        """The picture's planes; converted if it differs."""
        if self._mapper is None:
            return self._reader.read(picture)
        return self._mapper.map(self._reader.conform(picture))


class LiveStream:
    """One connection to a live stream; a context manager, for one thread.

    Attributes:
        counts: Live counters.
        format: The format of the frames, once there was a picture.
    """

    def __init__(self, options: LiveOptions, *, keep_format: bool = False, known: PictureFormat | None = None) -> None:
        """Connect and find the video stream.

        Args:
            options: Where and how.
            keep_format: Convert all frames to one format, that of ``known`` or else of the first picture; otherwise
                the frames change as the stream does.
            known: Format of an earlier connection.

        Raises:
            MediaError: It cannot be opened, or has no video that this build decodes. libav's error is the cause.
        """
        self._options = options
        self._keep = keep_format
        self.format = known if keep_format else None
        self.counts = DecodeCounts()
        self._waiting = Waiting(self.counts)
        self._container = self._open()
        try:
            self._stream = probing.choose_video(self._container, options.url)
            context = self._stream.codec_context
            context.thread_count = options.threads
            context.thread_type = "SLICE" if options.threads > 1 else "NONE"
            self._header = probing.describe(self._container, self._stream, options.url)
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> Any:
        options = self._options
        try:
            return av.open(
                options.url, format=options.format, options=dict(options.options), metadata_errors="replace",
                timeout=(options.open_timeout, options.read_timeout),
            )  # fmt: skip
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"cannot open '{self.name}': {probing.open_failure(error)}") from error

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Say good-bye to the peer and release the decoder. Frames already delivered stay valid."""
        self._container.close()

    @property
    def name(self) -> str:
        """The address for messages, credentials redacted."""
        return redact(self._options.url)

    @property
    def demuxer(self) -> str:
        """Name of the container format, as libavformat has it."""
        return str(self._container.format.name)

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the pictures' pts."""
        return self._header.time_base

    @property
    def announced_rate(self) -> Fraction | None:
        """Pictures per second as the stream says; it may lie."""
        return self._header.average_rate

    def packets(self) -> Iterator[Any]:
        """Packets of all streams, as they come (see :meth:`is_video`); ends where the stream does.

        Raises:
            MediaError: Nothing came within the read time-out, or reading failed. libav's error is the cause.
        """
        reading = self._container.demux()
        try:
            for packet in reading:
                if packet.size:  # empty ones only ask to flush
                    yield packet
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"'{self.name}': {probing.open_failure(error)}") from error
        except IndexError:
            return  # PyAV's way to end when streams appeared that the header did not announce
        finally:
            reading.close()

    def is_video(self, packet: Any) -> bool:
        """Whether a packet belongs to the stream that is decoded."""
        return bool(packet.stream_index == self._stream.index)

    def decode(self, packet: Any | None) -> list[Decoded]:
        """The pictures that come out for a packet (None: for the end); none if it is damaged, which is counted."""
        if packet is not None:
            self.counts.packets += 1
            self._waiting.sent(packet)
        try:
            pictures = self._stream.codec_context.decode(packet)
        except EOFError:
            return []
        except av.error.FFmpegError:
            self.counts.damaged_packets += 1
            return []
        return [self._waiting.received(picture) for picture in pictures]

    def restart_decoder(self) -> None:
        """Forget the pictures that the decoder holds, before a key packet that does not follow the last one."""
        self._stream.codec_context.flush_buffers()

    def frame(self, decoded: Decoded, *, pts: int, time_base: Fraction, index: int) -> Frame:
        """A picture as a frame with the time that it is given.

        Its size and format are those of the picture, or the kept ones. ``notes["wall_clock"]`` holds the seconds
        since the epoch by the camera's clock, where that is known (RTSP: from RTCP sender reports).
        """
        picture = decoded.picture
        if self.format is None or (not self._keep and self.format.differs(picture)):
            self.format = PictureFormat(self._header, picture)
        frame = Frame(
            planes=self.format.planes(picture), color=self.format.info.color, pts=pts, time_base=time_base,
            duration=round(max(0, picture.duration) * self.time_base / time_base), index=index,
            key_frame=picture.key_frame, damaged=decoded.damaged, arrival=decoded.arrival, origin=picture,
        )  # fmt: skip
        wall = self._wall_clock(picture)
        if wall is not None:
            frame.notes["wall_clock"] = wall
        return frame

    def _wall_clock(self, picture: Any) -> float | None:
        zero = self._container.start_time_realtime
        if not zero or zero < 0 or picture.pts is None:
            return None
        return float(Fraction(zero, 1_000_000) + picture.pts * self.time_base)
