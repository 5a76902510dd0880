"""What ``streamlight evaluate stability`` tells: figures, their meaning, and the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from streamlight.evaluation.stability import Brightness, Drift

Role = Literal["enhanced", "source", "reference"]

DEFINITIONS: Final = {
    "levels": "mean luma above black, codes of 8 bit in limited range",
    "warp_error": "mean over pairs of frames of the square error between a frame and the next one brought back by DIS "
    "flow of the guide; encoded RGB in [0, 1], pixels that both frames show; not across cuts",
    "mabd": "mean absolute difference of luma of neighbouring frames, codes of 8 bit, mean over the clip",
    "mabd_distance": "mean square error between the vector of those and the reference's",
    "brightness": "mean, variance and mean square of level less the reference's level",
    "flicker": "mean of the absolute second difference of the levels, codes of 8 bit; not across cuts",
    "steady": "warp_error_steady, flicker_steady: the same without the frames at which the level of the guide jumps, "
    "as when a lamp goes on: by more than 2 % of its mean and four times its median change together",
    "flicker_ratio": "flicker_steady over that of the guide scaled to the result's brightness",
    "flicker_relative": "standard deviation of the level less its 31-frame running mean, relative to its mean",
    "noise": "standard deviation over time in the still part of the picture, codes of 8 bit, "
    "shot by shot, 120 frames at a time",
    "drift": "of the level less the guide's scaled to it: change from the first to the last window of at most 10 s, "
    "spread over all windows, slope a minute; codes of 8 bit",
    "psnr": "dB, luma as it is, all pixels and frames; psnr_moving: within 4 pixels of where the reference changed",
    "ssim": "luma as it is, every fifth frame; ssim_moving: windows whose centre moves",
    "gt_mean": "PSNR after each frame got the reference's mean luma by one factor",
}
"""One line a figure, for reports."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one of the files; None where it cannot be said. :data:`DEFINITIONS` says what they are."""

    level: float
    warp_error: float | None
    warp_error_steady: float | None
    mabd: float
    mabd_distance: float | None
    brightness: Brightness | None
    flicker: float | None
    flicker_steady: float | None
    flicker_ratio: float | None
    flicker_relative: float | None
    noise: float | None
    drift: Drift | None
    psnr: float | None
    psnr_moving: float | None
    ssim: float | None
    ssim_moving: float | None
    gt_mean: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Figures over time, one entry a frame (``levels``), or one a pair of frames and None where nothing is told."""

    levels: list[float]
    mabd: list[float]
    warp_error: list[float | None]


@dataclass(frozen=True, slots=True)
class StabilityReport:
    """How steady a video is, beside its source and its reference.

    Attributes:
        command: How it was called.
        files: Name by role.
        guide: Whose motion counts.
        size: ``"1280x720"``.
        seconds: Time of each frame behind the first.
        cuts: Frames that begin a new shot.
        jumps: Frames at which the light of the guide jumps.
        visible: Share of the pixels that the warping error looks at.
        still: Share of the still part, mean over all stretches of 120 frames or less.
        figures: By role.
        series: By role.
    """

    command: str
    files: dict[str, str]
    guide: Role
    size: str
    seconds: list[float]
    cuts: list[int]
    jumps: list[int]
    visible: float
    still: float
    figures: dict[str, Figures]
    series: dict[str, Series]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"definitions": DEFINITIONS, "frames": len(self.seconds), **asdict(self)}

    def summary(self) -> str:
        """A Markdown table, one column a file."""
        columns = [[role, *_column(figures)] for role, figures in self.figures.items()]
        names = [
            f"{self.size}, {len(self.seconds)} frames, {len(self.cuts)} cuts, {len(self.jumps)} jumps of light",
            *_ROWS,
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in zip(names, *columns, strict=True) if any(cells[1:])]
        return "\n".join([lines[0], "|---|" + "---:|" * len(columns), *lines[1:]])


_ROWS: Final = (
    "mean luma above black",
    "E_warp, x 0.001",
    "E_warp, steady light",
    "MABD",
    "MABD distance",
    "brightness difference, mean",
    "brightness difference, variance",
    "flicker",
    "flicker, steady light",
    "flicker over guide's",
    "flicker, relative, %",
    "temporal noise",
    "drift, change",
    "drift, spread",
    "drift a minute",
    "PSNR",
    "PSNR, moving",
    "SSIM",
    "SSIM, moving",
    "PSNR, GT-mean",
)


def _column(f: Figures) -> list[str]:
    bright, drift = f.brightness, f.drift
    values: list[tuple[float | None, float, int]] = [
        (f.level, 1, 2),
        (f.warp_error, 1e3, 4),
        (f.warp_error_steady, 1e3, 4),
        (f.mabd, 1, 3),
        (f.mabd_distance, 1, 4),
        (bright.mean if bright else None, 1, 3),
        (bright.variance if bright else None, 1, 4),
        (f.flicker, 1, 4),
        (f.flicker_steady, 1, 4),
        (f.flicker_ratio, 1, 3),
        (f.flicker_relative, 100, 3),
        (f.noise, 1, 3),
        (drift.change if drift else None, 1, 3),
        (drift.spread if drift else None, 1, 3),
        (drift.per_minute if drift else None, 1, 3),
        (f.psnr, 1, 2),
        (f.psnr_moving, 1, 2),
        (f.ssim, 1, 4),
        (f.ssim_moving, 1, 4),
        (f.gt_mean, 1, 2),
    ]
    return ["" if value is None else f"{value * scale:.{digits}f}" for value, scale, digits in values]
