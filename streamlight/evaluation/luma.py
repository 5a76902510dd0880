"""Figures of a clip, taken on the luma plane frame by frame.

Against a reference, on luma in [0, 1] (0 black, 1 white of the clip's range):

* GT-mean PSNR: each frame is multiplied by the ratio of the reference's mean to its own and clipped; the square error
  is then averaged over all frames and over all, the moving or the static pixels, and turned into dB.
* A pixel is *moving* where the 3x3 mean of the reference changed by more than 6 codes since the frame before, or where
  one within 4 pixels did (a 9x9 square); the others of the frame are static.
* SSIM as for pictures, on luma after GT-mean, of every fifth frame.

With or without one:

* Gain: mean luma above black of the result over that of the dark clip.
* Noise: standard deviation over time of a pixel's luma code, averaged over the still part of the picture: where the 9x9
  mean of the reference stays within 8 codes from the first to the last frame measured (without a reference: that of
  the dark clip itself, within 2 codes), and that of all pixels within 4. None if that is less than 2 % of the picture.
* Flicker: standard deviation of the mean luma minus its running mean over 31 frames, relative to the mean luma above
  black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch

from streamlight.evaluation.metrics import ssim_plane
from streamlight.media.frame import ColorSpec

CHANGE: Final = 6.0
STILL_CLEAN: Final = 8.0
STILL_DARK: Final = 2.0
REACH: Final = 9
WINDOW: Final = 31
SSIM_EVERY: Final = 5
LEAST_STILL: Final = 0.02


@dataclass(frozen=True, slots=True)
class LumaFigures:
    """What was measured on one clip; what cannot be said is None.

    Attributes:
        psnr: dB, all pixels, as they are.
        gt_mean: dB, all pixels, GT-mean.
        moving: The same of the moving pixels.
        static: The same of the static pixels.
        ssim: After GT-mean.
        gain: Brightness over that of the dark clip.
        noise: Temporal noise in the still part, codes of 8 bit.
        flicker: Relative.
    """

    psnr: float | None
    gt_mean: float | None
    moving: float | None
    static: float | None
    ssim: float | None
    gain: float
    noise: float | None
    flicker: float | None


def moving_pixels(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """``(H, W)`` bool: where two neighbouring clean luma planes differ, and around it."""
    change = cv2.absdiff(_mean(before, 3), _mean(now, 3))
    return cv2.dilate((change > CHANGE).astype(np.uint8), np.ones((REACH, REACH), np.uint8)) > 0


class StillPart:
    """Finds the part of the picture in which nothing happens.

    Args:
        within: Codes that the 9x9 mean may range over.
    """

    def __init__(self, *, within: float) -> None:
        self._within = within
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def add(self, luma: np.ndarray) -> None:
        """The next frame's ``(H, W)`` luma, in codes of 8 bit."""
        mean = _mean(luma, REACH)
        if self._low is None or self._high is None:
            self._low, self._high = mean.copy(), mean
        else:
            np.minimum(self._low, mean, out=self._low)
            np.maximum(self._high, mean, out=self._high)

    def mask(self) -> np.ndarray:
        """``(H, W)`` bool."""
        assert self._low is not None
        assert self._high is not None
        still = (self._high - self._low <= self._within).astype(np.uint8)
        return cv2.erode(still, np.ones((REACH, REACH), np.uint8), borderValue=1) > 0


