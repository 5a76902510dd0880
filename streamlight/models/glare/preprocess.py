"""How pictures come to GLARE's networks and back, as its three official scripts do it.

The scripts pad each data set differently, and since attention, normalisation and the fusion ratio see the whole padded
picture, every pixel depends on it. Published figures need the padding that they were made with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from streamlight.models.nn.padding import mirror

Padding = Literal["least", "benchmark", "unpaired"]
"""``"least"``: up to the next size that the network takes, below and to the right. ``"benchmark"``: 20 rows below and
20 columns to the left first, as the scripts for LOL and LOL-v2. ``"unpaired"``: to a multiple of 16, a whole 16 more
where the size is one already, half of it on either side, as the script for single pictures."""

_BENCHMARK: Final = 20
_UNPAIRED: Final = 16
_GREY: Final = (0.114, 0.587, 0.299)
"""Weights of the official grey mean: those of BGR, applied to RGB."""


@dataclass(frozen=True, slots=True)
class Border:
    """Rows and columns added around a picture.

    Attributes:
        top: Rows above.
        bottom: Rows below.
        left: Columns to the left.
        right: Columns to the right.
        repeat_edge: Whether the reflection repeats the edge pixel.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    repeat_edge: bool = False

    def add(self, image: Tensor) -> Tensor:
        """Grow ``(…, H, W)`` by reflection; any type."""
        return mirror(
            image,
            top=self.top,
            bottom=self.bottom,
            left=self.left,
            right=self.right,
            repeat_edge=self.repeat_edge,
        )

    def remove(self, image: Tensor) -> Tensor:
        """The view of ``image``, ``(…, top + H + bottom, left + W + right)``, that :meth:`add` grew."""
        height, width = image.shape[-2:]
        return image[..., self.top : height - self.bottom, self.left : width - self.right]


def border(height: int, width: int, *, padding: Padding, stride: int = 4) -> Border:
    """What to add to a picture of this size.

    Args:
        height: Rows of the picture, at least 1.
        width: Columns of the picture, at least 1.
        padding: Whose habit to follow.
        stride: The network takes multiples of this; further rows below and columns to the right see to it.
    """
    if padding == "benchmark":
        height, width = height + _BENCHMARK, width + _BENCHMARK
        return Border(bottom=_BENCHMARK + -height % stride, left=_BENCHMARK, right=-width % stride)
    if padding == "unpaired":
        unit = max(_UNPAIRED, stride)
        rows, columns = unit - height % unit, unit - width % unit
        top, left = rows // 2, columns // 2
        return Border(top, rows - top, left, columns - left, repeat_edge=True)
    return Border(bottom=-height % stride, right=-width % stride)


def grey_mean(image: Tensor) -> Tensor:
    """Mean grey of pictures as the official metric takes it, red and blue weights exchanged.

    Args:
        image: ``(N, 3, H, W)`` float, RGB.

    Returns:
        ``(N,)``.
    """
    return (image.mean((2, 3)) * torch.tensor(_GREY, dtype=image.dtype, device=image.device)).sum(1)


def match_grey_mean(image: Tensor, target: Tensor) -> Tensor:
    """Scale pictures to the grey mean of the ground truth (only for figures comparable to the published ones).

    Every published stage III number is taken after this step, which is worth about 3 dB on LOL.

    Args:
        image: ``(N, 3, H, W)`` in [0, 1], RGB.
        target: Ground truth, same shape.

    Returns:
        The scaled pictures, clamped to [0, 1].
    """
    return (image * (grey_mean(target) / grey_mean(image))[:, None, None, None]).clamp(0.0, 1.0)


def quantize(image: Tensor) -> Tensor:
    """[0, 1] to 8 bit as the script for single pictures does: clamped, times 255, cut off and not rounded."""
    return (image.clamp(0.0, 1.0) * 255.0).byte()
