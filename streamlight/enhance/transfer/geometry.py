"""How a small copy lies over the full-resolution planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamlight.media.frame import ColorSpec


@dataclass(frozen=True)
class PlaneGeometry:
    """One plane and the small grid over it.

    Attributes:
        width: Plane width in samples.
        height: Plane height in samples.
        factor_x: Samples that one cell of the small grid covers, horizontally.
        factor_y: The same, vertically.
        small_width: Cells in a row of the small grid.
        small_height: Rows of the small grid.
        offset: Code value of 0 (luma) or neutral (chroma).
        span: Code values per unit.
        peak: Largest code value.
    """

    width: int
    height: int
    factor_x: int
    factor_y: int
    small_width: int
    small_height: int
    offset: float
    span: float
    peak: int

    @cached_property
    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Left neighbour (int32) and weight of the right one (float32) of every sample in a row."""
        return _positions(self.width, self.factor_x, self.small_width)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Upper neighbour (int32) and weight of the lower one (float32) of every row."""
        return _positions(self.height, self.factor_y, self.small_height)


@dataclass(frozen=True)
class FrameGeometry:
    """A frame format and its small copy, ``ceil(size / factor)`` cells.

    Attributes:
        factor: Luma samples per cell, both directions; a multiple of the chroma subsampling.
        height: Rows of the small copy.
        width: Columns of the small copy.
        planes: One geometry per plane.
    """

    factor: int
    height: int
    width: int
    planes: tuple[PlaneGeometry, ...]

    @classmethod
    def of(cls, width: int, height: int, color: ColorSpec, *, long_side: int = 480) -> FrameGeometry:
        """Geometry for frames of this size whose small copy has a long side of about ``long_side``."""
        shift_x, shift_y = color.chroma_shift
        unit = 1 << max(shift_x, shift_y)
        factor = unit * max(1, round(max(width, height) / (long_side * unit)))
        small_width, small_height = -(-width // factor), -(-height // factor)
        sizes = [(width, height, factor, factor, *color.luma_scale())]
        if color.chroma != "400":
            # Chroma planes of odd-sized frames round up (FFmpeg's AV_CEIL_RSHIFT).
            chroma = (-(-width // (1 << shift_x)), -(-height // (1 << shift_y)), factor >> shift_x, factor >> shift_y)
            sizes += [(*chroma, *color.chroma_scale())] * 2
        planes = tuple(
            PlaneGeometry(w, h, fx, fy, small_width, small_height, offset, span, color.peak)
            for w, h, fx, fy, offset, span in sizes
        )
        return cls(factor, small_height, small_width, planes)


def _positions(size: int, factor: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    # Sample centres on the grid of cell centres; in the outer half cells the border value holds.
    position = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0.0, cells - 1)
    first = position.astype(np.int32)
    return first, (position - first).astype(np.float32)