class LumaMeter:
    """Takes the frames of a result one by one.

    Args:
        color: Of the clip.
    """

    def __init__(self, color: ColorSpec) -> None:
        self._black, self._span = color.luma_scale()
        self._scale = float(1 << (color.bit_depth - 8))
        self._error = dict.fromkeys(("psnr", "gt_mean", "moving", "static"), 0.0)
        self._count = dict.fromkeys(self._error, 0)
        self._ssim: list[float] = []
        self._means: list[float] = []
        self._sum: np.ndarray | None = None
        self._squares: np.ndarray | None = None

    @property
    def means(self) -> list[float]:
        """Mean luma above black of each frame, codes of 8 bit."""
        return self._means

    def codes(self, luma: np.ndarray) -> np.ndarray:
        """``(H, W)`` float32: luma in codes of 8 bit, whatever the depth of the clip."""
        return luma.astype(np.float32) / np.float32(self._scale)

    def add(self, luma: np.ndarray, *, reference: np.ndarray | None = None, moving: np.ndarray | None = None) -> None:
        """The next frame.

        Args:
            luma: ``(H, W)`` codes.
            reference: The clean frame's, and
            moving: ``(H, W)`` bool, its moving pixels.
        """
        codes = self.codes(luma)
        if self._sum is None or self._squares is None:
            self._sum, self._squares = np.zeros(codes.shape), np.zeros(codes.shape)
        self._sum += codes
        self._squares += np.square(codes, dtype=np.float64)
        if reference is not None and moving is not None:
            self._compare(self._normal(luma), self._normal(reference), moving)
        self._means.append(float(codes.mean(dtype=np.float64)) - self._black / self._scale)

    def figures(self, *, dark: LumaMeter, still: np.ndarray) -> LumaFigures:
        """The figures.

        Args:
            dark: The meter that saw the same frames before they were enhanced.
            still: ``(H, W)`` bool from :class:`StillPart`.
        """
        levels = {name: self._decibels(name) for name in self._error}
        ssim = math.fsum(self._ssim) / len(self._ssim) if self._ssim else None
        gain = _average(self._means) / max(_average(dark.means), 1e-6)
        return LumaFigures(**levels, ssim=ssim, gain=gain, noise=self._noise(still), flicker=flicker(self._means))

    def _normal(self, luma: np.ndarray) -> np.ndarray:
        return np.clip((luma.astype(np.float32) - self._black) / self._span, 0.0, 1.0)

    def _compare(self, luma: np.ndarray, reference: np.ndarray, moving: np.ndarray) -> None:
        own = float(luma.mean(dtype=np.float64))
        aligned = np.minimum(luma * (float(reference.mean(dtype=np.float64)) / own), 1.0) if own > 0.0 else luma
        squared = np.square(aligned - reference)
        total, part, pixels = (
            float(squared.sum(dtype=np.float64)),
            float(squared[moving].sum(dtype=np.float64)),
            int(moving.sum()),
        )
        for name, error, count in (
            ("psnr", float(np.square(luma - reference).sum(dtype=np.float64)), luma.size),
            ("gt_mean", total, luma.size),
            ("moving", part, pixels),
            ("static", total - part, luma.size - pixels),
        ):
            self._error[name] += error
            self._count[name] += count
        if len(self._means) % SSIM_EVERY == 0:
            self._ssim.append(float(ssim_plane(torch.from_numpy(aligned), torch.from_numpy(reference))))

    def _decibels(self, name: str) -> float | None:
        if not self._count[name]:
            return None
        error = self._error[name] / self._count[name]
        return -10.0 * math.log10(error) if error > 0.0 else None

    def _noise(self, still: np.ndarray) -> float | None:
        assert self._sum is not None
        assert self._squares is not None
        if still.mean() < LEAST_STILL:
            return None
        count = len(self._means)
        variance = self._squares[still] / count - np.square(self._sum[still] / count)
        return float(np.sqrt(np.maximum(variance, 0.0)).mean())


def flicker(means: list[float]) -> float | None:
    """Relative flicker of a clip from the mean luma above black of its frames; None for less than two windows."""
    if len(means) < 2 * WINDOW or _average(means) <= 0.0:
        return None
    level = np.array(means)
    slow = np.convolve(level, np.ones(WINDOW) / WINDOW, "valid")
    return float((level[WINDOW // 2 : -(WINDOW // 2)] - slow).std() / level.mean())


def _average(values: list[float]) -> float:
    return math.fsum(values) / max(len(values), 1)


def _mean(luma: np.ndarray, side: int) -> np.ndarray:
    return cv2.blur(luma.astype(np.float32), (side, side), borderType=cv2.BORDER_REPLICATE)
