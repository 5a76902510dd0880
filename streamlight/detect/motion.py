"""A detector without weights: what moves before a background that stays.

Background subtraction (Zivkovic, ICPR 2004, OpenCV's MOG2) on a small copy of the luma, held still against shakes of
the camera and against changes of the light that the whole picture shares. What it reports was there for several
frames and is not small. Meant for the enhanced picture of a fixed camera: in the dark one, motion is less than a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import cv2
import numpy as np

from streamlight.detect.detection import Box, Detection
from streamlight.detect.picture import normalised, resized
from streamlight.errors import ConfigError
from streamlight.media.frame import Frame

_LONG_SIDE: Final = 320
_MEMORY: Final = 30.0
"""Time constant of the background in seconds; what stands still is part of it after a third of that."""

_BACKGROUND: Final = 0.7
"""Share of the past that a picture element must have looked so for being background."""

_LEARNING: Final = 1.0
"""Seconds at the start, and after a change of scene, in which the background is learned and nothing is reported."""

_LEARNING_FRAMES: Final = 8
"""And frames at least."""

_OWN_LIGHT: Final = 0.2
"""Share of the picture's own light in what the background follows. A background that followed nothing but pictures in
its own light would gain contrast from their noise, a little every minute."""

_GAP: Final = 5.0
"""Seconds without a frame after which the background is learned anew."""

_EVERYWHERE: Final = 0.5
"""Share of the picture that cannot all be moving things: the light or the scene has changed."""

_VARIANCES: Final = 16.0
_LEAST_VARIANCE, _FIRST_VARIANCE = 4.0, 15.0
"""Of a picture element in the background, and of a new one; more where the picture is noisier."""

_SHAKE: Final = 0.05
"""Largest shift of the picture that is taken for a shake, as a share of its sides."""

_MISSED: Final = 3
"""Frames that a thing may be out of sight without losing its past."""


@dataclass(slots=True)
class _Track:
    """A thing that is followed: its box in the small copy, and in how many frames it was there."""

    box: tuple[int, int, int, int]
    seen: int = 1
    age: int = 1
    missed: int = 0


@dataclass(slots=True)
class _Scene:
    """What is remembered of one camera."""

    subtractor: Any
    since: Fraction
    last: Fraction
    source: tuple[int, int]
    reference: np.ndarray | None = None
    tracks: list[_Track] = field(default_factory=list)
    frames: int = 0


class MotionDetector:
    """Reports moving things as ``"motion"``; the score is the share of frames in which a thing was seen.

    Args:
        min_area: Least area of a thing, as a share of the picture.
        persistence: Frames in which a thing must have been seen before it is reported.
        threshold: Least score.

    Attributes:
        names: ``("motion",)``.
        resets: How often a background was learned anew because the light or the scene had changed.

    Raises:
        ConfigError: A number is out of range.
    """

    names: Sequence[str] = ("motion",)

    def __init__(self, *, min_area: float = 0.0005, persistence: int = 3, threshold: float = 0.5) -> None:
        if not 0.0 < min_area < 1.0:
            raise ConfigError(f"motion: the least area is a share of the picture between 0 and 1, got {min_area}")
        if persistence < 1:
            raise ConfigError(f"motion: persistence must be at least 1 frame, got {persistence}")
        if not 0.0 <= threshold <= 1.0:
            raise ConfigError(f"detector threshold must be between 0 and 1, got {threshold}")
        self._min_area, self._persistence, self._threshold = min_area, persistence, threshold
        self._scenes: dict[str, _Scene] = {}
        self.resets = 0

    def __call__(self, frame: Frame, *, camera: str = "") -> list[Detection]:
        """Moving things, best first; nothing while the background is being learned."""
        small = _small_luma(frame)
        scene, seconds = self._scene(frame, small, camera)
        if scene.reference is None:
            scene.reference = small.copy()
            return []
        small, inside = _held_still(small, scene.reference)
        learning = scene.frames < _LEARNING_FRAMES or frame.seconds - scene.since < _LEARNING
        # One noisy picture says little about the light of another: only an average of some does.
        lit = small if learning else _in_light_of(small, scene.reference)
        if scene.frames == 0:
            _allow_for_noise(scene.subtractor, lit - scene.reference)
        # At the start every frame counts alike, later the background follows with its time constant.
        rate = max(1.0 / (scene.frames + 1), min(1.0, seconds / _MEMORY))
        mask = scene.subtractor.apply(lit, learningRate=rate) > 0
        scene.frames += 1
        mask &= inside
        if not learning and float(mask.mean()) > _EVERYWHERE:
            del self._scenes[camera]
            self.resets += 1
            return []
        target = lit + np.float32(_OWN_LIGHT) * (small - lit)
        scene.reference += np.where(inside & ~mask, np.float32(rate), np.float32(0.0)) * (target - scene.reference)
        if learning:
            return []
        self._follow(scene, _things(mask, least=self._min_area * mask.size))
        return self._reported(scene, small.shape[1::-1])

    def describe(self) -> dict[str, Any]:
        """See :meth:`Detector.describe`."""
        return {
            "kind": "motion",
            "min_area": self._min_area,
            "persistence": self._persistence,
            "threshold": self._threshold,
            "resets": self.resets,
            "fallbacks": [],
        }

    def forget(self, camera: str) -> None:
        """Drop the background of a camera."""
        self._scenes.pop(camera, None)

    def close(self) -> None:
        """Drop all backgrounds."""
        self._scenes.clear()

    def _scene(self, frame: Frame, small: np.ndarray, camera: str) -> tuple[_Scene, float]:
        """What is known of the camera, and the seconds since its last frame."""
        now, source = frame.seconds, (frame.width, frame.height)
        scene = self._scenes.get(camera)
        if scene is None or scene.source != source or not 0 <= now - scene.last <= _GAP:
            # Without colour a shadow cannot be told from somebody in dark clothes.
            subtractor = cv2.createBackgroundSubtractorMOG2(varThreshold=_VARIANCES, detectShadows=False)
            subtractor.setBackgroundRatio(_BACKGROUND)
            scene = self._scenes[camera] = _Scene(subtractor, now, now, source)
        seconds = float(now - scene.last)
        scene.last = now
        return scene, seconds

    def _follow(self, scene: _Scene, things: list[tuple[int, int, int, int]]) -> None:
        """Join the things of this frame to those that were followed."""
        free = list(things)
        for track in sorted(scene.tracks, key=lambda track: -track.seen):
            track.age += 1
            match = max(free, key=lambda box: _shared(box, track.box), default=None)
            if match is not None and _shared(match, track.box) > 0.1:
                free.remove(match)
                track.box, track.missed = match, 0
                track.seen += 1
            else:
                track.missed += 1
        scene.tracks = [track for track in scene.tracks if track.missed <= _MISSED]
        scene.tracks += [_Track(box) for box in free]

    def _reported(self, scene: _Scene, size: tuple[int, int]) -> list[Detection]:
        found = []
        for track in scene.tracks:
            score = track.seen / track.age
            if track.missed == 0 and track.seen >= self._persistence and score >= self._threshold:
                found.append(Detection("motion", 0, score, _enlarged(track.box, size, scene.source)))
        return sorted(found, key=lambda detection: -detection.score)


def _small_luma(frame: Frame) -> np.ndarray:
    """Smoothed luma on a small copy, ``(h, w)`` float32, black 0 and white 255."""
    width, height = frame.width, frame.height
    factor = max(1, -(-max(width, height) // _LONG_SIDE))
    size = (max(1, width // factor), max(1, height // factor))
    small = normalised(resized(frame.planes[0], size), *frame.color.luma_scale()) * np.float32(255.0)
    return cv2.blur(cv2.blur(small, (3, 3)), (3, 3))


def _allow_for_noise(subtractor: Any, difference: np.ndarray) -> None:
    """Tell the background how noisy the picture is: by default it takes a standard deviation of 9 for motion."""
    variance = 0.5 * float(np.median(np.abs(difference)) / 0.6745) ** 2  # of one frame; most of the picture is still
    subtractor.setVarMin(_LEAST_VARIANCE)
    subtractor.setVarInit(max(_FIRST_VARIANCE, variance))
    subtractor.setVarMax(max(5.0 * _FIRST_VARIANCE, 4.0 * variance))


def _held_still(small: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture shifted back onto the reference where that makes them alike, and where it then shows something."""
    height, width = small.shape
    everywhere = np.ones(small.shape, bool)
    if min(height, width) < 32:
        return small, everywhere
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(reference.copy(), small.copy(), window)  # it may write to what it is given
    if max(abs(x), abs(y)) < 0.25 or abs(x) > _SHAKE * width or abs(y) > _SHAKE * height:
        return small, everywhere
    back = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]], np.float32)
    shifted = cv2.warpAffine(small, back, (width, height), borderMode=cv2.BORDER_REPLICATE)
    edge = int(np.ceil(max(abs(x), abs(y))))
    inner = (slice(edge, height - edge), slice(edge, width - edge))
    if _difference(shifted[inner], reference[inner]) > 0.8 * _difference(small[inner], reference[inner]):
        return small, everywhere  # something moves, but not the camera
    inside = np.zeros(small.shape, bool)
    inside[inner] = True
    return shifted, inside


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference, a common brightness aside."""
    change = first - second
    return float(np.abs(change - np.median(change)).mean())


def _in_light_of(small: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The picture in the light of the reference: gain and offset that most of the picture agrees on are taken back."""
    step = max(1, min(small.shape) // 48)
    new, old = small[::step, ::step].ravel(), reference[::step, ::step].ravel()
    gain, offset = 1.0, float(np.median(new) - np.median(old))
    for _ in range(4):
        error = np.abs(new - (gain * old + offset))
        kept = error <= max(1.0, 2.5 * float(np.median(error)))
        spread = float(old[kept].var())
        if kept.sum() < 16 or spread < 1.0:
            break
        covariance = float(((old[kept] - old[kept].mean()) * (new[kept] - new[kept].mean())).mean())
        gain = min(4.0, max(0.25, covariance / spread))
        offset = float(new[kept].mean() - gain * old[kept].mean())
    return (small - np.float32(offset)) * np.float32(1.0 / gain)


def _things(mask: np.ndarray, *, least: float) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of what is connected and not small, the largest first."""
    image = mask.astype(np.uint8)
    opened = cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, _, found, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    rows = sorted((row for row in found[1:].tolist() if row[4] >= least), key=lambda row: -row[4])
    return [(left, top, left + width, top + height) for left, top, width, height, _ in rows]


def _shared(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """Shared area as a share of the smaller box."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if wide <= 0 or high <= 0:
        return 0.0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return wide * high / smaller


def _enlarged(box: tuple[int, int, int, int], size: tuple[int, int], source: tuple[int, int]) -> Box:
    x, y = source[0] / size[0], source[1] / size[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y
