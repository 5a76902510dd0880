"""Starting in the middle of a file, only where that gives the same pictures as decoding from the beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

if TYPE_CHECKING:
    from streamlight.media.decode import Decoded, Pass

SEEKABLE_CODECS = frozenset(
    {"h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "prores", "dnxhd", "ffv1",
     "png", "rawvideo", "huffyuv", "ffvhuff", "utvideo"}
)  # fmt: skip
"""Codecs whose key packets make a decoder forget everything before; others are decoded from the beginning."""

LOOKAHEAD = 64
"""Packets later than the position that end a scan: more than any codec reorders by."""

WARM_UP = 3
"""Pictures that must come out up to the position: the deinterlacer looks at the two before."""


SEEK_TRIES = 4
"""Key packets, from the last usable one backwards, that seeking is tried with."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key packet: its place among the packets, its pts and its size."""

    number: int
    pts: int
    size: int


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a resumed pass starts, and what must come out first.

    Attributes:
        packet: The key packet, already read; goes to :meth:`Pass.pictures`.
        expected: pts of the pictures that must come out from that packet up to the position, in order.
    """

    packet: Any
    expected: tuple[int, ...]


class SeekingFailed(Exception):
    """Pictures behind a landing are not those that were expected; decode from the beginning."""


def land_before(decoding: Pass, pts: int) -> Any:
    """Seek to a key packet whose picture is shown at or before ``pts``.

    Args:
        decoding: A fresh pass; what is read from it afterwards follows the returned packet.
        pts: Presentation time in the stream's time base.

    Returns:
        The key packet, or None where seeking does not lead to one (start from the beginning then, with a new pass).
    """
    if decoding.stream.codec_context.codec.canonical_name not in SEEKABLE_CODECS:
        return None
    second = max(1, round(1 / Fraction(decoding.stream.time_base)))
    for seconds_earlier in (0, 2, 10):
        packet = next(_keys_from(decoding, pts - seconds_earlier * second), None)
        if packet is None or packet.pts is None:
            return None
        if packet.pts <= pts:
            return packet
    return None


def land_exactly(
    scan: Pass, decoding: Pass, *, position_pts: int, delivered: int, floor: int | None = None
) -> Landing | None:
    """Find a key packet from which decoding is certain to repeat the pictures behind a position.

    The packets from the beginning to the position are read first (without decoding them). Certain means: every packet
    has a pts of its own and time does not jump back, so no pts was made up; there are as many packets as pictures were
    delivered; the key packet found after seeking is one of those read before, lies far enough before the position,
    and is one that a decoder can start from exactly (for H.264: an IDR picture).

    Args:
        scan: A fresh pass to read packets from.
        decoding: A fresh pass to seek in.
        position_pts: pts of the last picture that was delivered.
        delivered: Pictures that were delivered up to there.
        floor: pts from which pictures were delivered; None for the beginning of the file.

    Returns:
        The landing, or None: decode from the beginning then.
    """
    codec = scan.stream.codec_context.codec.canonical_name
    if codec not in SEEKABLE_CODECS:
        return None
    times, keys = _scan(scan, position_pts)
    if position_pts not in times or delivered != sum(floor is None or pts >= floor for pts in times):
        return None
    # The key before the last, with room for the deinterlacer: what refers across the last key is then certain, too.
    usable = [key for key in keys if sum(key.pts <= pts for pts in times) >= WARM_UP][-2:]
    if not usable or usable[0].number == 0:
        return None
    by_identity = {(key.pts, key.size): key for key in keys if 0 < key.number <= usable[0].number}
    targets = [key.pts for key in keys if 0 < key.number <= usable[0].number]
    for target in reversed(targets[-SEEK_TRIES:]):
        for packet in _keys_from(decoding, target):
            if packet.pts is None or packet.pts > usable[0].pts:
                break
            found = by_identity.get((packet.pts, packet.size))
            if found is not None and _starts_afresh(packet, codec, decoding.stream.codec_context.extradata):
                expected = tuple(sorted(pts for pts in times if pts >= found.pts))
                return Landing(packet, expected)
    return None


def _scan(scan: Pass, position_pts: int) -> tuple[set[int], list[_Key]]:
    """Times of the packets up to the position, and the key packets among them; empty where times are uncertain."""
    times: set[int] = set()
    keys: list[_Key] = []
    second = max(1, round(1 / Fraction(scan.stream.time_base)))
    latest: int | None = None
    later = 0
    for number, packet in enumerate(scan.packets()):
        pts = packet.pts
        if pts is None or pts in times or (latest is not None and pts <= latest - second):
            return set(), []
        latest = pts if latest is None else max(latest, pts)
        if pts > position_pts:
            later += 1
            if later > LOOKAHEAD:
                break
            continue
        if packet.is_discard:
            continue
        times.add(pts)
        if packet.is_keyframe and not packet.is_corrupt:
            keys.append(_Key(number, pts, packet.size))
    return (set(), []) if scan.counts.cut_off else (times, keys)


def _keys_from(decoding: Pass, pts: int) -> Iterator[Any]:
    """Key packets from the place that seeking to ``pts`` leads to; empty if the container cannot seek.

    Closing the iterator leaves the pass right behind the key packet yielded last.
    """
    try:
        decoding.container.seek(pts, stream=decoding.stream, backward=True)
    except (av.error.FFmpegError, OverflowError):
        return
    for packet in decoding.packets():
        if packet.is_keyframe:
            yield packet


def _starts_afresh(packet: Any, codec: str, extradata: bytes | None) -> bool:
    """Whether decoding can start exactly here. H.264 marks recovery points as key packets, too; only IDR counts."""
    return codec != "h264" or 5 in _h264_unit_types(bytes(packet), extradata or b"")


def _h264_unit_types(data: bytes, extradata: bytes) -> set[int]:
    """Types of the NAL units in an H.264 packet, in Annex B or length-prefixed (``avcC``) form."""
    types: set[int] = set()
    if extradata[:1] == b"\x01" and len(extradata) > 4:
        prefix = (extradata[4] & 3) + 1
        at = 0
        while at + prefix < len(data):
            size = int.from_bytes(data[at : at + prefix], "big")
            types.add(data[at + prefix] & 31)
            at += prefix + size
        return types
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        types.add(data[at + 3] & 31)
        at = data.find(b"\0\0\1", at + 3)
    return types


def checked_before(pictures: Iterator[Decoded], floor: int) -> Iterator[Decoded]:
    """Pictures behind a landing, if those before ``floor`` prove that none can be missing from there on.

    Raises:
        SeekingFailed: They do not; nothing from ``floor`` on has been yielded then.
    """
    last: int | None = None
    for item in pictures:
        pts = item.picture.pts
        if last is None or last < floor:
            if pts is None or (last is not None and pts <= last) or (last is None and pts >= floor):
                raise SeekingFailed
            last = pts
        yield item
    if last is None:
        raise SeekingFailed


def checked_landing(opened: Pass, landing: Landing) -> Iterator[Decoded]:
    """Pictures behind a landing, if those up to the position are exactly the expected ones, undamaged.

    Raises:
        SeekingFailed: They are not; nothing behind the position has been yielded then.
    """
    expected = iter(landing.expected)
    waiting: int | None = next(expected)
    for item in opened.pictures(landing.packet):
        pts = item.picture.pts
        if waiting is not None:
            if pts is None or pts > waiting or item.damaged or opened.counts.damaged_packets:
                raise SeekingFailed
            if pts == waiting:
                waiting = next(expected, None)
            elif pts >= landing.expected[0]:
                raise SeekingFailed
        yield item
    if waiting is not None:
        raise SeekingFailed
