"""What ``streamlight bench temporal`` tells: measures, their goals, and what was reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table; give ``most`` or ``least`` where there is a goal.

    Attributes:
        title: What is measured, in words.
        kind: What the goal is about: ``after / before``, ``after - before``, or ``after`` itself.
        most: The goal: at most this.
        least: The goal: at least this.
        scale: Figures are printed times this.
        digits: Behind the point, for ``before`` and ``after``; None for three that count.
        unit: Behind the figures.
    """

    title: str
    kind: Literal["ratio", "difference", "value"]
    most: float | None = None
    least: float | None = None
    scale: float = 1.0
    digits: int | None = 2
    unit: str = ""

    def printed(self, value: float) -> str:
        """A figure as it stands in the table."""
        return f"{value * self.scale:.{self.digits}f}" if self.digits is not None else f"{value * self.scale:.3g}"

    @property
    def goal(self) -> str:
        """The goal in a few signs; empty without one."""
        limit, sign = (self.most, "≤") if self.most is not None else (self.least, "≥")
        if limit is None:
            return ""
        if self.kind == "ratio":
            return f"{sign} {limit:g} times"
        return f"{sign} {limit:+g}{self.unit}" if self.kind == "difference" else f"{sign} {limit:g}{self.unit}"


MEASURES: Final[dict[str, Measure]] = {
    "warp_1": Measure("E_warp, x 0.001, temperature 1", "ratio", most=0.33, scale=1e3, digits=3),
    "warp_1_same": Measure("… beside one noise for all frames", "ratio", scale=1e3, digits=3),
    "warp_0": Measure("E_warp, x 0.001, temperature 0", "ratio", most=0.7, scale=1e3, digits=3),
    "warp_clean": Measure("… beside that of the clean frames", "ratio", scale=1e3, digits=3),
    "flicker_1": Measure("flicker of mean luma, temperature 1", "ratio", most=0.25, digits=3),
    "flicker_1_clean": Measure("… beside that of the clean frames", "ratio", most=1.1, digits=3),
    "flicker_0": Measure("flicker of mean luma, temperature 0", "ratio", most=0.25, digits=3),
    "flicker_0_clean": Measure("… beside that of the clean frames", "ratio", most=1.1, digits=3),
    "psnr_1": Measure("PSNR, temperature 1", "difference", least=0.0, unit=" dB"),
    "moving_1": Measure("PSNR of moving pixels, temperature 1", "difference", least=-0.2, unit=" dB"),
    "psnr_0": Measure("PSNR, temperature 0", "difference", least=0.0, unit=" dB"),
    "moving_0": Measure("PSNR of moving pixels, temperature 0", "difference", least=-0.2, unit=" dB"),
    "cut": Measure("first frame behind a cut, largest difference to a cold start", "value", most=1e-3, digits=4),
    "still_drift": Measure("still scene, drift of mean luma", "value", most=0.5, digits=3, unit="/255"),
    "still_memory": Measure("still scene, memory at the end over that early on", "value", most=1.02, digits=3),
    "warm": Measure("4 warm steps beside 25 cold ones, PSNR", "difference", least=-0.3, unit=" dB"),
    "warm_speed": Measure("4 warm steps beside 25 cold ones, frames a core-second", "ratio", least=6.0, digits=None),
    "guided": Measure("guided at 1080p beside direct, PSNR", "difference", least=-1.0, unit=" dB"),
    "guided_speed": Measure("guided at 1080p beside direct, frames a core-second", "ratio", least=20.0, digits=None),
    "keyed": Measure("guided, a key frame in three, beside direct, PSNR", "difference", least=-1.0, unit=" dB"),
    "keyed_speed": Measure(
        "guided, a key frame in three, beside direct, frames a core-second", "ratio", least=20.0, digits=None
    ),
    "overhead": Measure("what temporal adds to a frame of 1080p, on one core", "value", most=6.0, unit=" ms"),
}
"""By key, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one model.

    Attributes:
        measure: Key of :data:`MEASURES`.
        model: Label.
        after: What the product reaches.
        before: What it is compared with: frame by frame, direct, cold; None where there is nothing.
        note: How it was measured where that differs from model to model, for example how many frames.
    """

    measure: str
    model: str
    after: float
    before: float | None = None
    note: str = ""

    @property
    def figure(self) -> float | None:
        """What the goal is about; None where it cannot be said."""
        kind = MEASURES[self.measure].kind
        if kind == "value":
            return self.after
        if self.before is None:
            return None
        if kind == "difference":
            return self.after - self.before
        return self.after / self.before if self.before else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        measure, figure = MEASURES[self.measure], self.figure
        if figure is None or (measure.most is None and measure.least is None):
            return None
        if measure.most is not None:
            return figure <= measure.most
        return measure.least is not None and figure >= measure.least

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with title, goal and result."""
        measure = MEASURES[self.measure]
        told = {"title": measure.title, "goal": measure.goal, "figure": self.figure, "met": self.met}
        return {**asdict(self), **told}

    def cell(self) -> str:
        """``before → after: figure``, in bold where the goal is missed."""
        measure = MEASURES[self.measure]
        after = measure.printed(self.after)
        if measure.kind == "value" or self.before is None:
            text = after
        else:
            figure = "" if self.figure is None else f"{self.figure:{'+' if measure.kind == 'difference' else ''}.2f}"
            text = f"{measure.printed(self.before)} → {after}: {figure}"
        return f"**{text}**" if self.met is False else text


def table(rows: Iterable[Row]) -> str:
    """A Markdown table, one column a model, one line a measure; what misses its goal is bold."""
    rows = list(rows)
    models = list(dict.fromkeys(row.model for row in rows))
    found = {(row.measure, row.model): row for row in rows}
    lines = [f"| | goal | {' | '.join(models)} |", "|---|---|" + "---|" * len(models)]
    for key, measure in MEASURES.items():
        cells = [found[key, model].cell() if (key, model) in found else "" for model in models]
        if any(cells):
            lines.append(f"| {measure.title} | {measure.goal} | {' | '.join(cells)} |")
    return "\n".join(lines)
