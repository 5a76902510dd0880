"""What a file says about itself, and which of its streams is the picture.

Nothing here is trusted further than it must be: rate, duration and frame count come from headers that may lie, so
they are for display and for time estimates only.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition

from streamlight.errors import MediaError
from streamlight.media import color
from streamlight.media.frame import ColorSpec
from streamlight.media.orientation import exif_orientation, transposes
from streamlight.media.urls import as_path, libav_name, redact

# libav stays silent: a line of its own on the terminal would break progress bars, and a Python log callback can
# dead-lock with decoder threads. Errors still arrive, as exceptions.
av.logging.set_level(None)

_IMAGE_FORMATS = ("image2", "image2pipe")
_NOT_VIDEO_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "lavfi", "vobsub"}
"""Demuxers that make "video" of text and the like; a renamed text file must not come out as a picture."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a container, as its header describes it.

    Attributes:
        index: Position in the container.
        kind: ``"video"``, ``"audio"``, ``"subtitle"``, ``"data"`` or ``"attachment"``.
        codec: FFmpeg's name of the codec, or ``"unknown"``.
        time_base: Seconds per tick.
        start_pts: First presentation time in ticks, or None.
        duration: Seconds, or None.
        language: ISO 639-2 code, or None.
        dispositions: Names of the flags that are set (``"default"``, ``"attached_pic"``, …).
        metadata: Tags of the stream.
        details: What else is known: ``width``/``height`` or ``sample_rate``/``channels``.
        decodable: Whether this build has a decoder for it.
    """

    index: int
    kind: str
    codec: str
    time_base: Fraction | None
    start_pts: int | None
    duration: Fraction | None
    language: str | None
    dispositions: tuple[str, ...]
    metadata: dict[str, str]
    details: dict[str, int | str]
    decodable: bool


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter; ``start`` and ``end`` in seconds."""

    start: Fraction
    end: Fraction
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A media file and the video stream that was chosen from it.

    Attributes:
        url: The address that was opened, credentials redacted.
        container: FFmpeg's demuxer name, for example ``"mov,mp4,m4a,3gp,3g2,mj2"``.
        is_image: Whether this is a still image.
        stream_index: Index of the chosen video stream among ``streams``.
        streams: All streams of the container.
        codec: Codec of the chosen stream.
        pix_fmt: Pixel format the decoder gives (before any conversion).
        width: Luma samples per line of the delivered frames.
        height: Luma lines of the delivered frames.
        time_base: Seconds per tick of the chosen stream.
        start_pts: pts of the first frame of the stream in ticks (of the file, whatever ``window`` says).
        duration: Seconds as the header says, or None. Untrusted.
        average_rate: Frames per second as the header says, or None. Untrusted.
        frame_count: Frames as the header says, or None. Untrusted.
        sample_aspect: Width : height of one sample; 1 where the file says nothing.
        rotation: Degrees counter-clockwise that a player turns the picture by (-180…180), from the display matrix.
            Video frames are delivered unturned; still images are delivered upright, and this is 0.
        display_matrix: The nine integers of the display matrix (16.16 and 2.30 fixed point), or None.
        color: How the delivered planes are to be read.
        interlaced: Whether the first frame is flagged interlaced.
        orientation: EXIF orientation of a still image, 1…8, which its planes have been turned by (1: none).
        alpha: Whether the source has an alpha channel, which the planes leave out.
        hdr: Name of the HDR transfer of the source, or None.
        window: Time window in use, [start, end) in seconds on the container's own clock (None: open).
        metadata: Tags of the container.
        chapters: Chapters of the container.
    """

    url: str
    container: str
    is_image: bool
    stream_index: int
    streams: tuple[StreamInfo, ...]
    codec: str
    pix_fmt: str
    width: int
    height: int
    time_base: Fraction
    start_pts: int
    duration: Fraction | None
    average_rate: Fraction | None
    frame_count: int | None
    sample_aspect: Fraction
    rotation: int
    display_matrix: tuple[int, ...] | None
    color: ColorSpec
    interlaced: bool = False
    orientation: int = 1
    alpha: bool = False
    hdr: str | None = None
    window: tuple[Fraction | None, Fraction | None] = (None, None)
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()

    @property
    def start_time(self) -> Fraction:
        """Time of the first frame of the stream in seconds on the container's clock."""
        return self.start_pts * self.time_base

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON types; fractions become strings such as ``"1001/30000"``."""
        return dict(_jsonable(asdict(self)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


def open_container(url: str | PathLike[str]) -> InputContainer:
    """Open a media file with libavformat.

    Args:
        url: A file or a network address.

    Raises:
        MediaError: It does not exist, is empty, is a folder, or is no media file.
    """
    shown = redact(fspath(url))
    path = as_path(url)
    if path is not None:
        _check_file(path, shown)
    try:
        # Names are taken literally: no "%d" patterns. Tags in broken encodings must not stop the job.
        container = av.open(libav_name(url), metadata_errors="replace", options={"pattern_type": "none"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"cannot open '{shown}': {open_failure(error)}") from error
    # Missing timestamps are to be seen and counted, not invented by the demuxer.
    container.flags &= ~_GENPTS
    if container.format.name in _NOT_VIDEO_FORMATS:
        container.close()
        raise MediaError(f"cannot open '{shown}': it is not a video or image file")
    return container


_GENPTS = 0x0001  # AVFMT_FLAG_GENPTS, which PyAV always sets


def _check_file(path: Path, shown: str) -> None:
    try:
        if path.is_dir():
            raise MediaError(f"'{shown}' is a folder; give a video or image file")
        if not path.exists():
            raise MediaError(f"'{shown}' does not exist")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"'{shown}' is empty (0 bytes)")
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot open '{shown}': {getattr(error, 'strerror', None) or error}") from error


def open_failure(error: Exception) -> str:
    """A short reason for a libav error, without the file name that libav repeats."""
    if isinstance(error, av.error.InvalidDataError):
        return "it is not a media file, or its header is damaged"
    if isinstance(error, EOFError):
        return "it is cut off: its header or index is missing"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return redact(text)


def choose_video(container: InputContainer, url: str | PathLike[str]) -> Any:
    """The video stream to work on: default disposition first, then the largest picture, then the first.

    Cover art and thumbnails are no video.

    Raises:
        MediaError: There is none, or none that can be decoded.
    """
    shown = redact(fspath(url))
    hidden = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [s for s in container.streams.video if not s.disposition & hidden]
    usable = [s for s in videos if s.codec_context is not None]
    if not usable:
        if videos:
            raise MediaError(f"'{shown}': there is no decoder for its video stream in this build of FFmpeg")
        what = "sound" if container.streams.audio else "no picture"
        cover = " and cover art" if container.streams.video else ""
        raise MediaError(f"'{shown}' holds no video ({what}{cover} only); give a file with a video stream")

    def rank(stream: Any) -> tuple[bool, int, int]:
        context = stream.codec_context
        area = (context.width or 0) * (context.height or 0)
        return bool(stream.disposition & Disposition.default) and area > 0, area, -stream.index

    return max(usable, key=rank)


def describe(container: InputContainer, stream: Any, url: str | PathLike[str]) -> SourceInfo:
    """What the header alone says about the container and its chosen video stream."""
    context = stream.codec_context
    layout = color.pixel_layout(context.format) if context.format else color.PixelLayout("yuv420p", 8, "420")
    tags = color.tags_of(context)
    return SourceInfo(
        url=redact(fspath(url)),
        container=container.format.name,
        is_image=is_image_format(container.format.name),
        stream_index=stream.index,
        streams=tuple(_describe_stream(s) for s in container.streams),
        codec=context.codec.canonical_name,
        pix_fmt=context.pix_fmt or "unknown",
        width=context.width,
        height=context.height,
        time_base=stream.time_base,
        start_pts=stream.start_time or 0,
        duration=_duration(container, stream),
        average_rate=_positive(stream.average_rate) or _positive(stream.guessed_rate),
        frame_count=stream.frames or None,
        sample_aspect=_positive(stream.sample_aspect_ratio) or _positive(context.sample_aspect_ratio) or Fraction(1),
        rotation=0,
        display_matrix=None,
        color=color.color_spec(layout, tags, context.height),
        alpha=layout.alpha,
        hdr=color.HDR_TRANSFERS.get(tags[3]),
        metadata=dict(container.metadata),
        chapters=tuple(_chapter(entry) for entry in container.chapters()),
    )


def refine(info: SourceInfo, frame: Any, path: Path | None = None) -> SourceInfo:
    """``info`` with what the first decoded ``av.VideoFrame`` knows better than the header.

    Args:
        info: From :func:`describe`.
        frame: The first ``av.VideoFrame`` of the stream.
        path: The file, to read the EXIF orientation of a still image from.
    """
    layout = color.pixel_layout(frame.format)
    stream_tags = info.color.tags if not layout.rgb else (2, 0, *info.color.tags[2:])
    tags = color.merge_tags(color.tags_of(frame), stream_tags)
    orientation = exif_orientation(path) if info.is_image and path is not None else 1
    turned = transposes(orientation)
    return replace(
        info,
        pix_fmt=frame.format.name,
        width=frame.height if turned else frame.width,
        height=frame.width if turned else frame.height,
        start_pts=info.start_pts if frame.pts is None else frame.pts,
        sample_aspect=1 / info.sample_aspect if turned else info.sample_aspect,
        rotation=0 if info.is_image else int(frame.rotation),
        display_matrix=None if info.is_image else display_matrix(frame),
        orientation=orientation,
        color=color.color_spec(layout, tags, frame.height),
        interlaced=bool(frame.interlaced_frame),
        alpha=layout.alpha,
        hdr=color.HDR_TRANSFERS.get(tags[3]),
    )


def display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The display matrix of a decoded frame as nine signed integers, or None."""
    try:
        # Not ``frame.side_data``: that ties the picture into a reference cycle, and every new connection to a camera
        # would keep one until the garbage collector comes by, which in a large process is next to never.
        for data in SideDataContainer(frame):  # type: ignore[call-arg]
            if data.type.name == "DISPLAYMATRIX":
                return tuple(int(value) for value in np.frombuffer(bytes(data), np.int32, 9))
    except ValueError:  # PyAV has no name for some other side data of this frame; rotation is all that is left
        if frame.rotation:
            return rotation_matrix(int(frame.rotation))
    return None


