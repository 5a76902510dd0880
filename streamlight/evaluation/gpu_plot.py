"""The plot of ``streamlight bench gpu``: who worked when, for some twenty frames of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from streamlight.evaluation.charts import FAINT, INK, Color, Page, ticks

if TYPE_CHECKING:
    from streamlight.evaluation.gpu_bench import GpuBench, GpuResult

_WIDE: Final = 1600
_LEFT, _RIGHT, _TOP, _ROW, _BAR, _FOOT = 250, 130, 140, 58, 34, 90
_COLORS: Final[dict[str, Color]] = {
    "decode": (160, 60, 150),
    "take in": (20, 140, 220),
    "upload": (20, 140, 220),
    "compute": (190, 95, 20),
    "download": (60, 60, 200),
    "encode": (90, 150, 40),
}
"""BGR, by lane."""


class _Page(Page):
    """A page with filled boxes."""

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """At least a hair wide, so that nothing that was done is invisible."""
        right = max(right, left + 0.75)
        fine = self._page.shape[1] / self.size[0] * 16.0  # the page is drawn larger; places in sixteenths
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        cv2.fillPoly(self._page, [np.rint(corners * fine).astype(np.int32)], color, cv2.LINE_AA, 4)


def draw_spans(bench: GpuBench) -> np.ndarray | None:
    """``(H, W, 3)`` uint8 BGR, one panel a pipeline; None where no pipeline was measured."""
    shown = [result for result in bench.results if result.case == "pipeline" and result.sample.spans]
    if not shown:
        return None
    panels = [_panel(bench, result) for result in shown]
    return np.concatenate(panels)


def _panel(bench: GpuBench, result: GpuResult) -> np.ndarray:
    notes, figures, spans = result.sample.notes, result.sample.figures, result.sample.spans
    lanes = [lane for lane in _COLORS if any(one[0] == lane for one in spans)]
    page = _Page((_WIDE, _TOP + len(lanes) * _ROW + _FOOT))
    page.text(f"Who works when: {result.row}, {notes.get('picture', '?')}, {result.clip}", 60, 48, 1.0, weight=2)
    card = bench.device if bench.device.startswith("cuda") else f"{bench.device}, not a card"
    told = [f"on {card}"]
    if "fps" in figures:
        told.append(f"{figures['fps']:.1f} frames a second end to end")
    if "of_slowest" in figures:
        told.append(f"{figures['of_slowest']:.2f} of the slowest stage alone")
    page.text(", ".join(told) + "; shades: frames in turn; grey: compute, for comparison", 60, 84, 0.6)
    end = 1e3 * max(one[3] for one in spans if one[0] == "compute")
    scale = (_WIDE - _LEFT - _RIGHT) / end
    bottom = _TOP + len(lanes) * _ROW
    for tick in ticks(0.0, end, 10):
        x = _LEFT + tick * scale
        page.line([(x, _TOP - 8), (x, bottom)], FAINT, 1)
        page.text(f"{tick:g}", x, bottom + 26, 0.55, middle=True)
    page.text("milliseconds", _WIDE - _RIGHT, bottom + 56, 0.55, right=True)
    page.text("busy", _WIDE - 60, _TOP - 14, 0.55, right=True)
    for row, lane in enumerate(lanes):
        _lane(page, lane, _TOP + row * _ROW, spans, scale, end)
        share = notes.get("busy", {}).get(lane)
        foot = _TOP + row * _ROW + _ROW / 2 + 7
        name = lane if lane not in notes.get("hidden", {}) else f"{lane}, {notes['hidden'][lane]:.0%} hidden"
        page.text(name, _LEFT - 16, foot, 0.55, right=True)
        if share is not None:
            page.text(f"{share:.0%}", _WIDE - 60, foot, 0.55, right=True)
    page.line([(_LEFT, _TOP - 8), (_LEFT, bottom), (_WIDE - _RIGHT, bottom)], INK, 1.5)
    return page.picture()


def _lane(
    page: _Page, lane: str, top: float, spans: Sequence[tuple[str, int, float, float]], scale: float, end: float
) -> None:
    """The spans of one lane, neighbours in two shades; behind copies, in grey, where the compute lane worked."""
    high = top + (_ROW - _BAR) / 2
    if lane in ("take in", "upload", "download"):
        _boxes(page, (top + 4, top + _ROW - 4), spans, "compute", scale, end, (FAINT, FAINT))
    _boxes(page, (high, high + _BAR), spans, lane, scale, end, (_COLORS[lane], _lighter(_COLORS[lane])))


def _boxes(
    page: _Page,
    height: tuple[float, float],
    spans: Sequence[tuple[str, int, float, float]],
    lane: str,
    scale: float,
    end: float,
    shades: tuple[Color, Color],
) -> None:
    for name, index, begin, finish in spans:
        left, right = max(0.0, 1e3 * begin), min(end, 1e3 * finish)
        if name == lane and right >= left:
            page.box(_LEFT + left * scale, height[0], _LEFT + right * scale, height[1], shades[index % 2])


def _lighter(color: Color) -> Color:
    return tuple(round(255 - 0.6 * (255 - part)) for part in color)
