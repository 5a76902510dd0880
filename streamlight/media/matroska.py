"""The pixel aspect ratio in Matroska: one repair that libavformat's writer leaves to us.

The writer takes it from a field that PyAV cannot set, and writes "display unit unknown" instead. H.264 and HEVC say it
again inside the coded stream; VP9, AV1, FFV1 and ProRes do not. Here the track's display size is put in afterwards:
the track list grows by some bytes at its front, and the padding that libavformat leaves before it shrinks by as many,
so that nothing else moves. (RFC 9559 for the elements, RFC 8794 for the coding.)
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_VOID, _CRC, _INFO, _TRACKS, _TRACK, _VIDEO = 0xEC, 0xBF, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0
_WIDTH, _HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2
_UNIT_PIXELS, _UNIT_ASPECT = 0, 3
_CLUSTER = 0x1F43B675
_HEAD = 1 << 20  # the track list comes before the first cluster


@dataclass(frozen=True, slots=True)
class _Element:
    id: int
    start: int
    body: int
    end: int


def write_display_size(path: Path, aspect: Fraction) -> bool:
    """Give the first video track of a Matroska file, as libavformat wrote it, a pixel aspect ratio.

    Args:
        path: The file; changed in place.
        aspect: Width : height of one sample.

    Returns:
        False when the file is not laid out as expected; it is then unchanged.
    """
    with open(path, "r+b") as file:
        head = file.read(_HEAD)
        try:
            patched = _patch(head, aspect)
        except (IndexError, LookupError, ValueError):
            return False
        start, data = patched
        file.seek(start)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return True


def _patch(head: bytes, aspect: Fraction) -> tuple[int, bytes]:
    """``(offset, bytes)`` to write over the front of the file."""
    segment = next(e for e in _children(head, 0, len(head)) if e.id == _SEGMENT)
    front: list[_Element] = []
    for element in _children(head, segment.body, len(head)):
        if element.id == _CLUSTER:
            raise LookupError("no track list before the first cluster")
        front.append(element)
        if element.id == _TRACKS:
            break
    if [e.id for e in front] != [_SEEK_HEAD, _VOID, _INFO, _TRACKS]:
        raise LookupError("unexpected order of elements")
    seek_head, void, info, tracks = front
    exact_only = b"webm" not in head[: segment.start]
    new_tracks = _checked(
        head, tracks, _replace_first(head, tracks, _TRACK, lambda t: _track(head, t, aspect, exact_only))
    )
    growth = len(new_tracks) - (tracks.end - tracks.start)
    room = void.end - void.start - growth
    if room < 9:
        raise LookupError("no padding left")
    new_seek = _checked(head, seek_head, b"".join(_moved_entries(head, seek_head, growth)))
    if len(new_seek) != seek_head.end - seek_head.start:
        raise LookupError("the index changed its size")
    padding = _identifier(_VOID) + (room - 9 | 1 << 56).to_bytes(8, "big") + bytes(room - 9)
    return seek_head.start, new_seek + padding + head[info.start : info.end] + new_tracks


def _track(head: bytes, track: _Element, aspect: Fraction, exact: bool) -> bytes:
    return _pack(_TRACK, _replace_first(head, track, _VIDEO, lambda video: _video(head, video, aspect, exact)))


def _video(head: bytes, video: _Element, aspect: Fraction, exact: bool) -> bytes:
    """The picture's master element with its display size: near the coded size, and exact but for odd ratios in WebM."""
    parts = list(_children(head, video.body, video.end))
    size: dict[int, int] = {
        e.id: int.from_bytes(head[e.body : e.end], "big") for e in parts if e.id in (_WIDTH, _HEIGHT)
    }
    shape = Fraction(size[_WIDTH] * aspect.numerator, size[_HEIGHT] * aspect.denominator)
    scale = max(1, round(size[_HEIGHT] / shape.denominator))
    if shape.numerator * scale <= 2 * size[_WIDTH] * aspect:
        unit, width, height = _UNIT_PIXELS, shape.numerator * scale, shape.denominator * scale
    elif exact:
        unit, width, height = _UNIT_ASPECT, shape.numerator, shape.denominator
    else:
        unit, width, height = _UNIT_PIXELS, round(size[_WIDTH] * aspect), size[_HEIGHT]
    kept = [head[e.start : e.end] for e in parts if e.id not in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)]
    added = [_number(_DISPLAY_WIDTH, width), _number(_DISPLAY_HEIGHT, height)]
    if unit != _UNIT_PIXELS:  # the default
        added.append(_number(_DISPLAY_UNIT, unit))
    return _pack(_VIDEO, b"".join(kept + added))


def _replace_first(head: bytes, parent: _Element, child: int, make: Callable[[_Element], bytes]) -> bytes:
    """The parent's body without its checksum, where the first child that ``make`` can rebuild is replaced."""
    parts, done = [], False
    for element in _children(head, parent.body, parent.end):
        if element.id == _CRC:
            continue
        data = head[element.start : element.end]
        if element.id == child and not done:
            with contextlib.suppress(KeyError):  # an audio track: it has no picture
                data, done = make(element), True
        parts.append(data)
    if not done:
        raise KeyError(child)
    return b"".join(parts)


def _moved_entries(head: bytes, seek_head: _Element, growth: int) -> Iterator[bytes]:
    """The index's entries; what stands between the padding and the tracks' end has moved to the front."""
    for entry in _children(head, seek_head.body, seek_head.end):
        if entry.id == _CRC:
            continue
        fields = {e.id: e for e in _children(head, entry.body, entry.end)}
        target = int.from_bytes(head[fields[_SEEK_ID].body : fields[_SEEK_ID].end], "big")
        place = fields[_SEEK_POSITION]
        position = int.from_bytes(head[place.body : place.end], "big")
        if target in (_INFO, _TRACKS):
            position -= growth
        length = place.end - place.body
        identifier = head[fields[_SEEK_ID].start : fields[_SEEK_ID].end]
        moved = _identifier(_SEEK_POSITION) + bytes([0x80 | length]) + position.to_bytes(length, "big")
        yield _pack(_SEEK, identifier + moved)


def _children(data: bytes, start: int, end: int) -> Iterator[_Element]:
    while start < end:
        identifier, after = _variable(data, start, keep_marker=True)
        size, body = _variable(data, after, keep_marker=False)
        yield _Element(identifier, start, body, body + size)
        start = body + size


def _variable(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    if length > 8 or at + length > len(data):
        raise ValueError("not an EBML number")
    return value if keep_marker else value & ((1 << 7 * length) - 1), at + length


def _identifier(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _pack(identifier: int, body: bytes) -> bytes:
    length = next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
    return _identifier(identifier) + (len(body) | 1 << 7 * length).to_bytes(length, "big") + body


def _number(identifier: int, value: int) -> bytes:
    return _pack(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _checked(head: bytes, element: _Element, body: bytes) -> bytes:
    """The element with a new body, and with a checksum if it had one (WebM has none)."""
    if any(e.id == _CRC for e in _children(head, element.body, element.end)):
        body = _pack(_CRC, zlib.crc32(body).to_bytes(4, "little")) + body
    return _pack(element.id, body)
