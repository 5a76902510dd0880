"""How steady an enhanced video is: what ``streamlight evaluate stability`` measures.

Files are read side by side, frame by frame; two frames of each are in memory at a time. Sizes and numbers of frames
must agree. Flow, shots and the still part of the picture are those of the *guide*: the reference, or without one the
source. The measures are in :mod:`streamlight.evaluation.stability` and :mod:`streamlight.evaluation.luma`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Final

import numpy as np

from streamlight.enhance.color import rgb_from_planes
from streamlight.errors import MediaError
from streamlight.evaluation import luma as luma_of
from streamlight.evaluation import stability
from streamlight.evaluation.fidelity import Fidelity, weighted
from streamlight.evaluation.flow import brightened, estimate_flow, same_shot, visible
from streamlight.evaluation.stability_report import Figures, Role, Series, StabilityReport
from streamlight.media import ColorSpec, Frame, Source, open_source

BLACK, SPAN = 16.0, 219.0
SMALLEST: Final = 16
LEAST_FRAMES: Final = 3
LEAST_SHOT: Final = 8
"""Frames of a shot below which its temporal noise is not told."""


def evaluate_stability(
    enhanced: str | Path,
    *,
    source: str | Path,
    reference: str | Path | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> StabilityReport:
    """Measure how steady a video is.

    Args:
        enhanced: The video that is judged.
        source: The dark one it was made of.
        reference: The clean one that it should be, if there is one.
        command: How this was called, for the record.
        progress: Told what is being done, now and then.

    Raises:
        MediaError: A file cannot be read; the files differ in size or in the number of frames; there are fewer than 3
            frames, or they are smaller than 16x16.
    """
    paths: dict[Role, Path] = {"enhanced": Path(enhanced), "source": Path(source)}
    if reference is not None:
        paths["reference"] = Path(reference)
    with ExitStack() as stack:
        opened = {role: stack.enter_context(open_source(path, tonemap=True)) for role, path in paths.items()}
        width, height = _common_size(paths, opened)
        meter = _Meter(tuple(paths))
        for index, frames in enumerate(_in_step(paths, opened)):
            meter.add(dict(zip(paths, frames, strict=True)))
            if (index + 1) % 50 == 0:
                progress(f"{index + 1} frames")
    if meter.frames < LEAST_FRAMES:
        raise MediaError(f"{enhanced}: has {meter.frames} frames, stability needs {LEAST_FRAMES} or more")
    return meter.report(command, {role: path.name for role, path in paths.items()}, f"{width}x{height}")


def _common_size(paths: dict[Role, Path], opened: dict[Role, Source]) -> tuple[int, int]:
    sizes = {role: (source.info.width, source.info.height) for role, source in opened.items()}
    width, height = sizes["enhanced"]
    for role, size in sizes.items():
        if size != (width, height):
            raise MediaError(
                f"{paths[role]}: is {size[0]}x{size[1]}, {paths['enhanced']} is {width}x{height}; "
                "pixels are compared one by one, so all files must have the same size"
            )
    if min(width, height) < SMALLEST:
        raise MediaError(f"{paths['enhanced']}: is {width}x{height}, at least {SMALLEST}x{SMALLEST} pixels are needed")
    return width, height


def _in_step(paths: dict[Role, Path], opened: dict[Role, Source]) -> Iterator[tuple[Frame, ...]]:
    for index, frames in enumerate(zip_longest(*(source.frames() for source in opened.values()))):
        ended = [str(path) for path, frame in zip(paths.values(), frames, strict=True) if frame is None]
        if ended:
            going = [str(path) for path, frame in zip(paths.values(), frames, strict=True) if frame is not None]
            raise MediaError(
                f"{', '.join(ended)}: ends after {index} frames, {', '.join(going)} goes on; "
                "frames are compared one by one, so all files must have the same number"
            )
        yield frames


@dataclass(slots=True)
class _Picture:
    """One frame of one file: ``(H, W)`` float32 luma, codes of 8 bit in limited range, and ``(H, W, 3)`` RGB."""

    luma: np.ndarray
    rgb: np.ndarray


class _Track:
    """What is gathered of one file."""

    def __init__(self) -> None:
        self.levels: list[float] = []
        self.mabd: list[float] = []
        self.warp_error: list[float | None] = []
        self.fidelity = Fidelity()
        self.gt_mean = luma_of.LumaMeter(ColorSpec())
        self.shot = stability.TemporalNoise()
        self.noise: list[tuple[float, int]] = []


class _Meter:
    """Takes the frames of all files in step."""

    def __init__(self, roles: tuple[Role, ...]) -> None:
        self.frames = 0
        self._roles = roles
        self._guide: Role = "reference" if "reference" in roles else "source"
        self._tracks = {role: _Track() for role in roles}
        self._before: dict[Role, _Picture] = {}
        self._still = self._new_still()
        self._stills: list[tuple[float, int]] = []
        self._start = 0
        self._first = 0.0
        self._seconds: list[float] = []
        self._cuts: list[int] = []
        self._jumps: list[int] = []
        self._visible: list[float] = []

    def add(self, frames: dict[Role, Frame]) -> None:
        """The next frame of every file."""
        pictures = {role: _picture(frame) for role, frame in frames.items()}
        time = float(frames["source"].seconds)
        self._first = time if not self._seconds else self._first
        self._seconds.append(time - self._first)
        moving: np.ndarray | None = None
        if self._before:
            now, following = self._before[self._guide].luma, pictures[self._guide].luma
            together = same_shot(now, following)
            if not together:
                self._end_shot()
                self._cuts.append(self.frames)
            self._pair(pictures, together=together)
            if self._guide == "reference" and together:
                moving = luma_of.moving_pixels(now, following)
        self._single(pictures, moving)
        self._before = pictures
        self.frames += 1

    def _pair(self, pictures: dict[Role, _Picture], *, together: bool) -> None:
        mask = flow = None
        if together:
            pair = self._before[self._guide].luma, pictures[self._guide].luma
            now, following = brightened(*pair, black=BLACK) if self._guide == "source" else pair
            flow = estimate_flow(now, following)
            mask = visible(flow, estimate_flow(following, now))
            self._visible.append(float(mask.mean()))
        for role, track in self._tracks.items():
            one, other = self._before[role], pictures[role]
            track.mabd.append(stability.brightness_change(one.luma, other.luma))
            error = None if flow is None or mask is None else stability.warp_error(one.rgb, other.rgb, flow, mask=mask)
            track.warp_error.append(error)

    def _single(self, pictures: dict[Role, _Picture], moving: np.ndarray | None) -> None:
        self._still.add(pictures[self._guide].luma)
        reference = pictures.get("reference")
        for role, track in self._tracks.items():
            luma = pictures[role].luma
            track.levels.append(float(luma.mean(dtype=np.float64)) - BLACK)
            track.shot.add(luma)
            if reference is not None and role != "reference":
                track.fidelity.add(_normal(luma), _normal(reference.luma), moving=moving)
                none = np.zeros(luma.shape, bool) if moving is None else moving
                track.gt_mean.add(luma, reference=reference.luma, moving=none)

    def _new_still(self) -> luma_of.StillPart:
        within = luma_of.STILL_CLEAN if self._guide == "reference" else luma_of.STILL_DARK
        return luma_of.StillPart(within=within)

    def _end_shot(self) -> None:
        count = self.frames - self._start
        mask = self._still.mask()
        share = float(mask.mean())
        self._stills.append((share, count))
        for track in self._tracks.values():
            value = track.shot.value(mask) if share >= luma_of.LEAST_STILL and count >= LEAST_SHOT else None
            if value is not None:
                track.noise.append((value, count))
            track.shot = stability.TemporalNoise()
        self._still, self._start = self._new_still(), self.frames

    def report(self, command: str, files: dict[Role, str], size: str) -> StabilityReport:
        """The figures, after the last frame."""
        self._end_shot()
        self._jumps = stability.light_jumps(self._tracks[self._guide].levels, cuts=self._cuts)
        figures: dict[str, Figures] = {role: self._figures(role) for role in self._roles}
        series: dict[str, Series] = {
            role: Series(track.levels, track.mabd, track.warp_error) for role, track in self._tracks.items()
        }
        return StabilityReport(
            command=command,
            files={str(role): name for role, name in files.items()},
            guide=self._guide,
            size=size,
            seconds=self._seconds,
            cuts=self._cuts,
            jumps=self._jumps,
            visible=math.fsum(self._visible) / max(len(self._visible), 1),
            still=weighted(self._stills) or 0.0,
            figures=figures,
            series=series,
        )

    def _figures(self, role: Role) -> Figures:
        track, guide = self._tracks[role], self._tracks[self._guide]
        own, cuts = track.levels, self._cuts
        breaks = [*cuts, *self._jumps]
        steady = [error for frame, error in enumerate(track.warp_error, 1) if frame not in breaks]
        compared = "reference" in self._roles and role != "reference"
        reference = self._tracks["reference"] if compared else track
        other = np.array(guide.levels)
        apart = np.array(own) - stability.best_gain(own, other) * other
        aside = track is not guide
        return Figures(
            level=math.fsum(own) / len(own),
            warp_error=_mean(track.warp_error),
            warp_error_steady=_mean(steady),
            mabd=math.fsum(track.mabd) / len(track.mabd),
            mabd_distance=stability.mabd_distance(track.mabd, reference.mabd) if compared else None,
            brightness=stability.brightness_difference(own, reference.levels) if compared else None,
            flicker=stability.flicker(own, cuts=cuts),
            flicker_steady=stability.flicker(own, cuts=breaks),
            flicker_ratio=stability.flicker_ratio(own, other, cuts=breaks) if aside else None,
            flicker_relative=_relative_flicker(own, cuts),
            noise=weighted(track.noise),
            drift=stability.drift(apart, self._seconds) if aside else None,
            psnr=track.fidelity.psnr(),
            psnr_moving=track.fidelity.psnr(moving=True),
            ssim=track.fidelity.ssim(),
            ssim_moving=track.fidelity.ssim(moving=True),
            gt_mean=track.gt_mean.figures(dark=track.gt_mean, still=self._still_all()).gt_mean if compared else None,
        )

    def _still_all(self) -> np.ndarray:
        return np.ones_like(self._before[self._guide].luma, dtype=bool)


def _picture(frame: Frame) -> _Picture:
    offset, span = frame.color.luma_scale()
    luma = (frame.planes[0].astype(np.float32) - np.float32(offset)) * np.float32(SPAN / span) + np.float32(BLACK)
    return _Picture(luma, rgb_from_planes(frame.planes, frame.color).permute(1, 2, 0).contiguous().numpy())


def _normal(luma: np.ndarray) -> np.ndarray:
    return np.clip((luma - np.float32(BLACK)) / np.float32(SPAN), 0.0, 1.0)


def _relative_flicker(levels: Sequence[float], cuts: Sequence[int]) -> float | None:
    edges = [0, *cuts, len(levels)]
    shots = [list(levels[a:b]) for a, b in pairwise(edges)]
    return weighted([(value, len(shot)) for shot in shots if (value := luma_of.flicker(shot)) is not None])


def _mean(values: Sequence[float | None]) -> float | None:
    return weighted([(value, 1) for value in values if value is not None])
