"""Enhance only when it is dark: what the light of a stream calls for, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import torch

from streamlight.errors import ConfigError
from streamlight.media.frame import Frame
from streamlight.temporal import estimate_noise

Decision = Literal["enhanced", "fading", "untouched"]

_LOOK_EVERY: Final = 0.1
"""Seconds between two measurements; light changes slowly, and a fade needs no finer steps."""

_GAP: Final = 2.0
"""Seconds without a frame after which the light is judged afresh, without a fade."""

_SMOOTHING: Final = 0.4
_NOISE_WEIGHT: Final = 6.0
_NEUTRAL, _COLOURED = 1.5, 3.0
"""98th percentile of the chroma offset, in 8-bit codes, below and above which a picture has no colour, or has."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """When the gate opens and closes.

    Attributes:
        dark_below: Light level under which enhancement begins, 0 to 1.
        bright_above: Level above which it ends; the distance to ``dark_below`` keeps dusk from flickering.
        hold: Seconds that the light must stay on the other side before anything changes; a headlight is over by then.
        fade: Seconds of the cross-fade between the two.
    """

    dark_below: float = 0.24
    bright_above: float = 0.32
    hold: float = 1.0
    fade: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.dark_below <= self.bright_above <= 1.0:
            raise ConfigError(
                f"the gate needs 0 <= dark_below <= bright_above <= 1, got {self.dark_below} and {self.bright_above}"
            )
        if self.hold < 0.0 or self.fade < 0.0:
            raise ConfigError(f"hold and fade of the gate cannot be negative, got {self.hold} and {self.fade}")


class DarkGate:
    """Follows the light of one stream.

    The level is the mean of the arithmetic and the geometric mean of luma, so that one lamp does not turn a yard into
    daylight, less a share for noise: a camera that has turned its gain up stands in the dark. Exact in time: nothing
    depends on the frame rate.

    Args:
        settings: When it opens and closes; the defaults if None.
        always: Never close; light and infrared are still measured.

    Attributes:
        level: Smoothed light level, 0 to 1; None before the first frame.
        noise: Standard deviation of the luma noise at 480 columns, [0, 1] luma; None likewise.
        infrared: Whether the picture has no colour, as from a camera under infrared light.
        dark: Whether it is taken for dark.
        weight: Share of the enhanced picture in the output, 0 to 1.
    """

    def __init__(self, settings: GateSettings | None = None, *, always: bool = False) -> None:
        self.settings = settings or GateSettings()
        self._always = always
        self.reset()

    def reset(self) -> None:
        """Forget the light, as after a reconnect."""
        self.level: float | None = None
        self.noise: float | None = None
        self.infrared = False
        self.dark = True
        self.weight = 1.0
        self._moment: float | None = None
        self._looked = -math.inf
        self._turning: float | None = None

    def look(self, frame: Frame) -> Decision:
        """Take a frame's light into account and move :attr:`weight`; frames come in order.

        Args:
            frame: Decoded, before anything was done to it.

        Returns:
            ``"untouched"`` where the weight is 0 (do not enhance it), ``"enhanced"`` where it is 1, else ``"fading"``.
        """
        now = float(frame.seconds)
        step = 0.0 if self._moment is None else now - self._moment
        if not 0.0 <= step <= _GAP:
            self.reset()
            step = 0.0
        first = self.level is None
        self._moment = now
        if now - self._looked >= _LOOK_EVERY:
            self._measure(frame, now - self._looked)
            self._looked = now
            self._decide(now, first=first)
        target = 1.0 if self.dark else 0.0
        if first or self.settings.fade == 0.0:
            self.weight = target
        else:
            change = step / self.settings.fade
            self.weight = min(target, self.weight + change) if target else max(target, self.weight - change)
        return "enhanced" if self.weight == 1.0 else "fading" if self.weight > 0.0 else "untouched"

    def finish(self, before: tuple[np.ndarray, ...], after: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The planes to hand on: cross-faded while the gate moves, and without invented colour under infrared light.

        Args:
            before: Planes of the decoded frame, as :attr:`Frame.planes`.
            after: Enhanced planes of the same shapes and type.

        Returns:
            Planes of the same shapes; those of ``after`` themselves where nothing is to be done.
        """
        if self.infrared and len(after) > 1:
            after = (after[0], *before[1:])
        if self.weight >= 1.0:
            return after
        return tuple(
            dark if bright is dark else cv2.addWeighted(bright, self.weight, dark, 1.0 - self.weight, 0.0)
            for dark, bright in zip(before, after, strict=True)
        )

    def _measure(self, frame: Frame, elapsed: float) -> None:
        small = small_luma(frame)
        level = 0.5 * float(small.mean()) + 0.5 * (math.exp(float(np.log(small + 0.01).mean())) - 0.01)
        noise = float(estimate_noise(torch.from_numpy(small)))
        share = 1.0 if self.level is None else 1.0 - math.exp(-elapsed / _SMOOTHING)
        self.level = level if self.level is None else self.level + share * (level - self.level)
        self.noise = noise if self.noise is None else self.noise + share * (noise - self.noise)
        spread = chroma_spread(frame)
        self.infrared = spread <= (_COLOURED if self.infrared else _NEUTRAL)

    def _decide(self, now: float, *, first: bool) -> None:
        if self._always:
            return
        assert self.level is not None
        assert self.noise is not None
        settings = self.settings
        score = self.level - _NOISE_WEIGHT * self.noise
        if first:
            self.dark = score < 0.5 * (settings.dark_below + settings.bright_above)
            return
        turns = score > settings.bright_above if self.dark else score < settings.dark_below
        if not turns:
            self._turning = None
        elif self._turning is None:
            self._turning = now
        if self._turning is not None and now - self._turning >= settings.hold:
            self.dark = not self.dark
            self._turning = None


def small_luma(frame: Frame, *, columns: int = 480) -> np.ndarray:
    """Luma of a frame area-averaged to at most ``columns`` columns, ``(h, w)`` float32 in [0, 1]."""
    luma = frame.planes[0]
    offset, span = frame.color.luma_scale()
    if frame.width > columns:
        height = max(3, round(frame.height * columns / frame.width))
        luma = cv2.resize(luma, (columns, height), interpolation=cv2.INTER_AREA)
    scaled = (luma.astype(np.float32) - offset) * (1.0 / span)
    return np.clip(scaled, 0.0, 1.0, out=scaled)


def chroma_spread(frame: Frame) -> float:
    """98th percentile of how far chroma lies from its middle, in 8-bit codes; 0 for luma alone.

    The middle is the frame's own: converters leave monochrome pictures a code off neutral.
    """
    if len(frame.planes) == 1:
        return 0.0
    unit = float(1 << (frame.color.bit_depth - 8))
    offset, _ = frame.color.chroma_scale()
    spread = 0.0
    for plane in frame.planes[1:]:
        rows, columns = plane.shape
        size = (min(columns, 120), min(rows, 68))
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        middle = float(np.clip(np.median(small), offset - unit, offset + unit))
        spread = max(spread, float(np.percentile(np.abs(small - middle), 98)) / unit)
    return spread
