"""The one frame object that travels through the house, and the description of its colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

ChromaLayout = Literal["400", "420", "422", "440", "444", "411", "410"]
ColorRange = Literal["limited", "full"]

CHROMA_SHIFTS: dict[ChromaLayout, tuple[int, int]] = {
    "400": (0, 0),
    "420": (1, 1),
    "422": (1, 0),
    "440": (0, 1),
    "444": (0, 0),
    "411": (2, 0),
    "410": (2, 2),
}
"""Right shifts (horizontal, vertical) from luma to chroma size, as FFmpeg's ``log2_chroma_w/h``."""

LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "bt709": (0.2126, 0.0722),
    "smpte170m": (0.299, 0.114),
    "bt470bg": (0.299, 0.114),
    "bt2020nc": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
"""(Kr, Kb) of the matrices of ITU-T H.273; luma is Kr·R + (1 - Kr - Kb)·G + Kb·B."""


@dataclass(frozen=True, slots=True)
class ColorSpec:
    """How the numbers in a frame's planes are to be read (ITU-T H.273 terms, FFmpeg's names).

    Attributes:
        matrix: YCbCr matrix in force: ``"bt709"``, ``"smpte170m"`` (BT.601), ``"bt470bg"`` (BT.601), ``"bt2020nc"``, …
            Never "unspecified": where the stream says nothing this holds what was assumed.
        range: ``"limited"`` (luma 16…235 at 8 bit) or ``"full"``.
        primaries: Colour primaries, or ``"unspecified"``.
        transfer: Transfer characteristic, or ``"unspecified"``.
        bit_depth: Significant bits of a sample, 8 to 16. Planes are uint8 at 8 bit, otherwise uint16 with the value
            in the low bits.
        chroma: Chroma layout; ``"400"`` is luma alone.
        tags: The four H.273 code points as the stream declared them: (matrix, range, primaries, transfer), FFmpeg's
            integers. Written back unchanged, so that an untagged file stays untagged.
    """

    matrix: str = "bt709"
    range: ColorRange = "limited"
    primaries: str = "unspecified"
    transfer: str = "unspecified"
    bit_depth: int = 8
    chroma: ChromaLayout = "420"
    tags: tuple[int, int, int, int] = (2, 0, 2, 2)

    @property
    def chroma_shift(self) -> tuple[int, int]:
        """Right shifts (horizontal, vertical) from luma to chroma plane size."""
        return CHROMA_SHIFTS[self.chroma]

    @property
    def luma_weights(self) -> tuple[float, float]:
        """(Kr, Kb) of the matrix; those of BT.709 for one that has none."""
        return LUMA_WEIGHTS.get(self.matrix, LUMA_WEIGHTS["bt709"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type of the planes: uint8 at 8 bit, else uint16."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def peak(self) -> int:
        """The largest code value, ``2**bit_depth - 1``."""
        return (1 << self.bit_depth) - 1

    def luma_scale(self) -> tuple[float, float]:
        """``(offset, span)`` in code values: normalised luma in [0, 1] is ``(code - offset) / span``."""
        if self.range == "full":
            return 0.0, float(self.peak)
        unit = float(1 << (self.bit_depth - 8))
        return 16.0 * unit, 219.0 * unit

    def chroma_scale(self) -> tuple[float, float]:
        """``(offset, span)`` in code values: normalised chroma in [-0.5, 0.5] is ``(code - offset) / span``."""
        if self.range == "full":
            return float(1 << (self.bit_depth - 1)), float(self.peak)
        unit = float(1 << (self.bit_depth - 8))
        return 128.0 * unit, 224.0 * unit


@dataclass(slots=True)
class Frame:
    """One decoded picture. Stages replace its ``planes``; identity, time and origin stay with it.

    Attributes:
        planes: Y, Cb, Cr (Y alone for ``"400"``), each ``(H, W)`` uint8 or uint16. Rows may be padded: a plane can be a
            view whose row stride exceeds its width, and it must be treated as read-only. Where it was asked for, a
            source gives a :class:`streamlight.media.surfaces.Surface` on a card here, and a writer takes tensors on
            one (see :mod:`streamlight.media.nvenc`).
        color: How to read the planes.
        pts: Presentation time in units of ``time_base``. An integer from the container, never computed from an index.
        time_base: Seconds per unit of ``pts``.
        duration: Display duration in units of ``time_base``; 0 when the stream does not say.
        index: Running number in output order, from 0. For counting, never for time.
        key_frame: Whether the source coded it as a key frame.
        damaged: Whether the decoder concealed errors in it.
        arrival: ``time.monotonic()`` when its packet was read; latency is measured from here.
        origin: The decoder's own frame object, known to ``media`` alone (side data such as captions ride on it).
        notes: What stages leave for one another, for example the checkpoint that closes a segment.
    """

    planes: tuple[np.ndarray, ...]
    color: ColorSpec
    pts: int
    time_base: Fraction
    duration: int = 0
    index: int = 0
    key_frame: bool = False
    damaged: bool = False
    arrival: float = 0.0
    origin: Any = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Luma width in samples."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Luma height in samples."""
        return int(self.planes[0].shape[0])

    @property
    def seconds(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base
