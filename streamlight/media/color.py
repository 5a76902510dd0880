"""Reading colour: what the tags of a stream say, and what is assumed where they say nothing.

Numbers are the code points of ITU-T H.273, which FFmpeg uses unchanged; names are FFmpeg's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from streamlight.media.frame import ChromaLayout, ColorRange, ColorSpec

MATRIX_NAMES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp", 15: "ipt-c2",
}  # fmt: skip
PRIMARIES_NAMES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
TRANSFER_NAMES = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip

MATRIX_GBR, MATRIX_BT709, UNSPECIFIED = 0, 1, 2
RANGE_UNSPECIFIED, RANGE_LIMITED, RANGE_FULL = 0, 1, 2
TRANSFER_PQ, TRANSFER_HLG = 16, 18
HDR_TRANSFERS = {TRANSFER_PQ: "PQ (SMPTE ST 2084)", TRANSFER_HLG: "HLG (ARIB STD-B67)"}

HD_LINES = 720
"""Untagged pictures of at least this many lines are read as BT.709, smaller ones as BT.601."""

Tags = tuple[int, int, int, int]
"""(matrix, range, primaries, transfer) as H.273 code points; FFmpeg's 0/1/2 for range."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What a pixel format means for us.

    Attributes:
        target: Planar format that frames are brought to, by swscale where it is not the source format already. For
            RGB this is planar RGB, from which the YCbCr planes are then computed.
        bit_depth: Bits of a delivered sample.
        chroma: Chroma layout of the delivered planes.
        full_range: Whether the format itself says full range (``yuvj*``; RGB is delivered as full-range YCbCr).
        rgb: Whether the source holds RGB (or a palette).
        alpha: Whether the source holds alpha, which the delivered planes do not.
    """

    target: str
    bit_depth: int
    chroma: ChromaLayout
    full_range: bool = False
    rgb: bool = False
    alpha: bool = False


_CHROMA_BY_SHIFT = {(1, 1): "420", (1, 0): "422", (0, 1): "440", (0, 0): "444", (2, 0): "411", (2, 2): "410"}
_PLANAR = {"420": "yuv420p", "422": "yuv422p", "440": "yuv440p", "444": "yuv444p", "411": "yuv411p", "410": "yuv410p"}
_DEPTHS = {"400": (8, 9, 10, 12, 14, 16), "420": (8, 9, 10, 12, 14, 16), "422": (8, 9, 10, 12, 14, 16),
           "444": (8, 9, 10, 12, 14, 16), "440": (8, 10, 12), "411": (8,), "410": (8,)}  # fmt: skip


def planar_format(chroma: ChromaLayout, bit_depth: int) -> str | None:
    """FFmpeg's name of the planar YCbCr (or gray) format with this chroma layout and depth; None if there is none."""
    if bit_depth not in _DEPTHS[chroma]:
        return None
    base = "gray" if chroma == "400" else _PLANAR[chroma]
    return base if bit_depth == 8 else f"{base}{bit_depth}le"


def rgb_depth(bit_depth: int) -> int:
    """Depth of the YCbCr 4:4:4 samples that hold RGB of ``bit_depth`` so that the way back is exact to the code.

    Rounding Y, Cb and Cr by half a code each moves R, G or B by up to 1.4 codes of the same depth (BT.709, full
    range), so two more bits (0.36 of an RGB code) are enough: 8 → 10, 10 → 12; deeper RGB gets 16 bit.
    """
    return 10 if bit_depth <= 8 else 12 if bit_depth <= 10 else 16


