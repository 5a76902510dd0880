"""Frames with coloured squares."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from streamlight.detect.picture import ycbcr_of
from streamlight.media.frame import ColorSpec, Frame

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def blank(width: int, height: int, color: ColorSpec, *, index: int = 0, grey: float = 0.1) -> Frame:
    """A grey frame."""
    codes = ycbcr_of((grey, grey, grey), color)
    right, down = color.chroma_shift
    small = ((height + (1 << down) - 1) >> down, (width + (1 << right) - 1) >> right)
    shapes = [(height, width)] if color.chroma == "400" else [(height, width), small, small]
    planes = tuple(np.full(shape, code, color.dtype) for shape, code in zip(shapes, codes, strict=False))
    return Frame(planes, color, pts=index * 3000, time_base=Fraction(1, 90000), index=index)


def paint(frame: Frame, box: tuple[int, int, int, int], rgb: tuple[float, float, float]) -> Frame:
    """A filled box."""
    left, top, right, bottom = box
    shift = frame.color.chroma_shift
    for number, (plane, code) in enumerate(zip(frame.planes, ycbcr_of(rgb, frame.color), strict=False)):
        x, y = (0, 0) if number == 0 else shift
        plane[top >> y : bottom >> y, left >> x : right >> x] = code
    return frame
