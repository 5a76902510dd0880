"""Turning still images upright: the EXIF orientation, read from the file and applied to planes.

libavcodec reports it as a rotation only, without mirroring, so the tag is read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

ORIENTATION_TAG = 0x0112
_HEAD = 1 << 20  # the tag stands near the start of a file


def exif_orientation(path: Path) -> int:
    """EXIF orientation of a JPEG, PNG, WebP or TIFF file: 1 (upright) … 8; 1 where there is none or it is damaged."""
    head = _head(path)
    try:
        tiff = head if head[:4] in (b"II*\0", b"MM\0*") else _exif(head)
        at = orientation_offset(tiff)
    except (IndexError, ValueError):
        return 1
    value = 1 if at is None else int.from_bytes(tiff[at : at + 2], _order(tiff))
    return value if 1 <= value <= 8 else 1


def exif_block(path: Path) -> bytes:
    """The EXIF block (a TIFF structure) of a JPEG, PNG or WebP file; ``b""`` where there is none or it is damaged."""
    try:
        block = _exif(_head(path))
    except (IndexError, ValueError):
        return b""
    return block if block[:4] in (b"II*\0", b"MM\0*") else b""


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _exif(head: bytes) -> bytes:
    if head[:2] == b"\xff\xd8":
        return _jpeg_exif(head)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return chunk(head, 8, b"eXIf", "big", length_first=True)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return chunk(head, 12, b"EXIF", "little", length_first=False).removeprefix(b"Exif\0\0")
    return b""


def _jpeg_exif(head: bytes) -> bytes:
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] not in (0xDA, 0xD9):
        size = int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at + 1] == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            return head[at + 10 : at + 2 + size]
        at += 2 + max(size, 2)
    return b""


def chunk(head: bytes, at: int, kind: bytes, order: Literal["little", "big"], *, length_first: bool) -> bytes:
    """Body of a PNG (length, kind, body, CRC) or RIFF (kind, length, body, padded to even) chunk."""
    while at + 8 <= len(head):
        first, second = head[at : at + 4], head[at + 4 : at + 8]
        name, size = (second, int.from_bytes(first, order)) if length_first else (first, int.from_bytes(second, order))
        if name == kind:
            return head[at + 8 : at + 8 + size]
        at += 12 + size if length_first else 8 + size + size % 2
    return b""


def orientation_offset(tiff: bytes) -> int | None:
    """Where the two bytes of the orientation value stand in an EXIF block; None without such a tag."""
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = _order(tiff)
    at = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[at : at + 2], order)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 9), 12):
        if int.from_bytes(tiff[entry : entry + 2], order) == ORIENTATION_TAG:
            return entry + 8
    return None


def _order(tiff: bytes) -> Literal["little", "big"]:
    return "little" if tiff[:2] == b"II" else "big"


def transposes(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


def turn_upright(plane: np.ndarray, orientation: int) -> np.ndarray:
    """A view of a plane, ``(H, W)``, as the EXIF orientation says it is to be shown."""
    if orientation in (5, 6, 7, 8):
        plane = plane.T
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    return plane