def rotation_matrix(degrees: int) -> tuple[int, ...]:
    """The display matrix that turns a picture counter-clockwise, as FFmpeg's ``av_display_rotation_get`` counts."""
    angle = math.radians(degrees)
    cosine, sine = round(math.cos(angle) * 65536), round(math.sin(angle) * 65536)
    return cosine, -sine, 0, sine, cosine, 0, 0, 0, 1 << 30


def is_image_format(name: str) -> bool:
    """Whether a demuxer name is that of a still-image format."""
    return name in _IMAGE_FORMATS or name.endswith("_pipe")


def _describe_stream(stream: Any) -> StreamInfo:
    context = stream.codec_context
    details: dict[str, int | str] = {}
    if context is not None and stream.type == "video":
        details = {"width": context.width, "height": context.height, "pix_fmt": context.pix_fmt or "unknown"}
    elif context is not None and stream.type == "audio":
        details = {"sample_rate": context.sample_rate or 0, "channels": context.channels or 0}
    time_base = _positive(stream.time_base)
    duration = stream.duration * time_base if stream.duration and time_base else _tagged_duration(stream.metadata)
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else "unknown",
        time_base=time_base,
        start_pts=stream.start_time,
        duration=duration,
        language=stream.language,
        dispositions=tuple(flag.name for flag in Disposition if flag.name and stream.disposition & flag),
        metadata=dict(stream.metadata),
        details=details,
        decodable=context is not None,
    )


def _chapter(entry: Any) -> Chapter:
    base = _positive(entry["time_base"]) or Fraction(1)
    return Chapter(entry["start"] * base, entry["end"] * base, dict(entry["metadata"]))


def _tagged_duration(metadata: dict[str, str]) -> Fraction | None:
    """Seconds in Matroska's per-track tag ``DURATION`` (``00:01:02.500000000``), or None."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", metadata.get("DURATION", "").strip())
    return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3]) if found else None


def _duration(container: InputContainer, stream: Any) -> Fraction | None:
    own = _describe_stream(stream).duration
    if own and own > 0:
        return own
    if container.duration and container.duration > 0:
        return Fraction(container.duration, av.time_base)
    return None


def _positive(value: Any) -> Fraction | None:
    """A rational from PyAV as a Fraction, or None where it is unset."""
    return Fraction(value) if value is not None and value > 0 else None
