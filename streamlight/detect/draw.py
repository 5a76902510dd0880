"""Boxes drawn into a frame's own planes: no way over RGB, what is not drawn on keeps its bits."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from streamlight.detect.detection import Detection
from streamlight.detect.picture import ycbcr_of
from streamlight.media.frame import ColorSpec, Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_boxes(frame: Frame, detections: Sequence[Detection]) -> Frame:
    """Draw boxes with label and score; each class has its colour.

    Args:
        frame: Its planes are replaced by copies that are drawn on.
        detections: Boxes in pixels of this frame.

    Returns:
        The same frame.
    """
    if detections:
        planes = tuple(np.array(plane) for plane in frame.planes)
        for detection in sorted(detections, key=lambda one: one.score):  # the surest on top
            _draw(planes, frame.color, detection)
        frame.planes = planes
    return frame


def color_of(label_id: int) -> tuple[float, float, float]:
    """RGB of a class, in [0, 1]: hues a golden section apart, so that neighbours differ."""
    return colorsys.hsv_to_rgb((0.33 + label_id * 0.618034) % 1.0, 0.85, 1.0)


def _draw(planes: tuple[np.ndarray, ...], color: ColorSpec, detection: Detection) -> None:
    height, width = planes[0].shape
    thick = max(1, round(min(height, width) / 300))
    left, top, right, bottom = (round(value) for value in detection.box)
    corners = ((left, top), (max(left, right - 1), max(top, bottom - 1)))
    codes = ycbcr_of(color_of(detection.label_id), color)
    shift = color.chroma_shift
    for number, (plane, code) in enumerate(zip(planes, codes, strict=False)):
        _frame(plane, corners, (0, 0) if number == 0 else shift, thick, code)
    text = f"{detection.label} {detection.score:.2f}"
    scale = max(0.35, min(height, width) / 1400)
    (wide, high), base = cv2.getTextSize(text, _FONT, scale, thick)
    wide, high = wide + 2 * thick, high + base + thick
    x = max(0, min(left, width - wide))
    y = top - high if top >= high else min(bottom, max(0, height - high))
    for number, (plane, code) in enumerate(zip(planes, codes, strict=False)):
        right_shift, down_shift = (0, 0) if number == 0 else shift
        plane[y >> down_shift : (y + high) >> down_shift, x >> right_shift : (x + wide) >> right_shift] = code
    _write(planes[0], color, text, (x + thick, y + high - base), codes[0], scale=scale, thick=thick)


def _write(
    luma: np.ndarray, color: ColorSpec, text: str, at: tuple[int, int], ground: int, *, scale: float, thick: int
) -> None:
    """Text on a ground of one luma, black or white as that asks for; drawn as a mask, for planes may have 16 bits."""
    (wide, high), base = cv2.getTextSize(text, _FONT, scale, thick)
    left, top = at[0], max(0, at[1] - high)
    area = luma[top : at[1] + base, left : left + wide + thick]
    if not area.size:
        return
    mask = np.zeros(area.shape, np.uint8)
    cv2.putText(mask, text, (0, at[1] - top), _FONT, scale, (255,), thick, cv2.LINE_AA)
    offset, span = color.luma_scale()
    ink = offset if ground > offset + 0.4 * span else offset + span
    covered = mask.astype(np.float32) / 255.0
    area[:] = np.where(mask > 0, np.rint(area + (ink - area.astype(np.float32)) * covered), area).astype(luma.dtype)


def _frame(
    plane: np.ndarray, corners: tuple[tuple[int, int], tuple[int, int]], shift: tuple[int, int], thick: int, code: int
) -> None:
    """The outline of a box, its lines inwards."""
    (left, top), (right, bottom) = ((x >> shift[0], y >> shift[1]) for x, y in corners)
    wide, high = max(1, thick >> shift[0]), max(1, thick >> shift[1])
    left, top = max(0, left), max(0, top)
    right, bottom = min(right, plane.shape[1] - 1), min(bottom, plane.shape[0] - 1)
    plane[top : min(top + high, bottom + 1), left : right + 1] = code
    plane[max(top, bottom + 1 - high) : bottom + 1, left : right + 1] = code
    plane[top : bottom + 1, left : min(left + wide, right + 1)] = code
    plane[top : bottom + 1, max(left, right + 1 - wide) : right + 1] = code
