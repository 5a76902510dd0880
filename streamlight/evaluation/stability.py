"""How steady a video is: each measure by itself, as a function of arrays.

Pictures are encoded values in [0, 1]; *levels* are one number a frame, mean luma in codes of 8 bit (219 codes from
black to white) unless said otherwise. A video that hardly moves or is smeared does well in all of these: always tell
the distance to a reference with them. Published figures differ in luma, scale, flow and masks under the same names;
those of two papers, or of a paper and of these functions, are not to be compared.

The relative flicker (against the 31-frame running mean) and the still part of the picture are those of
:mod:`streamlight.evaluation.luma`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamlight.evaluation.flow import warp

Levels = Sequence[float] | np.ndarray

LEAST_STEADY: Final = 3
"""Frames that a second difference needs."""


def warp_error(now: np.ndarray, following: np.ndarray, flow: np.ndarray, *, mask: np.ndarray) -> float | None:
    """E_warp of one pair of frames (Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018).

    ``Σ m (W - O_t)² / Σ m`` over pixels and channels, W being the next frame sampled at ``p + flow(p)``. The error of a
    clip is the mean over its pairs.

    Args:
        now: ``(H, W)`` or ``(H, W, C)`` float, [0, 1].
        following: The next frame, same shape.
        flow: ``(H, W, 2)`` from this frame to the next; see :mod:`streamlight.evaluation.flow`.
        mask: ``(H, W)`` bool: pixels that are seen in both frames.

    Returns:
        Mean square error, or None where the mask is empty. (The authors' code says 0 there, which flatters.)
    """
    if not mask.any():
        return None
    error = np.square(warp(following, flow)[mask].astype(np.float64) - now[mask])
    return float(error.mean())


def brightness_change(now: np.ndarray, following: np.ndarray) -> float:
    """Mean absolute brightness difference of two neighbouring frames: one entry of the MABD vector.

    Jiang and Zheng, "Learning to See Moving Objects in the Dark", ICCV 2019.

    Args:
        now: ``(H, W)`` luma, any scale.
        following: The next frame's, same shape.
    """
    return float(np.abs(following.astype(np.float64) - now).mean())


def mabd_distance(result: Levels, reference: Levels) -> float:
    """Mean square error between two MABD vectors, of a result and its reference; 0 is best.

    Args:
        result: ``(T - 1,)`` values of :func:`brightness_change`.
        reference: The reference's, same length.

    Raises:
        ValueError: The lengths differ, or are 0.
    """
    return float(np.square(_alike(result, reference)).mean())


@dataclass(frozen=True, slots=True)
class Brightness:
    """Of ``d_t = level of the result - level of the reference``, over the frames of a clip.

    Published as AB(Var), by some the variance, by others the mean square: here they have their names.

    Attributes:
        mean: Codes.
        variance: Codes squared, around the mean, over T.
        mean_square: Codes squared.
    """

    mean: float
    variance: float
    mean_square: float


def brightness_difference(result: Levels, reference: Levels) -> Brightness:
    """Statistics of the difference of the levels of two clips.

    Args:
        result: ``(T,)`` levels.
        reference: The reference's, same length.

    Raises:
        ValueError: The lengths differ, or are 0.
    """
    apart = _alike(result, reference)
    return Brightness(float(apart.mean()), float(apart.var()), float(np.square(apart).mean()))


def first_differences(levels: Levels, *, cuts: Sequence[int] = ()) -> np.ndarray:
    """``|B_{t+1} - B_t|``.

    Args:
        levels: ``(T,)``.
        cuts: Frames that begin a new shot; differences across them are left out.

    Returns:
        At most ``(T - 1,)``.
    """
    return np.concatenate([np.abs(np.diff(shot)) for shot in _shots(levels, cuts)])


def second_differences(levels: Levels, *, cuts: Sequence[int] = ()) -> np.ndarray:
    """``|B_{t+1} - 2 B_t + B_{t-1}|``: a steady fade counts nothing, what goes to and fro counts twice.

    Args:
        levels: ``(T,)``.
        cuts: Frames that begin a new shot; differences across them are left out.

    Returns:
        At most ``(T - 2,)``.
    """
    return np.concatenate([np.abs(np.diff(shot, 2)) for shot in _shots(levels, cuts)])


def flicker(levels: Levels, *, cuts: Sequence[int] = ()) -> float | None:
    """Flicker of mean luma: the mean of :func:`second_differences`; None for less than three frames in every shot."""
    found = second_differences(levels, cuts=cuts)
    return float(found.mean()) if found.size else None


def light_jumps(levels: Levels, *, cuts: Sequence[int] = ()) -> list[int]:
    """Frames at which the light of a scene jumps: a lamp goes on, a headlight appears.

    Give the levels of a reference or source, and the result to other measures beside the cuts: what a lamp does to the
    picture is no flicker of the enhancer, and would hide it.

    Args:
        levels: ``(T,)``, above black.
        cuts: Frames that begin a new shot; they are none of these.

    Returns:
        Frames whose level differs from that of the frame before by more than 2 % of the mean level and four times the
        median difference together.
    """
    level = np.asarray(levels, np.float64)
    change = np.abs(np.diff(level))
    if not change.size:
        return []
    found = np.nonzero(change > 0.02 * abs(float(level.mean())) + 4.0 * float(np.median(change)))[0] + 1
    return [int(frame) for frame in found if frame not in set(cuts)]


def best_gain(levels: Levels, guide: Levels) -> float:
    """The factor k that brings k times the guide nearest to the levels, by least squares; 1 for a black guide."""
    guide = np.asarray(guide, np.float64)
    power = float(guide @ guide)
    return float(np.asarray(levels, np.float64) @ guide) / power if power > 0.0 else 1.0


def flicker_ratio(levels: Levels, guide: Levels, *, cuts: Sequence[int] = ()) -> float | None:
    """:func:`flicker` over that of the guide at the brightness of the levels, so that what really changes cancels.

    Args:
        levels: ``(T,)`` of a result, above black.
        guide: ``(T,)`` of its reference or source, above black.
        cuts: Frames that begin a new shot.

    Returns:
        1 where the result flickers as its guide does; None if the guide is perfectly steady or the clip too short.
    """
    own, other = flicker(levels, cuts=cuts), flicker(guide, cuts=cuts)
    scale = best_gain(levels, guide)
    return own / (scale * other) if own is not None and other and scale > 0.0 else None


@dataclass(frozen=True, slots=True)
class Drift:
    """Slow change of a level.

    Attributes:
        change: Its mean over the last window less that over the first.
        spread: Largest less smallest mean over any window.
        per_minute: Slope of the straight line nearest to all levels, a minute.
    """

    change: float
    spread: float
    per_minute: float


def drift(levels: Levels, seconds: Levels, *, window: float = 10.0) -> Drift | None:
    """How far a level wanders over minutes.

    Args:
        levels: ``(T,)``; give the difference to a reference's to see the enhancer's drift and not the scene's.
        seconds: ``(T,)`` times, ascending.
        window: Seconds of a window; a fifth of the clip at most.

    Returns:
        None for less than five frames or no time between them.

    Raises:
        ValueError: The lengths differ.
    """
    level, time = np.asarray(levels, np.float64), np.asarray(seconds, np.float64)
    if level.shape != time.shape:
        raise ValueError(f"as many times as levels are needed, got {time.size} and {level.size}")
    if level.size < 5 or time[-1] <= time[0]:
        return None
    count = max(1, min(round(window / (time[-1] - time[0]) * (level.size - 1)), level.size // 5))
    # The sum of the differences to the first level: exact for a constant level, however long.
    total = np.concatenate([[0.0], np.cumsum(level - level[0])])
    means = (total[count:] - total[:-count]) / count
    centred = time - time.mean()
    slope = float(centred @ (level - level.mean()) / (centred @ centred))
    return Drift(float(means[-1] - means[0]), float(means.max() - means.min()), 60.0 * slope)


class TemporalNoise:
    """Standard deviation over time of every pixel, from sums alone: memory does not grow with the clip."""

    def __init__(self) -> None:
        self.frames = 0
        self._first: np.ndarray | None = None
        self._sum: np.ndarray | None = None
        self._squares: np.ndarray | None = None

    def add(self, picture: np.ndarray) -> None:
        """The next frame, ``(H, W)`` or ``(H, W, C)``, any scale."""
        value = picture.astype(np.float64)
        if self._first is None or self._sum is None or self._squares is None:
            self._first, self._sum, self._squares = value, np.zeros_like(value), np.zeros_like(value)
        value = value - self._first  # so that the small difference of two large sums is not what is told
        self._sum += value
        self._squares += value * value
        self.frames += 1

    def value(self, mask: np.ndarray | None = None) -> float | None:
        """Mean over the pixels of the mask (all without one), in units of the picture; None if there are none."""
        if self._sum is None or self._squares is None or (mask is not None and not mask.any()):
            return None
        variance = np.maximum(self._squares / self.frames - np.square(self._sum / self.frames), 0.0)
        return float(np.sqrt(variance if mask is None else variance[mask]).mean())


def _alike(result: Levels, reference: Levels) -> np.ndarray:
    one, other = np.asarray(result, np.float64), np.asarray(reference, np.float64)
    if one.shape != other.shape or not one.size:
        raise ValueError(
            f"as many values of the result as of the reference are needed, got {one.size} and {other.size}"
        )
    return one - other


def _shots(levels: Levels, cuts: Sequence[int]) -> list[np.ndarray]:
    return np.split(np.asarray(levels, np.float64), sorted({cut for cut in cuts if 0 < cut < len(levels)}))
