"""From a frame's planes to the small RGB picture a network wants, and from its pixels back to the source's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from streamlight.media.frame import ColorSpec, Frame

Fit = Literal["corner", "center", "stretch"]
"""How a picture is fitted into a network's input: keeping its shape in the upper left corner (YOLOX) or in the middle
(YOLOv5, YOLOv8), the rest filled with grey; or stretched to fill it (RT-DETR)."""

FILL: Final = 114
"""The grey around a picture that does not fill the input, of 255."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in a network's input the picture lies.

    Attributes:
        source: Width and height of the source picture, as it is coded.
        target: Width and height of the input.
        inner: Width and height of the picture in the input.
        offset: Its left and upper edge there.
        turns: Quarter turns counter-clockwise that bring the source picture upright.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    inner: tuple[int, int]
    offset: tuple[int, int]
    turns: int = 0

    @classmethod
    def of(cls, source: tuple[int, int], target: tuple[int, int], fit: Fit, *, turns: int = 0) -> Placement:
        """Fit a picture of size ``source`` into an input of size ``target``, upright."""
        if fit == "stretch":
            return cls(source, target, target, (0, 0), turns)
        width, height = _turned(source, turns)
        scale = min(target[0] / width, target[1] / height)
        whole = int if fit == "corner" else round
        inner = (
            min(target[0], max(1, whole(width * scale + 1e-6))),
            min(target[1], max(1, whole(height * scale + 1e-6))),
        )
        offset = (0, 0) if fit == "corner" else ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2)
        return cls(source, target, inner, offset, turns)

    def to_source(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes ``(N, 4)`` in pixels of the input as boxes in pixels of the source, clipped to it."""
        wide, high = self.source
        upright = _turned(self.source, self.turns)
        scale = np.array([upright[0] / self.inner[0], upright[1] / self.inner[1]] * 2, np.float32)
        left, top, right, bottom = ((boxes - np.array([*self.offset, *self.offset], np.float32)) * scale).T
        turned = {
            0: (left, top, right, bottom),
            1: (wide - bottom, left, wide - top, right),
            2: (wide - right, high - bottom, wide - left, high - top),
            3: (top, high - right, bottom, high - left),
        }[self.turns % 4]
        return np.clip(np.stack(turned, axis=1), 0.0, np.array([wide, high, wide, high], np.float32))


def placed_picture(frame: Frame, placement: Placement) -> np.ndarray:
    """The frame as an upright RGB picture ``(H, W, 3)`` float32, [0, 1], laid into a network's input on grey."""
    width, height = placement.target
    picture = np.full((height, width, 3), FILL / 255.0, np.float32)
    left, top = placement.offset
    inner = placement.inner
    small = np.rot90(small_rgb(frame, _turned(inner, placement.turns)), placement.turns)
    picture[top : top + inner[1], left : left + inner[0]] = small
    return picture


def _turned(size: tuple[int, int], turns: int) -> tuple[int, int]:
    """Width and height after quarter turns."""
    return (size[1], size[0]) if turns % 2 else size


def small_rgb(frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """The frame reduced (area means) or enlarged (linear) to ``size`` (width, height): RGB, float32, [0, 1].

    Planes are resized before they are converted, which costs a fraction of converting the whole picture.
    """
    color = frame.color
    luma = normalised(resized(frame.planes[0], size), *color.luma_scale())
    if color.chroma == "400":
        return np.clip(np.repeat(luma[:, :, None], 3, axis=2), 0.0, 1.0)
    scale = color.chroma_scale()
    blue, red = (normalised(resized(plane, size), *scale) for plane in frame.planes[1:3])
    return _rgb(luma, blue, red, color)


def resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane at ``size`` (width, height)."""
    if plane.shape[1::-1] == size:
        return plane
    shrinks = plane.shape[1] >= size[0] and plane.shape[0] >= size[1]
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def normalised(codes: np.ndarray, offset: float, span: float) -> np.ndarray:
    """``(codes - offset) / span`` as float32."""
    return (codes.astype(np.float32) - np.float32(offset)) * np.float32(1.0 / span)


def _rgb(luma: np.ndarray, blue: np.ndarray, red: np.ndarray, color: ColorSpec) -> np.ndarray:
    k_red, k_blue = color.luma_weights
    r = luma + 2.0 * (1.0 - k_red) * red
    b = luma + 2.0 * (1.0 - k_blue) * blue
    g = (luma - k_red * r - k_blue * b) / (1.0 - k_red - k_blue)
    return np.clip(np.stack([r, g, b], axis=2), 0.0, 1.0)


def ycbcr_of(rgb: tuple[float, float, float], color: ColorSpec) -> tuple[int, int, int]:
    """Code values (Y, Cb, Cr) of an RGB colour in [0, 1]."""
    k_red, k_blue = color.luma_weights
    r, g, b = rgb
    luma = k_red * r + (1.0 - k_red - k_blue) * g + k_blue * b
    blue, red = (b - luma) / (2.0 * (1.0 - k_blue)), (r - luma) / (2.0 * (1.0 - k_red))
    (y_offset, y_span), (c_offset, c_span) = color.luma_scale(), color.chroma_scale()
    codes = (luma * y_span + y_offset, blue * c_span + c_offset, red * c_span + c_offset)
    y, cb, cr = (min(color.peak, max(0, round(code))) for code in codes)
    return y, cb, cr
