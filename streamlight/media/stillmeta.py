"""Colour profile and EXIF of still images: read from the source, put into the encoded file; files that are cut off."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from streamlight.media import orientation

_HEAD = 1 << 24  # profiles stand before the samples
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = 8 + 25  # signature and IHDR
_SEGMENT = 65_533  # largest body of a JPEG segment
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # no stuffing, restart marker or padding


def icc_profile(path: Path) -> bytes:
    """The ICC profile of a JPEG, PNG or WebP file; ``b""`` where there is none or it is damaged.

    Read from the file: PyAV's side data would have it too, but looking at it frees the profile's name a second time
    and takes the process down (18.1, PNG).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return b""
    try:
        if head[:2] == b"\xff\xd8":
            return _jpeg_profile(head)
        if head[:8] == _PNG_SIGNATURE:
            body = orientation.chunk(head, 8, b"iCCP", "big", length_first=True)
            return zlib.decompress(body[body.index(b"\0") + 2 :]) if body else b""
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return orientation.chunk(head, 12, b"ICCP", "little", length_first=False)
    except (ValueError, IndexError, zlib.error):
        pass
    return b""


def _jpeg_profile(head: bytes) -> bytes:
    parts: dict[int, bytes] = {}
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] not in (0xDA, 0xD9):
        size = int.from_bytes(head[at + 2 : at + 4], "big")
        body = head[at + 4 : at + 2 + size]
        if head[at + 1] == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            parts[body[12]] = body[14:]
        at += 2 + max(size, 2)
    return b"".join(parts[number] for number in sorted(parts))


def exif_block(path: Path) -> bytes:
    """The EXIF block (a TIFF structure) of a JPEG, PNG or WebP file, made to say "upright"; ``b""`` without one."""
    block = orientation.exif_block(path)
    return upright(block) if block else b""


def is_cut_off(path: Path) -> bool:
    """Whether a JPEG file ends before its picture does. The decoder fills up the rest and says nothing.

    Other formats give False: their decoders refuse such files. Raises OSError where the file cannot be read.
    """
    data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        return False
    at = 2
    while (marker := _MARKER.search(data, at)) is not None:
        if data[marker.start() + 1] == 0xD9:  # end of image; what follows is another matter
            return False
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return True


def upright(tiff: bytes) -> bytes:
    """An EXIF block whose orientation tag says 1."""
    at = orientation.orientation_offset(tiff)
    if at is None:
        return tiff
    value = struct.pack("<H" if tiff[:2] == b"II" else ">H", 1)
    return tiff[:at] + value + tiff[at + 2 :]


def add_icc(data: bytes, profile: bytes, encoder: str) -> bytes | None:
    """An encoded image with an ICC profile; ``None`` where the format is not supported here."""
    if encoder == "png":
        if b"iCCP" in data[:4096]:
            return data
        return _png_with(data, b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile, 9))
    if encoder == "mjpeg":
        size = _SEGMENT - 14
        parts = [profile[i : i + size] for i in range(0, len(profile), size)]
        if len(parts) > 255:
            return None
        heads = (b"ICC_PROFILE\0" + bytes([number, len(parts)]) for number in range(1, len(parts) + 1))
        return _jpeg_with(data, 0xE2, [head + part for head, part in zip(heads, parts, strict=True)])
    return None


def add_exif(data: bytes, exif: bytes, encoder: str) -> bytes | None:
    """An encoded image with an EXIF block; ``None`` where it does not fit or the format is not supported here."""
    if encoder == "png":
        return _png_with(data, b"eXIf", exif)
    if encoder == "mjpeg" and len(exif) + 6 <= _SEGMENT:
        return _jpeg_with(data, 0xE1, [b"Exif\0\0" + exif])
    return None


def _png_with(data: bytes, kind: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:_PNG_HEAD] + chunk + data[_PNG_HEAD:]


def _jpeg_with(data: bytes, marker: int, bodies: list[bytes]) -> bytes:
    """Segments put behind the JFIF header, where readers look for them."""
    at = 2
    if data[2:4] == b"\xff\xe0":
        at = 4 + int.from_bytes(data[4:6], "big")
    segments = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for body in bodies)
    return data[:at] + segments + data[at:]
