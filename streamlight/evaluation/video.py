"""Video quality: what ``streamlight evaluate video`` measures.

Clips are decoded and enhanced as ``streamlight enhance`` does it, frame after frame with the memory of a stream, and
measured before they would be encoded again. The first 30 frames only warm the memory up. Darkened clips have a
reference (:mod:`streamlight.evaluation.darkened`); of other clips only noise, flicker and gain are told. What the
figures are is said in :mod:`streamlight.evaluation.luma`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.contenders import INPUT, Contender
from streamlight.evaluation.darkened import CLIPS, CODINGS, FRAMES, darkened
from streamlight.evaluation.luma import (
    STILL_CLEAN,
    STILL_DARK,
    LumaFigures,
    LumaMeter,
    StillPart,
    moving_pixels,
)
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.media import Frame, open_source

WARM_UP: Final = 30

DEFINITIONS: Final = {
    "frames": f"the first {FRAMES}, of which {WARM_UP} warm the memory up and are not measured",
    "picture": "luma as decoded and enhanced, before any encoding",
    "psnr": "dB, square error averaged over all pixels and frames",
    "gt_mean": "the same after each frame was multiplied by the ratio of the reference's mean luma to its own, clipped",
    "moving": "GT-mean over pixels within 4 of where the 3x3 mean of the clean luma changed by more than 6 codes",
    "static": "GT-mean over the other pixels",
    "ssim": "luma after GT-mean, every fifth frame; window as for pictures",
    "gain": "mean luma above black over the dark clip's",
    "noise": "standard deviation over time in the still part of the picture, over gain times that of the dark clip",
    "flicker": "standard deviation of the mean luma less its 31-frame running mean, relative to the mean luma above "
    "black, over that of the dark clip",
    "ms": "the enhancer alone, a frame, on the machine as it was; not a benchmark",
}
"""One line a figure, for reports."""

_COLUMNS: Final = {
    "psnr": ("PSNR", 2),
    "gt_mean": ("GT-mean", 2),
    "moving": ("moving", 2),
    "static": ("static", 2),
    "ssim": ("SSIM", 4),
    "gain": ("gain", 2),
    "noise": ("noise", 2),
    "flicker": ("flicker", 2),
    "ms": ("ms", 1),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender reaches on one clip, or on the mean of some; None where it cannot be said.

    Attributes:
        psnr, gt_mean, moving, static: dB.
        ssim: At most 1.
        gain: Brightness over the dark clip's.
        noise: Temporal noise over gain times that of the dark clip.
        flicker: Relative flicker over that of the dark clip.
        ms: Milliseconds a frame in the enhancer.
    """

    psnr: float | None
    gt_mean: float | None
    moving: float | None
    static: float | None
    ssim: float | None
    gain: float | None
    noise: float | None
    flicker: float | None
    ms: float | None


@dataclass(frozen=True, slots=True)
class ClipReport:
    """One clip.

    Attributes:
        name: Of the clip.
        group: Its coding, if it was darkened here; clips of a group are averaged.
        size: ``"768x576"``.
        frames: Frames measured.
        moving: Share of the moving pixels; None without a reference.
        still: Share of the still part.
        noise: Temporal noise of the dark clip in its still part, codes of 8 bit.
        flicker: Relative flicker of the dark clip.
        rows: By the contenders' labels; the dark clip itself is ``"input"``.
    """

    name: str
    group: str
    size: str
    frames: int
    moving: float | None
    still: float
    noise: float | None
    flicker: float | None
    rows: dict[str, Row]


