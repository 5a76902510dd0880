"""Joining closed segments and the source's other streams into the output file."""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from streamlight.errors import MediaError
from streamlight.media import carry, codecs, containers, readback
from streamlight.media.avi import FrameGrid
from streamlight.media.carry import CarriedStream, NotCarried
from streamlight.media.destination import check_destination, disk_errors, partial_path, publish
from streamlight.media.matroska import write_display_size
from streamlight.media.probing import SourceInfo, open_container
from streamlight.media.segments import CodedPacket, SegmentInfo, SegmentReader, decoding_times
from streamlight.media.timeline import Clock, Window, cut_chapters

_ORDER_UNITS = 1_000_000_000  # interleaving compares whole nanoseconds
_NO_EARLY = ("matroska", "webm", "avi")  # a packet that reaches over the start of a window would move the others
_WARM_UP = Fraction(6, 100)


@dataclass(slots=True)
class JoinReport:
    """What the output holds, and what it does not.

    Attributes:
        path: The finished file.
        container: libavformat's muxer name.
        frames: Video packets written.
        carried: Streams of the source that were copied.
        not_carried: Streams, chapters and tags that were not, with the reason.
        shift: Seconds added to every time of every stream: the trim, and what the container demands.
        time_base: Of the video stream in the file.
        time_error: Largest rounding of a video time, in seconds; 0 means exact.
        losses: Other losses, in words (encoder's, container's).
        fallbacks: Encoders that did not open, from the plan.
    """

    path: Path
    container: str
    frames: int = 0
    carried: list[CarriedStream] = field(default_factory=list)
    not_carried: list[NotCarried] = field(default_factory=list)
    shift: Fraction = Fraction(0)
    time_base: Fraction = Fraction(0)
    time_error: Fraction = Fraction(0)
    losses: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)


