"""Closed segments: what a job writes while it runs, and what the join reads.

A segment is a run of frames coded by a fresh encoder. It lies in a small file of our own, because no container tried
keeps what the join needs: NUT refines time bases, forgets durations and takes no ProRes; MP4/MOV turn durations into
differences of decoding times and rewrite H.264 packets; Matroska rounds to milliseconds. The file is

    b"STRLSEG1" | u32 header length | header (JSON) | template (a one-packet Matroska file, for the codec parameters)
    then per packet   u32 size | u8 flags | i64 pts | i64 duration | payload
    and at the end    u32 0xFFFFFFFF | u32 packet count | u32 CRC-32 of everything before

so pts, durations and bytes are exact for any time base and codec, a packet costs one ``write``, and a file without
its last 12 bytes is recognised as cut off. Decoding times are not stored: the join computes them.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import heapq
import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
from av.packet import Packet

from streamlight.errors import MediaError
from streamlight.media.destination import disk_errors
from streamlight.media.encode import EncoderPlan, configure, quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.nvenc import configure_device, device_layout, in_cuda_memory
from streamlight.media.packer import FramePacker

MAGIC = b"STRLSEG1"
_RECORD = struct.Struct("<IBqq")
_END = 0xFFFFFFFF
_KEY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """A closed segment, as the journal keeps it.

    Attributes:
        path: The file.
        frames: Packets in it, one per frame.
        first_pts, last_pts: In presentation order, units of ``time_base``.
        last_duration: Duration of the last frame; 0 when the source did not say.
        time_base: Seconds per unit.
        codec, encoder: Product's and libavcodec's names.
        reorder: How many packets decoding order runs ahead of presentation order (B-frames).
        captions: Frames whose closed captions were handed to the encoder.
        size: Bytes of the file.
        crc: CRC-32 stored at its end.
        losses, fallbacks: From the encoder's plan.
    """

    path: Path
    frames: int
    first_pts: int
    last_pts: int
    last_duration: int
    time_base: Fraction
    codec: str
    encoder: str
    reorder: int
    captions: int = 0
    size: int = 0
    crc: int = 0
    losses: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a journal; the path by its name alone, so that a folder can be moved."""
        data = dataclasses.asdict(self)
        return data | {
            "path": self.path.name,
            "time_base": str(self.time_base),
            "losses": list(self.losses),
            "fallbacks": list(self.fallbacks),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], folder: Path) -> SegmentInfo:
        """The inverse of `to_json`, with the folder the segments lie in."""
        return cls(
            **(
                data
                | {
                    "path": folder / data["path"],
                    "time_base": Fraction(data["time_base"]),
                    "losses": tuple(data["losses"]),
                    "fallbacks": tuple(data["fallbacks"]),
                }
            )
        )


class EncoderClock:
    """The times an encoder gets: from 0 and not finer than a microsecond, each mapped back to the exact pts.

    libvpx counts in tenths of microseconds and others in 32 bits; finer or larger times come back changed.

    Attributes:
        time_base: Of the encoder.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._source = time_base
        self.time_base = max(time_base, Fraction(1, 1_000_000))
        self._first: int | None = None
        self._last = -1
        self._exact: dict[int, int] = {}

    def stamp(self, pts: int) -> int:
        """The encoder's time for a frame; strictly increasing."""
        if self._first is None:
            self._first = pts
        stamp = pts - self._first
        if self.time_base != self._source:
            stamp = round(stamp * self._source / self.time_base)
        self._last = max(stamp, self._last + 1)
        self._exact[self._last] = pts
        return self._last

    def original(self, stamp: int | None) -> int:
        """The pts that a packet's time stands for.

        Raises:
            MediaError: The encoder made up a time.
        """
        try:
            return self._exact.pop(-1 if stamp is None else stamp)
        except KeyError:
            raise MediaError(f"the encoder gave a packet at {stamp}, where no frame was") from None


