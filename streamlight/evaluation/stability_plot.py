"""The plot of ``streamlight evaluate stability``: mean luma, flicker and warping error over time, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from streamlight.evaluation.charts import FAINT, INK, Page, check_target, pale, ticks, write_picture
from streamlight.evaluation.stability_report import StabilityReport

SIZE: Final = (1600, 1200)
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 120, 50, 155, 70, 70

_COLORS: Final = {"source": (165, 160, 155), "reference": (90, 150, 40), "enhanced": (190, 95, 20)}
"""BGR; drawn in this order, what is judged on top."""

_Curve = tuple[np.ndarray, np.ndarray]


def check_plot_target(target: str | Path | None) -> None:
    """Refuse a plot of another kind before hours of work are spent.

    Raises:
        ConfigError: The suffix is no picture's that can be written.
    """
    check_target(target, option="--plot")


def write_plot(path: str | Path, report: StabilityReport) -> None:
    """Draw the report and write it.

    Raises:
        MediaError: The file cannot be written.
    """
    write_picture(path, draw_plot(report))


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


class _Sheet(Page):
    """A white page with three panels below one another."""

    def __init__(self, end: float, cuts: Sequence[float], jumps: Sequence[float]) -> None:
        super().__init__(SIZE)
        self._end, self._cuts, self._jumps = max(end, 1e-6), cuts, jumps
        self._height = (SIZE[1] - _TOP - _BOTTOM - 2 * _GAP) / 3

    def head(self, report: StabilityReport, roles: Sequence[str]) -> None:
        """Title and legend, with the figure of the clip that each curve stands for."""
        self.text(f"Stability of {report.files['enhanced']}", _LEFT, 48, 1.0, weight=2)
        x = float(_LEFT)
        for role in reversed(roles):
            figures = report.figures[role]
            text = role
            if figures.flicker_steady is not None:
                text += f": flicker {figures.flicker_steady:.3f}"
            if figures.warp_error_steady is not None:
                text += f", E_warp {1e3 * figures.warp_error_steady:.3f}"
            self.line([(x, 84.0), (x + 40, 84.0)], _COLORS[role], 4)
            x = self.text(text, x + 52, 90, 0.62) + 48

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
            self._curve(scale, time, value, pale(color) if smooth else color, 1 if smooth else 2)
        for role, (time, value) in curves.items() if smooth else ():
            self._curve(scale, time, _running(self._steady(time, value), there=value), _COLORS[role], 2.5)
        self.line([(_LEFT, top), (_LEFT, top + self._height), (SIZE[0] - _RIGHT, top + self._height)], INK, 1.5)
        self.text(title, _LEFT, top - 14, 0.62)

    def foot(self) -> None:
        """What the axis and the broken lines are."""
        y = SIZE[1] - _BOTTOM + 54
        self.text("seconds", SIZE[0] - _RIGHT, y, 0.55, right=True)
        told = ["figures, and bold running means, without jumps of light"]
        told += ["dashed: cut, nothing is compared across it"] if self._cuts else []
        told += ["dotted: the light of the scene jumps, higher peaks are cut off"] if self._jumps else []
        self.text("; ".join(told), _LEFT, y, 0.55)

    def _steady(self, time: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values with those that see a jump of the light taken out."""
        step = self._end / max(len(time), 1)
        out = value.copy()
        for jump in self._jumps:
            out[np.abs(time - jump + 0.5 * step) < 1.2 * step] = np.nan
        return out

    def _grid(self, scale: _Scale, top: float, high: float) -> None:
        for tick in ticks(0.0, high, 5):
            y = scale.y(tick)
            self.line([(_LEFT, y), (SIZE[0] - _RIGHT, y)], FAINT, 1)
            self.text(f"{tick:g}", _LEFT - 14, y + 6, 0.55, right=True)
        for tick in ticks(0.0, self._end, 10):
            x = scale.x(tick)
            self.line([(x, top), (x, top + self._height)], FAINT, 1)
            self.text(f"{tick:g}", x, top + self._height + 26, 0.55, middle=True)
        for times, every, length, width in ((self._cuts, 12.0, 6.0, 1.5), (self._jumps, 9.0, 2.0, 1.0)):
            for time in times:
                self.dashes(scale.x(time), top, top + self._height, every=every, length=length, width=width)

    def _curve(self, scale: _Scale, time: np.ndarray, value: np.ndarray, color: tuple[int, ...], width: float) -> None:
        points: list[tuple[float, float]] = []
        for t, v in zip(time, value, strict=True):
            if math.isfinite(v):
                points.append((scale.x(float(t)), scale.y(float(v))))
                continue
            self.line(points, color, width)
            points = []
        self.line(points, color, width)


class _Scale:
    """Where a time and a value lie on the page; values that are too large are drawn at the upper edge."""

    def __init__(self, top: float, height: float, end: float, high: float) -> None:
        self._top, self._height, self._end, self._high = top, height, end, high

    def x(self, time: float) -> float:
        return _LEFT + time / self._end * (SIZE[0] - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self._top + self._height * (1.0 - min(max(value / self._high, 0.0), 1.0))


def _running(value: np.ndarray, *, there: np.ndarray) -> np.ndarray:
    """Mean over a fiftieth of the clip, of what is known of ``value``; gaps of ``there`` stay gaps."""
    reach = max(2, len(value) // 100)
    known = np.isfinite(value)
    kernel = np.ones(min(2 * reach + 1, len(value)))
    total = np.convolve(np.where(known, value, 0.0), kernel, "same")
    count = np.convolve(known.astype(float), kernel, "same")
    return np.where(np.isfinite(there) & (count > 0.5), total / np.maximum(count, 1.0), np.nan)
