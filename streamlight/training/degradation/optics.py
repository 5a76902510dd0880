"""Gaussian filtering of pictures and of noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_kernel(sigma: float) -> Tensor:
    """``(2 r + 1,)`` weights that add up to 1, with ``r = ceil(3 sigma)``."""
    radius = math.ceil(3.0 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)).square())
    return weights / weights.sum()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; the border is repeated outwards.

    Args:
        image: ``(C, H, W)`` float, any range, any size from 1x1.
        sigma: Standard deviation in pixels; 0 returns the image.
    """
    if sigma <= 0.0:
        return image
    kernel = gaussian_kernel(sigma)
    return _separable(F.pad(image[None], [len(kernel) // 2] * 4, mode="replicate")[0], kernel)


def correlated_normal(
    count: int, height: int, width: int, *, sigma: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """``(count, height, width)`` normal noise of variance exactly 1 in expectation, everywhere, borders included.

    Args:
        count: Independent planes.
        height: Rows.
        width: Columns.
        sigma: Standard deviation of the Gaussian that white noise is filtered with; 0 for white noise.
        generator: On the CPU.
        dtype: Of the result.
    """
    if sigma <= 0.0:
        return torch.randn(count, height, width, generator=generator, dtype=dtype)
    kernel = gaussian_kernel(sigma).to(dtype)
    kernel = kernel / kernel.square().sum().sqrt()
    more = len(kernel) - 1
    return _separable(torch.randn(count, height + more, width + more, generator=generator, dtype=dtype), kernel)


def _separable(image: Tensor, kernel: Tensor) -> Tensor:
    """Both axes, without padding."""
    planes = image[:, None]
    planes = F.conv2d(planes, kernel[None, None, :, None])
    return F.conv2d(planes, kernel[None, None, None, :])[:, 0]