class SegmentWriter:
    """Encodes frames into one closed segment. A context manager: leaving it by an error deletes the file.

    Frames may come with planes on a card (see :mod:`streamlight.media.nvenc`). Where the plan's encoder is on a card,
    too, the first frame decides whether it reads them there.

    Args:
        path: File to write; replaced if it exists.
        plan: From `encode.plan_encoder`; the same for all segments of a job.

    Raises:
        MediaError: The encoder does not open, or the file cannot be written (no space, no permission).
    """

    def __init__(self, path: str | os.PathLike[str], plan: EncoderPlan) -> None:
        self.path = Path(path)
        self.plan = plan
        self._packer = FramePacker(plan)
        self._pts: list[int] = []  # presentation order; one segment's worth
        self._last_duration = 0
        self._coded_pts: list[int] = []
        self._clock = EncoderClock(plan.time_base)
        self._durations: dict[int, int] = {}
        self._crc = 0
        self._closed = False
        with disk_errors(self.path), quiet_libav():
            # Matroska in memory holds every codec: it gives the join its template stream and the encoder its flags.
            self._template_bytes = io.BytesIO()
            self._template = av.open(
                self._template_bytes, "w", format="matroska", container_options={"fflags": "+bitexact"}
            )
            stream: Any = self._template.add_stream(plan.encoder, rate=plan.rate)
            self._stream = stream
            self._waits = device_layout(plan) is not None
            if not self._waits:
                self._open(None)
            self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115 -- lives as long as the writer

    def _open(self, layout: str | None) -> None:
        """Set the encoder up, for pictures on a card if they are in a ``layout`` there."""
        context, plan = self._stream.codec_context, dataclasses.replace(self.plan, time_base=self._clock.time_base)
        self._packer.on_card = layout is not None
        try:
            if layout is not None:
                configure_device(context, plan, layout)  # opens with the first picture, whose pool it needs
                return
            configure(context, plan)
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"encoder {plan.encoder} does not open for {plan.pix_fmt}: {error}") from error

    def write(self, frame: Frame) -> None:
        """Encode one frame. Frames come in presentation order.

        Raises:
            MediaError: pts do not increase, the frame does not fit the plan, or the file cannot be written.
        """
        if self._pts and frame.pts <= self._pts[-1]:
            raise MediaError(
                f"frame {frame.index}: pts {frame.pts} does not follow {self._pts[-1]}; frames must come in order"
            )
        if self._waits:
            self._waits = False
            with quiet_libav():
                self._open(device_layout(self.plan) if in_cuda_memory(frame.planes) else None)
        picture = self._packer.pack(frame)
        picture.pts, picture.time_base = self._clock.stamp(frame.pts), self._clock.time_base
        picture.duration = 0  # the file keeps it; encoders only guess rates from it
        self._pts.append(frame.pts)
        self._durations[frame.pts] = frame.duration
        self._encode(picture)
        self._last_duration = frame.duration

    def close(self) -> SegmentInfo:
        """Flush the encoder, finish the file, and make it durable (fsync).

        Raises:
            MediaError: No frame was written, the encoder lost frames, or the file cannot be written.
        """
        if not self._pts:
            self.abort()
            raise MediaError(f"{self.path.name}: a segment needs at least one frame")
        self._encode(None)
        if sorted(self._coded_pts) != self._pts:
            missing = len(set(self._pts) - set(self._coded_pts))
            self.abort()
            raise MediaError(
                f"encoder {self.plan.encoder} gave {len(self._coded_pts)} packets for {len(self._pts)} frames "
                f"({missing} times missing); try another --codec or --hardware off"
            )
        with disk_errors(self.path):
            self._put(struct.pack("<II", _END, len(self._coded_pts)))
            self._file.write(struct.pack("<I", self._crc))
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
        self._release()
        return SegmentInfo(
            path=self.path,
            frames=len(self._pts),
            first_pts=self._pts[0],
            last_pts=self._pts[-1],
            last_duration=self._last_duration,
            time_base=self.plan.time_base,
            codec=self.plan.codec,
            encoder=self.plan.encoder,
            reorder=reorder_depth(self._coded_pts),
            captions=self._packer.captions,
            size=size,
            crc=self._crc,
            losses=self.plan.losses,
            fallbacks=self.plan.fallbacks,
        )

    def abort(self) -> None:
        """Drop the segment: close everything and delete the file. Harmless after `close`."""
        if not self._closed:
            with contextlib.suppress(OSError):  # a full disk refuses the rest of the buffer too
                self._release()
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _release(self) -> None:
        self._closed = True
        self._file.close()

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(picture)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"encoder {self.plan.encoder} failed: {error}") from error
        for packet in packets:
            self._write_packet(packet)

    def _write_packet(self, packet: Packet[Any]) -> None:
        with disk_errors(self.path):
            if not self._coded_pts:
                self._write_header(packet)
            pts = self._clock.original(packet.pts)
            duration = self._durations.pop(pts, 0)
            self._put(_RECORD.pack(packet.size, _KEY if packet.is_keyframe else 0, pts, duration))
            self._put(bytes(packet))
            self._coded_pts.append(pts)

    def _write_header(self, first: Packet[Any]) -> None:
        context = self._stream.codec_context
        copy = Packet(bytes(first))
        copy.pts = copy.dts = 0
        copy.time_base, copy.is_keyframe, copy.stream = first.time_base, True, self._stream
        self._template.mux(copy)
        self._template.close()
        template = self._template_bytes.getvalue()
        header = {
            "codec": self.plan.codec,
            "encoder": self.plan.encoder,
            "pix_fmt": self.plan.pix_fmt,
            "time_base": str(self.plan.time_base),
            "rate": str(self.plan.rate),
            "sample_aspect": str(self.plan.sample_aspect),
            "tags": [int(context.colorspace), int(context.color_range), *self.plan.tags[2:]],
            "extradata": base64.b64encode(context.extradata or b"").decode(),
            "template": len(template),
        }
        text = json.dumps(header, sort_keys=True).encode()
        self._put(MAGIC + struct.pack("<I", len(text)) + text + template)

    def _put(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)


