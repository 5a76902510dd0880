"""The plots of ``streamlight bench temporal``: steadiness against fidelity, mean luma over time, and over minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

import numpy as np

from streamlight.evaluation.charts import FAINT, INK, Color, Page, pale, ticks
from streamlight.evaluation.temporal_bench import TemporalBench
from streamlight.evaluation.temporal_parts import SETTLED
from streamlight.evaluation.temporal_ways import Taken
from streamlight.evaluation.truth import RATE

_WIDE: Final = 1600
_COLORS: Final[tuple[Color, ...]] = (
    (190, 95, 20),
    (60, 60, 200),
    (90, 150, 40),
    (160, 60, 150),
    (20, 140, 220),
    (140, 140, 20),
)
"""BGR, one a model, then again from the start."""
_CLEAN: Final[Color] = (90, 150, 40)
_ANEW: Final[Color] = (165, 160, 155)
_STEADY: Final[Color] = (190, 95, 20)
_DRIFT: Final = 0.5 * 219.0 / 255.0
"""The goal, in the codes that mean luma is told in."""

_SETTLED: Final = round(SETTLED / RATE)
"""Seconds."""


def draw_plots(bench: TemporalBench) -> dict[str, np.ndarray]:
    """By name, ``(H, W, 3)`` uint8 BGR; a plot of what was not measured is left out."""
    found: dict[str, np.ndarray] = {}
    if any(one.temperature is not None for one in bench.taken):
        found["stability"] = _trade(bench)
    if bench.taken:
        found["luma"] = _luma(bench)
    if any(len(means) > _SETTLED for means in bench.still.values()):
        found["still"] = _still(bench)
    return found


@dataclass(frozen=True, slots=True)
class _Axes:
    """A rectangle of a page, and what its edges stand for."""

    page: Page
    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + self.width * across, self.top + self.height * (1.0 - up)

    def grid(self, title: str, below: str, *, across: int = 8, up: int = 5) -> None:
        for tick in ticks(*self.y, up):
            _, y = self.place(self.x[0], tick)
            self.page.line([(self.left, y), (self.left + self.width, y)], FAINT, 1)
            self.page.text(f"{tick:g}", self.left - 12, y + 6, 0.55, right=True)
        for tick in ticks(*self.x, across):
            x, _ = self.place(tick, self.y[0])
            self.page.line([(x, self.top), (x, self.top + self.height)], FAINT, 1)
            self.page.text(f"{tick:g}", x, self.top + self.height + 26, 0.55, middle=True)
        corner = self.left, self.top + self.height
        self.page.line([(self.left, self.top), corner, (self.left + self.width, corner[1])], INK, 1.5)
        self.page.text(title, self.left, self.top - 14, 0.62)
        self.page.text(below, self.left + self.width, self.top + self.height + 54, 0.55, right=True)

    def curve(self, x: Sequence[float], y: Sequence[float], color: Color, width: float) -> None:
        self.page.line([self.place(*point) for point in zip(x, y, strict=True)], color, width)


def _trade(bench: TemporalBench) -> np.ndarray:
    """E_warp over that of frame by frame, against PSNR of moving pixels less that of frame by frame."""
    page = Page((_WIDE, 760))
    page.text("Steadiness against fidelity, stability 0 to 1", 110, 48, 1.0, weight=2)
    labels = [
        label for label in bench.models if any(o.model == label and o.temperature is not None for o in bench.taken)
    ]
    x = 110.0
    for label in labels:
        page.line([(x, 84.0), (x + 40, 84.0)], _color(bench, label), 4)
        x = page.text(label, x + 52, 90, 0.62) + 48
    page.text("large dot: the default; black lines meet at frame by frame; numbers: stability", x, 90, 0.55)
    width = (_WIDE - 2 * 110 - 100) / 2
    for column, temperature in enumerate((1.0, 0.0)):
        curves = {label: _curve(bench.taken, label, temperature) for label in labels}
        points = [point[1:] for curve in curves.values() for point in curve] or [(1.0, 0.0)]
        high = max(1.05, 1.1 * max(p[0] for p in points))
        ends = min(-0.3, *(p[1] for p in points)), max(0.3, *(p[1] for p in points))
        margin = 0.08 * (ends[1] - ends[0])
        axes = _Axes(
            page, 110 + column * (width + 110), 150, width, 500, (0.0, high), (ends[0] - margin, ends[1] + margin)
        )
        axes.grid(
            f"temperature {temperature:g}: PSNR of moving pixels less frame by frame, dB",
            "E_warp over frame by frame: steadier to the left",
        )
        axes.curve((1.0, 1.0), axes.y, INK, 1)
        axes.curve(axes.x, (0.0, 0.0), INK, 1)
        for label, curve in curves.items():
            color = _color(bench, label)
            axes.curve([p[1] for p in curve], [p[2] for p in curve], color, 2)
            for stability, warp, psnr in curve:
                place = axes.place(warp, psnr)
                page.dot(*place, color, 7 if stability == bench.stability else 4)
                if stability in (curve[0][0], curve[-1][0]):
                    page.text(f"{stability:g}", place[0] + 9, place[1] - 8, 0.5)
    return page.picture()


def _curve(taken: Sequence[Taken], label: str, temperature: float) -> list[tuple[float, float, float]]:
    """Stability, E_warp and PSNR of moving pixels beside frame by frame, of a model, in order of stability."""

    def means(stability: float | None) -> tuple[float, float] | None:
        of = [o for o in taken if (o.model, o.stability, o.temperature) == (label, stability, temperature)]
        warps = [o.warp_error for o in of if o.warp_error is not None]
        moving = [o.psnr_moving for o in of if o.psnr_moving is not None]
        return (fmean(warps), fmean(moving)) if warps and moving else None

    anew = means(None)
    values = sorted({o.stability for o in taken if o.model == label and o.stability is not None})
    found = [(value, means(value)) for value in values]
    if anew is None or not anew[0]:
        return []
    return [(value, own[0] / anew[0], own[1] - anew[1]) for value, own in found if own is not None]


def _luma(bench: TemporalBench) -> np.ndarray:
    """Mean luma of the first clip over time, one panel a model."""
    clip = next(iter(bench.clips))
    labels = list(bench.models)
    panel, top = 190, 150
    page = Page((_WIDE, top + len(labels) * (panel + 75)))
    page.text(f"Mean luma above black, codes of 8 bit: {clip}", 110, 48, 1.0, weight=2)
    x = 110.0
    for text, color in (("clean, as bright", _CLEAN), ("frame by frame", _ANEW), ("as a stream", _STEADY)):
        page.line([(x, 84.0), (x + 40, 84.0)], color, 4)
        x = page.text(text, x + 52, 90, 0.62) + 48
    for row, label in enumerate(labels):
        of = [one for one in bench.taken if (one.model, one.clip) == (label, clip) and one.temperature in (1.0, None)]
        anew = next((one.levels for one in of if one.stability is None), [])
        steady = next((one for one in of if one.stability == bench.stability), None)
        if not anew or steady is None:
            continue
        clean = _as_bright(steady, bench.cuts.get(clip))
        every = [*anew, *steady.levels, *clean]
        margin = 0.1 * (max(every) - min(every)) + 0.05
        count = len(anew)
        ends = (min(every) - margin, max(every) + margin)
        axes = _Axes(page, 110, top + row * (panel + 75), _WIDE - 160, panel, (0.0, count - 1.0), ends)
        axes.grid(label, "frame" if row == len(labels) - 1 else "", across=12, up=4)
        for levels, color in ((clean, _CLEAN), (anew, _ANEW), (steady.levels, _STEADY)):
            axes.curve(range(count), levels, color, 2.5)
    return page.picture()


def _as_bright(taken: Taken, cut: int | None) -> list[float]:
    """The clean levels, each shot at the brightness of the result."""
    ends = [0, *([cut] if cut else []), len(taken.levels)]
    shots = [slice(start, end) for start, end in pairwise(ends)]
    factors = [fmean(taken.levels[shot]) / max(fmean(taken.clean_levels[shot]), 1e-6) for shot in shots]
    pairs = zip(factors, shots, strict=True)
    return [factor * level for factor, shot in pairs for level in taken.clean_levels[shot]]


def _still(bench: TemporalBench) -> np.ndarray:
    """Mean luma of every second of the still scene, less that of the first ten that count."""
    page = Page((_WIDE, 620))
    page.text("A scene that stands still: drift of mean luma, codes of 8 bit", 110, 48, 1.0, weight=2)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for label, every in bench.still.items():
        means = every[_SETTLED:]
        if means:
            start = fmean(means[:_SETTLED])
            curves[label] = [_SETTLED + index + 0.5 for index in range(len(means))], [mean - start for mean in means]
    values = [value for _, drift in curves.values() for value in drift]
    end = max(seconds[-1] for seconds, _ in curves.values())
    low, high = min(-1.2 * _DRIFT, *values), max(1.2 * _DRIFT, *values)
    axes = _Axes(page, 110, 150, _WIDE - 160, 380, (0.0, end), (low, high))
    axes.grid("mean of each second less the first ten seconds after settling; grey: the goal", "seconds")
    for edge in (-_DRIFT, _DRIFT):
        axes.curve((0.0, end), (edge, edge), pale(INK), 2)
    x = 110.0
    for label, (seconds, drift) in curves.items():
        color = _color(bench, label)
        axes.curve(seconds, drift, color, 2)
        page.line([(x, 84.0), (x + 40, 84.0)], color, 4)
        x = page.text(label, x + 52, 90, 0.62) + 48
    return page.picture()


def _color(bench: TemporalBench, label: str) -> Color:
    return _COLORS[list(bench.models).index(label) % len(_COLORS)]
