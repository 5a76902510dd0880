"""Opening a video or image file and reading its frames.

Passive: decoding happens in the thread that iterates :meth:`Source.frames`; the engine brings the thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from os import PathLike, fspath
from typing import Any, Literal

import av

from streamlight.errors import ConfigError, MediaError
from streamlight.media import probing
from streamlight.media.frame import Frame
from streamlight.media.planes import PlaneReader
from streamlight.media.probing import SourceInfo
from streamlight.media.urls import redact

Deinterlace = Literal["auto", "off", "all"]


@dataclass(frozen=True, slots=True)
class Position:
    """The last frame that is done: its index in output order and its pts. Reading resumes behind it."""

    index: int
    pts: int


@dataclass(slots=True)
class SourceStats:
    """Live counters of one source. Only what lies behind the resume position and inside the window is counted.

    Attributes:
        packets: Packets read from the chosen stream.
        frames: Frames delivered.
        damaged_packets: Packets that the demuxer or the decoder refused; their pictures are missing or damaged.
        damaged_frames: Frames delivered although the decoder had to conceal errors in them.
        missing_pts: Frames without a pts in the file, whose pts was reconstructed.
        repaired_pts: Frames whose pts was not later than the one before, and was moved behind it.
        rescaled: Frames of another size, format or colour than the first, converted to it.
        deinterlaced: Frames that were deinterlaced.
        notes: Losses and oddities in words, for the report.
    """

    packets: int = 0
    frames: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    missing_pts: int = 0
    repaired_pts: int = 0
    rescaled: int = 0
    deinterlaced: int = 0
    notes: list[str] = field(default_factory=list)


class Source:
    """An open media file. Made by :func:`open_source`; a context manager; for one thread at a time."""

    def __init__(self, url: str | PathLike[str], info: SourceInfo, container: Any, stream: Any, limit: int) -> None:
        self.info = info
        self.stats = SourceStats()
        self._url = redact(fspath(url))
        self._container = container
        self._stream = stream
        self._limit = limit
        self._first: Any = None
        self._pictures = self._decode()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder. Frames already delivered stay valid."""
        self._pictures.close()
        self._container.close()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in presentation order.

        Raises:
            MediaError: Too many damaged packets in a row.
        """
        reader: PlaneReader | None = None
        index = 0
        start, end = self.info.window
        last: int | None = None
        base = self.info.time_base
        for picture, arrival in self._pictures:
            pts = picture.pts
            if pts is None:
                step = picture.duration or max(1, round(1 / ((self.info.average_rate or 25) * base)))
                pts = 0 if last is None else last + step
                self.stats.missing_pts += 1
            if last is not None and pts <= last:
                pts = last + 1
                self.stats.repaired_pts += 1
            last = pts
            if reader is None:
                reader = PlaneReader(picture, self.info.color)
            if start is not None and pts * base < start:
                continue
            if end is not None and pts * base >= end:
                break
            self.stats.rescaled += reader.differs(picture)
            self.stats.damaged_frames += picture.is_corrupt
            self.stats.frames += 1
            yield Frame(
                planes=reader.read(picture),
                color=self.info.color,
                pts=pts,
                time_base=base,
                duration=picture.duration,
                index=index,
                key_frame=picture.key_frame,
                damaged=picture.is_corrupt,
                arrival=arrival,
                origin=picture,
            )
            index += 1

    def _decode(self) -> Iterator[tuple[Any, float]]:
        run = 0
        for packet in self._container.demux(self._stream):
            arrival = time.monotonic()
            self.stats.packets += packet.size > 0
            try:
                pictures = packet.decode()
            except EOFError:
                break
            except av.error.FFmpegError as error:
                self.stats.damaged_packets += 1
                run += 1
                if run > self._limit:
                    raise MediaError(f"'{self._url}': {run} damaged packets in a row; giving up") from error
                continue
            for picture in pictures:
                run = 0
                yield picture, arrival


def open_source(
    url: str | PathLike[str],
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    tonemap: bool = False,
    max_damaged: int = 300,
    threads: int | None = None,
    resume: Position | None = None,
) -> Source:
    """Open a media file for reading frame by frame."""
    if end is not None and end <= (start or 0):
        raise ConfigError(f"end must lie behind start, got {start = !s}, {end = !s} seconds")
    container = probing.open_container(url)
    try:
        stream = probing.choose_video(container, url)
        info = probing.describe(container, stream, url)
        first = probing._first_frame(container, stream)
        if first is None:
            raise MediaError(f"'{redact(fspath(url))}': no picture can be decoded")
        info = probing.refine(info, first)
        container.close()
        container = probing.open_container(url)
        stream = container.streams[info.stream_index]
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads or min(os.cpu_count() or 1, 8)
        base = info.start_time
        window = (None if start is None else base + start, None if end is None else base + end)
        return Source(url, replace(info, window=window), container, stream, max_damaged)
    except BaseException:
        container.close()
        raise
