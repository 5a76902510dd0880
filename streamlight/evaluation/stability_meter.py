"""Takes frames one by one and says how steady they are.

The *guide* is the reference, or without one the source: flow, shots, jumps of light and the still part of the picture
are found in it. The measures are in :mod:`streamlight.evaluation.stability` and :mod:`streamlight.evaluation.luma`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from streamlight.enhance.color import rgb_from_planes
from streamlight.evaluation import luma as luma_of
from streamlight.evaluation import stability
from streamlight.evaluation.fidelity import Fidelity, weighted
from streamlight.evaluation.flow import brightened, estimate_flow, same_shot, visible
from streamlight.evaluation.stability_report import Figures, Role, Series, StabilityReport
from streamlight.media import ColorSpec, Frame

BLACK, SPAN = 16.0, 219.0
LEAST_FRAMES: Final = 3
STRETCH: Final = 120
"""Frames over which temporal noise is measured at a time: in longer ones, noise itself leaves no pixel still."""

LEAST_STRETCH: Final = 8
"""Frames below which it is not told."""

Motion = tuple[np.ndarray, np.ndarray]


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
        self.stretch = stability.TemporalNoise()
        self.noise: list[tuple[float, int]] = []


class StabilityMeter:
    """Takes the frames of a result, its source and its reference in step; memory does not grow with the pictures.

    Args:
        roles: What comes: ``"enhanced"``, ``"source"``, and ``"reference"`` if there is one.

    Attributes:
        frames: Frames taken so far.
    """

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

    def add(self, frames: Mapping[Role, Frame], *, motion: Motion | None = None) -> None:
        """The next frames.

        Args:
            frames: By role, all of one size, 16x16 or more.
            motion: Where the truth is known: flow from the frames before to these, ``(H, W, 2)``, and ``(H, W)`` bool,
                what of it can be compared, as :class:`streamlight.evaluation.truth.TruthFrame` says it of the frame
                before; an empty mask is a cut. None to estimate flow, and find cuts, in the guide.
        """
        pictures = {role: _picture(frame) for role, frame in frames.items()}
        time = float(frames["source"].seconds)
        self._first = time if not self._seconds else self._first
        self._seconds.append(time - self._first)
        moving: np.ndarray | None = None
        if self._before:
            now, following = self._before[self._guide].luma, pictures[self._guide].luma
            together = same_shot(now, following) if motion is None else bool(motion[1].any())
            if not together:
                self._cuts.append(self.frames)
            if not together or self.frames - self._start == STRETCH:
                self._end_stretch()
            self._pair(pictures, (motion or self._estimated(now, following)) if together else None)
            if self._guide == "reference" and together:
                moving = luma_of.moving_pixels(now, following)
        self._single(pictures, moving)
        self._before = pictures
        self.frames += 1

    def _estimated(self, now: np.ndarray, following: np.ndarray) -> Motion:
        if self._guide == "source":
            now, following = brightened(now, following, black=BLACK)
        flow = estimate_flow(now, following)
        return flow, visible(flow, estimate_flow(following, now))

    def _pair(self, pictures: dict[Role, _Picture], motion: Motion | None) -> None:
        if motion is not None:
            self._visible.append(float(motion[1].mean()))
        for role, track in self._tracks.items():
            one, other = self._before[role], pictures[role]
            track.mabd.append(stability.brightness_change(one.luma, other.luma))
            error = stability.warp_error(one.rgb, other.rgb, motion[0], mask=motion[1]) if motion is not None else None
            track.warp_error.append(error)

    def _single(self, pictures: dict[Role, _Picture], moving: np.ndarray | None) -> None:
        self._still.add(pictures[self._guide].luma)
        reference = pictures.get("reference")
        for role, track in self._tracks.items():
            luma = pictures[role].luma
            track.levels.append(float(luma.mean(dtype=np.float64)) - BLACK)
            track.stretch.add(luma)
            if reference is not None and role != "reference":
                track.fidelity.add(_normal(luma), _normal(reference.luma), moving=moving)
                none = np.zeros(luma.shape, bool) if moving is None else moving
                track.gt_mean.add(luma, reference=reference.luma, moving=none)

    def _new_still(self) -> luma_of.StillPart:
        within = luma_of.STILL_CLEAN if self._guide == "reference" else luma_of.STILL_DARK
        return luma_of.StillPart(within=within)

    def _end_stretch(self) -> None:
        count = self.frames - self._start
        mask = self._still.mask()
        share = float(mask.mean())
        self._stills.append((share, count))
        for track in self._tracks.values():
            value = track.stretch.value(mask) if share >= luma_of.LEAST_STILL and count >= LEAST_STRETCH else None
            if value is not None:
                track.noise.append((value, count))
            track.stretch = stability.TemporalNoise()
        self._still, self._start = self._new_still(), self.frames

    def report(self, names: Mapping[Role, str], *, command: str = "") -> StabilityReport:
        """The figures, once, after the last frame.

        Args:
            names: Of the files or whatever it was, by role.
            command: How this was called, for the record.

        Raises:
            ValueError: There were fewer than three frames.
        """
        if self.frames < LEAST_FRAMES:
            raise ValueError(f"stability needs {LEAST_FRAMES} frames or more, got {self.frames}")
        height, width = self._before[self._guide].luma.shape
        self._end_stretch()
        self._jumps = stability.light_jumps(self._tracks[self._guide].levels, cuts=self._cuts)
        figures: dict[str, Figures] = {role: self._figures(role) for role in self._roles}
        series: dict[str, Series] = {
            role: Series(track.levels, track.mabd, track.warp_error) for role, track in self._tracks.items()
        }
        return StabilityReport(
            command=command,
            files={str(role): name for role, name in names.items()},
            guide=self._guide,
            size=f"{width}x{height}",
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
