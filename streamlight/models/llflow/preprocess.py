"""What LLFlow's network reads: the logarithm of the dark picture beside its histogram-equalised copy.

All of it in torch on the picture's device. The equalisation gives the very codes of OpenCV's ``equalizeHist``; it is
one lookup table per frame and channel, so it can be taken once for a frame, smoothed over time, and applied anywhere.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from streamlight.models.nn.histogram import histograms

_LOG_OFFSET: Final = 1e-3


def to_codes(picture: Tensor) -> Tensor:
    """Nearest 8-bit codes of a picture: floats in [0, 1] → uint8 of the same shape; uint8 passes."""
    if picture.dtype == torch.uint8:
        return picture
    return (picture.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def equalization_table(codes: Tensor) -> Tensor:
    """Lookup tables that equalise the histogram of every channel.

    With the histogram h of N pixels and its first used code i0, code i becomes ``round(sum(h over (i0, i]) · s)``,
    ``s = 255 / (N - h[i0])``, in float32 with ties to even; a channel of one code only keeps it.

    Args:
        codes: ``(N, C, H, W)`` uint8.

    Returns:
        ``(N, C, 256)`` float32, whole numbers from 0 to 255.
    """
    n, c, h, w = codes.shape
    histogram = histograms(codes.reshape(n * c, h * w))
    cumulative = histogram.cumsum(1)
    first = (cumulative > 0).int().argmax(1, keepdim=True)
    at_first = histogram.gather(1, first)
    others = h * w - at_first
    # torch.full_like, as a number over a tensor is computed by way of the reciprocal, one rounding too many
    others_float = others.clamp_min(1).float()
    scale = torch.full_like(others_float, 255.0) / others_float
    table = ((cumulative - at_first).clamp_min(0).float() * scale).round().clamp(0.0, 255.0)
    identity = torch.arange(256, device=codes.device, dtype=torch.float32).expand_as(table)
    return torch.where(others == 0, identity, table).reshape(n, c, 256)


def equalize(codes: Tensor, table: Tensor | None = None) -> Tensor:
    """The histogram-equalised picture, ``(N, C, H, W)`` float32 in [0, 1].

    Args:
        codes: ``(N, C, H, W)`` uint8.
        table: What :func:`equalization_table` gave, for this frame or smoothed over several; computed if None.
    """
    table = equalization_table(codes) if table is None else table
    n, c, h, w = codes.shape
    return table.reshape(n * c, 256).gather(1, codes.reshape(n * c, h * w).long()).reshape(n, c, h, w) / 255.0


def network_input(low: Tensor, *, table: Tensor | None = None) -> Tensor:
    """``ln(max(low + 1e-3, 1e-3))`` and the equalised picture: ``(N, 6, H, W)`` float32.

    Args:
        low: Dark picture, ``(N, 3, H, W)``, RGB, float in [0, 1] or uint8.
        table: Equalisation tables to use instead of the frame's own.
    """
    codes = to_codes(low)
    linear = low.float() / 255.0 if low.dtype == torch.uint8 else low.float()
    logarithm = (linear + _LOG_OFFSET).clamp_min(_LOG_OFFSET).log()
    return torch.cat([logarithm, equalize(codes, table)], 1)


def pad_symmetric(picture: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Mirror a picture at its borders, edge pixel repeated, any amount for any size.

    Args:
        picture: ``(N, C, H, W)``.
        padding: Rows above, rows below, columns left, columns right.
    """
    top, bottom, left, right = padding
    rows = _mirrored(picture.shape[-2], top, bottom, picture.device)
    columns = _mirrored(picture.shape[-1], left, right, picture.device)
    if top or bottom:
        picture = picture.index_select(-2, rows)
    return picture.index_select(-1, columns) if left or right else picture


def _mirrored(size: int, before: int, after: int, device: torch.device) -> Tensor:
    index = torch.arange(-before, size + after, device=device).remainder(2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def centred_padding(height: int, width: int, multiple: int, *, always: bool = False) -> tuple[int, int, int, int]:
    """Padding to a multiple of ``multiple``, the smaller half before: rows above, below, columns left, right.

    Args:
        height: Rows.
        width: Columns.
        multiple: What both must become a multiple of.
        always: Add a whole ``multiple`` where nothing is needed, as the official script for unpaired pictures does.
    """
    amounts = []
    for size in (height, width):
        total = -size % multiple or (multiple if always else 0)
        amounts += [total // 2, total - total // 2]
    return amounts[0], amounts[1], amounts[2], amounts[3]
