"""What the live benchmark reports, and the cameras it rehearses with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from streamlight.evaluation.live_process import Seen
from streamlight.evaluation.scenes import RATE, scene_frames
from streamlight.media.clips import write_clip
from streamlight.media.encode import EncodeSettings

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        case: What was rehearsed.
        figure: What was measured.
        value: What came out.
        unit: Of the value; empty for counts and ratios.
        most: It is to be at most this; None without such a goal.
        least: It is to be at least this.
        note: What else is to be known.
    """

    case: str
    figure: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without a goal."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a value that never came is None."""
        value = self.value if np.isfinite(self.value) else None
        rest = {key: getattr(self, key) for key in ("unit", "most", "least", "note", "met")}
        return {"case": self.case, "figure": self.figure, "value": value, **rest}


def camera_clip(folder: Path, size: tuple[int, int], *, seconds: int = 4) -> Path:
    """A dark, noisy view as a camera sends it: H.264 without B-frames, a key frame every second, 30 a second.

    Args:
        folder: Where it is written; an earlier one is taken as it is.
        size: Width and height, even.
        seconds: Length.
    """
    width, height = size
    path = folder / f"camera-{width}x{height}.mp4"
    if not path.exists():
        frames = scene_frames("dark", frames=int(seconds * RATE), width=width, height=height)
        settings = EncodeSettings(codec="h264", quality=20, preset="veryfast", gop=int(RATE))
        write_clip(path, frames, settings=settings, rate=RATE, options={"bf": "0", "sc_threshold": "0"})
    return path


def percentiles(frames: Sequence[Seen]) -> dict[str, float]:
    """p50, p95, p99 and the largest latency of frames, in milliseconds; infinity without frames."""
    values = [1e3 * frame.latency for frame in frames]
    if not values:
        return dict.fromkeys(("p50", "p95", "p99", "max"), float("inf"))
    found = {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}
    return found | {"max": max(values)}


def age(case: str, frames: Sequence[Seen]) -> list[Row]:
    """How old pictures are when they are handed over, by the camera's own clock; no row where no camera told."""
    ages = [1e3 * frame.age for frame in frames if frame.age is not None]
    if not ages:
        return []
    return [Row(case, "age by the camera's clock p95", float(np.percentile(ages, 95)), "ms")]


def rate_of(frames: Sequence[Seen]) -> float:
    """Frames a second, from their number and span."""
    return (len(frames) - 1) / (frames[-1].at - frames[0].at) if len(frames) > 1 else 0.0


def unaccounted(camera: dict[str, Any]) -> int:
    """Frames of a camera's report that went in and are neither out nor dropped."""
    frames = camera["frames"]
    return int(frames["in"]) - int(frames["out"]) - sum(camera["dropped"].values())


def causes(camera: dict[str, Any]) -> str:
    """Drops of a camera's report by cause, in words."""
    return ", ".join(f"{count} {cause}" for cause, count in sorted(camera["dropped"].items()) if count) or "none"


def backwards(frames: Sequence[Seen]) -> int:
    """How many frames have a timestamp that does not exceed the one before."""
    return sum(after.pts <= before.pts for before, after in pairwise(frames))
