"""Modulated deformable convolution (DCNv2: Zhu et al., arXiv:1811.11168) in plain torch."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TAPS: Final = 9
_SAMPLES: Final = 24 * 2**20
"""Largest number of sampled values held at a time, where no gradient is recorded."""

_SAMPLES_ON_DEVICE: Final = 4 * _SAMPLES
"""The same elsewhere than on a CPU: 400 MB, as short pieces of work do not fill a device."""


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """3×3 convolution of stride 1 and padding 1 whose taps are displaced and weighted per output pixel.

    Tap ``k = 3·row + column`` of output ``(i, j)`` reads ``(i - 1 + row + dy, j - 1 + column + dx)``, bilinearly; each
    neighbour outside of the picture counts as 0 (Zhu et al., eq. 1).

    Args:
        x: ``(N, C, H, W)``, computed in float32.
        offset: ``(N, G·18, H, W)``: per group and tap ``dy`` then ``dx``, in pixels; group ``g`` displaces the channels
            ``[g·C/G, (g+1)·C/G)``.
        mask: ``(N, G·9, H, W)``, weight of each tap.
        weight: ``(O, C, 3, 3)``.
        bias: ``(O,)``.

    Returns:
        ``(N, O, H, W)`` float32 (float64 for float64 input).
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    x, offset, mask = x.to(dtype), offset.to(dtype), mask.to(dtype)
    count, channels, height, width = x.shape
    groups = mask.shape[1] // _TAPS
    grouped = x.reshape(count * groups, channels // groups, height, width)
    kernel = weight.to(dtype).reshape(weight.shape[0], channels * _TAPS, 1, 1)
    shift = bias.to(dtype) if bias is not None else None
    on_cpu = x.device.type == "cpu"
    samples = _SAMPLES if on_cpu else _SAMPLES_ON_DEVICE
    rows = height if torch.is_grad_enabled() else max(1, samples // (count * channels * _TAPS * width))
    parts = []
    for top in range(0, height, rows):
        part = slice(top, min(height, top + rows))
        sampled = _sample(grouped, offset[:, :, part], mask[:, :, part], top=top)
        sampled = sampled.view(count, channels * _TAPS, part.stop - top, width)
        parts.append(F.conv2d(sampled, kernel, shift, dilation=2 if on_cpu else 1))  # see attention.matmul_t
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _sample(grouped: Tensor, offset: Tensor, mask: Tensor, *, top: int) -> Tensor:
    """Masked samples ``(N·G, C/G, 9, rows, W)`` for the output rows from ``top`` on."""
    batch, _, height, width = grouped.shape
    rows = offset.shape[2]
    shifts = offset.reshape(batch, _TAPS, 2, rows, width)
    tap = torch.arange(3, device=offset.device, dtype=offset.dtype) - 1.0
    line = torch.arange(top, top + rows, device=offset.device, dtype=offset.dtype)
    column = torch.arange(width, device=offset.device, dtype=offset.dtype)
    y = shifts[:, :, 0] + (tap[:, None, None] + line[:, None]).repeat_interleave(3, 0)
    x = shifts[:, :, 1] + (tap[:, None, None] + column).repeat(3, 1, 1)
    # grid_sample without aligned corners reads pixel ((g + 1)·size - 1) / 2.
    grid = torch.stack([(2.0 * x + 1.0) / width - 1.0, (2.0 * y + 1.0) / height - 1.0], dim=-1)
    grid = grid.view(batch, _TAPS * rows, width, 2)
    sampled = F.grid_sample(grouped, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = mask.reshape(batch, 1, _TAPS * rows, width)
    return sampled * weights if torch.is_grad_enabled() else sampled.mul_(weights)


class ModulatedDeformConv2d(nn.Module):
    """Deformable 3×3 convolution that predicts displacements and weights from a second feature map.

    Args:
        in_channels: Channels of the input and of the guide.
        out_channels: Channels of the output.
        groups: Deformable groups.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int = 4) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset = nn.Conv2d(in_channels, groups * 3 * _TAPS, 3, padding=1)
        bound = 1.0 / math.sqrt(in_channels * _TAPS)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Convolve ``x`` where ``guide`` says.

        Args:
            x: ``(N, in_channels, H, W)``.
            guide: ``(N, in_channels, H, W)``; ``conv_offset`` makes offsets (pixels) and mask logits of it.

        Returns:
            ``(N, out_channels, H, W)`` float32.
        """
        raw = self.conv_offset(guide).float() if guide.dtype != torch.float64 else self.conv_offset(guide)
        offset, logits = raw.split([self.groups * 2 * _TAPS, self.groups * _TAPS], dim=1)
        return deform_conv2d(x, offset, logits.sigmoid(), self.weight, self.bias)