@dataclass(frozen=True, slots=True)
class VideoReport:
    """What was measured, with what, on what, by which command.

    Attributes:
        command: How it was called.
        machine: Where.
        models: Card, settings and weights file by label.
        clips: In order.
    """

    command: str
    machine: Machine
    models: dict[str, dict[str, Any]]
    clips: list[ClipReport]

    def means(self) -> dict[str, dict[str, Row]]:
        """Group of clips → label → mean over the clips, each counting once."""
        groups = {clip.group: [c for c in self.clips if c.group == clip.group] for clip in self.clips if clip.group}
        return {
            group: {label: _mean([clip.rows[label] for clip in clips]) for label in clips[0].rows}
            for group, clips in groups.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        means = {group: {label: asdict(row) for label, row in rows.items()} for group, rows in self.means().items()}
        return {
            "command": self.command,
            "machine": self.machine.to_dict(),
            "models": self.models,
            "definitions": DEFINITIONS,
            "mean": means,
            "clips": [asdict(clip) for clip in self.clips],
        }

    def summary(self) -> str:
        """Markdown tables: the means of the groups, and clips that are in none."""
        return self._tables([clip for clip in self.clips if not clip.group])

    def markdown(self) -> str:
        """The report as a Markdown page: command, machine, means, definitions, every clip."""
        parts = [
            "# Video quality",
            f"    {self.command}" if self.command else "",
            "\n".join(f"{line}  " for line in self.machine.lines()).rstrip(),
            *(_weights(label, about) for label, about in self.models.items() if about["weights"]),
            "\n".join(f"* {name}: {text}" for name, text in DEFINITIONS.items()),
            self._tables(self.clips),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _tables(self, clips: Sequence[ClipReport]) -> str:
        tables = [_table(f"{group}, mean", rows) for group, rows in self.means().items()]
        return "\n\n".join([*tables, *(_table(f"{clip.name}, {clip.size}", clip.rows) for clip in clips)])


def evaluate_video(
    contenders: Sequence[Contender],
    *,
    data: str | Path | None = None,
    clips: Sequence[str | Path] = (),
    frames: int = FRAMES,
    cache: str | Path | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> VideoReport:
    """Enhance clips with every contender and measure what comes out.

    Args:
        contenders: At least one; the dark clip itself is always told.
        data: Folder of the data whose clean clips are darkened; None for none.
        clips: Dark clips without a reference.
        frames: How many are taken, the first 30 to warm up.
        cache: Folder to keep the darkened clips in.
        command: How this was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: There is nothing to measure, two contenders have one label, or a model does not take its settings.
        MediaError: A clip cannot be read or is too short.
        ModelError: A model cannot be loaded.
        DeviceError: The device is not there.
    """
    labels = [contender.label for contender in contenders]
    if data is None and not clips:
        raise ConfigError("there is nothing to measure: give the folder of the data (--data) or clips (--clip)")
    if not labels or len(set(labels)) < len(labels):
        raise ConfigError(f"expected one or more contenders with different names, got {', '.join(labels) or 'none'}")
    if frames < WARM_UP + 2:
        raise ConfigError(f"at least {WARM_UP + 2} frames are needed, {WARM_UP} of them to warm up, got {frames}")
    models = {contender.label: _about(contender) for contender in contenders if contender.baseline != INPUT}
    reports = []
    for name, kind in CLIPS.items() if data is not None else ():
        assert data is not None
        progress(f"{Path(name).stem}: made dark")
        with darkened(Path(data, name), camera=kind, frames=frames, cache=cache) as versions:
            for coding, clip in zip(CODINGS, versions, strict=True):
                job = _Clip(clip.name, clip.path, frames, clip.reference)
                reports.append(job.report(contenders, group=coding, progress=progress))
    for path in clips:
        job = _Clip(Path(path).name, Path(path), frames, None)
        reports.append(job.report(contenders, group="", progress=progress))
    return VideoReport(command, describe_machine(), models, reports)


class _Clip:
    """A clip with what all contenders are measured against."""

    def __init__(self, name: str, path: Path, frames: int, reference: list[np.ndarray] | None) -> None:
        self._name, self._path, self._frames, self._reference = name, path, frames, reference
        self._moving: dict[int, np.ndarray] = {}
        if reference is not None:
            pairs = range(WARM_UP, frames)
            self._moving = {index: moving_pixels(reference[index - 1], reference[index]) for index in pairs}

    def report(self, contenders: Sequence[Contender], *, group: str, progress: Callable[[str], None]) -> ClipReport:
        """Measure the dark clip, then every contender."""
        progress(f"{self._name}: {INPUT}")
        still = StillPart(within=STILL_DARK if self._reference is None else STILL_CLEAN)
        dark: LumaMeter | None = None
        size, measured = "", 0
        for index, frame in self._frames_of():
            dark = dark or LumaMeter(frame.color)
            still.add(dark.codes(frame.planes[0]) if self._reference is None else self._reference[index])
            self._add(dark, index, frame)
            size, measured = f"{frame.width}x{frame.height}", measured + 1
        if dark is None or measured < 2:
            raise MediaError(f"{self._path}: has fewer than {WARM_UP + 2} frames")
        mask = still.mask()
        own = dark.figures(dark=dark, still=mask)
        rows = {INPUT: _row(own, own, None)}
        for contender in contenders:
            if contender.baseline != INPUT:
                progress(f"{self._name}: {contender.label}")
                meter, ms = self._measure(contender)
                rows[contender.label] = _row(meter.figures(dark=dark, still=mask), own, ms)
        moving = float(np.mean([m.mean() for m in self._moving.values()])) if self._moving else None
        return ClipReport(self._name, group, size, measured, moving, float(mask.mean()), own.noise, own.flicker, rows)

    def _measure(self, contender: Contender) -> tuple[LumaMeter, float]:
        seconds: list[float] = []
        meter: LumaMeter | None = None
        with closing(contender.open()) as enhancer:
            for index, frame in self._frames_of(enhancer, seconds):
                meter = meter or LumaMeter(frame.color)
                self._add(meter, index, frame)
        assert meter is not None
        return meter, 1e3 * median(seconds)

    def _frames_of(
        self, enhancer: Enhancer | None = None, seconds: list[float] | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """The frames to measure with their numbers, enhanced; ``seconds`` gets what each took."""
        state = enhancer.new_state() if enhancer is not None else None
        with open_source(self._path) as source:
            for index, frame in enumerate(islice(source.frames(), self._frames)):
                begin = time.perf_counter()
                if enhancer is not None and state is not None:
                    enhancer([frame], [state])
                if index >= WARM_UP:
                    if seconds is not None:
                        seconds.append(time.perf_counter() - begin)
                    yield index, frame

    def _add(self, meter: LumaMeter, index: int, frame: Frame) -> None:
        reference = None if self._reference is None else self._reference[index]
        meter.add(frame.planes[0], reference=reference, moving=self._moving.get(index))


def _about(contender: Contender) -> dict[str, Any]:
    with closing(contender.open()) as enhancer:
        return contender.describe(enhancer)


def _row(own: LumaFigures, dark: LumaFigures, ms: float | None) -> Row:
    noise = own.noise / (own.gain * dark.noise) if own.noise is not None and dark.noise and own.gain > 0 else None
    flicker = own.flicker / dark.flicker if own.flicker is not None and dark.flicker else None
    return Row(own.psnr, own.gt_mean, own.moving, own.static, own.ssim, own.gain, noise, flicker, ms)


def _mean(rows: Sequence[Row]) -> Row:
    """What one of the rows does not have, the mean does not have either."""
    values: dict[str, float | None] = {}
    for key in _COLUMNS:
        column = [getattr(row, key) for row in rows]
        values[key] = None if None in column else math.fsum(column) / len(column)
    return Row(**values)


def _table(title: str, rows: dict[str, Row]) -> str:
    keys = [key for key in _COLUMNS if any(getattr(row, key) is not None for row in rows.values())]
    cells = [[title.replace("|", "\\|"), *(_COLUMNS[key][0] for key in keys)]]
    for label, row in rows.items():
        cells.append([label.replace("|", "\\|"), *(_shown(getattr(row, key), _COLUMNS[key][1]) for key in keys)])
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([lines[0], f"|---|{'---:|' * len(keys)}", *lines[1:]])


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _weights(label: str, about: dict[str, Any]) -> str:
    return f"{label}: {about['weights']['file']}, SHA-256 {about['weights']['sha256']}."
