"""Calms the near-black of coded video before a model sees it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

_CODE: Final = 1.0 / 219.0
_DARK: Final = 24.0 * _CODE
"""Luma above which nothing is touched."""


def calm_near_black(small: Tensor, *, amount: float = 1.0, radius: int = 4, step: float = 1.2) -> Tensor:
    """Smooth steps of about one code in the darkest luma, keeping real edges.

    Encoders leave near-black as flat blocks one code apart; a gain of twenty turns them into visible patches. A
    self-guided filter at half the resolution removes variation below ``step`` codes there; what is brighter than 24
    codes, or varies more, stays.

    Args:
        small: ``(3, h, w)`` float32 YCbCr on the CPU.
        amount: 0 returns ``small`` itself, 1 the full effect.
        radius: Window radius in pixels of the half-size picture.
        step: Size of the steps to remove, in 8-bit codes.

    Returns:
        A new tensor of the same shape; ``small`` itself where ``amount`` is 0 or the picture is no larger than the
        windows.
    """
    if amount <= 0.0 or min(small.shape[1:]) < 4 * radius:
        return small
    luma = small[0].numpy()
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    window = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.blur(half, window, borderType=cv2.BORDER_REPLICATE)
    variance = np.maximum(cv2.blur(half * half, window, borderType=cv2.BORDER_REPLICATE) - mean * mean, 0.0)
    darkness = np.clip(1.0 - mean / _DARK, 0.0, 1.0)
    a = variance / (variance + (amount * step * step * _CODE * _CODE) * darkness + 1e-12)
    b = mean - a * mean
    size = (luma.shape[1], luma.shape[0])
    a, b = (
        cv2.resize(cv2.blur(part, window, borderType=cv2.BORDER_REPLICATE), size, interpolation=cv2.INTER_LINEAR)
        for part in (a, b)
    )
    calm = small.clone()
    calm[0] = torch.from_numpy(a * luma + b)
    return calm
