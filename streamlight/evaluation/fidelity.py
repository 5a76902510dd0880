"""How near a video is to its reference, luma as it is: over all pixels and over those that move.

GT-mean, which hides brightness that goes to and fro, is that of :mod:`streamlight.evaluation.luma`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from streamlight.evaluation.luma import SSIM_EVERY
from streamlight.evaluation.metrics import ssim_map


class Fidelity:
    """Takes the frames of a result one by one."""

    def __init__(self) -> None:
        self._error = {False: 0.0, True: 0.0}
        self._count = {False: 0, True: 0}
        self._similar: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
        self._frames = 0

    def add(self, luma: np.ndarray, reference: np.ndarray, *, moving: np.ndarray | None = None) -> None:
        """The next frame.

        Args:
            luma: ``(H, W)`` float, [0, 1], sides at least 11.
            reference: The clean one.
            moving: ``(H, W)`` bool; None where nothing is known of it (first frames of shots).
        """
        squared = np.square(luma.astype(np.float64) - reference)
        for key, part in ((False, squared), (True, squared[moving] if moving is not None else squared[:0])):
            self._error[key] += float(part.sum())
            self._count[key] += part.size
        if self._frames % SSIM_EVERY == 0:
            similar = ssim_map(torch.from_numpy(luma), torch.from_numpy(reference)).numpy()
            self._similar[False].append((float(similar.mean()), 1))
            if moving is not None and (centres := moving[5:-5, 5:-5]).any():
                self._similar[True].append((float(similar[centres].mean()), int(centres.sum())))
        self._frames += 1

    def psnr(self, *, moving: bool = False) -> float | None:
        """DB, the square error taken over all frames together; None without an error or without pixels."""
        if not self._count[moving] or self._error[moving] <= 0.0:
            return None
        return -10.0 * math.log10(self._error[moving] / self._count[moving])

    def ssim(self, *, moving: bool = False) -> float | None:
        """Mean over every fifth frame; of moving pixels, each counts once."""
        return weighted(self._similar[moving])


def weighted(values: Sequence[tuple[float, int]]) -> float | None:
    """Mean of values, each by its weight; None if there are none."""
    total = sum(weight for _, weight in values)
    return math.fsum(value * weight for value, weight in values) / total if total else None
