"""Which streams of a source can travel into a container as they are, and why others cannot."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet
from av.stream import Discard, Disposition

from streamlight.media.probing import open_container

_TS_CODECS = {
    *("mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "s302m"),
    *("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "cavs", "dirac"),
    *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "arib_caption"),
    *("klv", "timed_id3", "smpte_2038", "scte_35"),
}
"""What MPEG-TS has stream types for. libavformat takes anything, as private data nobody can read back."""

_COVER_MUXERS = ("mp4", "matroska")
_ATTACHMENT_MUXERS = ("matroska",)
_COVER_MIME = {"mjpeg": ("image/jpeg", "jpg"), "png": ("image/png", "png"), "bmp": ("image/bmp", "bmp")}


@dataclass(frozen=True, slots=True)
class NotCarried:
    """Something of the source that is not in the output.

    Attributes:
        what: The stream, chapter list or tag, in words (``"subtitle stream 3 (subrip, ger)"``).
        why: The reason.
    """

    what: str
    why: str


@dataclass(slots=True)
class CarriedStream:
    """A stream of the source that goes into the output packet by packet.

    Attributes:
        index: Its index in the source.
        kind: ``"audio"``, ``"subtitle"``, ``"video"``, ``"data"``, ``"attachment"`` or ``"cover"``.
        codec: FFmpeg's codec name.
        language: As tagged, or ``None``.
        packets: Written so far.
        repaired: Packets whose missing or backward decoding time was replaced.
        dropped: Packets the container refused.
        cut: Packets outside the wanted time window.
    """

    index: int
    kind: str
    codec: str
    language: str | None = None
    packets: int = 0
    repaired: int = 0
    dropped: int = 0
    cut: int = 0


def codec_name(stream: Any) -> str:
    """FFmpeg's codec name of any PyAV stream, also where this build has no decoder."""
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    if stream.type == "data":
        return stream.name or "unknown"
    return "unknown"


def name_of(stream: Any) -> str:
    """A stream in words: ``"audio stream 1 (aac, eng)"``."""
    language = stream.metadata.get("language")
    details = codec_name(stream) + (f", {language}" if language and language != "und" else "")
    if stream.type == "attachment":
        details = stream.metadata.get("filename", "unnamed")
    return f"{stream.type} stream {stream.index} ({details})"


def is_cover(stream: Any) -> bool:
    """Whether the stream is cover art: one picture, not a video."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def obstacle(stream: Any, muxer: str) -> str | None:
    """Why a stream cannot go into a container; ``None`` when it can.

    Asks libavformat by writing a header with that stream alone into memory: its tables answer "perhaps" too often.
    """
    if stream.type == "data" and stream.discard == Discard.all:
        return "it holds the chapter titles, which are written as chapters"
    if stream.type == "data" and codec_name(stream) == "unknown" and "timecode" in stream.metadata:
        return "the start time code travels as a tag"
    if stream.type == "attachment":
        return None if muxer in _ATTACHMENT_MUXERS else f"{_shown(muxer)} holds no attachments"
    if stream.type not in ("video", "audio", "subtitle", "data"):
        return "its type is unknown"
    if is_cover(stream):
        return _cover_obstacle(stream, muxer)
    if stream.codec_context is None and stream.type != "data":
        return "its codec is unknown to this build of FFmpeg"
    if muxer == "mpegts" and codec_name(stream) not in _TS_CODECS:
        return f"{_shown(muxer)} has no stream type for {codec_name(stream)}"
    if muxer == "avi" and stream.type in ("subtitle", "data"):
        return f"{_shown(muxer)} holds no {stream.type} streams"
    return _refused(stream, muxer)


def _cover_obstacle(stream: Any, muxer: str) -> str | None:
    if muxer not in _COVER_MUXERS:
        return f"{_shown(muxer)} holds no cover art"
    if codec_name(stream) not in _COVER_MIME:
        return f"{codec_name(stream)} pictures are not known as cover art"
    return None


def _refused(stream: Any, muxer: str) -> str | None:
    reason = f"{_shown(muxer)} cannot hold {codec_name(stream)} {stream.type}"
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return reason
    return None


def _shown(muxer: str) -> str:
    return {"matroska": "mkv", "mpegts": "MPEG-TS"}.get(muxer, muxer)


def add_carried(output: Any, stream: Any, muxer: str, *, cover: bytes | None = None) -> Any:
    """Add the output stream for a carried one, with its metadata and dispositions.

    Args:
        output: Open ``av`` output container.
        stream: Stream of the source; `obstacle` returned ``None`` for it.
        muxer: libavformat's muxer name.
        cover: The picture, for cover art in Matroska, where it is an attachment.

    Returns:
        The new stream. Attachments get no packets.
    """
    if cover is not None and muxer == "matroska":
        mime, suffix = _COVER_MIME[codec_name(stream)]
        return output.add_attachment(stream.metadata.get("filename", f"cover.{suffix}"), mime, cover)
    if stream.type == "attachment":
        added = output.add_attachment(
            stream.metadata.get("filename", "attachment"),
            stream.metadata.get("mimetype", "application/octet-stream"),
            stream.data,
        )
        added.metadata.update({k: v for k, v in stream.metadata.items() if k not in ("filename", "mimetype")})
        return added
    added = output.add_stream_from_template(stream, opaque=True)
    copy_tags(stream, added, muxer)
    return added


def copy_tags(stream: Any, added: Any, muxer: str) -> None:
    """Metadata and dispositions from one stream to another."""
    added.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() not in WRITER_TAGS})
    if muxer == "mov" and added.metadata.get("language") in _QUICKTIME_LANGUAGES:
        added.metadata["language"] = _QUICKTIME_LANGUAGES[added.metadata["language"]]
    added.disposition = stream.disposition


_QUICKTIME_LANGUAGES = {"fre": "fra", "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi"}
"""ISO 639-2 has two codes for some languages; libavformat's QuickTime table knows these."""

WRITER_TAGS = {
    *("encoder", "major_brand", "minor_version", "compatible_brands", "vendor_id", "duration"),
    *("bps", "number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_tags"),
    *("_statistics_writing_date_utc", "bps-eng", "duration-eng", "number_of_frames-eng", "number_of_bytes-eng"),
    *("_statistics_writing_app-eng", "_statistics_tags-eng", "_statistics_writing_date_utc-eng"),
}
"""Tags that describe the source file's own writing and would be wrong in another file."""


def read_covers(address: str | os.PathLike[str] | None, streams: list[Any]) -> dict[int, bytes]:
    """The pictures of cover-art streams by stream index; read apart, because headers need them before any packet."""
    found: dict[int, bytes] = {}
    if address is None or not streams:
        return found
    with open_container(address) as again:
        for packet in again.demux([again.streams[s.index] for s in streams]):
            if packet.size:
                found.setdefault(packet.stream_index, bytes(packet))
            if len(found) == len(streams):
                break
    return found


def cover_packet(picture: bytes, stream: Any) -> Packet[Any]:
    """The one packet of a cover-art stream."""
    packet: Packet[Any] = Packet(picture)
    packet.pts = packet.dts = 0
    packet.time_base, packet.is_keyframe, packet.stream = Fraction(stream.time_base), True, stream
    return packet