@dataclass(frozen=True, slots=True)
class CodedPacket:
    """One packet of a segment: exact times in the segment's time base, in decoding order."""

    pts: int
    duration: int
    key_frame: bool
    data: bytes


class SegmentReader:
    """Reads a closed segment packet by packet.

    Attributes:
        header: Codec parameters as a dictionary (see `SegmentWriter`).
        time_base: Of all times.

    Raises:
        MediaError: The file is missing, cut off or not a segment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                front = file.read(len(MAGIC) + 4)
                if front[: len(MAGIC)] != MAGIC:
                    raise MediaError(f"{path.name}: not a segment of streamlight")
                (length,) = struct.unpack("<I", front[len(MAGIC) :])
                text = file.read(length)
                self.header: dict[str, Any] = json.loads(text)
                self.template = file.read(self.header["template"])
                self._start = file.tell()
        except (OSError, ValueError, struct.error, KeyError) as error:
            raise MediaError(f"{path.name}: the segment cannot be read ({error}); run without --resume") from error
        self._crc = zlib.crc32(front + text + self.template)
        self.time_base = Fraction(self.header["time_base"])
        self.extradata = base64.b64decode(self.header["extradata"])

    def packets(self) -> Iterator[CodedPacket]:
        """All packets in decoding order.

        Raises:
            MediaError: The file ends before its end mark, or its checksum is wrong.
        """
        damaged = MediaError(f"{self.path.name}: the segment is cut off or damaged; run without --resume")
        crc, count = self._crc, 0
        with open(self.path, "rb") as file:
            file.seek(self._start)
            while True:
                mark = file.read(4)
                if mark == struct.pack("<I", _END):
                    tail = file.read(8)
                    if tail != struct.pack("<II", count, zlib.crc32(mark + tail[:4], crc)):
                        raise damaged
                    return
                record = mark + file.read(_RECORD.size - 4)
                if len(record) < _RECORD.size:
                    raise damaged
                size, flags, pts, duration = _RECORD.unpack(record)
                data = file.read(size)
                if len(data) < size:
                    raise damaged
                crc, count = zlib.crc32(data, zlib.crc32(record, crc)), count + 1
                yield CodedPacket(pts, duration, bool(flags & _KEY), data)


def verify_segment(info: SegmentInfo, *, deep: bool = False) -> bool:
    """Whether the file is the closed segment that the journal describes.

    Args:
        info: From the journal.
        deep: Also check the CRC over the whole content, not only size and end mark.
    """
    try:
        with open(info.path, "rb") as file:
            if os.fstat(file.fileno()).st_size != info.size or info.size < 12:
                return False
            file.seek(-12, os.SEEK_END)
            if struct.unpack("<III", file.read(12)) != (_END, info.frames, info.crc):
                return False
            if not deep:
                return True
            file.seek(0)
            crc, left = 0, info.size - 4
            while left:
                block = file.read(min(left, 1 << 20))
                crc, left = zlib.crc32(block, crc), left - len(block)
            return crc == info.crc
    except OSError:
        return False


def reorder_depth(coded_pts: list[int]) -> int:
    """The smallest delay that lets every packet be decoded before it is shown (libavcodec's ``has_b_frames``)."""
    rank = {pts: position for position, pts in enumerate(sorted(coded_pts))}
    return max((position - rank[pts] for position, pts in enumerate(coded_pts)), default=0)


def decoding_times(pts: Iterator[int], depth: int, *, first_pts: int, step: int) -> Iterator[tuple[int, int]]:
    """``(pts, dts)`` for packets in decoding order; dts is the sorted pts, ``depth`` packets late.

    Strictly increasing if pts are distinct, never above pts, and it needs ``depth + 1`` numbers of memory.

    Args:
        pts: In decoding order.
        depth: At least `reorder_depth` of every segment.
        first_pts: The smallest of all.
        step: Distance for the ``depth`` times before ``first_pts``, at least 1.
    """
    waiting: list[int] = []
    for position, value in enumerate(pts):
        heapq.heappush(waiting, value)
        yield value, first_pts - (depth - position) * step if position < depth else heapq.heappop(waiting)