def join(
    segments: Sequence[SegmentInfo],
    source: str | os.PathLike[str] | None,
    destination: str | os.PathLike[str],
    *,
    info: SourceInfo | None = None,
    window: Window | None = None,
    overwrite: bool = False,
    pixels_turned: bool = False,
    metadata: dict[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> JoinReport:
    """Write the output file: all video packets of the segments, and all other streams of the source as they are.

    The file appears under its name in one step when it is complete. Calling again after an interruption starts the
    join anew and gives the same file.

    Args:
        segments: In order of time, each as `SegmentWriter.close` returned it.
        source: Where the other streams, chapters and tags come from; ``None`` for video alone.
        destination: Output file; its suffix decides the container.
        info: What `probe` said of the source: chosen stream, rotation, window.
        window: Part of the source's clock that is wanted; ``None`` takes ``info.window``. With a start, the first
            frame comes to lie at 0 and every other stream is shifted by the same exact amount.
        overwrite: Whether an existing file is replaced.
        pixels_turned: The frames were turned already; write no rotation.
        metadata: Container tags to add or replace.
        progress: Called with the number of video packets written so far, now and then; may raise to stop.

    Raises:
        MediaError: A segment is missing or damaged, segments overlap, or the file cannot be written.
        ConfigError: The container cannot hold the codec.
    """
    target = Path(destination)
    check_destination(source, target, overwrite=overwrite)
    _check_segments(segments)
    codecs.check_codec(segments[0].codec, target)
    if window is None:
        window = Window(*info.window) if info is not None else Window()
    partial = partial_path(target)
    job = _Join(segments, target, info, window, metadata or {}, progress, pixels_turned)
    try:
        with contextlib.ExitStack() as stack:
            container = None if source is None else stack.enter_context(open_container(source))
            with disk_errors(target):
                job.write(container, source, partial)
        publish(partial, target, overwrite=overwrite)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, av.FFmpegError):  # damaged streams can hold packets that no writer takes
            raise MediaError(
                f"{target.name}: the {job.muxer} writer refuses a packet of the source's other streams "
                f"({error.strerror}); try another container"
            ) from error
        raise
    return job.report


def _check_segments(segments: Sequence[SegmentInfo]) -> None:
    if not segments:
        raise MediaError("nothing to join: there is no segment")
    for before, after in itertools.pairwise(segments):
        if after.first_pts <= before.last_pts or after.time_base != before.time_base:
            raise MediaError(f"segments {before.path.name} and {after.path.name} overlap or differ in time base")
        if after.encoder != before.encoder:
            raise MediaError(
                f"segments {before.path.name} and {after.path.name} come from different encoders "
                f"({before.encoder}, {after.encoder}); run without --resume"
            )


class _Join:
    """One join: the state that its steps share."""

    def __init__(
        self,
        segments: Sequence[SegmentInfo],
        target: Path,
        info: SourceInfo | None,
        window: Window,
        metadata: dict[str, str],
        progress: Callable[[int], None] | None,
        pixels_turned: bool,
    ) -> None:
        self.segments, self.info, self.window = segments, info, window
        self.metadata, self.progress, self.pixels_turned = metadata, progress, pixels_turned
        self.muxer = codecs.muxer_for(target)
        self.header = SegmentReader(segments[0].path)
        self.report = JoinReport(path=target, container=self.muxer)
        self.report.losses.extend(segments[0].losses)
        self.report.fallbacks.extend(segments[0].fallbacks)
        captions = sum(segment.captions for segment in segments)
        if captions and segments[0].encoder not in codecs.CAPTION_ENCODERS:
            self.report.losses.append(
                f"closed captions of {captions} frames: {segments[0].encoder} does not write them"
            )
        self.depth = max(segment.reorder for segment in segments)
        first = segments[0]
        self.step = (
            first.last_duration if first.frames == 1 else (first.last_pts - first.first_pts) // (first.frames - 1)
        )
        self.step = max(1, self.step)
        self.origin = first.first_pts * first.time_base if window.start is not None else Fraction(0)
        self.grid: FrameGrid | None = None
        self.clocks: dict[int, Clock] = {}
        self.source_tags: dict[str, str] = {}

    # -- setting up ------------------------------------------------------------------------------------------------

    def write(self, source: Any, address: str | os.PathLike[str] | None, partial: Path) -> None:
        """Write the whole file under its temporary name."""
        if source is not None:
            self.source_tags = dict(source.metadata)
        streams = self._plan(source)
        covers = carry.read_covers(address, [s for s in streams if carry.is_cover(s)])
        base, first = self.segments[0].time_base, self.segments[0].first_pts
        earliest = (first - self.depth * self.step if self.muxer == "mpegts" else first) * base
        self.report.shift, extra = containers.shift(
            self.muxer, earliest, streams, origin=self.origin if self.window.start is not None else None
        )
        if extra:
            self.report.losses.append(
                f"all streams start {float(extra):g} s later: {self.muxer} cannot express times before 0"
            )
        if self.muxer == "avi":
            self.grid = FrameGrid.measure(self._source_times(), self.segments[0].time_base)
            self.report.losses.extend(self.grid.losses)
        options = containers.options(self.muxer, base, streams, self._container_tags())
        with av.open(
            str(partial), "w", format=self.muxer, container_options=options, metadata_errors="replace"
        ) as output:
            video = self._add_video(output, source)
            outputs = {s.index: self._add(output, s, covers.get(s.index)) for s in streams}
            self._tag(output, source)
            expected = readback.Expected.of(output, video)
            output.start_encoding()
            self._prepare_clocks(video, outputs, source)
            self._mux_all(output, video, outputs, source, covers)
        if self.muxer in ("matroska", "webm"):
            self._fix_display_size(partial)
        self.report.not_carried.extend(readback.compare(partial, expected))

    def _plan(self, source: Any) -> list[Any]:
        """Streams that travel; the others are named in the report."""
        streams = []
        chosen = self._chosen_index(source)
        for stream in source.streams if source is not None else ():
            if stream.index == chosen:
                continue
            reason = carry.obstacle(stream, self.muxer)
            if reason is None:
                streams.append(stream)
            else:
                self.report.not_carried.append(NotCarried(carry.name_of(stream), reason))
        return streams

    def _chosen_index(self, source: Any) -> int:
        if self.info is not None:
            return self.info.stream_index
        videos = [s.index for s in source.streams.video if not carry.is_cover(s)] if source is not None else []
        return videos[0] if videos else -1

    def _container_tags(self) -> dict[str, str]:
        tags = self.source_tags | self.metadata
        return {key: value for key, value in tags.items() if key.lower() not in carry.WRITER_TAGS}

    # -- streams ---------------------------------------------------------------------------------------------------

    def _add_video(self, output: Any, source: Any) -> Any:
        """The output's video stream, with the coded parameters of the segments and the tags of the source's stream."""
        header = self.header.header
        with av.open(io.BytesIO(self.header.template), format="matroska") as template:
            stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
        context = stream.codec_context
        context.extradata = self.header.extradata or None
        context.pix_fmt = header["pix_fmt"]
        aspect = Fraction(header["sample_aspect"])
        if aspect > 0:
            context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = header["tags"]
        context.framerate = Fraction(header["rate"])
        if self.segments[0].codec == "hevc" and self.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # QuickTime refuses hev1
        stream.time_base = self.grid.time_base if self.grid is not None else self.segments[0].time_base
        if self.info is not None and self.info.rotation and not self.pixels_turned:
            self._write_rotation(stream)
        if source is not None and 0 <= self._chosen_index(source) < len(source.streams):
            carry.copy_tags(source.streams[self._chosen_index(source)], stream, self.muxer)
        return stream

    def _write_rotation(self, stream: Any) -> None:
        assert self.info is not None
        if not keeps_rotation(self.report.path):
            self.report.losses.append(
                f"rotation by {self.info.rotation} degrees: {self.muxer} cannot express it, the pixels are not turned"
            )
        elif self.info.display_matrix is not None:
            stream.set_display_matrix(self.info.display_matrix)
        else:
            stream.set_display_rotation(self.info.rotation)

    def _add(self, output: Any, stream: Any, cover: bytes | None) -> Any:
        added = carry.add_carried(output, stream, self.muxer, cover=cover)
        kind = "cover" if carry.is_cover(stream) else stream.type
        language = stream.metadata.get("language")
        self.report.carried.append(CarriedStream(stream.index, kind, carry.codec_name(stream), language))
        return added

    def _tag(self, output: Any, source: Any) -> None:
        if source is not None:
            chapters = cut_chapters(source.chapters(), self.window, self.origin, self.report.shift)
            if chapters:
                output.set_chapters(chapters)
        output.metadata.update(self._container_tags())

    # -- packets ---------------------------------------------------------------------------------------------------

    def _prepare_clocks(self, video: Any, outputs: dict[int, Any], source: Any) -> None:
        shift = self.report.shift
        loose = self.muxer in ("matroska", "webm")
        self.report.time_base = Fraction(video.time_base)
        base = self.segments[0].time_base if self.grid is None else self.grid.time_base
        self.video_clock = Clock(
            base, Fraction(video.time_base), shift if self.grid is None else Fraction(0), strict=True
        )
        for index, added in outputs.items():
            stream = source.streams[index]
            if stream.time_base and added.time_base:
                strict = not (loose and stream.type == "subtitle")
                self.clocks[index] = Clock(Fraction(stream.time_base), Fraction(added.time_base), shift, strict=strict)

    def _mux_all(self, output: Any, video: Any, outputs: dict[int, Any], source: Any, covers: dict[int, bytes]) -> None:
        carried = {entry.index: entry for entry in self.report.carried}
        live = {i: s for i, s in outputs.items() if carried[i].kind not in ("cover", "attachment")}
        for index, picture in covers.items():
            carried[index].packets = 1
            if self.muxer != "matroska":
                output.mux(carry.cover_packet(picture, outputs[index]))
        for index, entry in carried.items():
            if entry.kind == "attachment":
                entry.packets = 1 if index in outputs else 0
        lanes = [self._video_packets(video)]
        if live:
            lanes.append(self._carried_packets(source, live, carried))
        for _, index, packet in heapq.merge(*lanes, key=lambda item: item[0]):
            self._mux_one(output, packet, carried.get(index))
        self.report.time_error = self.video_clock.error if self.grid is None else self.grid.error
        for index, entry in carried.items():
            if index in self.clocks:
                entry.repaired = self.clocks[index].repaired

    def _mux_one(self, output: Any, packet: Packet[Any], entry: CarriedStream | None) -> None:
        if entry is None:
            output.mux_one(packet)
            self.report.frames += 1
            if self.progress is not None and self.report.frames % 100 == 0:
                self.progress(self.report.frames)
            return
        try:
            output.mux_one(packet)
            entry.packets += 1
        except (av.error.InvalidDataError, av.error.ArgumentError):
            entry.dropped += 1  # a damaged packet of the source; errors of the disk are raised

    def _source_times(self) -> Iterator[int]:
        """Presentation times of all frames, sorted, in the segments' time base."""
        for segment in self.segments:
            yield from sorted(packet.pts for packet in SegmentReader(segment.path).packets())

    def _coded(self) -> Iterator[CodedPacket]:
        for segment in self.segments:
            yield from SegmentReader(segment.path).packets()

    def _video_packets(self, video: Any) -> Iterator[tuple[int, int, Packet[Any]]]:
        """``(order, -1, packet)`` of the segments in decoding order."""
        times: Iterator[tuple[int, int]]
        first, step, depth = self.segments[0].first_pts, self.step, self.depth
        if self.grid is not None:
            grid = self.grid
            times = ((slot, slot) for slot in grid.slots(self._source_times()))
        else:
            times = decoding_times((p.pts for p in self._coded()), depth, first_pts=first, step=step)
        lead = self._lead()
        base = Fraction(video.time_base)
        left = sum(segment.frames for segment in self.segments)
        for coded, (pts, dts) in zip(self._coded(), times, strict=True):
            left -= 1
            duration = coded.duration if self.grid is None else 1
            if left == 0 and self.muxer in ("mp4", "mov"):
                # Sample durations are distances of decoding times there; their sum is to be the track's length.
                end = self.segments[-1].last_pts + self.segments[-1].last_duration
                duration = max(1, (end - first) - (dts - (first - depth * step)))
            packet: Packet[Any] = Packet(coded.data)
            packet.pts, packet.dts, packet.duration = self.video_clock.convert(pts, dts - lead, duration)
            packet.time_base, packet.is_keyframe, packet.stream = base, coded.key_frame, video
            yield _order(packet.dts, base), -1, packet

    def _lead(self) -> int:
        """Extra decoding delay in Matroska, which stores none: its first block must not be one before time 0."""
        return ceil(1 / self.segments[0].time_base) if self.muxer in ("matroska", "webm") else 0

    def _carried_packets(
        self, source: Any, live: dict[int, Any], carried: dict[int, CarriedStream]
    ) -> Iterator[tuple[int, int, Packet[Any]]]:
        """``(order, index, packet)`` of the source's other streams in file order."""
        bases = {index: Fraction(stream.time_base) for index, stream in live.items()}
        unseen = set(live)
        for packet in source.demux([source.streams[index] for index in live]):
            if packet.size == 0 and packet.dts is None:
                continue  # PyAV's end-of-stream mark
            index = packet.stream_index
            if not self._wanted(packet):
                carried[index].cut += 1
                continue
            if index in unseen:
                unseen.remove(index)
                self._name_late_start(carried[index], packet)
            times = self.clocks[index].convert(packet.pts, packet.dts, packet.duration)
            packet.pts, packet.dts, packet.duration = times
            packet.time_base, packet.stream = bases[index], live[index]
            yield _order(packet.dts, bases[index]), index, packet

    def _name_late_start(self, entry: CarriedStream, packet: Packet[Any]) -> None:
        """AVI has no times: a stream that starts after the picture is heard too early there, which must be said."""
        time = packet.pts if packet.pts is not None else packet.dts
        if self.grid is None or time is None:
            return
        late = time * packet.time_base - self.segments[0].first_pts * self.segments[0].time_base
        if late > Fraction(1, 50):
            what = f"{entry.kind} stream {entry.index} starts {float(late):g} s after the picture in the source"
            self.report.losses.append(f"{what}: AVI starts every stream at 0")

    def _wanted(self, packet: Packet[Any]) -> bool:
        """Whether a packet lies in the window, at least in part."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return True
        start = time * packet.time_base
        end = start + (packet.duration or 0) * packet.time_base
        if self.window.end is not None and start >= self.window.end:
            return False
        if self.window.start is not None and (end <= self.origin or (start < self.origin and self.muxer in _NO_EARLY)):
            return False
        # AVI starts every stream at 0: what lies before would push the rest back. Others would play what an edit list
        # of the source hides; only what a decoder needs to warm up (AAC priming) goes along.
        if self.muxer == "avi":
            return end + self.report.shift > 0
        return not (packet.is_discard and self.muxer not in ("mp4", "mov") and end <= self.origin - _WARM_UP)

    def _fix_display_size(self, partial: Path) -> None:
        aspect = Fraction(self.header.header["sample_aspect"])
        if aspect > 0 and aspect != 1:
            write_display_size(partial, aspect)  # if it cannot, reading back tells


def keeps_rotation(destination: str | os.PathLike[str]) -> bool:
    """Whether the container can say that a picture is to be turned; else the pipeline must turn the planes."""
    return codecs.muxer_for(Path(destination)) in ("mp4", "mov", "matroska")


def _order(dts: int, base: Fraction) -> int:
    return dts * base.numerator * _ORDER_UNITS // base.denominator
