"""Calms the near-black of coded video before a model sees it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.transfer.reference import box

_CODE: Final = 1.0 / 219.0
_DARK: Final = 24.0 * _CODE
"""Luma above which nothing is touched."""


def calm_near_black(small: Tensor, *, amount: float = 1.0, radius: int = 4, step: float = 1.2) -> Tensor:
    """Smooth steps of about one code in the darkest luma, keeping real edges.

    Encoders leave near-black as flat blocks one code apart; a gain of twenty turns them into visible patches. A
    self-guided filter at half the resolution removes variation below ``step`` codes there; what is brighter than 24
    codes, or varies more, stays.

    Args:
        small: ``(3, h, w)`` float32 YCbCr.
        amount: 0 returns ``small`` itself, 1 the full effect.
        radius: Window radius in pixels of the half-size picture.
        step: Size of the steps to remove, in 8-bit codes.

    Returns:
        A new tensor of the same shape; ``small`` itself where ``amount`` is 0 or the picture is no larger than the
        windows.
    """
    if amount <= 0.0 or min(small.shape[1:]) < 4 * radius:
        return small
    way = _on_cpu if small.device.type == "cpu" else _on_device
    calm = small.clone()
    calm[0] = way(small[0], amount * step * step * _CODE * _CODE, radius)
    return calm


def _on_cpu(small: Tensor, variation: float, radius: int) -> Tensor:
    """The luma with variance below ``variation`` removed where it is dark, ``(h, w)``, by OpenCV."""
    luma = small.numpy()
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    window = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.blur(half, window, borderType=cv2.BORDER_REPLICATE)
    variance = np.maximum(cv2.blur(half * half, window, borderType=cv2.BORDER_REPLICATE) - mean * mean, 0.0)
    darkness = np.clip(1.0 - mean / _DARK, 0.0, 1.0)
    a = variance / (variance + variation * darkness + 1e-12)
    b = mean - a * mean
    size = (luma.shape[1], luma.shape[0])
    a, b = (
        cv2.resize(cv2.blur(part, window, borderType=cv2.BORDER_REPLICATE), size, interpolation=cv2.INTER_LINEAR)
        for part in (a, b)
    )
    return torch.from_numpy(a * luma + b)


def _on_device(luma: Tensor, variation: float, radius: int) -> Tensor:
    """:func:`_on_cpu` in torch: no host, no wait."""
    height, width = luma.shape
    # OpenCV's size of half a picture, a half rounded to even; what is left of a last, cut block counts whole.
    half = F.avg_pool2d(luma[None], 2, ceil_mode=True, count_include_pad=False)[
        0, : round(height / 2), : round(width / 2)
    ]
    mean, square = box(torch.stack([half, half * half]), radius)
    variance = (square - mean * mean).clamp_min(0.0)
    darkness = (1.0 - mean / _DARK).clamp(0.0, 1.0)
    a = variance / (variance + variation * darkness + 1e-12)
    both = box(torch.stack([a, mean - a * mean]), radius)
    a, b = F.interpolate(both[None], size=(height, width), mode="bilinear")[0]
    return a * luma + b