def pixel_layout(video_format: Any) -> PixelLayout:
    """How frames of a pixel format are delivered.

    Planar YCbCr and gray in native byte order are delivered as they are. Semi-planar, packed and big-endian YCbCr is
    re-arranged into the planar format of the same depth and layout, which loses nothing. RGB and palettes become
    full-range BT.709 YCbCr 4:4:4 of two more bits (see :func:`rgb_depth`). Alpha is left out.

    Args:
        video_format: The ``av.VideoFormat`` of a decoded frame.
    """
    name: str = video_format.name
    parts = list(video_format.components)
    alpha = any(part.is_alpha for part in parts)
    depth = max((int(part.bits) for part in parts if not part.is_alpha), default=8)
    if video_format.is_rgb or video_format.has_palette or name.startswith(("bayer", "xyz", "pal")):
        depth = 8 if video_format.has_palette else next((d for d in (8, 10, 12, 14) if depth <= d), 16)
        target = "gbrp" if depth == 8 else f"gbrp{depth}le"
        return PixelLayout(target, rgb_depth(depth), "444", full_range=True, rgb=True, alpha=alpha)
    if name.startswith(("gray", "ya", "mono")):
        fitting = _fitting_depth("400", depth)  # Bi-level pictures are gray with two codes.
        return PixelLayout(str(planar_format("400", fitting)), fitting, "400", name.startswith("mono"), alpha=alpha)
    # Chroma sizes for a size of our own: a picture one sample wide would not tell the layouts apart.
    shift = (_log2(64 // video_format.chroma_width(64)), _log2(64 // video_format.chroma_height(64)))
    chroma = cast(ChromaLayout, _CHROMA_BY_SHIFT.get(shift, "444"))
    fitting = _fitting_depth(chroma, depth)
    target = str(planar_format(chroma, fitting))
    if name.startswith("yuvj"):
        return PixelLayout(name, 8, chroma, full_range=True)
    if name.startswith("yuva") and name.replace("yuva", "yuv", 1) == target:
        target = name  # The first three planes are already what is wanted.
    return PixelLayout(target, fitting, chroma, alpha=alpha)


def _fitting_depth(chroma: ChromaLayout, depth: int) -> int:
    """The smallest depth of at least ``depth`` bits that a planar format with this chroma layout has."""
    return min(d for d in _DEPTHS[chroma] if d >= min(depth, _DEPTHS[chroma][-1]))


def _log2(ratio: int) -> int:
    return ratio.bit_length() - 1


def color_spec(layout: PixelLayout, tags: Tags, lines: int) -> ColorSpec:
    """The :class:`ColorSpec` of a picture from its layout and its tags.

    Untagged matrix: BT.709 from 720 lines up, otherwise BT.601 (``smpte170m``). Untagged range: full for ``yuvj*``
    and for gray (as swscale, which made most gray files, reads and writes it), otherwise limited. RGB sources are
    described as what they are delivered as: BT.709 full range.

    Args:
        layout: From :func:`pixel_layout`.
        tags: H.273 code points found in the frame or the stream.
        lines: Height of the picture in luma lines.
    """
    matrix, range_, primaries, transfer = tags
    if layout.rgb:
        matrix, range_ = MATRIX_BT709, RANGE_FULL
    if layout.full_range:
        range_ = RANGE_FULL
    # An RGB matrix on YCbCr planes is a mislabelled file; treat it as untagged.
    name = MATRIX_NAMES.get(matrix) if matrix != MATRIX_GBR else None
    untagged_gray = layout.chroma == "400" and range_ == RANGE_UNSPECIFIED
    full: ColorRange = "full" if range_ == RANGE_FULL or untagged_gray else "limited"
    return ColorSpec(
        matrix=name or ("bt709" if lines >= HD_LINES else "smpte170m"),
        range=full,
        primaries=PRIMARIES_NAMES.get(primaries, "unspecified"),
        transfer=TRANSFER_NAMES.get(transfer, "unspecified"),
        bit_depth=layout.bit_depth,
        chroma=layout.chroma,
        tags=(matrix if name else UNSPECIFIED, range_, primaries, transfer),
    )


def merge_tags(first: Tags, second: Tags) -> Tags:
    """``first`` with its unspecified entries taken from ``second`` (a frame's own tags before its stream's)."""
    blank = (UNSPECIFIED, RANGE_UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)
    merged = tuple(b if a == none else a for a, b, none in zip(first, second, blank, strict=True))
    return cast(Tags, merged)


def tags_of(thing: Any) -> Tags:
    """H.273 code points of an ``av.VideoFrame`` or ``av.VideoCodecContext``."""
    return int(thing.colorspace), int(thing.color_range), int(thing.color_primaries), int(thing.color_trc)
