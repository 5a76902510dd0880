"""The plot of ``streamlight evaluate stability``: mean luma, flicker and warping error over time, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.stability_report import StabilityReport

SIZE: Final = (1600, 1200)
_FINE: Final = 2  # drawn larger and reduced: thin strokes of text and lines stay smooth
_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 120, 50, 155, 70, 70

_PAPER, _INK, _FAINT, _CUT = (255, 255, 255), (60, 55, 50), (232, 230, 228), (150, 145, 140)
_COLORS: Final = {"source": (165, 160, 155), "reference": (90, 150, 40), "enhanced": (190, 95, 20)}
"""BGR; drawn in this order, what is judged on top."""

_Curve = tuple[np.ndarray, np.ndarray]


def check_plot_target(target: str | Path | None) -> None:
    """Refuse a plot of another kind before hours of work are spent.

    Raises:
        ConfigError: The suffix is no picture's that can be written.
    """
    if target is not None and Path(target).suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--plot {target}: a name that ends in {' or '.join(_SUFFIXES)} is needed")


def write_plot(path: str | Path, report: StabilityReport) -> None:
    """Draw the report and write it.

    Raises:
        MediaError: The file cannot be written.
    """
    done, data = cv2.imencode(Path(path).suffix.lower(), draw_plot(report))
    try:
        if not done:
            raise OSError("the encoder failed")
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise MediaError(f"{path}: the plot cannot be written: {error.strerror or error}") from error


def draw_plot(report: StabilityReport) -> np.ndarray:
    """``(1200, 1600, 3)`` uint8 BGR."""
    seconds = np.array(report.seconds)
    sheet = _Sheet(float(seconds[-1]), [seconds[cut] for cut in report.cuts], [seconds[jump] for jump in report.jumps])
    roles = [role for role in _COLORS if role in report.series]
    levels = {role: (seconds, np.array(report.series[role].levels)) for role in roles}
    jumps = {role: _jumps(seconds, report.series[role].levels, report.cuts) for role in roles}
    errors = {
        role: (seconds[1:], 1e3 * np.array([np.nan if e is None else e for e in report.series[role].warp_error]))
        for role in roles
    }
    sheet.head(report, roles)
    sheet.panel(0, "mean luma above black, codes of 8 bit", levels)
    sheet.panel(1, "flicker: |second difference| of mean luma, codes", jumps, smooth=True)
    sheet.panel(2, "warping error, x 0.001", errors, smooth=True)
    sheet.foot()
    return sheet.picture()


def _jumps(seconds: np.ndarray, levels: Sequence[float], cuts: Sequence[int]) -> _Curve:
    value = np.abs(np.diff(np.array(levels), 2))
    for cut in cuts:  # the two differences that reach across it
        value[max(0, cut - 2) : cut] = np.nan
    return seconds[1:-1], value


class _Sheet:
    """A white page with three panels below one another."""

    def __init__(self, end: float, cuts: Sequence[float], jumps: Sequence[float]) -> None:
        self._end, self._cuts, self._jumps = max(end, 1e-6), cuts, jumps
        self._page = np.full((SIZE[1] * _FINE, SIZE[0] * _FINE, 3), _PAPER, np.uint8)
        self._height = (SIZE[1] - _TOP - _BOTTOM - 2 * _GAP) / 3

    def picture(self) -> np.ndarray:
        return cv2.resize(self._page, SIZE, interpolation=cv2.INTER_AREA)

    def head(self, report: StabilityReport, roles: Sequence[str]) -> None:
        """Title and legend, with the figure of the clip that each curve stands for."""
        self._text(f"Stability of {report.files['enhanced']}", _LEFT, 48, 1.0, weight=2)
        x = float(_LEFT)
        for role in reversed(roles):
            figures = report.figures[role]
            text = role
            if figures.flicker_steady is not None:
                text += f": flicker {figures.flicker_steady:.3f}"
            if figures.warp_error_steady is not None:
                text += f", E_warp {1e3 * figures.warp_error_steady:.3f}"
            self._line([(x, 84.0), (x + 40, 84.0)], _COLORS[role], 4)
            x = self._text(text, x + 52, 90, 0.62) + 48

    def panel(self, row: int, title: str, curves: dict[str, _Curve], *, smooth: bool = False) -> None:
        """One panel; with ``smooth`` the curves are pale, and their running means where the light is steady bold."""
        top = _TOP + row * (self._height + _GAP)
        values = np.concatenate([value[np.isfinite(value)] for _, value in curves.values()])
        high = 1.12 * float(values.max()) if values.size else 0.0
        if smooth and values.size:  # a lamp must not press all the rest down to the axis
            steady = np.concatenate([self._steady(*curve) for curve in curves.values()])
            high = min(high, 2.0 * float(np.percentile(steady[np.isfinite(steady)], 99))) if steady.size else high
        scale = _Scale(top, self._height, self._end, high if high > 0.0 else 1.0)
        self._grid(scale, top, high if high > 0.0 else 1.0)
        for role, (time, value) in curves.items():
            color = _COLORS[role]
            self._curve(scale, time, value, _pale(color) if smooth else color, 1 if smooth else 2)
        for role, (time, value) in curves.items() if smooth else ():
            self._curve(scale, time, _running(self._steady(time, value), there=value), _COLORS[role], 2.5)
        self._line([(_LEFT, top), (_LEFT, top + self._height), (SIZE[0] - _RIGHT, top + self._height)], _INK, 1.5)
        self._text(title, _LEFT, top - 14, 0.62)

    def foot(self) -> None:
        """What the axis and the broken lines are."""
        y = SIZE[1] - _BOTTOM + 54
        self._text("seconds", SIZE[0] - _RIGHT, y, 0.55, right=True)
        told = ["figures, and bold running means, without jumps of light"]
        told += ["dashed: cut, nothing is compared across it"] if self._cuts else []
        told += ["dotted: the light of the scene jumps, higher peaks are cut off"] if self._jumps else []
        self._text("; ".join(told), _LEFT, y, 0.55)

    def _steady(self, time: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values with those that see a jump of the light taken out."""
        step = self._end / max(len(time), 1)
        out = value.copy()
        for jump in self._jumps:
            out[np.abs(time - jump + 0.5 * step) < 1.2 * step] = np.nan
        return out

    def _grid(self, scale: _Scale, top: float, high: float) -> None:
        for tick in _ticks(0.0, high, 5):
            y = scale.y(tick)
            self._line([(_LEFT, y), (SIZE[0] - _RIGHT, y)], _FAINT, 1)
            self._text(f"{tick:g}", _LEFT - 14, y + 6, 0.55, right=True)
        for tick in _ticks(0.0, self._end, 10):
            x = scale.x(tick)
            self._line([(x, top), (x, top + self._height)], _FAINT, 1)
            self._text(f"{tick:g}", x, top + self._height + 26, 0.55, middle=True)
        for times, every, length, width in ((self._cuts, 12.0, 6.0, 1.5), (self._jumps, 9.0, 2.0, 1.0)):
            for time in times:
                self._dashes(scale.x(time), top, every=every, length=length, width=width)

    def _curve(self, scale: _Scale, time: np.ndarray, value: np.ndarray, color: tuple[int, ...], width: float) -> None:
        points: list[tuple[float, float]] = []
        for t, v in zip(time, value, strict=True):
            if math.isfinite(v):
                points.append((scale.x(float(t)), scale.y(float(v))))
                continue
            self._line(points, color, width)
            points = []
        self._line(points, color, width)

    def _line(self, points: Sequence[tuple[float, float]], color: tuple[int, ...], width: float) -> None:
        if len(points) < 2:
            return
        shift = 4  # fractions of a pixel
        fine = np.rint(np.array(points) * _FINE * (1 << shift)).astype(np.int32)
        cv2.polylines(self._page, [fine], False, color, round(width * _FINE), cv2.LINE_AA, shift)

    def _dashes(self, x: float, top: float, *, every: float, length: float, width: float) -> None:
        for y in np.arange(top, top + self._height, every):
            self._line([(x, y), (x, min(y + length, top + self._height))], _CUT, width)

    def _text(
        self, text: str, x: float, y: float, size: float, *, weight: int = 1, right: bool = False, middle: bool = False
    ) -> float:
        """Write a line with its foot at ``y``; returns where it ends."""
        text = text.encode("ascii", "replace").decode()  # OpenCV's strokes have no other letters
        scale, thick = size * _FINE, round(weight * 1.25 * _FINE)
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)[0][0] / _FINE
        left = x - width if right else x - width / 2 if middle else x
        place = round(left * _FINE), round(y * _FINE)
        cv2.putText(self._page, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, thick, cv2.LINE_AA)
        return left + width


class _Scale:
    """Where a time and a value lie on the page; values that are too large are drawn at the upper edge."""

    def __init__(self, top: float, height: float, end: float, high: float) -> None:
        self._top, self._height, self._end, self._high = top, height, end, high

    def x(self, time: float) -> float:
        return _LEFT + time / self._end * (SIZE[0] - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self._top + self._height * (1.0 - min(max(value / self._high, 0.0), 1.0))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two ends."""
    span = max(high - low, 1e-9)
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    return [round(k * step, 9) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _running(value: np.ndarray, *, there: np.ndarray) -> np.ndarray:
    """Mean over a fiftieth of the clip, of what is known of ``value``; gaps of ``there`` stay gaps."""
    reach = max(2, len(value) // 100)
    known = np.isfinite(value)
    kernel = np.ones(min(2 * reach + 1, len(value)))
    total = np.convolve(np.where(known, value, 0.0), kernel, "same")
    count = np.convolve(known.astype(float), kernel, "same")
    return np.where(np.isfinite(there) & (count > 0.5), total / np.maximum(count, 1.0), np.nan)


def _pale(color: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(round(255 - 0.35 * (255 - part)) for part in color)
