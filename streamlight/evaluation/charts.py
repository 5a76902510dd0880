"""Lines and words on a white page, drawn with OpenCV: what the plots of this package are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from streamlight.errors import ConfigError, MediaError

SUFFIXES: Final = (".png", ".jpg", ".jpeg")
PAPER, INK, FAINT, MARK = (255, 255, 255), (60, 55, 50), (232, 230, 228), (150, 145, 140)
"""BGR, as all colours here."""

_FINE: Final = 2  # drawn larger and reduced: thin strokes of text and lines stay smooth

Color = tuple[int, ...]


def check_target(target: str | Path | None, *, option: str) -> None:
    """Refuse a picture of another kind before hours of work are spent.

    Raises:
        ConfigError: The suffix is no picture's that can be written.
    """
    if target is not None and Path(target).suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{option} {target}: a name that ends in {' or '.join(SUFFIXES)} is needed")


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write ``(H, W, 3)`` uint8 BGR.

    Raises:
        MediaError: The file cannot be written.
    """
    done, data = cv2.imencode(Path(path).suffix.lower(), picture)
    try:
        if not done:
            raise OSError("the encoder failed")
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise MediaError(f"{path}: the plot cannot be written: {error.strerror or error}") from error


class Page:
    """A white page; places are in its pixels, from the top left.

    Args:
        size: Width and height.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._page = np.full((size[1] * _FINE, size[0] * _FINE, 3), PAPER, np.uint8)

    def picture(self) -> np.ndarray:
        """``(H, W, 3)`` uint8 BGR."""
        return cv2.resize(self._page, self.size, interpolation=cv2.INTER_AREA)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float) -> None:
        """Straight from point to point; less than two are nothing."""
        if len(points) < 2:
            return
        shift = 4  # fractions of a pixel
        fine = np.rint(np.array(points) * _FINE * (1 << shift)).astype(np.int32)
        cv2.polylines(self._page, [fine], False, color, round(width * _FINE), cv2.LINE_AA, shift)

    def dashes(
        self, x: float, top: float, bottom: float, *, every: float, length: float, width: float, color: Color = MARK
    ) -> None:
        """A broken line downwards."""
        for y in np.arange(top, bottom, every):
            self.line([(x, y), (x, min(y + length, bottom))], color, width)

    def dot(self, x: float, y: float, color: Color, radius: float) -> None:
        """A filled circle."""
        center = round(x * _FINE), round(y * _FINE)
        cv2.circle(self._page, center, round(radius * _FINE), color, cv2.FILLED, cv2.LINE_AA)

    def text(
        self, text: str, x: float, y: float, size: float, *, weight: int = 1, right: bool = False, middle: bool = False
    ) -> float:
        """Write a line with its foot at ``y``; returns where it ends."""
        text = text.encode("ascii", "replace").decode()  # OpenCV's strokes have no other letters
        scale, thick = size * _FINE, round(weight * 1.25 * _FINE)
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)[0][0] / _FINE
        left = x - width if right else x - width / 2 if middle else x
        place = round(left * _FINE), round(y * _FINE)
        cv2.putText(self._page, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, thick, cv2.LINE_AA)
        return left + width


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two ends."""
    span = max(high - low, 1e-9)
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    return [round(k * step, 9) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def pale(color: Color) -> Color:
    """The same colour, near the page's."""
    return tuple(round(255 - 0.35 * (255 - part)) for part in color)
